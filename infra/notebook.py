"""A backtest as one call, for notebooks and scripts."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from agents.strategy.parameters import ParameterValue
from infra.backtests import Backtest, BacktestSpec, run_backtest
from infra.times import parse_time


def backtest(
    strategy: str,
    *,
    data: str = "daily",
    symbols: Sequence[str] = (),
    parameters: dict[str, ParameterValue] | None = None,
    start: str = "",
    end: str = "",
    cash: Decimal | int | str = 10_000,
    seed: int = 0,
    out: Path | None = None,
) -> Backtest:
    """Replay ``data`` through the agents with ``strategy`` and return the finished run.

    ``strategy`` is a name or ``path/to/file.py:Class``; ``start`` and ``end`` are days or RFC 3339
    times. Raises MillraceError for whatever cannot be used.
    """
    spec = BacktestSpec(
        strategy=strategy,
        data=data,
        symbols=tuple(symbols),
        parameters=dict(parameters or {}),
        start_ns=parse_time(start, "start") if start else None,
        end_ns=parse_time(end, "end", is_end=True) if end else None,
        cash=Decimal(cash),
        seed=seed,
    )
    return run_backtest(spec, out=out)
