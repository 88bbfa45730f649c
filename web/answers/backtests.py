"""Answers about backtests."""

from __future__ import annotations

import msgspec


class BacktestStarted(msgspec.Struct):
    """A backtest that was asked for."""

    task_id: str
    status: str


class BacktestMetrics(msgspec.Struct):
    """A finished backtest; percentages as numbers (-8.5 is -8.5 %), null without a meaning.

    ``metrics`` holds all figures by name.
    """

    task_id: str
    strategy_name: str
    status: str
    sharpe_ratio: float | None
    max_drawdown_pct: float | None
    total_return_pct: float | None
    total_trades: int | None
    win_rate: float | None
    output_hash: str
    metrics: dict[str, float | int | str | None]
    finished_at: str
    finished_ns: int


class BacktestState(msgspec.Struct):
    """One backtest: how far it has come, and its result once there is one."""

    task_id: str
    strategy_name: str | None
    status: str
    detail: str
    events_done: int | None
    events_total: int | None
    result: BacktestMetrics | None


class BacktestHistory(msgspec.Struct):
    """Finished backtests, the newest first."""

    backtests: list[BacktestState]
    count: int
