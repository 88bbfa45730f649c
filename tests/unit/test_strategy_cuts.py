"""How the input is cut never shows in what the strategy stage says, nor does a restart."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.domain.indicators import SMA
from agents.strategy.api import Strategy
from agents.strategy.builtin import BUILTIN
from agents.strategy.parameters import ParameterValue
from schemas.columns import MarketBatch
from schemas.enums import OrderType
from schemas.market_data import Bar, Quote, Trade
from schemas.order_events import Fill
from tests.generated import START_NS, session, universe
from tests.unit.strategy_run import StrategyRun, config_of

BOTH = ("GEN.XXXX", "TWO.XXXX")
MINUTE_NS = 60_000_000_000
few = settings(max_examples=6, derandomize=True, database=None)
cuts = st.lists(st.integers(1, 500), min_size=1, max_size=12)


class Ticks(Strategy):
    """Works on trades, quotes and fills."""

    def on_start(self) -> None:
        """Make an average for each instrument."""
        self.count = 0
        self.average = SMA(5)
        self.fills: dict[str, str] = {}

    def on_trade(self, trade: Trade) -> None:
        """Trade around every seventh price."""
        self.count += 1
        if self.count % 7 == 0:
            self.target(trade.instrument_id, (self.count % 4 - 2) * 5)

    def on_quote(self, quote: Quote) -> None:
        """Bid below the market now and then, and withdraw what is still open."""
        self.count += 1
        if self.count % 11 == 0:
            for order_id in self.open_orders(quote.instrument_id):
                self.cancel(order_id)
            self.buy(
                quote.instrument_id, 2, order_type=OrderType.LIMIT, limit_price=quote.bid_price
            )

    def on_fill(self, fill: Fill) -> None:
        """Remember the position."""
        self.fills[fill.instrument_id] = str(self.position(fill.instrument_id))


class Bars(Strategy):
    """Works on bars, one by one."""

    def on_start(self) -> None:
        """Begin without a bar."""
        self.last: dict[str, float] = {}

    def on_bar(self, bar: Bar) -> None:
        """Follow the last bar."""
        is_up = bar.close > self.last.get(bar.instrument_id, bar.close)
        self.last[bar.instrument_id] = bar.close
        self.target_weight(bar.instrument_id, 0.2 if is_up else -0.1)


class Groups(Strategy):
    """Works on the bars of all instruments at once."""

    def on_bars(self, time_ns: int, bars: dict[str, Bar]) -> None:
        """Hold what closed lower in its range."""
        for instrument_id, bar in bars.items():
            self.target(instrument_id, 3 if bar.close < (bar.high + bar.low) / 2 else 0)


class Timers(Strategy):
    """Works by the clock alone."""

    def on_start(self) -> None:
        """Ask for the first timer."""
        self.side = 1
        self.set_timer(START_NS + MINUTE_NS)

    def on_timer(self, due_ns: int) -> None:
        """Turn the position every half hour."""
        self.side = -self.side
        self.target(BOTH[0], self.side)
        self.set_timer(due_ns + 30 * MINUTE_NS)


class Everything(Ticks, Bars):
    """All callbacks in one strategy."""

    def on_start(self) -> None:
        """Ask for the first timer."""
        Ticks.on_start(self)
        Bars.on_start(self)
        self.set_timer(START_NS + MINUTE_NS)

    on_timer = Timers.on_timer
    on_bars = Groups.on_bars
    side = 1


FORMS: dict[str, tuple[type[Strategy], str, dict[str, ParameterValue]]] = {
    "ticks": (Ticks, "trade", {}),
    "bars": (Bars, "1m", {}),
    "groups": (Groups, "5m", {}),
    "timers": (Timers, "trade", {}),
    "everything": (Everything, "1m", {}),
    "array-trade": (BUILTIN["mean_reversion"], "trade", {}),
    "array-quote": (BUILTIN["breakout"], "quote", {"window": 5, "allow_short": True}),
    "array-bar": (BUILTIN["mean_reversion"], "1m", {}),
}
STEADY = [form for form in FORMS if form not in {"timers", "everything"}]


@cache
def _market() -> MarketBatch:
    return session(universe(("GEN", "TWO")), 250, days=1)


def _run(form: str) -> StrategyRun:
    cls, on, parameters = FORMS[form]
    config = config_of(cls, BOTH, on=on, parameters=parameters)
    return StrategyRun(_market(), [cls], [config])


@cache
def _whole(form: str) -> list[bytes]:
    run = _run(form).play()
    assert len(run.fills()) > 15, "a strategy that does not trade would show nothing"
    return run.said()


@pytest.mark.parametrize("form", STEADY)
@few
@given(cut=cuts)
def test_strategy_stage_says_the_same_for_every_cut(form: str, cut: list[int]) -> None:
    assert _run(form).play(cut).said() == _whole(form)


@pytest.mark.parametrize("form", [*STEADY, "timers"])
def test_strategy_stage_says_the_same_event_by_event(form: str) -> None:
    assert _run(form).play([1]).said() == _whole(form)


@pytest.mark.parametrize("form", FORMS)
def test_strategy_stage_goes_on_after_restarts_as_if_nothing_had_been(form: str) -> None:
    assert _run(form).play([97, 41, 230], is_restarting=True).said() == _whole(form)


def test_strategy_with_all_callbacks_says_the_same_event_by_event() -> None:
    assert _run("everything").play([1]).said() == _whole("everything")
