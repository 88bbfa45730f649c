"""Answers about strategies."""

from __future__ import annotations

import msgspec


class Signal(msgspec.Struct):
    """A strategy's target for one instrument and the price it was decided at."""

    instrument_id: str
    target: float
    price: float
    time: str
    time_ns: int


class Strategy(msgspec.Struct):
    """What a strategy is doing, and its last signals."""

    strategy_id: str
    name: str | None
    account_id: str | None
    status: str | None
    parameters: dict[str, bool | int | float | str]
    instrument_ids: list[str]
    detail: str
    signals: list[Signal]


class Strategies(msgspec.Struct):
    """All strategies of the run."""

    strategies: list[Strategy]


class Parameters(msgspec.Struct):
    """The parameters that a strategy works with."""

    strategy_id: str
    parameters: dict[str, bool | int | float | str]


class SignalPage(msgspec.Struct):
    """Targets as they changed, the newest first; ``next_cursor`` asks for the older ones."""

    strategy_id: str
    signals: list[Signal]
    count: int
    next_cursor: str | None


class Performance(msgspec.Struct):
    """What a strategy has achieved so far; percentages as numbers, null without a meaning.

    ``capital`` is what its returns count from, null where the run does not say it: returns and
    ratios are null then. The drawdown is that of the equity curve in memory.
    """

    strategy_id: str
    account_id: str | None
    capital: float | None
    equity: float | None
    net_profit: float
    total_return_pct: float | None
    sharpe_ratio: float | None
    sortino_ratio: float | None
    max_drawdown_pct: float | None
    total_trades: int
    win_rate: float | None
    profit_factor: float | None
    expectancy: float | None
    best_trade: float | None
    worst_trade: float | None
    average_trade_duration_s: float | None
    fills: int
    total_fees: float
    total_slippage: float
    as_of: str | None
    as_of_ns: int | None
