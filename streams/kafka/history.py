"""Older stretches of partitions, read from Kafka when somebody asks for them.

They are read in blocks that begin at round offsets, and the last blocks are kept: many clients that
resume near one place cost one reading.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from types import TracebackType
from typing import NamedTuple, Self

from streams.kafka.connection import Connection
from streams.kafka.partition_window import PartitionWindow
from streams.kafka.ranges import Place, PlaceReader
from streams.log import Page, Published

_BLOCK_OFFSETS = 1000
_BLOCKS_KEPT = 64


class _Block(NamedTuple):
    """Records from ``start``, which lies behind the block's begin where retention took some."""

    records: list[Published]
    start: int


class History:
    """Reads blocks; one reading at a time, the others wait."""

    def __init__(self, connection: Connection) -> None:
        self._reader = PlaceReader(connection)
        self._lock = asyncio.Lock()
        self._blocks: OrderedDict[tuple[Place, int], _Block] = OrderedDict()

    async def __aenter__(self) -> Self:
        """Connect; raises StorageError if the cluster does not answer."""
        await self._reader.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._reader.__aexit__(kind, error, trace)

    async def page(self, window: PartitionWindow, offset: int) -> Page:
        """Return what the partition has from ``offset`` to the end of its block.

        No further than ``window`` has come. Raises StorageError if Kafka does not give it.
        """
        place = (window.topic, window.partition)
        begin = offset - offset % _BLOCK_OFFSETS
        stop = min(begin + _BLOCK_OFFSETS, window.next_offset)
        async with self._lock:
            block = self._blocks.get((place, begin))
            if block is None:
                block = await self._read(window, begin, stop)
                if stop == begin + _BLOCK_OFFSETS:
                    self._keep((place, begin), block)
            else:
                self._blocks.move_to_end((place, begin))
        start = max(offset, block.start)
        records = [item for item in block.records if item.offset >= start]
        return Page(records, start, max(start, stop))

    async def _read(self, window: PartitionWindow, begin: int, stop: int) -> _Block:
        place = (window.topic, window.partition)
        first = (await self._reader.beginnings([place]))[place]
        start = max(begin, first)
        if start >= stop:
            return _Block([], start)
        await self._reader.put({place: start})
        return _Block(window.taken(await self._reader.read(place, stop)), start)

    def _keep(self, key: tuple[Place, int], block: _Block) -> None:
        self._blocks[key] = block
        if len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
