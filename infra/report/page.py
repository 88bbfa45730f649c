"""The page of a backtest: its parts put together, and written into the folder of the run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from agents.domain.metrics import Metrics
from infra.report.curves import EquityHistory, read_equity
from infra.report.header import Header, facts_list, header_of, traded_span_ns
from infra.report.plots import is_drawable, plots
from infra.report.tables import denials_table, months_table, tiles, trades_table
from infra.report.texts import amount, escaped, percent, written
from infra.report.trades import Extremes, read_extremes
from schemas.control import RunManifest

REPORT_NAME = "report.html"
_STYLE = Path(__file__).with_name("style.css")
_ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20" viewBox="0 0 32 32"'
    ' aria-hidden="true"><rect width="32" height="32" rx="7" fill="#0d1420"/>'
    '<path d="M5 22c3-9 5-9 8-3s5 4 7-3 4-8 7-7" fill="none" stroke="#3fd0c9"'
    ' stroke-width="3" stroke-linecap="round"/></svg>'
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""What a browser may load for the page: nothing, whatever a text in it says."""


class Told(NamedTuple):
    """What a run told of itself.

    ``parameters`` are all of its strategy's, with defaults; ``warnings`` come first on the page.
    """

    manifest: RunManifest
    metrics: Metrics
    denials: Mapping[str, int] = {}
    parameters: Mapping[str, object] = {}
    warnings: Sequence[str] = ()


def write_report(folder: Path, told: Told) -> Path:
    """Write the page of the run in ``folder``, from its ``equity.csv`` and ``trades.csv``.

    Return its path. Raises OSError.
    """
    m = told.metrics
    span = traded_span_ns(told.manifest)
    history = read_equity(folder / "equity.csv", m.initial_equity, m.final_equity, span)
    trades = read_extremes(folder / "trades.csv")
    path = folder / REPORT_NAME
    path.write_bytes(page(told, history, trades).encode())
    return path


def page(told: Told, history: EquityHistory, trades: Extremes) -> str:
    """Return the page; it is well-formed XML too."""
    header = header_of(told.manifest, told.parameters)
    parts = [
        _warnings(told.warnings),
        _card("Run", "", facts_list(header)),
        tiles(told.metrics),
        *_curves(told.metrics, history, header.currency),
        _months(history),
        _trades(told.metrics, trades),
        _denials(told.denials),
    ]
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8"/>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>\n'
        f"<title>{escaped(header.title)}: a backtest by Millrace</title>\n"
        f"<style>\n{_STYLE.read_text(encoding='utf-8')}</style>\n</head>\n<body>\n"
        f"{_head(header, told.manifest)}\n<main>\n"
        + "\n".join(part for part in parts if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def _head(header: Header, manifest: RunManifest) -> str:
    return (
        f'<header><p class="brand">{_ICON}Millrace</p><h1>{escaped(header.title)}</h1>'
        f'<span class="badge">backtest</span><span class="run">{escaped(manifest.run_id)}</span>'
        "</header>"
    )


def _card(title: str, note: str, body: str, name: str = "") -> str:
    more = f'<span class="note">{escaped(note)}</span>' if note else ""
    kind = f" {name}" if name else ""
    return f'<section class="card{kind}"><h2>{escaped(title)}{more}</h2>{body}</section>'


def _warnings(warnings: Sequence[str]) -> str:
    items = "".join(f"<li>{escaped(text)}</li>" for text in warnings)
    return _card("Warnings", "", f"<ul>{items}</ul>", "warnings") if warnings else ""


def _curves(m: Metrics, history: EquityHistory, currency: str) -> list[str]:
    if not is_drawable(history.equity):
        reason = "the run has one mark of its equity" if history.marks else "no equity was marked"
        return [_card("Equity", "", f'<p class="empty">{reason}: there is no curve to draw</p>')]
    note = f"{currency}, the dashed line is the initial {amount(m.initial_equity)}"
    equity, drawdown = plots(history.equity, history.drawdown, m.initial_equity)
    return [_card("Equity", note.lstrip(", "), equity), _card("Drawdown", _fall(m), drawdown)]


def _fall(m: Metrics) -> str:
    start, trough, end = m.max_drawdown_start_ns, m.max_drawdown_trough_ns, m.max_drawdown_end_ns
    if start is None or trough is None:
        return "never below its peak"
    when = written(trough - start)
    back = f"back {when(end)}" if end is not None else "not back at the end of the run"
    deepest = f"{percent(m.max_drawdown_pct)} from {when(start)} to {when(trough)}"
    return f"{deepest}, {back}"


def _months(history: EquityHistory) -> str:
    if len(history.months) < 2:
        return ""
    return _card("Monthly returns", "percent, months of UTC", months_table(history))


def _trades(m: Metrics, trades: Extremes) -> str:
    if not trades.winners and not trades.losers:
        word = "no closed trade gained or lost" if m.total_trades else "no trade was closed"
        return _card("Closed trades", "", f'<p class="empty">{word}</p>')
    winners = trades_table(trades.winners, "no closed trade gained")
    losers = trades_table(trades.losers, "no closed trade lost")
    return (
        '<div class="pair">'
        + _card("Largest gains", "of closed trades, net of fees", winners)
        + _card("Largest losses", "of closed trades, net of fees", losers)
        + "</div>"
    )


def _denials(denials: Mapping[str, int]) -> str:
    return _card("Orders denied", "by the risk gate", denials_table(denials)) if denials else ""
