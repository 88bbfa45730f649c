"""Instruments with their last quote, trade and bar, and how a symbol finds its instrument."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, TypeVar

from schemas.enums import InstrumentState
from schemas.instruments import Instrument, meant_by
from schemas.market_data import Bar, BookDelta, BookSnapshot, InstrumentStatus, Quote, Trade

_BOOK_LEVELS_MAX = 5_000
_BARS_MAX = 5_000
_TICKS_MAX = 2_000

_Tick = TypeVar("_Tick", Quote, Trade)

QUOTES, TRADES = "quotes", "trades"
"""Names of series beside the intervals of bars."""


class Book:
    """The book of one instrument: a snapshot with the deltas since, sizes by price."""

    __slots__ = ("asks", "bids", "ts_ns")

    def __init__(self, snapshot: BookSnapshot) -> None:
        self.bids = {level.price: level.size for level in snapshot.bids}
        self.asks = {level.price: level.size for level in snapshot.asks}
        self.ts_ns = snapshot.ts_event_ns

    def apply(self, delta: BookDelta) -> None:
        """Take in levels that changed; a size of 0 removes one."""
        for side, levels in ((self.bids, delta.bids), (self.asks, delta.asks)):
            for level in levels:
                if level.size:
                    side[level.price] = level.size
                else:
                    side.pop(level.price, None)
        self.ts_ns = delta.ts_event_ns

    def levels(self, depth: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        """Return the best bids and asks."""
        bids = sorted(self.bids.items(), reverse=True)[:depth]
        return bids, sorted(self.asks.items())[:depth]


class Market:
    """The newest of everything by instrument, and the last bars, quotes and trades."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self.series: dict[tuple[str, str], OrderedDict[int, Bar]] = {}
        self.last_quotes: dict[str, deque[Quote]] = {}
        self.last_trades: dict[str, deque[Trade]] = {}
        self.instruments: dict[str, Instrument] = {}
        self.quotes: dict[str, Quote] = {}
        self.trades: dict[str, Trade] = {}
        self.bars: dict[str, Bar] = {}
        self.states: dict[str, InstrumentState] = {}
        self._begin_ns: int | None = None
        self._left_ns: dict[tuple[str, str], int] = {}

    def begin_late(self, ts_ns: int) -> None:
        """Know that market data up to a time (ns) were not heard of."""
        self._begin_ns = max(ts_ns, self._begin_ns or ts_ns)

    def floor_of(self, instrument_id: str, series: str) -> int | None:
        """Return the time (ns) up to which a series may lack rows, None if it has all."""
        floors = (self._begin_ns, self._left_ns.get((instrument_id, series)))
        return max((floor for floor in floors if floor is not None), default=None)

    def on_instrument(self, instrument: Instrument) -> None:
        """Take in a definition."""
        self.instruments[instrument.instrument_id] = instrument

    def on_event(self, event: object) -> None:
        """Take in a record of ``market.events`` or ``market.bars``; others are passed over."""
        if isinstance(event, Trade):
            if event.price > 0 and event.size >= 0:
                # One that the market stage leaves out is shown, and nothing is valued by it.
                _take_newest(self.trades, event)
            self._keep(self.last_trades, TRADES, event)
        elif isinstance(event, Quote):
            _take_newest(self.quotes, event)
            self._keep(self.last_quotes, QUOTES, event)
        elif isinstance(event, Bar):
            self._on_bar(event)
        elif isinstance(event, BookSnapshot):
            self.books[event.instrument_id] = Book(event)
        elif isinstance(event, BookDelta):
            book = self.books.get(event.instrument_id)
            if book is not None:
                book.apply(event)
                if len(book.bids) + len(book.asks) > _BOOK_LEVELS_MAX:
                    # What cannot be kept whole is not shown in part: the next snapshot begins anew.
                    del self.books[event.instrument_id]
        elif isinstance(event, InstrumentStatus):
            self.states[event.instrument_id] = event.state

    def _on_bar(self, bar: Bar) -> None:
        known = self.bars.get(bar.instrument_id)
        if bar.close > 0 and (known is None or bar.ts_event_ns >= known.ts_event_ns):
            self.bars[bar.instrument_id] = bar
        series = self.series.setdefault((bar.instrument_id, bar.interval), OrderedDict())
        # A correction takes the place of its bar; bars come in order but for these.
        series[bar.ts_event_ns] = bar
        if len(series) > _BARS_MAX:
            left_ns, _ = series.popitem(last=False)
            self._leave((bar.instrument_id, bar.interval), left_ns)

    def _keep(self, kept: dict[str, deque[Any]], series: str, event: Quote | Trade) -> None:
        found = kept.get(event.instrument_id)
        if found is None:
            found = kept[event.instrument_id] = deque(maxlen=_TICKS_MAX)
        if len(found) == _TICKS_MAX:
            self._leave((event.instrument_id, series), found[0].ts_event_ns)
        found.append(event)

    def _leave(self, key: tuple[str, str], ts_ns: int) -> None:
        self._left_ns[key] = max(ts_ns, self._left_ns.get(key, ts_ns))

    def resolve(self, symbol: str) -> list[str]:
        """Return the ids of the instruments that ``symbol`` may mean."""
        return meant_by(symbol, self.instruments)

    def symbol_of(self, instrument_id: str) -> str:
        """Return the symbol of an instrument; for an unknown one the part before the venue."""
        instrument = self.instruments.get(instrument_id)
        return (
            instrument.symbol if instrument else instrument_id.rpartition(".")[0] or instrument_id
        )

    def last_price(self, instrument_id: str) -> tuple[float, int] | None:
        """Return newest price and instant (ns): last trade, else mid quote, else a close."""
        found: list[tuple[int, float]] = []
        trade, bar = self.trades.get(instrument_id), self.bars.get(instrument_id)
        quote = self.quotes.get(instrument_id)
        if trade is not None:
            found.append((trade.ts_event_ns, trade.price))
        elif quote is not None and quote.bid_price > 0 and quote.ask_price > 0:
            found.append((quote.ts_event_ns, (quote.bid_price + quote.ask_price) / 2))
        if bar is not None:
            found.append((bar.ts_event_ns, bar.close))
        if not found:
            return None
        ts_ns, price = max(found)
        return price, ts_ns


def _take_newest(newest: dict[str, _Tick], event: _Tick) -> None:
    """Take in a trade or quote; a late one is no price: accounts are not marked by it either."""
    known = newest.get(event.instrument_id)
    if known is None or event.ts_event_ns >= known.ts_event_ns:
        newest[event.instrument_id] = event
