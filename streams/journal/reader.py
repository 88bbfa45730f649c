"""Reads a journal: its entries in order, records by topic and offset, market events as batches.

Row logs and sealed segments give the same sequence. A reader may work beside the writer; it sees
whole entries only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from pathlib import Path

from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.errors import JournalError, NotFoundError
from schemas.instruments import Instrument, Universe
from schemas.rows import records_from_table
from schemas.topics import MARKET_EVENTS, REFERENCE_INSTRUMENTS
from streams.journal.batches import Piece, batch_piece, records_piece, recut, table_piece
from streams.journal.encoding import Kind
from streams.journal.entry import Entry
from streams.journal.parts import RowPart, SealedPart
from streams.journal.rowlog import TornTail
from streams.journal.segment import SegmentFile, list_segments

BATCH_EVENTS = 65_536
_RUN_RECORDS = 8_192
Part = RowPart | SealedPart


class JournalReader:
    """Reads the journal in ``folder``, also while it is written.

    With ``is_frozen`` it is for ever the journal as it was when it was opened: whoever reads it
    several times reads the same. Raises NotFoundError if there is none, JournalError if it is
    damaged: with file and byte, when the damage is met.
    """

    def __init__(self, folder: Path, *, is_frozen: bool = False) -> None:
        self.folder = folder
        self._is_frozen = is_frozen
        self._parts: list[Part] = []
        self._extend()
        if not self._parts:
            raise NotFoundError(
                "there is no journal in this folder",
                field="folder",
                value=str(folder),
                remedy="`millrace runs list` shows the runs there are",
            )
        self.run_id = self._parts[0].header.run_id

    @property
    def torn_tail(self) -> TornTail | None:
        """What stands behind the last whole entry: a torn write, or one that is under way."""
        return self._refresh().torn_tail()

    @property
    def next_offsets(self) -> dict[str, int]:
        """The offset that the next record of each topic will have."""
        return dict(self._refresh().end().next_offsets)

    @property
    def next_entry(self) -> int:
        """The number of entries."""
        return self._refresh().end().first_entry

    def entries(self, from_entry: int = 0) -> Iterator[Entry]:
        """Yield the entries from number ``from_entry`` on, up to the last whole one."""
        number = self._part_index(from_entry)
        while number < len(self._parts):
            part = self._parts[number]
            for entry in part.entries(from_entry):
                yield entry
                from_entry = entry.index + 1
            if number + 1 == len(self._parts):
                self._extend()
            if number + 1 == len(self._parts):
                return
            # The writer may have added to this segment between our last look at it and closing it.
            for entry in part.entries(from_entry):
                yield entry
                from_entry = entry.index + 1
            self._check_joint(number)
            number += 1

    def entry(self, index: int) -> Entry:
        """Return entry number ``index``; raises NotFoundError if there is none."""
        if index >= self._parts[-1].end().first_entry:
            self._extend()
        if not 0 <= index < self._parts[-1].end().first_entry:
            raise NotFoundError(
                "the journal has no such entry",
                field="index",
                value=index,
                remedy=f"it has {self.next_entry} entries, counted from 0",
            )
        return self._parts[self._part_index(index)].entry(index)

    def last_mark(self, name: str) -> tuple[int, bytes] | None:
        """Return entry number and payload of the last mark called ``name``, or None."""
        index = self._refresh().end().marks.get(name)
        return None if index is None else (index, self.entry(index).mark()[1])

    def read(self, topic: str, offset: int, limit: int) -> list[tuple[int, Header]]:
        """Return up to ``limit`` (offset, record) of ``topic`` from ``offset`` on.

        Rows of tables come as records.
        """
        out: list[tuple[int, Header]] = []
        if limit <= 0:
            return out
        offset = max(offset, 0)
        for part in self._parts_from(topic, offset):
            for index, start, count in part.spans_from(topic, offset):
                entry = part.entry(index)
                low = max(offset - start, 0)
                high = min(count, low + limit - len(out))
                records = entry.topic_records(topic, low, high)
                out.extend(zip(range(start + low, start + high), records, strict=True))
                if len(out) == limit:
                    return out
        return out

    def locate(self, topic: str, offset: int) -> int:
        """Return the number of the entry with ``offset`` of ``topic``; raises NotFoundError."""
        for part in self._parts_from(topic, offset):
            for index, start, _ in part.spans_from(topic, offset):
                if start <= offset:
                    return index
        raise NotFoundError(
            f"{topic} has no such offset in the journal",
            field="offset",
            value=offset,
            remedy=f"its next offset is {self.next_offsets.get(topic, 0)}",
        )

    def universe(self) -> Universe:
        """Return the instruments that the journal's ``reference.instruments`` defines."""
        universe = Universe()
        offset = 0
        while found := self.read(REFERENCE_INSTRUMENTS, offset, 1000):
            for _, record in found:
                if isinstance(record, Instrument):
                    universe.add(record)
            offset = found[-1][0] + 1
        return universe

    def market_batches(
        self,
        universe: Universe,
        size: int = BATCH_EVENTS,
        *,
        with_topics: frozenset[str] = frozenset(),
        is_kept: Callable[[Header], bool] = lambda _: True,
    ) -> Iterator[MarketBatch]:
        """Yield all events of ``market.events`` in consumed order, in batches of ``size``.

        Records of ``with_topics`` are among them as ``records``, each at a position of its own;
        they count in ``first_offset`` and move the clock as well. Of what was written as records
        ``is_kept`` chooses. The clock is carried from batch
        to batch, so the batches say the same for every ``size`` and for every way in which the
        events were written.
        """
        topics = with_topics | {MARKET_EVENTS}
        yield from recut(universe, self._pieces(universe, topics, is_kept), size)

    def _pieces(
        self, universe: Universe, topics: frozenset[str], is_kept: Callable[[Header], bool]
    ) -> Iterator[Piece]:
        run: list[tuple[str, Header]] = []
        for entry in self.entries():
            if entry.kind is Kind.MARK:
                continue
            if entry.kind is Kind.RECORDS:
                run.extend(item for item in entry.records(topics) if is_kept(item[1]))
                if len(run) < _RUN_RECORDS:
                    continue
            if entry.kind is Kind.COLUMNS and entry.topic != MARKET_EVENTS:
                if entry.topic in topics:
                    rows = records_from_table(universe, entry.table(universe), slice(None))
                    run.extend((entry.topic, record) for record in rows)
                continue
            if run:
                yield records_piece(universe, run)
                run = []
            if entry.kind is Kind.COLUMNS:
                yield table_piece(entry.table(universe))
            elif entry.kind is Kind.BATCH:
                yield batch_piece(entry.batch(universe), topics)
        if run:
            yield records_piece(universe, run)

    def _part_index(self, entry: int) -> int:
        starts = [part.header.first_entry for part in self._parts]
        return max(0, bisect_right(starts, entry) - 1)

    def _parts_from(self, topic: str, offset: int) -> Iterator[Part]:
        """Yield the segments that may hold ``topic`` from ``offset`` on."""
        self._extend()
        starts = [part.header.next_offsets.get(topic, 0) for part in self._parts]
        for number in range(max(0, bisect_right(starts, offset) - 1), len(self._parts)):
            yield self._parts[number]
            if number + 1 < len(self._parts):
                self._check_joint(number)

    def _refresh(self) -> Part:
        """Take in what was written since; returns the last segment."""
        self._extend()
        return self._parts[-1]

    def _extend(self) -> None:
        """Open segments that are new in the folder."""
        if self._is_frozen and self._parts:
            return
        for file in list_segments(self.folder)[len(self._parts) :]:
            self._parts.append(_open_part(file, self._is_frozen))

    def _check_joint(self, number: int) -> None:
        """Raise JournalError unless segment ``number`` ends where the next one begins."""
        part, following = self._parts[number], self._parts[number + 1]
        end = part.end()
        if (end.first_entry, end.next_offsets) != (
            following.header.first_entry,
            following.header.next_offsets,
        ):
            raise JournalError(
                f"a segment ends before entry {end.first_entry}, "
                f"but the next one begins with entry {following.header.first_entry}",
                field="file",
                value=str(part.path),
                remedy="bring the file back from a copy",
            )


def _open_part(file: SegmentFile, is_frozen: bool) -> Part:
    if file.is_sealed:
        return SealedPart(file.path)
    try:
        return RowPart(file.path, is_frozen=is_frozen)
    except FileNotFoundError:
        # The writer has just sealed it: its sealed form has taken its place.
        return SealedPart(file.path.with_suffix(".sealed"))
