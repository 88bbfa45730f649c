"""The price at which accounts are marked: the market's, thinned out by a rule in event time.

A trade, or a quote with two sides, gives a reference price if no reference price of its instrument
came in the same or a later interval of ``interval_ns`` (counted from the epoch). A bar of the input
gives one always, unless a later interval has been reached. The price is the trade's price, the
middle of the quote, or the bar's close; source and sequence number are those of the event.
"""

from __future__ import annotations

import numpy as np

from agents.market.grouping import Grouped, grown, interval_heads
from schemas.columns import (
    BarColumns,
    Columns,
    Floats,
    Ints,
    PriceColumns,
    QuoteColumns,
    TradeColumns,
)

_NEVER = np.iinfo(np.int64).min


def prints(trades: TradeColumns, bars: BarColumns) -> PriceColumns:
    """Return the prices of ``trades`` and the closes of ``bars``, by position."""
    return _merged([_priced(trades, trades.price), _priced(bars, bars.close)])


class ReferencePrices:
    """Reference prices of all instruments; ``last`` is the last interval of each that gave one."""

    __slots__ = ("_interval_ns", "last")

    def __init__(self, interval_ns: int) -> None:
        self._interval_ns = interval_ns
        self.last: Ints = np.empty(0, np.int64)

    def grow(self, size: int) -> None:
        """Make room for ``size`` instruments."""
        if size > len(self.last):
            self.last = grown(self.last, size, _NEVER)

    def process(
        self, shown: PriceColumns, grouped: Grouped, quotes: QuoteColumns, bars: BarColumns
    ) -> PriceColumns:
        """Return the reference prices of a batch.

        ``shown`` are its prints with their grouping, ``quotes`` and ``bars`` its valid quotes and
        bars.
        """
        two_sided = quotes.take((quotes.bid > 0) & (quotes.ask > 0)) if len(quotes) else quotes
        if len(two_sided):
            middle = (two_sided.bid + two_sided.ask) / 2
            shown = _merged([shown, _priced(two_sided, middle)])
            grouped = Grouped(shown.instrument)
        if not len(shown):
            return shown
        ts = grouped.sort(shown.ts)
        if len(grouped.codes) == 1 and not len(bars) and grouped.is_in_order(ts):
            heads = interval_heads(ts, self._interval_ns)
            interval = ts[heads] // self._interval_ns
            rows = heads[interval > self.last[grouped.codes]]
            self.last[grouped.codes] = np.maximum(self.last[grouped.codes], interval[-1])
            return shown.take(rows)
        interval = ts // self._interval_ns
        highest = grouped.highest_before(interval, self.last)
        emits = interval > highest
        if len(bars):
            emits |= grouped.sort(np.isin(shown.pos, bars.pos)) & (interval == highest)
        tails = grouped.tails()
        self.last[grouped.codes] = np.maximum(highest[tails], interval[tails])
        rows = np.flatnonzero(emits)
        return shown.take(rows if grouped.order is None else np.sort(grouped.order[rows]))


def _priced(table: Columns, price: Floats) -> PriceColumns:
    keys = {name: getattr(table, name) for name, _ in Columns.KEYS}
    return PriceColumns(price=price, **keys)


def _merged(tables: list[PriceColumns]) -> PriceColumns:
    """Return the rows of all ``tables`` by position."""
    filled = [table for table in tables if len(table)]
    if len(filled) < 2:
        return filled[0] if filled else PriceColumns.empty()
    joint = PriceColumns.concat(filled)
    return joint.take(np.argsort(joint.pos, kind="stable"))
