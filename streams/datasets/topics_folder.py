"""A recording of Kafka topics: a folder with a journal for each partition, offsets as on Kafka.

``topics/<topic>/<partition>`` holds the records in the order of the partition. A mark tells where
the offsets of Kafka go on differently than the journal's own: behind compacted records, markers of
transactions, and what could not be read.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from schemas.columns import Columns, MarketBatch
from schemas.envelope import Header
from schemas.errors import ConfigError, NotFoundError
from schemas.instruments import Instrument, Universe
from schemas.topics import MARKET_EVENTS, REFERENCE_INSTRUMENTS
from streams.journal import JournalReader
from streams.journal.batches import Piece, batch_piece, recut
from streams.journal.rowlog import TornTail

TOPICS = "topics"
OFFSET_MARK = "kafka-offset"
UNREADABLE_MARK = "kafka-unreadable"
_log = logging.getLogger(__name__)
_READ_RECORDS = 4000
_BATCH_EVENTS = 65_536


class OffsetMark(msgspec.Struct):
    """The journal's record ``journal`` is Kafka's record ``kafka``, and so on from there."""

    journal: int
    kafka: int


def partition_folder(folder: Path, topic: str, partition: int) -> Path:
    """Return where a partition is kept."""
    return folder / TOPICS / topic / str(partition)


class TopicsFolder:
    """Reads a recording; raises NotFoundError for a folder that is none."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.counts: dict[str, int] = {}
        for path in sorted((folder / TOPICS).glob("*")):
            self.counts[path.name] = sum(1 for item in path.iterdir() if item.name.isdecimal())
        if not self.counts:
            raise NotFoundError(
                "the folder holds no recorded topics",
                field="folder",
                value=str(folder),
                remedy="`millrace record` makes one",
            )

    def reader(self, topic: str, partition: int) -> JournalReader:
        """Return the journal of a partition."""
        if partition >= self.counts.get(topic, 0):
            raise NotFoundError(
                "the recording does not have this topic",
                field="topic",
                value=f"{topic}/{partition}",
                remedy="record it as well: `millrace record` without --topics takes all",
            )
        return JournalReader(partition_folder(self.folder, topic, partition))

    def records(self, topic: str, partition: int) -> Iterator[list[tuple[int, Header]]]:
        """Yield the records of a partition in groups, each with its offset on Kafka."""
        reader = self.reader(topic, partition)
        marks = [
            msgspec.json.decode(payload, type=OffsetMark)
            for entry in reader.entries()
            if not entry.topic and (name_payload := entry.mark())[0] == OFFSET_MARK
            for payload in (name_payload[1],)
        ]
        starts = [mark.journal for mark in marks]
        at = 0
        while found := reader.read(topic, at, _READ_RECORDS):
            group = []
            for offset, record in found:
                mark = marks[bisect_right(starts, offset) - 1]
                group.append((mark.kafka + offset - mark.journal, record))
            yield group
            at = found[-1][0] + 1

    # ---- as market history

    @property
    def torn_tail(self) -> TornTail | None:
        """The torn write at the end of a partition of market data, if there is one."""
        for partition in range(self.counts.get(MARKET_EVENTS, 0)):
            tail = self.reader(MARKET_EVENTS, partition).torn_tail
            if tail is not None:
                return tail
        return None

    def universe(self) -> Universe:
        """Return the recorded instruments, by id, as defined last."""
        newest: dict[str, Instrument] = {}
        for partition in range(self.counts.get(REFERENCE_INSTRUMENTS, 0)):
            for group in self.records(REFERENCE_INSTRUMENTS, partition):
                for _, record in group:
                    if isinstance(record, Instrument):
                        newest[record.instrument_id] = record
        return Universe([newest[name] for name in sorted(newest)])

    def market_batches(
        self,
        universe: Universe,
        size: int = _BATCH_EVENTS,
        *,
        with_topics: frozenset[str] = frozenset(),
    ) -> Iterator[MarketBatch]:
        """Yield market events of all partitions in merged order, in batches of ``size``.

        Merged by the running maximum of each partition's times, then partition, then offset: the
        order within a partition never changes. What a producer repeated is passed over, as the
        stages do, and so are events of instruments that the recording has no definition of.
        """
        if not self.counts.get(MARKET_EVENTS):
            raise ConfigError(
                "the recording has no market data",
                field="topic",
                value=MARKET_EVENTS,
                remedy="record market.events.v1 as well",
            )
        streams = [
            self.reader(MARKET_EVENTS, partition).market_batches(
                universe, _BATCH_EVENTS, is_kept=_Wanted(universe).is_kept
            )
            for partition in range(self.counts[MARKET_EVENTS])
        ]
        return recut(universe, merge(streams), size)


class _Wanted:
    """Chooses the market events of one partition that a replay can use."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self._producers = Producers()
        self._unknown: set[str] = set()

    def is_kept(self, record: Header) -> bool:
        """Return whether a record is new and of a known instrument; tell of an unknown one once."""
        if not self._producers.is_new(record):
            return False
        name = getattr(record, "instrument_id", None)
        if name is None or isinstance(record, Instrument):
            return True
        if self._universe.index(name) is not None:
            return True
        if name not in self._unknown:
            self._unknown.add(name)
            _log.warning("events of %r are passed over: its definition is not recorded", name)
        return False


class Producers:
    """Knows how far each producer of one partition has come."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}

    def is_new(self, record: Header) -> bool:
        """Return whether a record was not written before, and note it."""
        producer = record.producer
        if not producer:
            return True
        if record.producer_seq <= self._last.get(producer, 0):
            return False
        self._last[producer] = record.producer_seq
        return True


def merge(streams: list[Iterator[MarketBatch]]) -> Iterator[Piece]:
    """Yield the events of partitions in merged order; each stream keeps its own order.

    Up to the earliest of the last times at hand nothing can come in between any more.
    """
    held: list[MarketBatch | None] = [next(stream, None) for stream in streams]
    while any(batch is not None for batch in held):
        present = [(n, batch) for n, batch in enumerate(held) if batch is not None]
        horizon_ns = min(int(batch.clock[-1]) for _, batch in present)
        first = min(n for n, batch in present if int(batch.clock[-1]) == horizon_ns)
        cuts: list[MarketBatch] = []
        for number, batch in present:
            # At the horizon itself later partitions wait: the first may go on at the same time.
            side = "right" if number <= first else "left"
            stop = int(batch.clock.searchsorted(horizon_ns, side))  # type: ignore[call-overload]
            if number == first:
                stop = len(batch)
            if stop:
                cuts.append(batch.slice(0, stop))
            held[number] = batch.slice(stop, len(batch)) if stop < len(batch) else None
            if held[number] is None:
                held[number] = next(streams[number], None)
        yield _merged(cuts)


def _merged(cuts: list[MarketBatch]) -> Piece:
    clocks = np.concatenate([batch.clock for batch in cuts])
    order = np.argsort(clocks, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    by_kind: dict[str, list[Columns]] = {}
    records: list[tuple[int, str, Header]] = []
    shift = 0
    for batch in cuts:
        piece = batch_piece(batch, frozenset({MARKET_EVENTS}))
        for table in piece.tables:
            by_kind.setdefault(table.KIND, []).append(table.moved(place[table.pos + shift]))
        records += [(int(place[pos + shift]), topic, r) for pos, topic, r in piece.records]
        shift += len(batch)
    tables = []
    for parts in by_kind.values():
        table = type(parts[0]).concat(parts)
        tables.append(table.take(np.argsort(table.pos)))
    records.sort(key=lambda item: item[0])
    return Piece(len(order), tables, records)
