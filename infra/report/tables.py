"""Figures and tables of a run as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agents.domain.metrics import Metrics
from infra.report.curves import EquityHistory
from infra.report.texts import (
    DASH,
    amount,
    escaped,
    instant,
    percent,
    signed,
    signed_percent,
    tone,
)
from infra.report.trades import Trade
from infra.times import format_day
from schemas.enums import Side

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_STRONGEST = 0.55
_FAINTEST = 0.06


def tiles(m: Metrics) -> str:
    """Return the key figures, each with one that belongs to it."""
    ratios = f"Sortino {amount(m.sortino_ratio)}, Calmar {amount(m.calmar_ratio)}"
    length = amount(m.max_drawdown_length_days, 1)
    sides = f"{m.long_trades:,} long, {m.short_trades:,} short"
    results = f"{m.winning_trades:,} won, {m.losing_trades:,} lost"
    best, worst = _short(m.best_trade), _short(m.worst_trade)
    win, loss = signed(m.average_win), signed(m.average_loss)
    turnover = DASH if m.turnover is None else f"{amount(m.turnover)} x"
    rows: tuple[tuple[str, str, str, str], ...] = (
        (
            "Total return",
            signed_percent(m.total_return_pct),
            tone(m.total_return_pct),
            signed(m.net_profit),
        ),
        ("Final equity", amount(m.final_equity), "", f"from {amount(m.initial_equity)}"),
        (
            "CAGR",
            signed_percent(m.cagr_pct),
            tone(m.cagr_pct),
            f"volatility {percent(m.volatility_pct)}",
        ),
        ("Sharpe", amount(m.sharpe_ratio), "", ratios),
        (
            "Max drawdown",
            percent(m.max_drawdown_pct),
            tone(m.max_drawdown_pct),
            f"length {length} days" if length != DASH else "never fell",
        ),
        ("Closed trades", f"{m.total_trades:,}", "", sides),
        ("Win rate", percent(m.win_rate), "", results),
        ("Profit factor", amount(m.profit_factor), "", f"expectancy {signed(m.expectancy)}"),
        ("Average win / loss", f"{win} / {loss}", "", f"best {best}, worst {worst}"),
        ("Exposure", percent(m.exposure_pct), "", f"turnover {turnover}"),
        ("Fees", amount(m.total_fees), "", f"slippage {amount(m.total_slippage)}"),
        ("Fills", f"{m.fills:,}", "", f"dividends {amount(m.total_dividends)}"),
    )
    return '<section class="tiles">' + "".join(_tile(*row) for row in rows) + "</section>"


def _tile(name: str, figure: str, colour: str, note: str) -> str:
    length = " long" if len(figure) > 15 else ""
    return (
        f'<div class="tile"><h2>{name}</h2>'
        f'<p class="figure{length}{_class(colour)}">{figure}</p><small>{note}</small></div>'
    )


def _short(value: float | None) -> str:
    """Return a figure that leaves room for another beside it."""
    return signed(value, 0 if value is not None and abs(value) >= 1000 else 2)


def _class(name: str) -> str:
    return f" {name}" if name else ""


def months_table(history: EquityHistory) -> str:
    """Return the returns by year and month, coloured by how large they are."""
    known = {(month.year, month.month): month.return_pct for month in history.months}
    scale = _scale([gain for gain in known.values() if gain is not None])
    rows = []
    for year, whole in history.years.items():
        cells = "".join(_month_cell(known, (year, month), scale) for month in range(1, 13))
        rows.append(
            f'<tr><th scope="row">{year}</th>{cells}'
            f'<td class="n whole {tone(whole)}">{signed(whole, 1)}</td></tr>'
        )
    heads = "".join(f'<th class="n">{name}</th>' for name in (*_MONTHS, "Year"))
    return _table("months", f"<th></th>{heads}", rows)


def _scale(gains: Sequence[float]) -> float:
    """Return what is coloured fully; a tenth may lie above it, so that one does not dim all."""
    sizes = sorted(abs(gain) for gain in gains)
    return (sizes[int(0.9 * (len(sizes) - 1))] if sizes else 0.0) or 1.0


def _month_cell(
    known: Mapping[tuple[int, int], float | None], key: tuple[int, int], scale: float
) -> str:
    if key not in known:
        return "<td></td>"
    gain = known[key]
    if not gain:
        return f'<td class="n quiet">{amount(gain, 1)}</td>'
    strength = _FAINTEST + (_STRONGEST - _FAINTEST) * min(abs(gain) / scale, 1.0)
    name = "gain" if gain > 0 else "loss"
    return f'<td class="n {name}" style="--a:{strength:.2f}">{amount(gain, 1)}</td>'


def trades_table(trades: Sequence[Trade], empty: str) -> str:
    """Return closed trades as a table, or a word where there are none."""
    if not trades:
        return f'<p class="empty">{escaped(empty)}</p>'
    names = ("result", "quantity", "entry", "exit", "entry price", "exit price", "fees")
    heads = "<th>instrument</th><th>side</th>"
    heads += "".join(f'<th class="n">{name}</th>' for name in names)
    is_short = all(trade.exit_ns - trade.entry_ns < 2 * 86_400 * 10**9 for trade in trades)
    return _table("trades", heads, [_trade_row(trade, is_timed=is_short) for trade in trades])


def _trade_row(trade: Trade, *, is_timed: bool) -> str:
    when = instant if is_timed else format_day
    cells = (
        trade.quantity,
        when(trade.entry_ns),
        when(trade.exit_ns),
        trade.entry_price,
        trade.exit_price,
        amount(trade.fees),
    )
    side = "long" if trade.side == Side.BUY else "short"
    numbers = "".join(f'<td class="n">{escaped(cell)}</td>' for cell in cells)
    return (
        f"<tr><td>{escaped(trade.instrument_id)}</td><td>{side}</td>"
        f'<td class="n {tone(trade.pnl)}">{signed(trade.pnl)}</td>{numbers}</tr>'
    )


def denials_table(denials: Mapping[str, int]) -> str:
    """Return how many orders were denied, by the code of the denial."""
    rows = [
        f'<tr><td><code>{escaped(code)}</code></td><td class="n">{count:,}</td></tr>'
        for code, count in sorted(denials.items())
    ]
    return _table("denials", '<th>code</th><th class="n">orders</th>', rows)


def _table(name: str, heads: str, rows: Iterable[str]) -> str:
    return (
        f'<div class="scroll"><table class="{name}"><thead><tr>{heads}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
