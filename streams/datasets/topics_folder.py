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

from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.errors import ConfigError, NotFoundError
from schemas.instruments import Instrument, Universe
from schemas.topics import MARKET_EVENTS, REFERENCE_INSTRUMENTS
from streams.datasets.partitions import merge
from streams.journal import JournalReader
from streams.journal.batches import recut
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

        Merged as ``streams.datasets.partitions`` does. What a producer repeated is passed over, as
        the stages do, and so are events of instruments that the recording has no definition of.
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
        return recut(universe, merge(universe, streams), size)


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
