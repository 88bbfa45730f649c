"""Last prices at marks: what each instrument of a batch was worth at each boundary of it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from schemas.columns import Floats, Ints, PriceColumns
from schemas.instruments import Universe


class PricesAtMarks:
    """The prices of a batch as columns over its marks, each instrument's when it is asked for.

    A mark stands in front of a row of ``prices``, its own in ``bound_rows`` (int64, ascending), and
    counts the last price before that row. ``carried`` are the prices from before the batch.
    """

    def __init__(
        self,
        universe: Universe,
        prices: PriceColumns,
        carried: Mapping[str, float],
        bound_rows: Ints,
    ) -> None:
        self._universe = universe
        self._prices = prices
        self._carried = dict(carried)
        self._bound_rows = bound_rows
        self._rows_of: dict[int, Ints] = {}
        self._columns: dict[int, Floats] = {}
        self._lists: dict[int, list[float]] = {}
        self._set: dict[int, list[tuple[int, float]]] = {}

    def set(self, index: int, row: int, price: float) -> None:
        """Note that the last price of an instrument was set in front of ``row``."""
        self._set.setdefault(index, []).append((row, price))
        self._columns.pop(index, None)
        self._lists.pop(index, None)

    def column(self, index: int) -> Floats:
        """Return the last price of an instrument at each mark (float64, NaN without one)."""
        known = self._columns.get(index)
        if known is None:
            known = self._columns[index] = self._column(index)
        return known

    def listed(self, index: int) -> list[float]:
        """Return ``column`` as a list, which is quicker to read one by one."""
        known = self._lists.get(index)
        if known is None:
            known = self._lists[index] = self.column(index).tolist()
        return known

    def _column(self, index: int) -> Floats:
        rows = self._by_instrument().get(index, np.empty(0, np.int64))
        carried = self._carried.get(self._universe.instruments[index].instrument_id, np.nan)
        places = rows.searchsorted(self._bound_rows)
        values: Floats = np.concatenate(([carried], self._prices.price[rows]))[places]
        last_row = np.concatenate(([-1], rows))[places]
        for row, price in self._set.get(index, ()):
            # The value that was set stands until the first price behind it.
            is_old = (self._bound_rows >= row) & (last_row < row)
            values = np.where(is_old, price, values)
        return values

    def _by_instrument(self) -> dict[int, Ints]:
        """Return the rows of each instrument of the batch."""
        if not self._rows_of and len(self._prices):
            order = np.argsort(self._prices.instrument, kind="stable")
            codes = self._prices.instrument[order]
            starts = np.flatnonzero(np.r_[True, codes[1:] != codes[:-1]])
            for start, stop in zip(starts, np.r_[starts[1:], len(codes)], strict=True):
                self._rows_of[int(codes[start])] = order[start:stop]
        return self._rows_of
