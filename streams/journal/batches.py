"""Consumed market events as batches: the rule of the clock, and recutting into batches of one size.

However the events were written (in batches, in tables, as single records), the batches read back
depend on the sequence and the size alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from schemas.columns import BarColumns, Columns, Ints, MarketBatch, QuoteColumns, TradeColumns
from schemas.envelope import Header
from schemas.errors import InvariantError
from schemas.instruments import Universe
from schemas.rows import KIND_BY_RECORD, TABLE_BY_KIND, table_from_records
from schemas.topics import MARKET_EVENTS

EARLIEST_NS = int(np.iinfo(np.int64).min)
_BATCH_TABLES: tuple[type[Columns], ...] = (TradeColumns, QuoteColumns, BarColumns)


class Piece(NamedTuple):
    """Consecutive events: ``size`` positions, taken up by rows of tables and by records."""

    size: int
    tables: list[Columns]
    records: list[tuple[int, str, Header]]

    def cut(self, start: int, stop: int) -> Piece:
        """Return the events at ``start`` to ``stop``, positions counted from ``start``."""
        if start == 0 and stop == self.size:
            return self
        tables = []
        for table in self.tables:
            if len(table) == self.size:
                rows = table.take(slice(start, stop))
            else:
                first, last = np.searchsorted(table.pos, (start, stop))
                rows = table.take(slice(int(first), int(last)))
            if len(rows):
                tables.append(rows.moved(rows.pos - start) if start else rows)
        records = [(pos - start, t, r) for pos, t, r in self.records if start <= pos < stop]
        return Piece(stop - start, tables, records)


def event_times(
    size: int, tables: Iterable[Columns], records: Iterable[tuple[int, str, Header]]
) -> Ints:
    """Return the event time at each position (int64 ns UTC)."""
    times: Ints | None = None
    for table in tables:
        if len(table) == size:
            return table.ts
        if times is None:
            times = np.empty(size, np.int64)
        times[table.pos] = table.ts
    if times is None:
        times = np.empty(size, np.int64)
    for pos, _, record in records:
        times[pos] = getattr(record, "ts_event_ns", EARLIEST_NS)
    return times


def running_clock(times: Ints, clock_ns: int) -> Ints:
    """Return the running maximum of ``times``, begun at ``clock_ns``.

    Shares the memory of ``times`` if they never fall.
    """
    if not len(times):
        return times
    if times[0] >= clock_ns and bool((times[1:] >= times[:-1]).all()):
        return times
    clock: Ints = np.maximum.accumulate(times)
    if times[0] < clock_ns:
        np.maximum(clock, clock_ns, out=clock)
    return clock


def check_batch(batch: MarketBatch, tables: list[Columns]) -> None:
    """Raise InvariantError unless positions are complete and the clock is the running maximum.

    The journal keeps the first clock value only; this is what makes that enough.
    """
    places = [table.pos for table in tables]
    if batch.records:
        places.append(np.array([pos for pos, _, _ in batch.records], np.int64))
    seen = np.zeros(len(batch), np.bool_)
    for rows in places:
        if rows[0] < 0 or rows[-1] >= len(batch) or bool((rows[1:] <= rows[:-1]).any()):
            break
        seen[rows] = True
    if sum(map(len, places)) != len(batch) or not seen.all():
        raise InvariantError(
            "the positions of a batch do not cover it exactly",
            field="pos",
            value=int(np.argmin(seen)),
            remedy="give each event one position from 0 to the length of the clock",
        )
    times = event_times(len(batch), tables, batch.records)
    wanted = running_clock(times, int(batch.clock[0]))
    if not np.array_equal(wanted, batch.clock):
        pos = int(np.argmax(wanted != batch.clock))
        raise InvariantError(
            f"the clock at position {pos} of a batch is not the running maximum of event times",
            field="clock",
            value=int(batch.clock[pos]),
            remedy=f"it should be {int(wanted[pos])}",
        )


def table_piece(table: Columns) -> Piece:
    """Return the rows of ``table`` as events in row order."""
    return Piece(len(table), [table.moved(np.arange(len(table), dtype=np.int64))], [])


def batch_piece(batch: MarketBatch, topics: frozenset[str]) -> Piece:
    """Return the events of ``batch`` without records of topics other than ``topics``."""
    tables: list[Columns] = [t for t in (batch.trades, batch.quotes, batch.bars) if len(t)]
    kept = [item for item in batch.records if item[1] in topics]
    if len(kept) == len(batch.records):
        return Piece(len(batch), tables, kept)
    is_kept = np.ones(len(batch), np.bool_)
    is_kept[[pos for pos, topic, _ in batch.records if topic not in topics]] = False
    place: Ints = np.cumsum(is_kept, dtype=np.int64) - 1
    return Piece(
        int(is_kept.sum()),
        [table.moved(place[table.pos]) for table in tables],
        [(int(place[pos]), topic, record) for pos, topic, record in kept],
    )


def records_piece(universe: Universe, items: list[tuple[str, Header]]) -> Piece:
    """Return single records as events; trades, quotes and bars of ``market.events`` become rows."""
    kinds = [
        KIND_BY_RECORD.get(type(record)) if topic == MARKET_EVENTS else None
        for topic, record in items
    ]
    found = dict.fromkeys(kinds)
    if len(found) == 1 and None not in found:
        (only,) = found
        assert only is not None
        rows = [record for _, record in items]
        return Piece(len(items), [table_from_records(universe, only, rows)], [])
    tables: list[Columns] = []
    records: list[tuple[int, str, Header]] = []
    for kind in found:
        places = [pos for pos, item_kind in enumerate(kinds) if item_kind == kind]
        if kind is None:
            records = [(pos, *items[pos]) for pos in places]
            continue
        table = table_from_records(universe, kind, [items[pos][1] for pos in places])
        tables.append(table.moved(np.array(places, np.int64)))
    return Piece(len(items), tables, records)


def recut(universe: Universe, pieces: Iterable[Piece], size: int) -> Iterator[MarketBatch]:
    """Yield the events of ``pieces`` in batches of ``size``; the last may be smaller."""
    held: list[Piece] = []
    count = 0
    offset = 0
    clock_ns = EARLIEST_NS
    for piece in pieces:
        start = 0
        while count + piece.size - start >= size:
            stop = start + size - count
            held.append(piece.cut(start, stop))
            batch = _join(universe, held, size, clock_ns, offset)
            yield batch
            clock_ns = int(batch.clock[-1])
            offset += size
            held, count, start = [], 0, stop
        if start < piece.size:
            held.append(piece.cut(start, piece.size))
            count += piece.size - start
    if count:
        yield _join(universe, held, count, clock_ns, offset)


def batch_of(universe: Universe, piece: Piece, clock_ns: int, first_offset: int) -> MarketBatch:
    """Return the events of a piece as one batch, whose clock goes on from ``clock_ns``."""
    return _join(universe, [piece], piece.size, clock_ns, first_offset)


def _join(
    universe: Universe, pieces: list[Piece], size: int, clock_ns: int, offset: int
) -> MarketBatch:
    """Return consecutive pieces as one batch."""
    by_kind: dict[str, list[Columns]] = {table.KIND: [] for table in _BATCH_TABLES}
    records: list[tuple[int, str, Header]] = []
    shift = 0
    for piece in pieces:
        for table in piece.tables:
            by_kind[table.KIND].append(table.moved(table.pos + shift) if shift else table)
        records.extend((pos + shift, topic, record) for pos, topic, record in piece.records)
        shift += piece.size
    joined = {kind: TABLE_BY_KIND[kind].concat(tables) for kind, tables in by_kind.items()}
    times = event_times(size, joined.values(), records)
    return MarketBatch(
        universe,
        running_clock(times, clock_ns),
        trades=joined["trade"],  # type: ignore[arg-type]
        quotes=joined["quote"],  # type: ignore[arg-type]
        bars=joined["bar"],  # type: ignore[arg-type]
        records=records,
        first_offset=offset,
    )
