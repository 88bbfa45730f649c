"""What the command line shows: results and parity as tables."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from agents.runners.parity import Rerun, input_span
from infra.backtests import Backtest
from infra.report.header import traded_span_ns
from infra.times import format_day, format_time


def _number(value: float | None, unit: str = "", digits: int = 2) -> str:
    return "-" if value is None else f"{value:,.{digits}f}{unit}"


def show_backtest(console: Console, run: Backtest, seconds: float) -> None:
    """Print the metrics of a backtest."""
    m = run.metrics
    inputs = run.manifest.inputs
    names = ", ".join(sorted({item.instrument_id for item in inputs}))
    first, last = input_span(run.manifest)
    begin, end = traded_span_ns(run.manifest) or (first, last)
    title = f"{names}  {format_day(begin)} to {format_day(end)}"
    if first < begin:
        title += f", warm-up from {format_day(first)}"
    table = Table(title=title, title_justify="left", show_header=False, box=None, pad_edge=False)
    for column in range(4):
        table.add_column(justify="left" if column % 2 == 0 else "right", overflow="fold")
    drawdown = _number(m.max_drawdown_pct, " %")
    if m.max_drawdown_start_ns is not None and m.max_drawdown_trough_ns is not None:
        drawdown += (
            f" ({format_day(m.max_drawdown_start_ns)} to {format_day(m.max_drawdown_trough_ns)})"
        )
    rows = (
        ("initial equity", _number(m.initial_equity), "fills", f"{m.fills:,}"),
        ("final equity", _number(m.final_equity), "closed trades", f"{m.total_trades:,}"),
        ("total return", _number(m.total_return_pct, " %"), "win rate", _number(m.win_rate, " %")),
        ("CAGR", _number(m.cagr_pct, " %"), "profit factor", _number(m.profit_factor)),
        ("volatility", _number(m.volatility_pct, " %"), "expectancy", _number(m.expectancy)),
        (
            "Sharpe",
            _number(m.sharpe_ratio),
            "average win / loss",
            f"{_number(m.average_win)} / {_number(m.average_loss)}",
        ),
        ("Sortino", _number(m.sortino_ratio), "exposure", _number(m.exposure_pct, " %")),
        ("Calmar", _number(m.calmar_ratio), "turnover", _number(m.turnover, " x")),
        (
            "max drawdown",
            drawdown,
            "fees / slippage",
            f"{_number(m.total_fees)} / {_number(m.total_slippage)}",
        ),
        (
            "drawdown length",
            _number(m.max_drawdown_length_days, " days", 1),
            "dividends",
            _number(m.total_dividends),
        ),
    )
    for row in rows:
        table.add_row(*row)
    console.print(table)
    if run.result.denials:
        denials = ", ".join(
            f"{code} {count:,}" for code, count in sorted(run.result.denials.items())
        )
        console.print(f"orders denied: {denials}")
    # What is odd about the data was told when they were opened.
    for note in run.order_notes:
        console.print(f"warning: {note}", markup=False, soft_wrap=True)
    rate = run.result.events / seconds if seconds > 0 else 0.0
    console.print(f"{run.result.events:,} events in {seconds:.2f} s ({rate:,.0f} events/s)")
    console.print(f"output hash {run.manifest.output_hash}")
    # Paths stay whole, so that they can be copied, and are no markup.
    console.print(f"results in {run.folder}", markup=False, soft_wrap=True)
    console.print(f"report in {run.report}", markup=False, soft_wrap=True)


def show_rerun(console: Console, result: Rerun) -> None:
    """Print the comparison of a session with its re-run."""
    comparison = result.comparison
    console.print(f"events re-run      {result.events:,}")
    console.print(f"records compared   {comparison.records_compared:,}")
    console.print(f"differences        {comparison.differences:,}")
    console.print(f"recorded hash      {result.recorded_hash}")
    console.print(f"re-run hash        {result.rerun_hash}")
    first = comparison.first_difference
    if first is not None:
        console.print(f"first difference at {first.topic}/{first.offset}")
        console.print(f"  recorded  {first.value_a}", markup=False)
        console.print(f"  re-run    {first.value_b}", markup=False)
        for cause in first.causes:
            console.print(
                f"  caused by {type(cause).__name__} {getattr(cause, 'event_id', '')} "
                f"at {format_time(getattr(cause, 'ts_event_ns', 0))}",
                markup=False,
            )
