"""What a run amounts to: equity, fills, trades and orders, folded as they come.

Only days, open trades and counters stay in memory; series go to CSV files line by line when a
folder is given.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, Any, NamedTuple

from agents.domain.metrics import ClosedTrade, EquityFold, Metrics, TradeFold, compute
from agents.runners.engine import Outputs
from schemas.columns import EquityColumns, Ints, MarketBatch
from schemas.commands import SubmitOrder
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.order_events import (
    Fill,
    OrderCanceled,
    OrderDenied,
    OrderExpired,
    OrderInitialized,
    OrderRejected,
    OrderSubmitted,
)
from schemas.portfolio import AccountSnapshot, PositionChanged
from schemas.topics import (
    ACCOUNT_INPUTS,
    ORDER_EVENTS,
    ORDER_FILLS,
    PORTFOLIO_ACCOUNTS,
    PORTFOLIO_EQUITY,
    PORTFOLIO_POSITIONS,
)
from schemas.values import ZERO, decimal_text

_FILES: dict[str, Sequence[str]] = {
    "equity": ("time_ns", "equity", "cash", "gross_exposure", "net_exposure", "drawdown"),
    "orders": (
        "time_ns",
        "client_order_id",
        "strategy_id",
        "instrument_id",
        "side",
        "quantity",
        "order_type",
        "limit_price",
        "stop_price",
        "time_in_force",
        "decision",
        "code",
    ),
    "fills": (
        "time_ns",
        "trade_id",
        "client_order_id",
        "strategy_id",
        "instrument_id",
        "side",
        "quantity",
        "price",
        "fee",
        "currency",
        "liquidity_side",
        "reference_price",
        "market_event_id",
    ),
    "trades": (
        "strategy_id",
        "instrument_id",
        "side",
        "quantity",
        "entry_ns",
        "exit_ns",
        "entry_price",
        "exit_price",
        "pnl",
        "fees",
        "slippage",
    ),
}


class Files:
    """The CSV files of a run's folder, written line by line."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._open: list[IO[str]] = []
        self._writers: dict[str, Any] = {}
        for name, header in _FILES.items():
            file = (folder / f"{name}.csv").open("w", newline="")
            self._open.append(file)
            writer = csv.writer(file)
            writer.writerow(header)
            self._writers[name] = writer

    def write(self, name: str, row: Sequence[object]) -> None:
        """Write one line; Decimals as their exact text."""
        self._writers[name].writerow(
            [decimal_text(v) if isinstance(v, Decimal) else v for v in row]
        )

    def close(self) -> None:
        """Finish all files."""
        for file in self._open:
            file.close()


class OrderTally(NamedTuple):
    """What became of the orders that went to the venue.

    ``sent`` and ``filled`` count orders and fills by instrument, ``ends`` by its code how orders
    ended otherwise; ``first_ns`` is when the first order of an instrument went.
    """

    sent: dict[str, int]
    filled: dict[str, int]
    ends: dict[str, int]
    first_ns: dict[str, int]


class Results:
    """Folds the outputs of a run for one account.

    What lies before ``trade_from_ns`` is warm-up: the run begins with the first event from then on.
    """

    def __init__(
        self,
        universe: Universe,
        account_id: str,
        initial: Decimal,
        day_of: Callable[[Ints], Ints],
        files: Files | None = None,
        *,
        trade_from_ns: int = 0,
    ) -> None:
        self._universe = universe
        self._account_id = account_id
        self._initial = float(initial)
        self._day_of = day_of
        self._files = files
        self._trade_from_ns = trade_from_ns
        self._curve: EquityFold | None = None
        self._trades = TradeFold(self._on_trade)
        self._dividends: dict[tuple[str, str], Decimal] = {}
        self._final: Decimal | None = None
        self._asked: dict[tuple[str, str], SubmitOrder | OrderInitialized] = {}
        self.dividends = ZERO
        self.denials: dict[str, int] = {}
        self.orders = OrderTally({}, {}, {}, {})
        self.counts: dict[str, int] = {}
        self.open_positions: dict[str, Decimal] = {}

    def see_input(self, batch: MarketBatch) -> None:
        """Note where the run begins."""
        if self._curve is None:
            first = int(batch.clock.searchsorted(self._trade_from_ns))
            if first < len(batch):
                self._curve = EquityFold(self._initial, int(batch.clock[first]), self._day_of)

    def apply(self, outputs: Outputs) -> None:
        """Fold what a batch brought about."""
        for topic, table in outputs.tables:
            if topic == PORTFOLIO_EQUITY and isinstance(table, EquityColumns):
                self._apply_equity(table)
        account_id = self._account_id
        for topic, record in outputs.records:
            if getattr(record, "account_id", account_id) != account_id:
                continue
            if topic is ORDER_FILLS and isinstance(record, Fill):
                self._apply_fill(record)
            elif topic is ORDER_EVENTS or topic is ACCOUNT_INPUTS:
                self._apply_order(record)
            elif topic is PORTFOLIO_POSITIONS and isinstance(record, PositionChanged):
                self._apply_position(record)
            elif topic is PORTFOLIO_ACCOUNTS and isinstance(record, AccountSnapshot):
                self._final = record.equity

    def _apply_order(self, record: Header) -> None:
        """Note an order and the gate's word on it, which follows at once."""
        if isinstance(record, (SubmitOrder, OrderInitialized)):
            self._asked[record.account_id, record.client_order_id] = record
        elif isinstance(record, (OrderSubmitted, OrderDenied)):
            key = (record.account_id, record.client_order_id)
            asked = self._asked.pop(key, None)
            if isinstance(record, OrderDenied):
                _count(self.denials, record.code)
                if asked is not None:
                    self._write_order(asked, record.ts_event_ns, "DENIED", record.code)
            else:
                _count(self.orders.sent, record.instrument_id)
                self.orders.first_ns.setdefault(record.instrument_id, record.ts_event_ns)
                self._write_order(record, record.ts_event_ns, "APPROVED", "")
        elif isinstance(record, OrderRejected):
            _count(self.orders.ends, record.code)
        elif isinstance(record, OrderCanceled):
            _count(self.orders.ends, record.reason or "CANCELED")
        elif isinstance(record, OrderExpired):
            _count(self.orders.ends, "EXPIRED")

    def _write_order(
        self,
        order: SubmitOrder | OrderInitialized | OrderSubmitted,
        ts_ns: int,
        decision: str,
        code: str,
    ) -> None:
        if self._files is None:
            return
        row = (
            ts_ns,
            order.client_order_id,
            order.strategy_id,
            order.instrument_id,
            order.side,
            order.quantity,
            order.order_type,
            order.limit_price,
            order.stop_price,
            order.time_in_force,
            decision,
            code,
        )
        self._files.write("orders", row)

    def _apply_position(self, record: PositionChanged) -> None:
        self.open_positions[f"{record.strategy_id}|{record.instrument_id}"] = record.quantity
        self._trades.on_position(record)

    def add_dividends(self, amount: Decimal) -> None:
        """Note what was paid in dividends."""
        self.dividends += amount

    def _apply_equity(self, table: EquityColumns) -> None:
        source = self._universe.source_index(self._account_id)
        rows = table.take(table.source == source)
        if self._trade_from_ns:
            # Not from trade_from_ns on: the mark of the last price before it may stand there.
            if self._curve is None:
                return
            rows = rows.take(rows.ts >= self._curve.start_ns)
        if self._curve is not None:
            self._curve.apply(rows)
        if self._files is not None:
            columns = (rows.ts, rows.equity, rows.cash, rows.gross, rows.net, rows.drawdown)
            for row in zip(*(column.tolist() for column in columns), strict=True):
                self._files.write("equity", row)

    def _apply_fill(self, fill: Fill) -> None:
        index = self._universe.index(fill.instrument_id)
        assert index is not None  # an order of an unknown instrument is denied
        self._trades.apply(fill, self._universe.instruments[index].multiplier)
        _count(self.orders.filled, fill.instrument_id)
        if self._files is not None:
            self._files.write(
                "fills",
                (
                    fill.ts_event_ns,
                    fill.trade_id,
                    fill.client_order_id,
                    fill.strategy_id,
                    fill.instrument_id,
                    fill.side,
                    fill.quantity,
                    fill.price,
                    fill.fee,
                    fill.currency,
                    fill.liquidity_side,
                    fill.reference_price,
                    fill.market_event_id,
                ),
            )

    def _on_trade(self, trade: ClosedTrade) -> None:
        if self._files is not None:
            self._files.write(
                "trades",
                (
                    trade.strategy_id,
                    trade.instrument_id,
                    trade.side,
                    trade.quantity,
                    trade.entry_ns,
                    trade.exit_ns,
                    trade.entry_price,
                    trade.exit_price,
                    trade.pnl,
                    trade.fees,
                    trade.slippage,
                ),
            )

    def metrics(self) -> Metrics:
        """Return the metrics; the run must be finished."""
        curve = self._curve or EquityFold(self._initial, 0, self._day_of)
        if self._final is not None:
            curve.settle(float(self._final))
        return compute(curve, self._trades, self.dividends)

    def close(self) -> None:
        """Finish the files."""
        if self._files is not None:
            self._files.close()


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1
