"""The one name that authors of strategies and notebooks import.

    from millrace import Strategy, parameter, indicators, backtest

See the README for a whole strategy file.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

from agents.domain import indicators
from agents.domain.metrics import Metrics
from agents.strategy.api import Series, Strategy
from agents.strategy.parameters import ParameterValue, parameter
from infra.backtests import Backtest, BacktestSpec, run_backtest
from infra.times import parse_time
from schemas.enums import OrderType, Side, TimeInForce
from schemas.errors import MillraceError
from schemas.market_data import Bar, Quote, Trade
from schemas.order_events import Fill

__all__ = [
    "Backtest",
    "Bar",
    "Fill",
    "Metrics",
    "MillraceError",
    "OrderType",
    "Quote",
    "Series",
    "Side",
    "Strategy",
    "TimeInForce",
    "Trade",
    "backtest",
    "indicators",
    "parameter",
]


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
