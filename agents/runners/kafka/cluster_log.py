"""The topics of a session as they are on the cluster, for re-runs and recordings."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from agents.runners.kafka.incoming import Taken, take_records
from agents.runners.kafka.rerun import Chunk
from schemas.instruments import Instrument, Universe
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
        self._universe = Universe(list(instruments))

    async def chunks(self, topic: str, partition: int) -> AsyncIterator[Chunk]:
        """Yield a partition from its beginning to where it ends now."""
        held: list[Any] = []
        async for item in read_to_end(self._connection, topic, [partition]):
            held.append(item)
            if len(held) == _CHUNK:
                yield self._chunk(topic, partition, held)
                held = []
        if held:
            yield self._chunk(topic, partition, held)

    def _chunk(self, topic: str, partition: int, held: Sequence[Any]) -> Chunk:
        taken: Taken = take_records(topic, partition, held, self._universe)
        return Chunk(taken.records, held[-1].offset + 1)
