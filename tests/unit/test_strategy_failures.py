"""Strategies with a mistake in them: they fail alone, are told of, and can be started again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from agents.strategy.api import Series, Strategy
from agents.strategy.parameters import parameter
from schemas.columns import MarketBatch
from schemas.commands import SubmitOrder
from schemas.control import StrategyCommand, StrategyStateChanged
from schemas.enums import StrategyAction, StrategyStatus
from schemas.errors import ConfigError
from schemas.market_data import Trade
from schemas.topics import STRATEGY_INPUTS
from tests.generated import trades, universe
from tests.unit.strategy_run import StrategyRun, config_of


class Sound(Strategy):
    """Buys with every trade."""

    def on_trade(self, trade: Trade) -> None:
        """Buy one."""
        self.buy(trade.instrument_id, 1)


class Raising(Strategy):
    """Buys twice, then makes a mistake."""

    def on_start(self) -> None:
        """Count from the start."""
        self.seen = 0

    def on_trade(self, trade: Trade) -> None:
        """Buy, or fail."""
        self.seen += 1
        self.buy(trade.instrument_id, 1)
        if self.seen == 3:
            raise ValueError("two\nlines")


class Targets(Strategy):
    """Returns what the test wants."""

    answer: Any = None

    def signals(self, series: Series) -> Any:
        """Return it."""
        return type(self).answer(series)


def play(
    cls: type[Strategy], sizes: Sequence[int] = (1000,), *, is_restarting: bool = False
) -> StrategyRun:
    """Play ten trades to a strategy beside a sound one."""
    configs = [config_of(cls, on="trade"), config_of(Sound, on="trade")]
    run = StrategyRun(trades(universe(), 10), [cls, Sound], configs)
    return run.play(sizes, is_restarting=is_restarting)


def orders_of(run: StrategyRun, cls: type[Strategy]) -> list[SubmitOrder]:
    """Return the orders of one strategy."""
    return [order for order in run.of(SubmitOrder) if order.strategy_id == cls.name]


@pytest.mark.parametrize("sizes", [(1,), (3, 2), (1000,)])
@pytest.mark.parametrize("is_restarting", [False, True])
def test_strategy_that_raises_fails_alone_and_the_others_go_on(
    sizes: tuple[int, ...], is_restarting: bool
) -> None:
    run = play(Raising, sizes, is_restarting=is_restarting)
    assert len(orders_of(run, Raising)) == 2
    assert len(orders_of(run, Sound)) == 10
    (failed,) = [s for s in run.of(StrategyStateChanged) if s.status is StrategyStatus.FAILED]
    assert failed.strategy_id == "Raising"
    assert "failed: ValueError: two lines (test_strategy_failures.py:" in failed.detail
    assert ", on_trade)" in failed.detail
    assert run.said() == play(Raising).said()


def test_failed_strategy_starts_from_scratch_when_it_is_told_to() -> None:
    market = trades(universe(), 10)
    start = StrategyCommand(
        event_id="c",
        ts_event_ns=int(market.clock[6]),
        correlation_id="c",
        causation_id="c",
        strategy_id="Raising",
        action=StrategyAction.START,
        operator="test",
    )
    clock = np.insert(market.clock, 6, market.clock[6])
    table = market.trades.moved(market.trades.pos + (market.trades.pos >= 6))
    batch = MarketBatch(market.universe, clock, trades=table, records=[(6, STRATEGY_INPUTS, start)])
    run = StrategyRun(batch, [Raising], [config_of(Raising, on="trade")]).play()
    states = [s.status for s in run.of(StrategyStateChanged)]
    assert states == ["RUNNING", "FAILED", "RUNNING", "FAILED"]
    assert len(run.of(SubmitOrder)) == 4


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (lambda s: np.zeros(len(s) - 1), "one target for each element"),
        (lambda s: np.zeros((len(s), 2)), "one target for each element"),
        (lambda s: np.full(len(s), np.inf), "from -1000 to 1000"),
        (lambda s: np.full(len(s), 1e300), "from -1000 to 1000"),
        (lambda s: ["long"] * len(s), "ValueError"),
        (lambda _: None, "one target for each element"),
        (lambda _: 1 / 0, "ZeroDivisionError"),
        (lambda s: s.price.fill(0.0), "read-only"),
    ],
)
def test_targets_that_are_none_fail_the_strategy(answer: Any, told: str) -> None:
    Targets.answer = staticmethod(answer)
    run = play(Targets)
    (failed,) = run.engine.strategies.failures
    assert told in str(failed.failure)
    assert len(orders_of(run, Sound)) == 10


def test_whole_numbers_are_targets() -> None:
    Targets.answer = staticmethod(lambda s: (np.arange(len(s)) % 2).tolist())
    run = play(Targets)
    assert run.engine.strategies.failures == []
    assert run.of(StrategyStateChanged)


@pytest.mark.parametrize(
    ("default", "bounds"), [(5, {"maximum": 3}), (0.0, {"minimum": 1}), ("a", {"minimum": 1})]
)
def test_default_that_a_parameter_could_not_take_is_refused(
    default: Any, bounds: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError):
        parameter(default, **bounds)
