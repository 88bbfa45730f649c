"""Parity of a session on Kafka: every part again, from its inputs alone, against what it published.

A stage with one input partition takes it from the beginning; one with several takes what its order
log says, void notes left out. Every output must then be on the topics, equal in every field, under
the number that its producer gave it; and nothing else may be there under that producer's name.
However often workers died, were stopped or doubled meanwhile.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing
from typing import NamedTuple, Protocol

import msgspec

from agents.runners.kafka.order_log import valid_entries
from agents.runners.kafka.parts.part import Output
from agents.runners.kafka.stages import StageSpec
from schemas.control import OrderLogEntry
from schemas.envelope import Header
from schemas.instruments import Instrument, Universe
from schemas.topics import CATALOGUE, SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS

Place = tuple[str, int]
_OWN = frozenset({SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS})
_KEPT = frozenset(
    topic.name for topic in CATALOGUE if topic.retention_ms < 0 and not topic.is_compacted
)
"""Topics from which nothing ever goes."""


class Chunk(NamedTuple):
    """Consecutive records of a partition with their offsets; ``next_offset`` is behind them."""

    records: Sequence[tuple[int, Header]]
    next_offset: int


class SessionLog(Protocol):
    """The topics of a session, wherever they are kept."""

    @property
    def counts(self) -> Mapping[str, int]:
        """How many partitions each topic has."""
        ...

    def chunks(self, topic: str, partition: int) -> AsyncGenerator[Chunk, None]:
        """Yield a partition from its beginning to where it ends now; close it to end before."""
        ...


class Mismatch(NamedTuple):
    """What is on a topic, and what the re-run made in its place; None for nothing."""

    topic: str
    partition: int
    published: Header | None
    made: Header | None


class PartRerun(NamedTuple):
    """What the re-run of one part found.

    ``unpublished`` outputs follow from inputs that the part had not finished when the log ends, or
    were on a topic from which retention or compaction took them.
    """

    instance: str
    inputs: int
    compared: int
    differences: int
    first: Mismatch | None
    unpublished: int


class Published:
    """What each producer has written, by partition and number, and where it contradicts itself."""

    def __init__(self) -> None:
        self.by_producer: dict[str, dict[Place, dict[int, Header]]] = {}
        self.contradictions: dict[str, list[Mismatch]] = {}

    def add(self, topic: str, partition: int, record: Header) -> None:
        """Take a record; one that comes again must say the same."""
        if not record.producer:
            return
        place = self.by_producer.setdefault(record.producer, {}).setdefault((topic, partition), {})
        known = place.setdefault(record.producer_seq, record)
        if known is not record and not _is_equal(known, record):
            found = Mismatch(topic, partition, known, record)
            self.contradictions.setdefault(record.producer, []).append(found)


async def published_by(log: SessionLog) -> Published:
    """Read everything that producers of the session have written."""
    published = Published()
    for topic in CATALOGUE:
        if topic.name in _OWN:
            continue
        for partition in range(log.counts[topic.name]):
            async for chunk in log.chunks(topic.name, partition):
                for _, record in chunk.records:
                    published.add(topic.name, partition, record)
    return published


async def rerun_session(
    log: SessionLog,
    specs: Iterable[StageSpec],
    instruments: Sequence[Instrument],
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[PartRerun]:
    """Run every part of these stages again and compare all it published."""
    published = await published_by(log)
    notes = await _notes(log)
    found = []
    for spec in specs:
        for partition in range(log.counts[spec.topics[0]]):
            part = spec.make(partition, Universe(list(instruments)), log.counts)
            comparison = _Comparison(part.instance, published)
            if spec.is_recorded:
                turns = _noted(log, notes.get(part.instance, []))
            else:
                turns = _whole(log, (spec.topics[0], partition))
            async for place, chunk in turns:
                made = part.take(*place, chunk.records, chunk.next_offset)
                comparison.take(made, len(chunk.records))
                on_progress(len(chunk.records))
            found.append(comparison.end())
    return found


async def _notes(log: SessionLog) -> dict[str, list[OrderLogEntry]]:
    """Return what each part has consumed, in order."""
    found: dict[str, list[OrderLogEntry]] = {}
    for partition in range(log.counts[SYSTEM_ORDER_LOG]):
        async for chunk in log.chunks(SYSTEM_ORDER_LOG, partition):
            for _, record in chunk.records:
                if isinstance(record, OrderLogEntry):
                    found.setdefault(record.instance, []).append(record)
    return {instance: valid_entries(entries) for instance, entries in found.items()}


async def _whole(log: SessionLog, place: Place) -> AsyncIterator[tuple[Place, Chunk]]:
    async for chunk in log.chunks(*place):
        yield place, chunk


async def _noted(
    log: SessionLog, entries: Sequence[OrderLogEntry]
) -> AsyncIterator[tuple[Place, Chunk]]:
    """Yield what the notes name, in their order."""
    async with AsyncExitStack() as stack:
        cursors: dict[Place, _Cursor] = {}
        for entry in entries:
            place = (entry.topic, entry.partition)
            if place not in cursors:
                # A part may have stopped to read of it long before its end.
                chunks = await stack.enter_async_context(aclosing(log.chunks(*place)))
                cursors[place] = _Cursor(chunks)
            records = await cursors[place].until(entry.last_offset + 1)
            yield place, Chunk(records, entry.last_offset + 1)


class _Cursor:
    """Reads a partition in steps."""

    def __init__(self, chunks: AsyncIterator[Chunk]) -> None:
        self._chunks = chunks
        self._held: list[tuple[int, Header]] = []
        self._next_offset = 0

    async def until(self, stop: int) -> list[tuple[int, Header]]:
        """Return the records in front of offset ``stop`` that were not yet returned."""
        while self._next_offset < stop:
            chunk = await anext(self._chunks, None)
            if chunk is None:
                break
            self._held.extend(chunk.records)
            self._next_offset = chunk.next_offset
        count = 0
        while count < len(self._held) and self._held[count][0] < stop:
            count += 1
        found, self._held = self._held[:count], self._held[count:]
        return found


class _Comparison:
    """Compares what a part makes with what stands under its name."""

    def __init__(self, instance: str, published: Published) -> None:
        self._instance = instance
        self._left = {
            place: dict(records)
            for place, records in published.by_producer.get(instance, {}).items()
        }
        self._last = {place: max(records) for place, records in self._left.items()}
        self._inputs = 0
        self._compared = 0
        self._unpublished = 0
        contradictions = published.contradictions.get(instance, [])
        self._differences = len(contradictions)
        self._first = contradictions[0] if contradictions else None

    def take(self, made: Iterable[Output], inputs: int) -> None:
        self._inputs += inputs
        for topic, partition, record in made:
            known = self._left.get((topic, partition), {}).pop(record.producer_seq, None)
            if known is None:
                if topic in _KEPT and record.producer_seq < self._last.get((topic, partition), 0):
                    # Its producer went on behind it: it was there once, or should have been.
                    self._differ(Mismatch(topic, partition, None, record))
                else:
                    self._unpublished += 1
                continue
            self._compared += 1
            if not _is_equal(known, record):
                self._differ(Mismatch(topic, partition, known, record))

    def _differ(self, mismatch: Mismatch) -> None:
        self._differences += 1
        self._first = self._first or mismatch

    def end(self) -> PartRerun:
        """Return the result; what was published and not made again is a difference."""
        for (topic, partition), records in self._left.items():
            for record in records.values():
                self._differ(Mismatch(topic, partition, record, None))
        return PartRerun(
            self._instance,
            self._inputs,
            self._compared,
            self._differences,
            self._first,
            self._unpublished,
        )


def _is_equal(known: Header, made: Header) -> bool:
    """Return whether two records say the same on the wire."""
    return msgspec.json.encode(known) == msgspec.json.encode(made)
