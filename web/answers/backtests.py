"""Answers about backtests."""

from __future__ import annotations

from typing import Any

import msgspec


class BacktestStarted(msgspec.Struct):
    """A backtest that was asked for."""

    task_id: str
    status: str


class BacktestMetrics(msgspec.Struct):
    """A finished backtest; percentages as numbers (-8.5 is -8.5 %), null without a meaning.

    ``metrics`` holds all figures by name. ``warnings`` says what is odd about the data, and why
    orders that reached the venue were not filled.
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
    warnings: list[str]


class BacktestState(msgspec.Struct):
    """One backtest: how far it has come, and its result once there is one."""

    task_id: str
    run_id: str | None
    strategy_name: str | None
    status: str
    detail: str
    events_done: int | None
    events_total: int | None
    result: BacktestMetrics | None


class BacktestHistory(msgspec.Struct):
    """Finished backtests, the newest first; ``next_cursor`` asks for the older ones."""

    backtests: list[BacktestState]
    count: int
    next_cursor: str | None


class LogLine(msgspec.Struct):
    """One thing that was said about a backtest."""

    time: str
    time_ns: int
    what: str
    status: str
    events_done: int | None
    events_total: int | None
    detail: str


class BacktestLog(msgspec.Struct):
    """What was said about a backtest, in order."""

    task_id: str
    lines: list[LogLine]


class BacktestReport(msgspec.Struct):
    """A finished backtest as a whole: what was run, on which data, and what came out."""

    task_id: str
    run_id: str
    strategy_name: str
    output_hash: str
    config_hash: str
    data: Any
    metrics: dict[str, Any]
    counts: dict[str, int]
    denied_by_code: dict[str, int]
    warnings: list[str]


class Columns(msgspec.Struct):
    """A table as columns, all of one length; ``count`` is how many rows there are in all."""

    run_id: str
    columns: dict[str, list[Any]]
    count: int
    next_cursor: str | None


class Manifest(msgspec.Struct):
    """Everything that a run depends on, and the hash of what came out of it."""

    run_id: str
    manifest: dict[str, Any]


class Difference(msgspec.Struct):
    """One figure of two backtests; ``change`` is b less a where both are numbers."""

    name: str
    a: Any
    b: Any
    change: float | None


class Comparison(msgspec.Struct):
    """Two backtests side by side; equal hashes mean that every output was the same."""

    a: str
    b: str
    is_same_config: bool
    is_same_output: bool
    metrics: list[Difference]
    config: list[Difference]


class Parity(msgspec.Struct):
    """A recorded run against its re-run, and a live session against a backtest of its data."""

    task_id: str
    run_id: str
    status: str
    records_compared: int
    differences: int
    recorded_hash: str
    rerun_hash: str
    fills_live: int
    fills_backtest: int
    fills_equal: int
    classes: dict[str, int]
    detail: str
