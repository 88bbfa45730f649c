"""Segments as the reader sees them: one face for row logs and sealed segments."""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from streams.journal.encoding import Content, first_record, read_content
from streams.journal.entry import Entry
from streams.journal.rowlog import Progress, RawEntry, RowLog, TornTail
from streams.journal.sealed import SealedSegment
from streams.journal.segment import SegmentHeader

Found = tuple[int, int, int]
"""Entry number, offset of its first record on a topic, number of its records there."""


Numbers: TypeAlias = "array[int]"


class RowPart:
    """A row log with an index in memory, which grows as the file does."""

    def __init__(self, path: Path, *, is_frozen: bool = False) -> None:
        self.path = path
        self.log = RowLog(path, is_frozen=is_frozen)
        self.header = self.log.header
        self._progress = Progress(self.header)
        self._indexed_bytes = self.log.first_byte
        self._places = array("q")
        self._spans: dict[str, tuple[Numbers, Numbers, Numbers]] = {}

    def end(self) -> SegmentHeader:
        """Return the state behind the last whole entry."""
        self._index()
        return self._progress.next_header(self.header.number + 1, self.log.names)

    def torn_tail(self) -> TornTail | None:
        """Return what stands behind the last whole entry, if anything does."""
        self._index()
        return self.log.torn_tail()

    def entries(self, from_entry: int) -> Iterator[Entry]:
        """Yield the whole entries from ``from_entry`` on, also those written meanwhile."""
        number = max(from_entry, self.header.first_entry)
        skip = number - self.header.first_entry
        if skip > len(self._places):
            self._index()
        if skip > len(self._places):
            return
        at_byte = self._places[skip] if skip < len(self._places) else self._indexed_bytes
        for raw in self.log.scan(at_byte):
            yield self._entry(number, raw)
            number += 1

    def entry(self, number: int) -> Entry:
        """Return entry ``number``, which this segment has."""
        place = number - self.header.first_entry
        if place >= len(self._places):
            self._index()
        return self._entry(number, self.log.entry_at(self._places[place]))

    def spans_from(self, topic: str, offset: int) -> Iterator[Found]:
        """Yield where ``topic`` stands from ``offset`` on."""
        self._index()
        if topic in self._spans:
            entries, starts, counts = self._spans[topic]
            for row in range(max(0, bisect_right(starts, offset) - 1), len(starts)):
                if starts[row] + counts[row] > offset:
                    yield entries[row], starts[row], counts[row]

    def _entry(self, number: int, raw: RawEntry) -> Entry:
        def load(topics: frozenset[str] | None) -> Content:
            return read_content(raw.kind, raw.payload, topics)

        topic, offset = first_record(raw.kind, raw.payload)
        return Entry(number, raw.kind, topic, offset, self.log.names, load)

    def _index(self) -> None:
        for raw in self.log.scan(self._indexed_bytes):
            number = self._progress.next_entry
            for topic, start, count in self._progress.count(self.path, raw):
                columns = self._spans.setdefault(topic, (array("q"), array("q"), array("q")))
                for column, value in zip(columns, (number, start, count), strict=True):
                    column.append(value)
            self._places.append(raw.at_byte)
            self._indexed_bytes = raw.end_byte


class SealedPart:
    """A sealed segment; its index is in its files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._segment = SealedSegment(path)
        self.header = self._segment.header

    def end(self) -> SegmentHeader:
        """Return the state behind the last entry."""
        return self._segment.end

    def torn_tail(self) -> None:
        """Return nothing: a sealed segment has no torn tail."""

    def entries(self, from_entry: int) -> Iterator[Entry]:
        """Yield the entries from number ``from_entry`` on."""
        for number in range(max(from_entry, self.header.first_entry), self.end().first_entry):
            yield self.entry(number)

    def entry(self, number: int) -> Entry:
        """Return entry ``number``, which this segment has."""
        segment = self._segment
        index = number - self.header.first_entry
        topic, offset = segment.first_record(index)

        def load(topics: frozenset[str] | None) -> Content:
            return segment.content(index, topics)

        return Entry(number, segment.kinds()[index], topic, offset, segment.names, load)

    def spans_from(self, topic: str, offset: int) -> Iterator[Found]:
        """Yield where ``topic`` stands from ``offset`` on."""
        spans = self._segment.spans().get(topic)
        if spans is None:
            return
        entries, starts, counts = spans
        for row in range(max(0, int(starts.searchsorted(offset, "right")) - 1), len(starts)):
            if starts[row] + counts[row] > offset:
                yield int(entries[row]), int(starts[row]), int(counts[row])
