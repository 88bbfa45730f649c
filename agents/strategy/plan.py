"""Where in a batch a strategy acts: series for the array form, event rows for the event form.

A decision at position k is made after the event at k and before the one at k + 1. A bar that the
market stage derived closes before the event that closes it, so its decision stands one position
earlier (-1 at the start of a batch); its time is the bar's end. A bar that is itself an event of
the input is decided on at its own position. So a position k has two steps: 2 k is the event
itself, 2 k + 1 what lies between it and the next one. The engine routes after every step; a cut
between two events then falls between two steps, and never shows.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.strategy.api import Series
from schemas.columns import (
    BarColumns,
    Columns,
    Ints,
    MarketBatch,
    QuoteColumns,
    TradeColumns,
)
from schemas.identifiers import bar_id
from schemas.instruments import Universe
from schemas.market_data import INTERVALS


class Feed(NamedTuple):
    """One kind of market data of one batch, as strategies see it: rows in order of decision.

    ``at`` int64: decision positions; ``now`` int64 ns: decision times.
    """

    kind: str
    table: Columns
    at: Ints
    now: Ints

    def rows(self, index: int, is_single: bool) -> Feed:
        """Return the rows of one instrument."""
        if is_single:
            return self
        rows = np.flatnonzero(self.table.instrument == index)
        return Feed(self.kind, self.table.take(rows), self.at[rows], self.now[rows])


def feed_of(on: str, batch: MarketBatch, bars: BarColumns, bar_at: Ints) -> Feed:
    """Return the feed ``on`` of a batch.

    ``bar_at`` holds the decision position of each row of ``bars``.
    """
    if on == "trade":
        return Feed("trade", batch.trades, batch.trades.pos, batch.clock[batch.trades.pos])
    if on == "quote":
        return Feed("quote", batch.quotes, batch.quotes.pos, batch.clock[batch.quotes.pos])
    rows = np.flatnonzero((bars.interval == INTERVALS.index(on)) & (bars.revision == 0))
    chosen = bars.take(rows)
    at = bar_at[rows]
    now = chosen.ts
    if len(at) and len(batch):
        now = np.maximum(now, np.where(at >= 0, batch.clock[np.maximum(at, 0)], now))
    return Feed("bar", chosen, at, now)


def steps_of(feed: Feed) -> Ints:
    """Return the step of each decision of a feed: 2 at, or 2 at + 1 for bars that time closed."""
    steps: Ints = 2 * feed.at + (feed.at != feed.table.pos)
    return steps


def by_instrument(feed: Feed, indexes: list[int]) -> dict[int, Feed]:
    """Split a feed by instrument with one stable sort."""
    if len(indexes) == 1:
        table = feed.table
        if not len(table) or (
            table.instrument[0] == indexes[0] and (table.instrument == indexes[0]).all()
        ):
            return {indexes[0]: feed}
        return {indexes[0]: feed.rows(indexes[0], False)}
    order = np.argsort(feed.table.instrument, kind="stable")
    codes = feed.table.instrument[order]
    edges = np.searchsorted(codes, indexes), np.searchsorted(codes, indexes, side="right")
    parts: dict[int, Feed] = {}
    for index, start, stop in zip(indexes, *edges, strict=True):
        rows = order[start:stop]
        parts[index] = Feed(feed.kind, feed.table.take(rows), feed.at[rows], feed.now[rows])
    return parts


def series_of(feed: Feed, universe: Universe, index: int) -> Series:
    """Return the series of a feed that holds one instrument only."""
    instrument_id = universe.instruments[index].instrument_id
    grid, quantity_grid = universe.price_grids[index], universe.quantity_grids[index]
    table = feed.table
    if isinstance(table, TradeColumns):
        units = quantity_grid.to_units(table.size)
        return Series(instrument_id, grid, table.ts, table.price, units)
    if isinstance(table, QuoteColumns):
        mid = (table.bid + table.ask) / 2
        return Series(instrument_id, grid, table.ts, mid, np.zeros(len(table), np.int64))
    assert isinstance(table, BarColumns)
    return Series(
        instrument_id,
        grid,
        table.ts,
        table.close,
        quantity_grid.to_units(table.volume),
        (table.open, table.high, table.low),
    )


def cause_of(feed: Feed, row: int, batch: MarketBatch, universe: Universe) -> str:
    """Return the id of the event behind a row of a feed."""
    table = feed.table
    if isinstance(table, BarColumns) and feed.at[row] != table.pos[row]:
        return bar_id(
            universe.instruments[table.instrument[row]].instrument_id,
            INTERVALS[table.interval[row]],
            int(table.ts[row]),
        )
    return batch.event_id(int(table.pos[row]))
