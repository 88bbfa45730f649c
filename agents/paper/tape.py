"""The tape of one instrument in one batch: the rows that can fill or trigger its orders, in order.

On the quote tier trades stand on the tape as well, because a print through a resting limit order fills it. Rows during a
halt are left out. Prices are int64 ticks, sizes int64 units; a side that does not exist has price 0.
"""

from __future__ import annotations

import numpy as np

from schemas.columns import BarColumns, Columns, Ints, MarketBatch
from schemas.enums import InstrumentState
from schemas.instruments import Universe
from schemas.market_data import InstrumentStatus

QUOTE, TRADE, BAR = "quote", "trade", "bar"


class Tape:
    """Rows by position.

    ``pos`` int64. For a trade ``bid`` and ``ask`` are its price; for a quote the two sides; for a bar the open. ``high`` and ``low``
    differ from them for bars only. ``buy_size`` and ``sell_size`` are what a buyer or seller can take. ``is_print``
    marks trades on the quote tier, which only fill resting limit orders they go through.
    """

    __slots__ = ("ask", "bid", "buy_size", "high", "is_print", "low", "pos", "sell_size", "start", "tier", "ts")

    def __init__(
        self, tier: str, pos: Ints, ts: Ints, bid: Ints, ask: Ints, buy_size: Ints, sell_size: Ints,
        *, high: Ints | None = None, low: Ints | None = None, start: Ints | None = None,
        is_print: np.ndarray[tuple[int], np.dtype[np.bool_]] | None = None,
    ) -> None:  # fmt: skip
        self.tier = tier
        self.pos = pos
        self.ts = ts
        self.bid, self.ask = bid, ask
        self.buy_size, self.sell_size = buy_size, sell_size
        self.high = ask if high is None else high
        self.low = bid if low is None else low
        self.start = ts if start is None else start
        self.is_print = is_print

    def __len__(self) -> int:
        return len(self.pos)


def _mine(table: Columns, index: int, is_single: bool) -> Columns:
    return table if is_single else table.take(table.instrument == index)


def make_tape(batch: MarketBatch, index: int, tier: str, state: InstrumentState) -> Tape:
    """Return the tape of instrument ``index``; ``state`` is its state at the start of the batch."""
    universe: Universe = batch.universe
    is_single = len(universe) == 1
    grid, units = universe.price_grids[index], universe.quantity_grids[index]
    if tier == TRADE:
        trades = _mine(batch.trades, index, is_single)
        price, size = grid.to_units(trades.price), units.to_units(trades.size)  # type: ignore[attr-defined]
        tape = Tape(tier, trades.pos, trades.ts, price, price, size, size)
    elif tier == BAR:
        bars = _mine(batch.bars, index, is_single)
        assert isinstance(bars, BarColumns)
        open_, size = grid.to_units(bars.open), units.to_units(bars.volume)
        tape = Tape(
            tier, bars.pos, bars.ts, open_, open_, size, size, high=grid.to_units(bars.high),
            low=grid.to_units(bars.low), start=bars.start,
        )  # fmt: skip
    else:
        tape = _quote_tape(batch, index, is_single)
    return _without_halts(tape, batch, universe.instruments[index].instrument_id, state)


def _quote_tape(batch: MarketBatch, index: int, is_single: bool) -> Tape:
    universe = batch.universe
    grid, units = universe.price_grids[index], universe.quantity_grids[index]
    quotes = _mine(batch.quotes, index, is_single)
    trades = _mine(batch.trades, index, is_single)
    price, size = grid.to_units(trades.price), units.to_units(trades.size)  # type: ignore[attr-defined]
    pos = np.concatenate((quotes.pos, trades.pos))
    order = np.argsort(pos, kind="stable")
    columns = [
        np.concatenate(pair)[order]
        for pair in (
            (quotes.ts, trades.ts),
            (grid.to_units(quotes.bid), price),  # type: ignore[attr-defined]
            (grid.to_units(quotes.ask), price),  # type: ignore[attr-defined]
            (units.to_units(quotes.ask_size), size),  # type: ignore[attr-defined]
            (units.to_units(quotes.bid_size), size),  # type: ignore[attr-defined]
        )
    ]
    is_print = np.repeat([False, True], [len(quotes), len(trades)])[order]
    return Tape(QUOTE, pos[order], *columns, is_print=is_print)


def _without_halts(tape: Tape, batch: MarketBatch, instrument_id: str, state: InstrumentState) -> Tape:
    changes = [
        (pos, record.state)
        for pos, _, record in batch.records
        if isinstance(record, InstrumentStatus) and record.instrument_id == instrument_id
    ]
    if not changes and state is InstrumentState.OPEN:
        return tape
    edges = np.array([-1, *(pos for pos, _ in changes)])
    is_open = np.array([state is InstrumentState.OPEN, *(s is InstrumentState.OPEN for _, s in changes)])
    rows = is_open[np.searchsorted(edges, tape.pos, side="right") - 1]
    kept = Tape.__new__(Tape)
    for name in Tape.__slots__:
        value = getattr(tape, name)
        setattr(kept, name, value[rows] if isinstance(value, np.ndarray) else value)
    return kept
