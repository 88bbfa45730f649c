"""Orders and fills as a client sees them: what was asked for, where it stands, what happened."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from decimal import Decimal

import msgspec

from agents.domain.order_state import CLOSED, OPEN
from schemas.commands import CommandReceipt, OrderChecked, SubmitOrder
from schemas.enums import OrderStatus, OrderType, ReceiptOutcome, Side, TimeInForce
from schemas.order_events import (
    Fill,
    OrderAccepted,
    OrderEvent,
    OrderFilled,
    OrderPartiallyFilled,
    OrderReplaced,
    OrderSubmitted,
)
from schemas.values import ZERO
from streams.log import Published

_EVENTS_MAX = 200

OrderKey = tuple[str, str]
"""Account and client order id: an id is unique within its account."""


class OrderRow(msgspec.Struct, kw_only=True):
    """One order; fields that no record has told yet are None."""

    number: int
    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    side: Side | None = None
    quantity: Decimal | None = None
    order_type: OrderType | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce | None = None
    status: OrderStatus = OrderStatus.INITIALIZED
    filled_quantity: Decimal = ZERO
    average_price: Decimal | None = None
    venue_order_id: str = ""
    code: str = ""
    detail: str = ""
    submit_id: str = ""
    created_ns: int
    updated_ns: int
    events: deque[OrderEvent]

    @property
    def is_open(self) -> bool:
        """Whether the order may still trade."""
        return self.status in OPEN


class OrderBook:
    """Orders by account and client order id; the oldest closed ones leave in time."""

    def __init__(self, orders_max: int) -> None:
        self._orders_max = orders_max
        self._orders: dict[OrderKey, OrderRow] = {}
        self._newest_by_id: dict[str, OrderKey] = {}
        self._closed: deque[OrderKey] = deque()
        self._number = 0
        self.fills: deque[Published] = deque(maxlen=orders_max)

    def on_submit(self, command: SubmitOrder) -> None:
        """Take in a command; a second one with the same id changes nothing."""
        row = self._orders.get((command.account_id, command.client_order_id))
        if row is None:
            row = self._add(command, command.ts_event_ns)
        elif row.submit_id:
            return
        row.submit_id = command.event_id
        row.side, row.order_type, row.time_in_force = (
            command.side,
            command.order_type,
            command.time_in_force,
        )
        if row.quantity is None:
            row.quantity, row.limit_price, row.stop_price = (
                command.quantity,
                command.limit_price,
                command.stop_price,
            )

    def on_event(self, event: OrderEvent) -> None:
        """Take in what happened to an order."""
        key = (event.account_id, event.client_order_id)
        row = self._orders.get(key) or self._add(event, event.ts_event_ns)
        was_closed = row.status in CLOSED
        row.status = event.status
        row.updated_ns = event.ts_event_ns
        row.events.append(event)
        row.code = getattr(event, "code", row.code)
        row.detail = getattr(event, "detail", row.detail)
        if isinstance(event, (OrderFilled, OrderPartiallyFilled)):
            row.filled_quantity = event.cumulative_quantity
            row.average_price = event.average_price
        elif isinstance(event, OrderSubmitted):
            row.side, row.order_type = event.side, event.order_type
            row.time_in_force = event.time_in_force
            row.quantity, row.limit_price, row.stop_price = (
                event.quantity,
                event.limit_price,
                event.stop_price,
            )
        elif isinstance(event, OrderReplaced):
            row.quantity, row.limit_price, row.stop_price = (
                event.quantity,
                event.limit_price,
                event.stop_price,
            )
        elif isinstance(event, OrderAccepted):
            row.venue_order_id = event.venue_order_id
        if row.status in CLOSED and not was_closed:
            self._close(key)

    def on_receipt(self, receipt: CommandReceipt | OrderChecked) -> None:
        """Close an order that was refused at the door: no event of it follows."""
        if isinstance(receipt, OrderChecked):
            return
        key = (receipt.account_id, receipt.client_order_id)
        row = self._orders.get(key)
        if (
            row is None
            or receipt.outcome != ReceiptOutcome.REFUSED
            or receipt.causation_id != row.submit_id
            or row.status is not OrderStatus.INITIALIZED
        ):
            return
        row.status = OrderStatus.DENIED
        row.code, row.detail = receipt.code, receipt.detail
        row.updated_ns = receipt.ts_event_ns
        self._close(key)

    def find(self, client_order_id: str, account_id: str = "") -> OrderRow | None:
        """Return an order by its id; without an account the newest of that id."""
        key = (
            (account_id, client_order_id) if account_id else self._newest_by_id.get(client_order_id)
        )
        return self._orders.get(key) if key is not None else None

    def newest_first(self) -> Iterator[OrderRow]:
        """Yield all orders, the newest first."""
        return reversed(self._orders.values())

    def _add(self, first: SubmitOrder | OrderEvent, ts_ns: int) -> OrderRow:
        key = (first.account_id, first.client_order_id)
        self._number += 1
        row = self._orders[key] = OrderRow(
            number=self._number,
            account_id=first.account_id,
            strategy_id=first.strategy_id,
            client_order_id=first.client_order_id,
            instrument_id=first.instrument_id,
            created_ns=ts_ns,
            updated_ns=ts_ns,
            events=deque(maxlen=_EVENTS_MAX),
        )
        self._newest_by_id[first.client_order_id] = key
        return row

    def _close(self, key: OrderKey) -> None:
        self._closed.append(key)
        while len(self._orders) > self._orders_max and self._closed:
            old = self._closed.popleft()
            self._orders.pop(old, None)
            if self._newest_by_id.get(old[1]) == old:
                del self._newest_by_id[old[1]]

    def on_fill(self, published: Published) -> None:
        """Take in a record of ``orders.fills``."""
        if isinstance(published.record, Fill):
            self.fills.append(published)
