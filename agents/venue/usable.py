"""Which rows of market data the venue can work with, whatever else their source may hold.

A trade needs a positive price, a quote sides that are not negative, a bar prices that fit each
other; all of them finite and within exact integers on the instrument's grids. A corrected bar tells
of time that orders have seen already, so it fills nothing.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.columns import BarColumns, Columns, Floats, QuoteColumns, TradeColumns
from schemas.instruments import Universe
from schemas.market_data import INTERVALS
from schemas.values import Grid

Bools = npt.NDArray[np.bool_]
_UNITS_MAX = 2**53


class Usable:
    """Tells usable rows from others; ``bar_interval`` as in ``VenueConfig``."""

    __slots__ = ("_interval", "_prices", "_sizes", "_universe")

    def __init__(self, universe: Universe, bar_interval: str) -> None:
        self._universe = universe
        self._interval = INTERVALS.index(bar_interval) if bar_interval else -1
        self._prices = self._sizes = np.empty(0)

    def rows(self, table: Columns) -> Bools | None:
        """Return which rows of ``table`` can be used; None if all of them can."""
        if len(self._universe) != len(self._prices):
            self._prices = _largest(self._universe.price_grids)
            self._sizes = _largest(self._universe.quantity_grids)
        prices: tuple[Floats, ...]
        sizes: tuple[Floats, ...]
        if isinstance(table, BarColumns):
            good = self._bars(table)
        elif isinstance(table, QuoteColumns):
            prices, sizes = (table.bid, table.ask), (table.bid_size, table.ask_size)
            if self._all_fit(prices, sizes):
                return None
            good = self._fit(table, prices, sizes)
        elif isinstance(table, TradeColumns):
            prices, sizes = (table.price,), (table.size,)
            if not len(table) or (table.price.min() > 0 and self._all_fit(prices, sizes)):
                return None
            good = self._fit(table, prices, sizes) & (table.price > 0)
        else:
            good = np.zeros(len(table), bool)
        return None if bool(good.all()) else good

    def _bars(self, table: BarColumns) -> Bools:
        good: Bools = self._fit(table, (table.high,), (table.volume,)) & (table.revision == 0)
        good &= (table.low > 0) & (table.low <= table.open) & (table.open <= table.high)
        good &= (table.low <= table.close) & (table.close <= table.high)
        if self._interval >= 0:
            good &= table.interval == self._interval
        return good

    def _all_fit(self, prices: tuple[Floats, ...], sizes: tuple[Floats, ...]) -> bool:
        """Return whether all values fit even the finest grid; NaN fails every comparison."""
        if not len(prices[0]):
            return True
        top, most = self._prices.min(), self._sizes.min()
        return all(bool(c.min() >= 0 and c.max() < top) for c in prices) and all(
            bool(c.min() >= 0 and c.max() < most) for c in sizes
        )

    def _fit(self, table: Columns, prices: tuple[Floats, ...], sizes: tuple[Floats, ...]) -> Bools:
        good = np.ones(len(table), bool)
        for column in prices:
            good &= (column >= 0) & (column < self._prices[table.instrument])
        for column in sizes:
            good &= (column >= 0) & (column < self._sizes[table.instrument])
        return good


def _largest(grids: list[Grid]) -> Floats:
    """Return the value of each grid from which integers are no longer exact in float64."""
    return np.array([grid.to_float(_UNITS_MAX) for grid in grids])
