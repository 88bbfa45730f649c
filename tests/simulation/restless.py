"""A strategy of the event form that uses all of it, for fault runs: trades, bars and timers."""

from __future__ import annotations

from agents.strategy.api import Strategy
from agents.strategy.parameters import parameter
from schemas.market_data import Bar, Trade

_WAIT_NS = 90_000_000_000


class Restless(Strategy):
    """Turns its position over every so many trades, and leaves it some time after a bar."""

    name = "restless"
    every: int = parameter(60, minimum=1, description="trades between two turns")

    def on_start(self) -> None:
        """Begin to count."""
        self.count = 0

    def on_trade(self, trade: Trade) -> None:
        """Turn over."""
        self.count += 1
        if self.count % self.every == 0:
            is_long = self.position(trade.instrument_id) > 0
            self.target(trade.instrument_id, -7 if is_long else 7)

    def on_bars(self, time_ns: int, bars: dict[str, Bar]) -> None:
        """Wait for a while where all instruments had a bar."""
        if len(bars) == len(self.instrument_ids):
            self.set_timer(time_ns + _WAIT_NS)

    def on_timer(self, due_ns: int) -> None:
        """Leave."""
        for name in self.instrument_ids:
            self.target(name, 0)
