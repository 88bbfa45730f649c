"""Compares two journals record by record, and explains the first difference by what caused it.

Run id and receive time are left out: they differ between any two runs. Records that one side lacks
are found by their event ids, so that one missing record does not make all that follow look
different.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

import msgspec

from schemas.envelope import Header
from streams.journal.reader import JournalReader

CHAIN_LENGTH_MAX = 10
_PAGE_RECORDS = 4096


class Difference(NamedTuple):
    """The first difference in the order of journal A, and what each side has there.

    ``offset`` is that of journal B if the record is extra. ``causes`` is the chain of records
    behind it, nearest first, as journal A has them.
    """

    topic: str
    offset: int
    value_a: Header | None
    value_b: Header | None
    causes: list[Header]


class Comparison(NamedTuple):
    """What a comparison found.

    ``differences`` counts changed, missing (not in B) and extra (not in A) records.
    """

    records_compared: int
    differences: int
    missing: int
    extra: int
    first_difference: Difference | None


def compare(
    reader_a: JournalReader, reader_b: JournalReader, topics: Collection[str]
) -> Comparison:
    """Compare ``topics`` of two journals; a pair counts once in ``records_compared``."""
    tally = _Tally(reader_a, reader_b)
    for topic in sorted(topics):
        tally.compare_topic(topic)
    first = tally.first
    if first is not None:
        start = first.value_a if first.value_a is not None else first.value_b
        assert start is not None
        first = first._replace(causes=causes(reader_a, start))
    return Comparison(
        tally.compared,
        tally.changed + tally.missing + tally.extra,
        tally.missing,
        tally.extra,
        first,
    )


def causes(reader: JournalReader, record: Header) -> list[Header]:
    """Return the records that led to ``record``, nearest first, at most CHAIN_LENGTH_MAX.

    A cause stands before what it caused, so one walk backwards through the journal finds them all.
    """
    chain: list[Header] = []
    wanted: str = getattr(record, "causation_id", "")
    for index in range(reader.next_entry - 1, -1, -1):
        entry = reader.entry(index) if wanted else None
        while entry is not None and wanted and len(chain) < CHAIN_LENGTH_MAX:
            found = entry.find(wanted)
            if found is None:
                break
            chain.append(found)
            wanted = getattr(found, "causation_id", "")
        if not wanted or len(chain) == CHAIN_LENGTH_MAX:
            break
    return chain


class _Tally:
    """Counts what the comparison of the topics finds."""

    def __init__(self, reader_a: JournalReader, reader_b: JournalReader) -> None:
        self._readers = reader_a, reader_b
        self.compared = 0
        self.changed = 0
        self.missing = 0
        self.extra = 0
        self.first: Difference | None = None
        self._first_entry = 0

    def compare_topic(self, topic: str) -> None:
        """Walk one topic of both journals side by side."""
        side_a, side_b = (_Side(reader, topic) for reader in self._readers)
        while side_a.record is not None or side_b.record is not None:
            a, b = side_a.record, side_b.record
            if a is not None and b is not None and _id(a) != _id(b):
                if not side_b.has(_id(a)):
                    b = None
                elif not side_a.has(_id(b)):
                    a = None
            if a is not None and b is not None:
                self.compared += 1
                if not _equal(a, b):
                    self.changed += 1
                    self._note(topic, side_a, side_b, a, b)
            elif a is not None:
                self.missing += 1
                self._note(topic, side_a, side_b, a, None)
            else:
                self.extra += 1
                self._note(topic, side_a, side_b, None, b)
            if a is not None:
                side_a.advance()
            if b is not None:
                side_b.advance()

    def _note(
        self, topic: str, side_a: _Side, side_b: _Side, a: Header | None, b: Header | None
    ) -> None:
        """Keep the difference that stands first in its journal, over all topics."""
        if self.first is not None and self.first.topic == topic:
            return
        side = side_a if a is not None else side_b
        entry = side.entry()
        if self.first is None or entry < self._first_entry:
            self.first = Difference(topic, side.offset, a, b, [])
            self._first_entry = entry


class _Side:
    """One topic of one journal, a record at a time."""

    def __init__(self, reader: JournalReader, topic: str) -> None:
        self._reader = reader
        self._topic = topic
        self._records = self._read()
        self._ids: set[str] | None = None
        self.offset = -1
        self.record: Header | None = None
        self.advance()

    def advance(self) -> None:
        """Go on to the next record; ``record`` is None behind the last one."""
        self.offset, self.record = next(self._records, (self.offset + 1, None))

    def entry(self) -> int:
        """Return the number of the entry with the present record."""
        return self._reader.locate(self._topic, self.offset)

    def has(self, event_id: str) -> bool:
        """Return whether a record of that id stands on this side at all."""
        # The ids are gathered at the first difference only: most comparisons never need them.
        if self._ids is None:
            self._ids = {_id(record) for _, record in self._read()}
        return event_id in self._ids

    def _read(self) -> Iterator[tuple[int, Header]]:
        offset = 0
        while page := self._reader.read(self._topic, offset, _PAGE_RECORDS):
            yield from page
            offset = page[-1][0] + 1


def _id(record: Header) -> str:
    event_id: str = getattr(record, "event_id", "")
    return event_id


def _equal(a: Header, b: Header) -> bool:
    """Return whether two records say the same, run id and receive time aside."""
    if a == b:
        return True
    if type(a) is not type(b):
        return False
    blank = {"run_id": "", "ts_received_ns": 0}
    return bool(msgspec.structs.replace(a, **blank) == msgspec.structs.replace(b, **blank))
