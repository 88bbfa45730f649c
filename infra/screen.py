"""The demo's terminal screen: prices, signals, orders, fills, positions, P&L, events/s."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, JustifyMethod, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from infra.times import format_time
from schemas.control import StrategySignal
from schemas.envelope import Header
from schemas.market_data import Quote, Trade
from schemas.order_events import Fill, OrderEvent
from schemas.portfolio import AccountSnapshot, EquityMark, PositionChanged
from streams.log import Published

if TYPE_CHECKING:
    from infra.serve import LiveRun

_ROWS = 6
_NO_PRICES = (0.0, 0.0, 0.0)


class Screen:
    """Folds what is published into one picture."""

    def __init__(self, live: LiveRun) -> None:
        self._live = live
        self._prices: dict[str, tuple[float, float, float]] = {}
        self._signals: deque[StrategySignal] = deque(maxlen=_ROWS)
        self._orders: deque[OrderEvent] = deque(maxlen=_ROWS)
        self._fills: deque[Fill] = deque(maxlen=_ROWS)
        self._positions: dict[str, PositionChanged] = {}
        self._equity: float | None = None
        self._initial = float(live.runner.engine.config.accounts.accounts[0].cash)
        self._counts = {"signals": 0, "orders": 0, "fills": 0}
        self._rates: deque[tuple[float, int]] = deque(maxlen=20)

    def apply(self, published: Sequence[Published]) -> None:
        """Take published records."""
        for _, _, _, record in published:
            if isinstance(record, Trade):
                known = self._prices.get(record.instrument_id, _NO_PRICES)
                self._prices[record.instrument_id] = (record.price, known[1], known[2])
            elif isinstance(record, Quote):
                known = self._prices.get(record.instrument_id, _NO_PRICES)
                prices = (known[0], record.bid_price, record.ask_price)
                self._prices[record.instrument_id] = prices
            elif isinstance(record, EquityMark):
                if not record.strategy_id:
                    self._equity = record.equity
            else:
                self._apply_rare(record)

    def _apply_rare(self, record: Header) -> None:
        if isinstance(record, StrategySignal):
            self._signals.append(record)
            self._counts["signals"] += 1
        elif isinstance(record, Fill):
            # A fill stands on three topics; it is shown once.
            if not self._fills or self._fills[-1].event_id != record.event_id:
                self._fills.append(record)
                self._counts["fills"] += 1
        elif isinstance(record, OrderEvent):
            if not self._orders or self._orders[-1].event_id != record.event_id:
                self._orders.append(record)
                self._counts["orders"] += 1
        elif isinstance(record, PositionChanged):
            self._positions[record.instrument_id] = record
        elif isinstance(record, AccountSnapshot):
            self._equity = float(record.equity)

    def _rate(self) -> float:
        self._rates.append((time.monotonic(), self._live.feed.played_events))
        (first_s, first), (last_s, last) = self._rates[0], self._rates[-1]
        return (last - first) / (last_s - first_s) if last_s > first_s else 0.0

    def line(self) -> str:
        """Return the state in one line, for logs."""
        feed = self._live.feed
        equity = self._initial if self._equity is None else self._equity
        return (
            f"{format_time(feed.now_ns())[:19]}  {feed.played_events:,}/{self._live.total:,} "
            f"signals {self._counts['signals']}  fills {self._counts['fills']}  "
            f"equity {equity:,.2f}  P&L {equity - self._initial:+,.2f}"
        )

    def render(self) -> RenderableType:
        """Return the whole screen."""
        feed, total = self._live.feed, self._live.total
        equity = self._initial if self._equity is None else self._equity
        pnl = equity - self._initial
        head = Table.grid(expand=True)
        for _ in range(4):
            head.add_column()
        head.add_row(
            Text(f"{format_time(feed.now_ns())[:19]} UTC", style="bold"),
            f"equity {equity:,.2f}",
            Text(f"P&L {pnl:+,.2f}", style="green" if pnl >= 0 else "red"),
            f"{self._rate():,.0f} events/s",
        )
        progress = Table.grid(expand=True)
        progress.add_column(ratio=1)
        progress.add_column(justify="right")
        progress.add_row(
            ProgressBar(total=total, completed=feed.played_events),
            f" {feed.played_events:,} / {total:,}",
        )
        body = Table.grid(expand=True, padding=(0, 2))
        body.add_column(ratio=1)
        body.add_column(ratio=1)
        body.add_row(self._price_table(), self._position_table())
        body.add_row(self._signal_table(), self._fill_table())
        return Panel(
            Group(head, progress, body, self._order_table()),
            title="Millrace  PAPER  replaying a recording",
            border_style="cyan",
        )

    def _price_table(self) -> Table:
        table = _table("prices", "symbol", "<last", "<bid", "<ask")
        for name, (last, bid, ask) in sorted(self._prices.items()):
            table.add_row(_symbol(name), _price(last), _price(bid), _price(ask))
        return table

    def _position_table(self) -> Table:
        table = _table("positions", "symbol", "<qty", "<avg", "<realized")
        for name, position in sorted(self._positions.items()):
            table.add_row(
                _symbol(name),
                f"{position.quantity:,}",
                _price(float(position.average_price)),
                f"{position.realized_pnl:+,.2f}",
            )
        return table

    def _signal_table(self) -> Table:
        table = _table(
            f"signals ({self._counts['signals']})", "time", "symbol", "<target", "<price"
        )
        for signal in reversed(self._signals):
            table.add_row(
                _clock(signal.ts_event_ns),
                _symbol(signal.instrument_id),
                f"{signal.target:+g}",
                _price(signal.price),
            )
        return table

    def _fill_table(self) -> Table:
        table = _table(
            f"fills ({self._counts['fills']})", "time", "symbol", "side", "<qty", "<price"
        )
        for fill in reversed(self._fills):
            style = "green" if fill.side == "BUY" else "red"
            table.add_row(
                _clock(fill.ts_event_ns),
                _symbol(fill.instrument_id),
                Text(fill.side, style=style),
                f"{fill.quantity:,}",
                _price(float(fill.price)),
            )
        return table

    def _order_table(self) -> Table:
        table = _table(f"order events ({self._counts['orders']})", "time", "order", "status")
        table.expand = False
        for event in reversed(self._orders):
            table.add_row(_clock(event.ts_event_ns), event.client_order_id, event.status.value)
        return table


def _table(title: str, *columns: str) -> Table:
    """Return an empty table; a column that begins with ``<`` holds figures, which end in line."""
    table = Table(
        title=title,
        title_justify="left",
        expand=True,
        box=None,
        header_style="dim",
        padding=(0, 1, 0, 0),
    )
    table.pad_edge = False
    for column in columns:
        side: JustifyMethod = "right" if column.startswith("<") else "left"
        table.add_column(column.lstrip("<"), justify=side, no_wrap=True)
    return table


def _symbol(instrument_id: str) -> str:
    """Return an instrument without its venue, for which eighty columns have no room."""
    return instrument_id.rpartition(".")[0] or instrument_id


def _price(value: float) -> str:
    """Return a price with two places, or up to four where it has them."""
    if not value:
        return "-"
    return f"{value:,.4f}".removesuffix("00")


def _clock(ns: int) -> str:
    return format_time(ns)[11:19]
