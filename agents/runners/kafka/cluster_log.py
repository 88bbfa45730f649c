"""The topics of a session for its re-run: as they are on the cluster, or as they were recorded."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.rerun import Chunk
from agents.runners.kafka.usable import KnownInstruments
from schemas.instruments import Instrument, Universe
from streams.datasets.topics_folder import TopicsFolder
from streams.kafka.connection import Connection
from streams.kafka.reading import read_to_end

_CHUNK = 4000


class ClusterLog:
    """Reads partitions of a cluster; what cannot be read is left out, as the stages do."""

    def __init__(
        self, connection: Connection, instruments: Sequence[Instrument], counts: Mapping[str, int]
    ) -> None:
        self.counts = counts
        self._connection = connection
        self._instruments = list(instruments)

    async def chunks(self, topic: str, partition: int) -> AsyncGenerator[Chunk, None]:
        """Yield a partition from its beginning to where it ends now."""
        held: list[Any] = []
        universe = Universe(self._instruments)
        async with aclosing(read_to_end(self._connection, topic, [partition])) as items:
            async for item in items:
                held.append(item)
                if len(held) == _CHUNK:
                    yield self._chunk(topic, partition, held, universe)
                    held = []
        if held:
            yield self._chunk(topic, partition, held, universe)

    def _chunk(self, topic: str, partition: int, held: Sequence[Any], universe: Universe) -> Chunk:
        taken = take_records(topic, partition, held, universe, self.counts[topic])
        return Chunk(taken.records, held[-1].offset + 1)


class RecordedLog:
    """The topics of a session from a recording of them."""

    def __init__(self, folder: TopicsFolder, instruments: Sequence[Instrument]) -> None:
        self.counts = folder.counts
        self._folder = folder
        self._instruments = list(instruments)

    async def chunks(self, topic: str, partition: int) -> AsyncGenerator[Chunk, None]:
        """Yield a partition from its beginning to its end."""
        known = KnownInstruments(Universe(self._instruments))
        for group in self._folder.records(topic, partition):
            # A recording knows no instruments; the stages made dead letters of strange ones.
            records = [item for item in group if not known.fault(topic, item[1])]
            yield Chunk(records, group[-1][0] + 1)
