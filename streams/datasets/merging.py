"""Merges series of rows into one stream of events, chunk by chunk.

The order is that of ``schemas.columns.merge`` over whole series: the running maximum of event time
within each series, then the rank of the series, then the row. Only a chunk or two of each series is
in memory at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np

from schemas.columns import Columns, Ints
from schemas.instruments import CorporateAction
from schemas.rows import TABLE_BY_KIND
from schemas.topics import REFERENCE_ACTIONS
from streams.datasets.base import EARLIEST_NS, LATEST_NS
from streams.journal.batches import Piece, running_clock, table_piece

T_co = TypeVar("T_co", covariant=True)


class Feed(Protocol[T_co]):
    """Events in order, of which only a little is in memory; ``T_co`` is how they are taken off."""

    is_done: bool

    def read(self) -> None:
        """Read more, or note that there is none."""

    def is_empty(self) -> bool:
        """Return whether nothing that was read is left."""

    def safe_ns(self) -> int:
        """Return the instant before which nothing more can come to stand."""

    def take_before(self, limit_ns: int) -> T_co | None:
        """Take off what has a clock below ``limit_ns``; nothing or None if there is none."""


class _Feed:
    """One series: rows that are read and not yet merged, with the series' own clock.

    Int64 ns UTC.
    """

    __slots__ = ("_chunks", "_clock_ns", "clock", "is_done", "table")

    def __init__(self, chunks: Iterable[Columns]) -> None:
        self._chunks = iter(chunks)
        self._clock_ns = EARLIEST_NS
        self.table: Columns | None = None
        self.clock: Ints = np.empty(0, np.int64)
        self.is_done = False

    def read(self) -> None:
        """Append the next chunk that has rows, or note that there is none."""
        chunk = next((chunk for chunk in self._chunks if len(chunk)), None)
        if chunk is None:
            self.is_done = True
            return
        clock = running_clock(chunk.ts, self._clock_ns)
        self._clock_ns = int(clock[-1])
        if self.table is None or not len(self.clock):
            self.table, self.clock = chunk, clock
        else:
            self.table = type(chunk).concat([self.table, chunk])
            self.clock = np.concatenate([self.clock, clock])

    def is_empty(self) -> bool:
        """Return whether nothing that was read is left."""
        return not len(self.clock)

    def safe_ns(self) -> int:
        """Return the instant before which no further row of this series can come to stand."""
        return LATEST_NS if self.is_done else int(self.clock[-1])

    def take_before(self, limit_ns: int) -> tuple[Columns, Ints] | None:
        """Take off the rows with a clock below ``limit_ns``, or None if there are none."""
        count = int(np.searchsorted(self.clock, limit_ns, "left"))
        if self.table is None or not count:
            return None
        taken = self.table.take(slice(0, count)), self.clock[:count]
        self.table = self.table.take(slice(count, None))
        self.clock = self.clock[count:]
        return taken


def merged_pieces(
    series: Sequence[Iterable[Columns]], actions: Sequence[CorporateAction]
) -> Iterator[Piece]:
    """Yield the rows of ``series`` (each in its own order.

    Its place is its rank) and ``actions`` (by time) as events.

    At equal time actions come first, for they take effect before the data of their instant.
    """
    if len(series) == 1 and not actions:
        yield from (table_piece(chunk) for chunk in series[0] if len(chunk))
        return
    feeds = [_Feed(chunks) for chunks in series]
    waiting = list(actions)
    for limit_ns, taken in rounds(feeds):
        ready = [action for action in waiting if action.ts_event_ns < limit_ns]
        del waiting[: len(ready)]
        if taken or ready:
            yield _placed(taken, ready)


def rounds(feeds: Sequence[Feed[T_co]]) -> Iterator[tuple[int, list[T_co]]]:
    """Yield instants, and what of each feed that has any stands before them, until all is taken.

    At the instant itself more of a feed may follow: it waits for the next round.
    """
    while True:
        for feed in feeds:
            if not feed.is_done and feed.is_empty():
                feed.read()
        limit_ns = min((feed.safe_ns() for feed in feeds), default=LATEST_NS)
        taken = [found for feed in feeds if (found := feed.take_before(limit_ns))]
        yield limit_ns, taken
        if taken:
            continue
        if limit_ns == LATEST_NS:
            return
        # All that is read stands at one instant and more of it may follow.
        for feed in feeds:
            if feed.safe_ns() == limit_ns:
                feed.read()


def _placed(taken: list[tuple[Columns, Ints]], actions: list[CorporateAction]) -> Piece:
    """Return rows and actions as one piece; ``taken`` is in the order of rank."""
    if len(taken) == 1 and not actions:
        return table_piece(taken[0][0])
    times = np.array([action.ts_event_ns for action in actions], np.int64)
    clock = np.concatenate([times, *(clock for _, clock in taken)])
    order = np.argsort(clock, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order), dtype=np.int64)
    by_kind: dict[str, list[Columns]] = {}
    start = len(actions)
    for table, _ in taken:
        stop = start + len(table)
        by_kind.setdefault(table.KIND, []).append(table.moved(place[start:stop]))
        start = stop
    tables: list[Columns] = []
    for kind, parts in by_kind.items():
        joined = TABLE_BY_KIND[kind].concat(parts)
        in_order = len(parts) == 1
        tables.append(joined if in_order else joined.take(np.argsort(joined.pos)))
    records = [(int(place[i]), REFERENCE_ACTIONS, a) for i, a in enumerate(actions)]
    return Piece(len(order), tables, [*records])
