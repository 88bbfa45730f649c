"""Which market data can be worked with: finite, positive, within exact integers on the grid."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from agents.market.grouping import Bools, GridTable
from schemas.columns import (
    BarColumns,
    Codes,
    Columns,
    Floats,
    Ints,
    MarketBatch,
    QuoteColumns,
    TradeColumns,
)
from schemas.enums import QualityKind
from schemas.instruments import Universe

Table = TypeVar("Table", bound=Columns)

PRODUCT_LIMIT = 2.0 ** (62 - 2 * 53)
"""Price times size stays below 2**62 grid units; both are compared with 2**53 units."""


class Findings(NamedTuple):
    """Faults of one kind, by position; ``detail`` gives the words for a row."""

    kind: QualityKind
    pos: Ints
    ts: Ints
    instrument: Codes
    measured: Floats
    limit: Floats
    detail: Callable[[int], str]


class Validity:
    """Separates values that can be worked with from those that cannot."""

    __slots__ = ("_prices", "_sizes", "_universe")

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self._prices = GridTable(universe, "price")
        self._sizes = GridTable(universe, "quantity")

    def grow(self) -> None:
        """Read the grids of the instruments that the universe has now."""
        if len(self._universe) != len(self._prices.largest):
            self._prices = GridTable(self._universe, "price")
            self._sizes = GridTable(self._universe, "quantity")

    def usable(self, batch: MarketBatch) -> MarketBatch:
        """Return ``batch`` without the rows that cannot be worked with, the others in their places.

        The market stage reports them; no other stage may meet them.
        """
        self.grow()
        found: list[Findings] = []
        trades = self.trades(batch.trades, found)
        quotes = self.quotes(batch.quotes, found)
        bars = self.bars(batch.bars, found)
        if not found:
            return batch
        return MarketBatch(
            batch.universe,
            batch.clock,
            trades=trades,
            quotes=quotes,
            bars=bars,
            records=batch.records,
            first_offset=batch.first_offset,
        )

    def trades(self, table: TradeColumns, found: list[Findings]) -> TradeColumns:
        """Return the valid trades; add the others to ``found``."""
        if not len(table):
            return table
        price, size = table.price, table.size
        high, most = float(price.max()), float(size.max())
        top, widest = float(self._prices.largest.min()), float(self._sizes.largest.min())
        # NaN passes through max and min and fails every comparison.
        if (
            (price.min() > 0)
            and (size.min() >= 0)
            and (high < top)
            and (most < widest)
            and (high / top * (most / widest) < PRODUCT_LIMIT)
        ):
            return table
        good = (price > 0) & (size >= 0) & self._fits(table.instrument, price, size)
        return _split(table, good, found, ("price", "size"))

    def quotes(self, table: QuoteColumns, found: list[Findings]) -> QuoteColumns:
        """Return the valid quotes; add the others to ``found``."""
        columns = (table.bid, table.ask, table.bid_size, table.ask_size)
        if not len(table) or all(c.min() >= 0 and c.max() < np.inf for c in columns):
            return table
        good = np.all([(c >= 0) & (c < np.inf) for c in columns], axis=0)
        return _split(table, good, found, ("bid", "ask", "bid_size", "ask_size"))

    def bars(self, table: BarColumns, found: list[Findings]) -> BarColumns:
        """Return the valid bars; add the others to ``found``."""
        if not len(table):
            return table
        good = (
            (table.low > 0)
            & (table.low <= table.open)
            & (table.low <= table.close)
            & (table.open <= table.high)
            & (table.close <= table.high)
            & (table.volume >= 0)
            & self._fits(table.instrument, np.fmax(table.high, table.vwap), table.volume)
        )
        if np.all(good):
            return table
        return _split(table, good, found, ("open", "high", "low", "close", "volume"))

    def _fits(self, instrument: Codes, price: Floats, size: Floats) -> Bools:
        """Return which rows stay within exact integers on their instrument's grids."""
        # Infinity times 0 is NaN, which does not fit either.
        with np.errstate(invalid="ignore", over="ignore"):
            part = price / self._prices.largest[instrument]
            share = size / self._sizes.largest[instrument]
            return (part < 1) & (share < 1) & (part * share < PRODUCT_LIMIT)


def _split(table: Table, good: Bools, found: list[Findings], names: tuple[str, ...]) -> Table:
    """Return the good rows; report the others, with their first value as the measured one."""
    bad = table.take(~good)
    columns = [getattr(bad, name) for name in names]

    def detail(row: int) -> str:
        values = ", ".join(f"{n} {c[row]}" for n, c in zip(names, columns, strict=True))
        return f"a {table.KIND} with {values} is left out"

    measured = np.where(np.isfinite(columns[0]), columns[0], 0.0)
    zeros = np.zeros(len(bad))
    found.append(
        Findings(QualityKind.INVALID, bad.pos, bad.ts, bad.instrument, measured, zeros, detail)
    )
    return table.take(good)
