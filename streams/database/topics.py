"""The topics of a Kafka cluster as the source of a sink.

A reader without a group stands where the database says; offsets that are committed on Kafka play no
part. A record that its producer wrote twice is taken once: beside the offset of each partition
stands the last sequence number of each producer. Tombstones are no records, and what a rule refuses
(see ``streams.kafka.reading_rule``) is rejected with the reason.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any

from schemas.envelope import Header
from schemas.errors import ConflictError
from streams.database.batches import Batch, Place, Reject
from streams.database.tables import STORED_TOPICS
from streams.database.writing import Stored
from streams.kafka.connection import Connection
from streams.kafka.ranges import PlaceReader
from streams.kafka.reading_rule import READABLE, Rule


def sink_of(run_id: str) -> str:
    """Return the name of the sink that stores a session's topics."""
    return f"kafka:{run_id}"


async def _readable() -> Rule:
    return READABLE


class TopicsSource:
    """Reads all topics that have tables; ``run_id`` is the run of records that name none.

    ``make_rule`` gives what decides over records, anew wherever the reading does not just go on.
    Raises StorageError while Kafka is away, ConfigError for topics that are missing.
    """

    def __init__(
        self,
        connection: Connection,
        run_id: str,
        topics: Sequence[str] = STORED_TOPICS,
        *,
        make_rule: Callable[[], Awaitable[Rule]] = _readable,
    ) -> None:
        self.sink = sink_of(run_id)
        self.run_id = run_id
        self._connection = connection
        self._topics = tuple(topics)
        self._stack = AsyncExitStack()
        self._reader: PlaceReader | None = None
        self._make_rule = make_rule
        self._rule: Rule = READABLE
        self._counts: dict[str, int] = {}
        self._places: list[Place] = []
        self._next: dict[Place, int] = {}
        self._marks: dict[Place, dict[str, int]] = {}

    async def close(self) -> None:
        """Disconnect."""
        self._reader = None
        await self._stack.aclose()

    async def begin(self) -> dict[Place, int]:
        """Connect, and return the first offset that each partition has."""
        return await (await self._connected()).beginnings(self._places)

    async def seek(self, known: Mapping[Place, Stored]) -> dict[Place, int]:
        """Stand where the database says; return where retention was quicker than the sink.

        Raises ConflictError if a topic has less than was stored of it.
        """
        reader = await self._connected()
        ends = await reader.ends(self._places)
        for place, end in ends.items():
            if known[place].next_offset > end:
                raise ConflictError(
                    f"more of {place[0]} is stored than the topic has: it was made anew",
                    field="offset",
                    value=known[place].next_offset,
                    remedy=f"give the session another name, or `millrace db forget {self.run_id}`",
                )
        beginnings = await reader.beginnings(self._places)
        found = {place: known[place].next_offset for place in self._places}
        if found != self._next:
            self._rule = await self._make_rule()
        self._next = found
        self._marks = {place: dict(known[place].state) for place in self._places}
        gone = {place: at for place, at in beginnings.items() if at > self._next[place]}
        if not gone:
            await reader.put(self._next)
        return gone

    async def read(self) -> Batch | None:
        """Return what has come to any of the partitions; waits a moment if nothing has."""
        reader = await self._connected()
        batch = Batch(self.run_id)
        for place, arrived in (await reader.follow()).items():
            marks = self._marks[place]
            before = dict(marks)
            items = self._decoded(batch, place, arrived, marks)
            batch.add_records(*place, items)
            batch.places[place] = self._next[place] = arrived[-1].offset + 1
            if marks != before:
                batch.states[place] = dict(marks)
        return batch or None

    async def lag(self) -> int:
        """Return how many records of the topics are not read yet."""
        ends = await (await self._connected()).ends(self._places)
        return sum(max(0, end - self._next.get(place, end)) for place, end in ends.items())

    async def _connected(self) -> PlaceReader:
        if self._reader is None:
            reader = await self._stack.enter_async_context(PlaceReader(self._connection))
            self._counts = await reader.counts(self._topics)
            self._places = [
                (topic, p) for topic in self._topics for p in range(self._counts[topic])
            ]
            self._reader = reader
        return self._reader

    def _decoded(
        self, batch: Batch, place: Place, arrived: Sequence[Any], marks: dict[str, int]
    ) -> list[tuple[int, Header]]:
        """Return what is new among the records of one partition."""
        present = [item for item in arrived if item.value is not None]
        found = self._rule.take(*place, present, self._counts[place[0]])
        if found.refused:
            values = {item.offset: item.value for item in present}
            batch.rejects += [Reject(*place, at, why, values[at]) for at, why in found.refused]
        items: list[tuple[int, Header]] = []
        for offset, record in found.records:
            if record.producer:
                if record.producer_seq <= marks.get(record.producer, 0):
                    continue
                marks[record.producer] = record.producer_seq
            items.append((offset, record))
        return items
