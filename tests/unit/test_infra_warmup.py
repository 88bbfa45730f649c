"""What a backtest with a warm-up amounts to: the figures of the time in which it could trade."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from infra.backtests import Backtest, BacktestSpec, run_backtest
from infra.parity import run_parity
from infra.tables import show_backtest
from infra.times import parse_time

DAY_NS = 86_400_000_000_000


def spec(symbol: str, begin: str, end: str) -> BacktestSpec:
    """Return a backtest of bundled data without a warm-up."""
    return BacktestSpec(
        strategy="buy_and_hold",
        symbols=(symbol,),
        start_ns=parse_time(begin, "from"),
        end_ns=parse_time(end, "to"),
    )


def rows(run: Backtest) -> list[str]:
    """Return the lines of a run's curve."""
    return (run.folder / "equity.csv").read_text().splitlines()


@pytest.mark.parametrize("batch", [1 << 16, 7])
def test_metrics_and_curve_of_a_run_with_warmup_are_those_without(
    tmp_path: Path, batch: int
) -> None:
    cold = msgspec.structs.replace(spec("IBM", "2014-01-01", "2014-07-01"), batch=batch)
    warm = msgspec.structs.replace(cold, warmup_ns=300 * DAY_NS)

    without = run_backtest(cold, out=tmp_path / "cold")
    within = run_backtest(warm, out=tmp_path / "warm")
    again = run_backtest(warm, out=tmp_path / "again")

    assert within.result.events > without.result.events
    assert without.metrics.fills
    assert within.metrics == without.metrics == again.metrics
    assert rows(within) == rows(without)


def test_table_of_a_run_with_warmup_names_the_days_that_count(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(spec("IBM", "2014-01-01", "2014-03-01"), warmup_ns=30 * DAY_NS)
    run = run_backtest(asked, out=tmp_path / "warm")
    out = io.StringIO()

    show_backtest(Console(file=out, width=200), run, 1.0)

    title = out.getvalue().splitlines()[0]
    assert "2014-01-01 to 2014-02-28, warm-up from 2013-12-0" in title
    status = run_parity(
        str(run.folder),
        is_json=False,
        console=Console(file=io.StringIO()),
        errors=Console(file=io.StringIO()),
    )
    assert status == 0


def test_run_that_ends_within_its_warmup_has_no_days(tmp_path: Path) -> None:
    asked = msgspec.structs.replace(spec("IBM", "2014-03-01", "2014-03-03"), warmup_ns=30 * DAY_NS)

    metrics = run_backtest(asked, out=tmp_path / "warm").metrics

    assert (metrics.days, metrics.fills, metrics.cagr_pct) == (0, 0, None)
    assert metrics.final_equity == metrics.initial_equity
