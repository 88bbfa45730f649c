"""What bars are built from: trades, or bars of a finer interval, as rows of one shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.market.buckets import NO_BUCKET, Buckets
from agents.market.grouping import Bools, GridTable, Grouped, Order
from agents.market.history import BAR_DTYPE, LOW_BITS, LOW_MASK, Bars
from schemas.columns import Codes, Floats, Ints, TradeColumns
from schemas.errors import DataError

_SUM_LIMIT = 2.0**62


@dataclass(frozen=True, slots=True)
class Prints:
    """What bars are built from, by instrument and time: trades, or bars of a finer interval.

    ``now`` is what is known of time at ``pos``; ``time`` is an instant inside the print's interval,
    ``ts`` its event time, ``opened`` its beginning. ``notional`` is ticks times quantity units.
    ``counts`` and ``partial`` are None for trades, each of which counts once.
    """

    pos: Ints
    now: Ints
    time: Ints
    ts: Ints
    opened: Ints
    instrument: Codes
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Ints
    notional: Ints
    counts: Ints | None = None
    partial: Bools | None = None

    def rows(self, chosen: Bools | Order) -> Prints:
        """Return the chosen rows."""
        columns: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        taken: dict[str, Any] = {n: c if c is None else c[chosen] for n, c in columns.items()}
        return Prints(**taken)


def of_trades(
    known: Ints, trades: TradeColumns, grouped: Grouped, prices: GridTable, sizes: GridTable
) -> Prints:
    """Return trades as prints, by instrument and event time."""
    order = grouped.order
    if not grouped.is_in_order(grouped.sort(trades.ts)):
        order = np.lexsort((trades.ts, trades.instrument))
    table = trades if order is None else trades.take(order)
    price = prices.to_units(table.instrument, table.price)
    size = sizes.to_units(table.instrument, table.size)
    now = known if order is None and len(table) == len(known) else known[table.pos]
    return Prints(
        table.pos, now, table.ts, table.ts, table.ts, table.instrument, table.price, table.price,
        table.price, table.price, size, price * size,
    )  # fmt: skip


def runs(buckets: Buckets, j: int, rows: Prints) -> Bars:
    """Return one bar for each run of prints of one instrument and interval, by instrument and time.

    The position is that of the last print. Raises DataError if a volume leaves 64 bits.
    """
    n = len(rows.pos)
    if not n:
        return np.empty(0, BAR_DTYPE)
    heads, starts = buckets.runs(j, rows.time, rows.instrument)
    tails = np.append(heads[1:], n) - 1
    out = np.zeros(len(heads), BAR_DTYPE)
    out["interval"] = j
    out["instrument"] = rows.instrument[heads]
    out["start"] = starts
    out["end"] = buckets.ends(j, starts, out["instrument"])
    out["pos"], out["last_ts"], out["close"] = (
        rows.pos[tails],
        rows.ts[tails],
        rows.close[tails],
    )
    out["first_ts"], out["open"] = rows.opened[heads], rows.open[heads]
    out["high"] = np.maximum.reduceat(rows.high, heads)
    out["low"] = np.minimum.reduceat(rows.low, heads)
    if rows.counts is None or rows.partial is None:
        out["count"] = tails - heads + 1
    else:
        out["count"] = np.add.reduceat(rows.counts, heads)
        out["partial"] = np.logical_or.reduceat(rows.partial, heads)
    out["volume"] = np.add.reduceat(rows.volume, heads)
    if float(rows.volume.max()) * n >= _SUM_LIMIT:
        check_volume(out, np.add.reduceat(rows.volume.astype(np.float64), heads))
    if float(rows.notional.max()) * n < _SUM_LIMIT:
        notional = np.add.reduceat(rows.notional, heads)
        out["notional_low"] = notional & LOW_MASK
        out["notional_high"] = notional >> LOW_BITS
    else:
        low = np.add.reduceat(rows.notional & LOW_MASK, heads)
        out["notional_low"] = low & LOW_MASK
        out["notional_high"] = np.add.reduceat(rows.notional >> LOW_BITS, heads) + (low >> LOW_BITS)
    return out[out["start"] > NO_BUCKET]


def check_volume(bars: Bars, estimate: Floats | None = None) -> None:
    """Raise DataError if the volume of a bar has left 64 bits, or ``estimate`` comes near."""
    spilt = bars["volume"] < 0 if estimate is None else estimate >= _SUM_LIMIT
    if np.any(spilt):
        raise DataError(
            "the volume of a bar does not fit 64 bits on the quantity grid",
            field="instrument",
            value=int(bars["instrument"][spilt][0]),
            remedy="give the instrument with this index a coarser quantity increment",
        )
