"""One stage over one partition of its key: what all stages have in common.

A part is pure: batches of records in, addressed records out. It remembers how far it has read each
input partition, drops what it had before, and numbers what it makes for each output partition, so
that a part which starts again from a snapshot repeats its outputs word for word and whoever reads
them knows them again.

Time is kept by input partition: what an instrument's stream brings about must not depend on how far
another partition happens to be read.
"""

from __future__ import annotations

import decimal
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
from aiokafka.partitioner import murmur2

from agents.processor import Outbox
from schemas.columns import Columns, MarketBatch
from schemas.enums import BreakerState
from schemas.envelope import Header
from schemas.errors import RecordError
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.rows import records_from_table
from schemas.topics import goes_everywhere, key_of
from schemas.values import MONEY_CONTEXT
from streams.journal.batches import EARLIEST_NS, batch_of, records_piece


class Output(NamedTuple):
    """A record and where it goes."""

    topic: str
    partition: int
    record: Header


class Gap(NamedTuple):
    """Records of a producer that never came, or come still: ``seen`` follows ``last``."""

    source: str
    producer: str
    last: int
    seen: int


class PartState(msgspec.Struct):
    """Everything that a part's future outputs depend on; sources are ``topic/partition``."""

    version: str
    epoch: int
    log_offset: int
    is_started: bool
    offsets: dict[str, int]
    clocks: dict[str, int]
    events: dict[str, int]
    marks: dict[str, dict[str, int]]
    sequences: dict[str, int]
    stage: str
    instruments: list[Instrument] = []


_ALONE = frozenset({Instrument, CorporateAction})


@lru_cache(maxsize=65_536)
def partition_of(key: str, partitions: int) -> int:
    """Return the partition of a key as Kafka's default partitioner chooses it."""
    chosen: int = (murmur2(key.encode()) & 0x7FFFFFFF) % partitions
    return chosen


class Part(ABC):
    """One instance of a stage. ``counts`` holds how many partitions each topic has.

    ``epoch`` and ``log_offset`` are its place in the order log, kept by the runner.
    """

    STAGE = ""
    VERSION = ""

    def __init__(self, partition: int, universe: Universe, counts: Mapping[str, int]) -> None:
        self.partition = partition
        self.instance = f"{self.STAGE}/{partition}"
        self.universe = universe
        self.counts = counts
        self.epoch = 0
        self.log_offset = 0
        self.offsets: dict[str, int] = {}
        self.duplicates = 0
        self.gaps: list[Gap] = []
        self._clocks: dict[str, int] = {}
        self._events: dict[str, int] = {}
        self._marks: dict[str, dict[str, int]] = {}
        self._sequences: dict[str, int] = {}
        self._is_started = False
        self._learned: dict[str, Instrument] = {}
        self._taken: Sequence[tuple[int, Header]] = ()

    @property
    def follows(self) -> frozenset[tuple[str, int]]:
        """Return the partitions that it reads now besides those of its own number."""
        return frozenset()

    @property
    def breaker_states(self) -> Mapping[str, BreakerState]:
        """Return the breakers that are not active, by ``SCOPE|id``."""
        return {}

    @property
    def clock_ns(self) -> int:
        """The newest event time of any input (int64 ns UTC)."""
        return max(self._clocks.values(), default=EARLIEST_NS)

    def take(
        self, topic: str, partition: int, records: Sequence[tuple[int, Header]], next_offset: int
    ) -> list[Output]:
        """Take the next records of an input partition, each with its offset.

        ``next_offset`` is that of the first record behind them, which may be further on than the
        last of them: dead letters have offsets too. What was taken before is passed over.
        """
        source = f"{topic}/{partition}"
        start = self.offsets.get(source, 0)
        self._taken = records
        # They stand in the order of their offsets, and mostly all of them are new.
        is_ahead = not records or records[0][0] >= start
        fresh = self._unknown(source, [record for at, record in records if is_ahead or at >= start])
        self.offsets[source] = max(start, next_offset)
        if not fresh:
            return []
        with decimal.localcontext(MONEY_CONTEXT):
            out: Outbox = []
            for piece in _pieces(fresh):
                if isinstance(piece, Instrument):
                    self._learn(topic, piece, out)
                    continue
                batch = self._batch(topic, source, piece)
                if not self._is_started:
                    self._is_started = True
                    self._start(int(batch.clock[0]), out)
                self._process(topic, batch, out)
        return self._addressed(out)

    def _unknown(self, source: str, records: list[Header]) -> list[Header]:
        """Return the records that no producer had written before."""
        marks = self._marks.setdefault(source, {})
        writers = {record.producer for record in records}
        if len(writers) == 1:
            (producer,) = writers
            if not producer:
                return records
            last = marks.get(producer, 0)
            numbers = [record.producer_seq for record in records]
            if numbers == list(range(last + 1, last + 1 + len(numbers))):
                marks[producer] = numbers[-1]
                return records
        out = []
        for record in records:
            producer = record.producer
            if producer:
                last = marks.get(producer, 0)
                if record.producer_seq <= last:
                    self.duplicates += 1
                    continue
                if record.producer_seq > last + 1:
                    self.gaps.append(Gap(source, producer, last, record.producer_seq))
                marks[producer] = record.producer_seq
            out.append(record)
        return out

    def _batch(self, topic: str, source: str, records: list[Header]) -> MarketBatch:
        """Return records as a batch, on the clock of their partition."""
        piece = records_piece(self.universe, [(topic, record) for record in records])
        count = self._events.get(source, 0)
        batch = batch_of(self.universe, piece, self._clocks.get(source, EARLIEST_NS), count)
        self._clocks[source] = int(batch.clock[-1])
        self._events[source] = count + len(batch)
        return batch

    def _learn(self, topic: str, instrument: Instrument, out: Outbox) -> None:
        """Take in a definition that came while the session ran."""
        self.universe.add(instrument)
        self._learned[instrument.instrument_id] = instrument

    def _rows(self, topic: str, table: Columns, out: Outbox) -> None:
        """Add the rows of a table to the outputs."""
        rows: Sequence[Any] = records_from_table(self.universe, table, slice(None))
        out.extend((topic, record) for record in rows)

    def _addressed(self, made: Outbox) -> list[Output]:
        out: list[Output] = []
        for topic, record in made:
            targets = self._targets(topic, record)
            for partition in targets:
                place = f"{topic}/{partition}"
                sequence = self._sequences[place] = self._sequences.get(place, 0) + 1
                # One record may go to several places, and a fill to several topics.
                numbered = msgspec.structs.replace(
                    record, producer=self.instance, producer_seq=sequence
                )
                out.append(Output(topic, partition, numbered))
        return out

    def _targets(self, topic: str, record: Header) -> Iterable[int]:
        count = self.counts[topic]
        if goes_everywhere(topic, record):
            return range(count)
        return (partition_of(key_of(topic, record), count),)

    # ---- what a stage fills in

    def _start(self, now_ns: int, out: Outbox) -> None:  # noqa: B027 - most have nothing to say
        """Say what a run begins with, before the first record."""

    @abstractmethod
    def _process(self, topic: str, batch: MarketBatch, out: Outbox) -> None:
        """Handle a batch of one input topic."""

    @abstractmethod
    def _snapshot_stage(self) -> bytes:
        """Return the state of the processors."""

    @abstractmethod
    def _restore_stage(self, state: bytes) -> None:
        """Take over what ``_snapshot_stage`` gave."""

    # ---- snapshots

    def snapshot(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        return msgspec.json.encode(
            PartState(
                self.VERSION,
                self.epoch,
                self.log_offset,
                self._is_started,
                dict(sorted(self.offsets.items())),
                dict(sorted(self._clocks.items())),
                dict(sorted(self._events.items())),
                {s: dict(sorted(m.items())) for s, m in sorted(self._marks.items()) if m},
                dict(sorted(self._sequences.items())),
                self._snapshot_stage().decode(),
                list(self._learned.values()),
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave; raises RecordError for another version."""
        known = msgspec.json.decode(state, type=PartState)
        if known.version != self.VERSION:
            raise RecordError(
                f"a snapshot of the {self.STAGE} stage is of another version",
                field="version",
                value=known.version,
                remedy="rebuild the state from the topics that the stage reads",
            )
        self.epoch, self.log_offset = known.epoch, known.log_offset
        self._is_started = known.is_started
        self.offsets, self._clocks, self._events = known.offsets, known.clocks, known.events
        self._marks, self._sequences = known.marks, known.sequences
        self._learned = {item.instrument_id: item for item in known.instruments}
        for instrument in known.instruments:
            self.universe.add(instrument)
        with decimal.localcontext(MONEY_CONTEXT):
            self._restore_stage(known.stage.encode())


def _pieces(records: list[Header]) -> Iterator[list[Header] | Instrument]:
    """Yield definitions of instruments alone, what stands between them in stretches.

    Corporate actions stand alone in their stretch: signals computed beforehand over one would be
    wrong, and the account stage takes no prices beside one (``AccountStage.load``).

    Definitions have no event time, so they may not become part of a batch.
    """
    held: list[Header] = []
    if _ALONE.isdisjoint(map(type, records)):
        yield records
        return
    for record in records:
        if isinstance(record, Instrument | CorporateAction):
            if held:
                yield held
            yield record if isinstance(record, Instrument) else [record]
            held = []
        else:
            held.append(record)
    if held:
        yield held
