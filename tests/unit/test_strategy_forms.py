"""The two forms of a strategy: equal logic trades equally, and what callbacks may rely on."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from agents.domain.indicators import SMA
from agents.strategy.api import Series, Strategy
from agents.strategy.parameters import parameter
from schemas.columns import Floats, MarketBatch
from schemas.commands import CancelOrder, SubmitOrder
from schemas.control import StrategySignal
from schemas.enums import OrderType, Side
from schemas.errors import ConfigError
from schemas.market_data import Bar, Quote, Trade
from schemas.order_events import Fill
from tests.generated import DAY_NS, START_NS, session, trades, universe
from tests.unit.strategy_run import StrategyRun, config_of

MINUTE_NS = 60_000_000_000
LOT = 10
BELOW = Decimal("0.05")


class ArrayCross(Strategy):
    """A crossover in the array form."""

    quantity: float = parameter(float(LOT))

    def on_start(self) -> None:
        """Make the averages."""
        self.fast, self.slow = SMA(3), SMA(9)

    def signals(self, series: Series) -> Floats:
        """Compare the averages."""
        fast, slow = self.fast.update(series.ticks), self.slow.update(series.ticks)
        return np.where(np.isnan(slow), np.nan, np.where(fast > slow, 1.0, -1.0))


class EventCross(Strategy):
    """The same crossover, one price at a time, by comparing whole sums."""

    def on_start(self) -> None:
        """Keep the last nine prices."""
        self.window: list[float] = []

    def _see(self, instrument_id: str, price: float) -> None:
        self.window = [*self.window, round(price * 200)][-9:]
        if len(self.window) == 9:
            is_above = sum(self.window[-3:]) * 3 > sum(self.window)
            self.target(instrument_id, LOT if is_above else -LOT)

    def on_trade(self, trade: Trade) -> None:
        """See a trade."""
        self._see(trade.instrument_id, trade.price)


class QuoteCross(EventCross):
    """The same on quotes."""

    def on_trade(self, trade: Trade) -> None:
        """Leave trades alone."""

    def on_quote(self, quote: Quote) -> None:
        """See a quote's mid."""
        self._see(quote.instrument_id, (quote.bid_price + quote.ask_price) / 2)


class BarCross(EventCross):
    """The same on bars."""

    def on_trade(self, trade: Trade) -> None:
        """Leave trades alone."""

    def on_bar(self, bar: Bar) -> None:
        """See a bar's close."""
        self._see(bar.instrument_id, bar.close)


def _market(count: int = 800) -> MarketBatch:
    return trades(universe(), count, days=1)


@pytest.mark.parametrize("on", ["trade", "1m", "5m"])
def test_array_form_trades_as_the_event_form_of_the_same_logic(on: str) -> None:
    market = _market()
    event = EventCross if on == "trade" else BarCross
    by_array = StrategyRun(market, [ArrayCross], [config_of(ArrayCross, on=on)]).play()
    by_event = StrategyRun(market, [event], [config_of(event, on=on)]).play()
    assert len(by_array.fills()) > 20
    assert by_event.orders() == by_array.orders()
    assert by_event.fills() == by_array.fills()


def test_order_of_a_trade_is_filled_by_the_next_one() -> None:
    market = _market()
    run = StrategyRun(market, [ArrayCross], [config_of(ArrayCross)]).play()
    ts, price = market.trades.ts, market.trades.price
    for order, fill in zip(run.of(SubmitOrder), run.of(Fill), strict=True):
        at = int(np.searchsorted(ts, order.ts_event_ns))
        assert order.decision_price == price[at]
        assert (fill.ts_event_ns, float(fill.price)) == (ts[at + 1], price[at + 1])


# ---- warm-up


@pytest.mark.parametrize("cls", [ArrayCross, EventCross])
def test_warm_up_withholds_orders_and_goes_on_as_if_it_had_always_run(cls: type[Strategy]) -> None:
    market = _market()
    begin_ns = int(market.clock[400])
    whole = StrategyRun(market, [cls], [config_of(cls)]).play()
    warm = StrategyRun(market, [cls], [config_of(cls, trade_from_ns=begin_ns)]).play()

    assert [s.target for s in warm.of(StrategySignal)][-1:] == [
        s.target for s in whole.of(StrategySignal)
    ][-1:]
    orders = warm.orders()
    assert orders[0][0] == begin_ns
    assert orders[0][3] == LOT
    # The first one opens; from then on both turn the same position at the same instants.
    assert orders[1:] == [order for order in whole.orders() if order[0] > begin_ns]


# ---- callbacks


class Diary(Strategy):
    """Writes down what it is called with, and trades a little by timers and fills."""

    def on_start(self) -> None:
        """Ask for three timers, out of order; the last two are due at one instant."""
        self.lines: list[list[object]] = []
        self.exit_id = ""
        for minutes in (20, 10, 20):
            self.set_timer(START_NS + minutes * MINUTE_NS)

    def on_trade(self, trade: Trade) -> None:
        """Note the trade."""
        self.lines.append(["trade", self.now_ns, trade.ts_event_ns])

    def on_timer(self, due_ns: int) -> None:
        """Buy at the first timer."""
        self.lines.append(["timer", self.now_ns, due_ns])
        if due_ns == START_NS + 10 * MINUTE_NS:
            self.buy("GEN.XXXX", 5)
            self.set_timer(due_ns + 20 * MINUTE_NS)

    def on_fill(self, fill: Fill) -> None:
        """Sell what was bought again, a little cheaper at worst."""
        held = self.position("GEN.XXXX")
        self.lines.append(["fill", self.now_ns, str(fill.quantity), str(held)])
        if fill.side is Side.BUY:
            price = fill.price - BELOW
            self.exit_id = self.sell(
                "GEN.XXXX", held, order_type=OrderType.LIMIT, limit_price=price
            )


def _diary(market: MarketBatch) -> StrategyRun:
    return StrategyRun(market, [Diary], [config_of(Diary)])


def test_timer_is_called_before_the_first_event_at_or_after_its_instant() -> None:
    market = _market()
    lines = _diary(market).play().strategy.lines
    timers = [i for i, line in enumerate(lines) if line[0] == "timer"]
    assert [(lines[i][2] - START_NS) // MINUTE_NS for i in timers] == [10, 20, 20, 30]
    for i in timers:
        due_ns = lines[i][2]
        earlier = [line[2] for line in lines[:i] if line[0] == "trade"]
        later = [line[2] for line in lines[i:] if line[0] == "trade"]
        assert lines[i][1] == due_ns
        assert max(earlier) < due_ns <= min(later)


def test_timer_at_the_instant_of_an_event_comes_before_it() -> None:
    class Exact(Diary):
        def on_start(self) -> None:
            self.lines = []
            self.set_timer(int(market.clock[3]))

    market = _market(10)
    lines = StrategyRun(market, [Exact], [config_of(Exact)]).play().strategy.lines
    assert [line[0] for line in lines] == ["trade"] * 3 + ["timer"] + ["trade"] * 7


def test_timer_behind_the_last_event_is_not_called() -> None:
    class Late(Diary):
        def on_start(self) -> None:
            self.lines = []
            self.set_timer(int(market.clock[-1]) + 1)

    market = _market(10)
    lines = StrategyRun(market, [Late], [config_of(Late)]).play().strategy.lines
    assert [line[0] for line in lines] == ["trade"] * 10


def test_fill_is_handed_over_with_the_position_after_it_and_may_place_an_order() -> None:
    run = _diary(_market()).play()
    buy, sell = run.of(SubmitOrder)
    first, second = run.of(Fill)
    assert (buy.side, buy.quantity, buy.ts_event_ns) == (
        Side.BUY,
        Decimal(5),
        START_NS + 10 * MINUTE_NS,
    )
    assert (sell.side, sell.order_type, sell.limit_price) == (
        Side.SELL,
        OrderType.LIMIT,
        first.price - BELOW,
    )
    assert (sell.ts_event_ns, sell.causation_id) == (first.ts_event_ns, first.event_id)
    assert [line[2:] for line in run.strategy.lines if line[0] == "fill"] == [
        ["5", "5"],
        ["5", "0"],
    ]
    assert second.price >= first.price - BELOW


class Canceller(Strategy):
    """Places an order far away at the first trade and withdraws it at the third."""

    def on_start(self) -> None:
        """Begin to count."""
        self.count = 0
        self.seen: list[int] = []

    def on_trade(self, trade: Trade) -> None:
        """Place, then cancel; note the open orders."""
        self.count += 1
        if self.count == 1:
            self.buy(trade.instrument_id, 1, order_type=OrderType.LIMIT, limit_price=1.0)
        if self.count == 3:
            self.cancel(self.open_orders(trade.instrument_id)[0])
            self.cancel("no such order")
        self.seen.append(len(self.open_orders()))


def test_order_is_open_until_it_is_canceled_and_unknown_ones_are_left_alone() -> None:
    run = StrategyRun(_market(6), [Canceller], [config_of(Canceller)]).play()
    assert [c.client_order_id for c in run.of(CancelOrder)] == ["Canceller.all.1"]
    assert run.strategy.seen == [0, 1, 1, 0, 0, 0]
    assert run.engine.strategies.instances[0].view.working == {"GEN.XXXX": Decimal(0)}


class Pairs(Strategy):
    """Notes the bars that ended together."""

    def on_start(self) -> None:
        """Begin a list."""
        self.groups: list[list[object]] = []

    def on_bars(self, time_ns: int, bars: dict[str, Bar]) -> None:
        """Note the end and who closed then."""
        self.groups.append(
            [time_ns, sorted(bars), {b.ts_event_ns for b in bars.values()} == {time_ns}]
        )


def test_bars_of_several_instruments_are_handed_over_once_for_each_instant() -> None:
    market = session(universe(("GEN", "TWO")), 600)
    config = config_of(Pairs, ("GEN.XXXX", "TWO.XXXX"), on="5m")
    groups = StrategyRun(market, [Pairs], [config]).play().strategy.groups
    times = [group[0] for group in groups]
    assert len(groups) > 200
    assert times == sorted(set(times))
    assert all(group[2] for group in groups)
    assert ["GEN.XXXX", "TWO.XXXX"] in [group[1] for group in groups]


# ---- what authors get wrong


class Stranger(Strategy):
    """Trades what it was not given."""

    def on_trade(self, trade: Trade) -> None:
        """Buy something else."""
        self.buy("ELSE.XXXX", 1)


class Infinite(Strategy):
    """Orders too much."""

    def on_trade(self, trade: Trade) -> None:
        """Buy without end."""
        self.buy(trade.instrument_id, float("inf"))


class Late(Strategy):
    """Asks in a timer for a timer at that very instant."""

    def on_start(self) -> None:
        """Ask for the first."""
        self.set_timer(START_NS + 1)

    def on_timer(self, due_ns: int) -> None:
        """Ask for it again."""
        self.set_timer(due_ns)


@pytest.mark.parametrize(
    ("cls", "field", "value"),
    [
        (Stranger, "instrument_id", "ELSE.XXXX"),
        (Infinite, "quantity", "inf"),
        (Late, "due_ns", START_NS + 1),
    ],
)
def test_order_that_makes_no_sense_is_refused_with_field_and_value(
    cls: type[Strategy], field: str, value: str | int
) -> None:
    run = StrategyRun(_market(3), [cls], [config_of(cls)]).play()
    (failed,) = run.engine.strategies.failures
    assert isinstance(failed.failure, ConfigError)
    assert (failed.failure.field, failed.failure.value) == (field, value)
    assert failed.failure.remedy


class SplitWatcher(Strategy):
    """Writes down bars, groups of bars, timers and splits in the order in which they come."""

    def on_start(self) -> None:
        """Ask for a timer just before the split."""
        self.lines: list[tuple[str, int]] = []
        self.set_timer(START_NS + DAY_NS - 1)

    def on_bar(self, bar: Bar) -> None:
        """Note a bar by its close."""
        self.lines.append(("bar", round(bar.close)))

    def on_bars(self, end_ns: int, bars: dict[str, Bar]) -> None:
        """Note a group of bars."""
        self.lines.append(("bars", round(bars["GEN.XXXX"].close)))

    def on_timer(self, due_ns: int) -> None:
        """Note a timer."""
        self.lines.append(("timer", due_ns - START_NS))

    def on_split(self, instrument_id: str, ratio: Decimal) -> None:
        """Note a split."""
        self.lines.append(("split", int(ratio)))


@pytest.mark.parametrize("sizes", [(1,), (2, 3), (1000,)])
@pytest.mark.parametrize("is_restarting", [False, True])
def test_what_time_brought_before_a_split_comes_before_it_on_the_old_count(
    sizes: tuple[int, ...], is_restarting: bool
) -> None:
    market = session(universe(), 40, seed=3)
    config = config_of(SplitWatcher, on="5m")
    run = StrategyRun(market, [SplitWatcher], [config])
    lines = [tuple(line) for line in run.play(sizes, is_restarting=is_restarting).strategy.lines]
    split = lines.index(("split", 2))
    assert ("timer", DAY_NS - 1) in lines[:split]
    before = [price for what, price in lines[:split] if what != "timer"]
    after = [price for what, price in lines[split + 1 :] if what != "timer"]
    assert len(before) > 20
    assert len(after) > 20
    assert min(before) > 80
    assert max(after) < 70
