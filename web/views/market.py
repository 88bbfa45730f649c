"""Instruments with their last quote, trade and bar, and how a symbol finds its instrument."""

from __future__ import annotations

from schemas.enums import InstrumentState
from schemas.instruments import Instrument
from schemas.market_data import Bar, InstrumentStatus, Quote, Trade


class Market:
    """The newest of everything by instrument."""

    def __init__(self) -> None:
        self.instruments: dict[str, Instrument] = {}
        self.quotes: dict[str, Quote] = {}
        self.trades: dict[str, Trade] = {}
        self.bars: dict[str, Bar] = {}
        self.states: dict[str, InstrumentState] = {}

    def on_instrument(self, instrument: Instrument) -> None:
        """Take in a definition."""
        self.instruments[instrument.instrument_id] = instrument

    def on_event(self, event: object) -> None:
        """Take in a record of ``market.events`` or ``market.bars``; others are passed over."""
        if isinstance(event, Trade):
            self.trades[event.instrument_id] = event
        elif isinstance(event, Quote):
            self.quotes[event.instrument_id] = event
        elif isinstance(event, Bar):
            self.bars[event.instrument_id] = event
        elif isinstance(event, InstrumentStatus):
            self.states[event.instrument_id] = event.state

    def resolve(self, symbol: str) -> list[str]:
        """Return the ids of the instruments that ``symbol`` may mean.

        The rule: an instrument id stands for itself; else every tradable instrument of that symbol,
        and if none is tradable every one of it.
        """
        if symbol in self.instruments:
            return [symbol]
        same = [i for i in self.instruments.values() if i.symbol == symbol]
        found = [i for i in same if i.is_tradable] or same
        return sorted(instrument.instrument_id for instrument in found)

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
