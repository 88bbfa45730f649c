"""Orders and fills as a client sees them: what was asked for, where it stands, what happened."""

from __future__ import annotations

import copy
from bisect import bisect_left, insort
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
    OrderDenied,
    OrderEvent,
    OrderFilled,
    OrderInitialized,
    OrderPartiallyFilled,
    OrderPendingApproval,
    OrderReplaced,
    OrderSubmitted,
)
from schemas.values import ZERO
from streams.cursors import END_PLACE, RecordPlace, place_of
from streams.log import Published
from streams.stored_orders import reason_of
from web.views.kept import Begin, Kept

_EVENTS_MAX = 200
_FIRST = (OrderSubmitted, OrderDenied, OrderPendingApproval)
"""Events with which an order begins."""

_LEAVING = CLOSED | {OrderStatus.INITIALIZED}

OrderKey = tuple[str, str]
"""Account and client order id: an id is unique within its account."""


class OrderRow(msgspec.Struct, kw_only=True):
    """One order; fields that no record has told yet are None.

    ``place`` is that of the command which asked for it, of its first event while that is unknown;
    ``cause_id`` is the record that made somebody ask.
    """

    place: RecordPlace
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
    is_post_only: bool | None = None
    is_reduce_only: bool | None = None
    status: OrderStatus = OrderStatus.INITIALIZED
    filled_quantity: Decimal = ZERO
    average_price: Decimal | None = None
    venue_order_id: str = ""
    code: str = ""
    detail: str = ""
    submit_id: str = ""
    cause_id: str = ""
    created_ns: int
    updated_ns: int
    events: deque[OrderEvent]

    @property
    def is_open(self) -> bool:
        """Whether the order may still trade."""
        return self.status in OPEN

    @property
    def is_stoppable(self) -> bool:
        """Whether the order may still trade, or could once somebody approves it."""
        return self.is_open or self.status is OrderStatus.PENDING_APPROVAL


class OrderBook:
    """Orders by account and client order id; the oldest closed ones leave in time.

    So does one of which nothing more is heard while as many others are asked for: it was refused at
    the door, and the receipt that said so is no longer kept.

    ``commands`` and ``life`` say from where on the commands and events of orders are known.
    """

    def __init__(self, orders_max: int) -> None:
        self._orders_max = orders_max
        self._orders: dict[OrderKey, OrderRow] = {}
        self._line: list[tuple[RecordPlace, OrderKey]] = []
        self._accounts_by_id: dict[str, tuple[str, ...]] = {}
        self._closed: deque[OrderKey] = deque()
        self._unanswered: deque[OrderKey] = deque()
        self.commands = Begin()
        self.life = Begin()
        self._left: RecordPlace | None = None
        self.fills = Kept(orders_max)
        self._accounts: frozenset[str] | None = None

    def of(self, accounts: frozenset[str]) -> OrderBook:
        """Return the book of some accounts: it follows this one, and knows of no other account."""
        own = copy.copy(self)
        own._accounts = accounts
        own.fills = self.fills.of(lambda item: getattr(item.record, "account_id", "") in accounts)
        return own

    @property
    def floor(self) -> RecordPlace | None:
        """The place up to which orders may be missing; None if none is."""
        floors = (self.commands.floor, self.life.floor, self._left)
        return max((floor for floor in floors if floor is not None), default=None)

    def forget(self) -> None:
        """Know that orders and fills may be missing anywhere."""
        self.commands.rise(END_PLACE)
        self.fills.forget()

    @property
    def began_late(self) -> bool:
        """Whether orders had been before the first that was heard of."""
        return self.commands.floor is not None or self.life.floor is not None

    @property
    def knows_all_open(self) -> bool:
        """Whether no open order can be missing: all events of orders were heard of."""
        return self.life.floor is None

    def is_whole(self, row: OrderRow) -> bool:
        """Return whether all is known of an order: how it began, and every event since."""
        if not self.began_late:
            return True
        floors = (self.commands.floor, self.life.floor)
        begins = bool(row.submit_id) or isinstance(row.events[0], _FIRST)
        return begins and all(floor is None or row.place > floor for floor in floors)

    @staticmethod
    def has_all_events(row: OrderRow) -> bool:
        """Return whether none of an order's events was let go of."""
        return len(row.events) < _EVENTS_MAX

    def on_input(self, item: Published) -> None:
        """Take in a record of ``account.inputs``.

        A second command with the same id changes nothing.
        """
        self.commands.see(item)
        if isinstance(item.record, SubmitOrder):
            self._begin(item.record, place_of(item))

    def _begin(self, command: SubmitOrder | OrderInitialized, place: RecordPlace) -> None:
        row = self._orders.get((command.account_id, command.client_order_id))
        if row is None:
            row = self._add(command, place)
            self._wait((command.account_id, command.client_order_id))
        elif row.submit_id:
            return
        else:
            # Its events came first, by another topic.
            self._move(row, place)
        row.submit_id, row.cause_id = command.event_id, command.causation_id
        row.side, row.order_type, row.time_in_force = (
            command.side,
            command.order_type,
            command.time_in_force,
        )
        # An order of the account stage's own is never one for the book alone.
        row.is_post_only = isinstance(command, SubmitOrder) and command.is_post_only
        row.is_reduce_only = command.is_reduce_only
        if row.quantity is None:
            row.quantity, row.limit_price, row.stop_price = (
                command.quantity,
                command.limit_price,
                command.stop_price,
            )

    def on_event(self, item: Published) -> None:
        """Take in what happened to an order."""
        self.life.see(item)
        event: OrderEvent = item.record  # type: ignore[assignment]
        if isinstance(event, OrderInitialized):
            self._begin(event, place_of(item))
            return
        key = (event.account_id, event.client_order_id)
        row = self._orders.get(key) or self._add(event, place_of(item))
        was_closed = row.status in CLOSED
        row.status = event.status
        row.instrument_id = event.instrument_id
        row.updated_ns = event.ts_event_ns
        row.events.append(event)
        row.code, row.detail = reason_of(event) or (row.code, row.detail)
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
            if event.cumulative_quantity is not None:
                row.filled_quantity = event.cumulative_quantity
                row.average_price = event.average_price
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
        if account_id:
            is_told = self._accounts is None or account_id in self._accounts
            return self._orders.get((account_id, client_order_id)) if is_told else None
        rows = (self._orders[name, client_order_id] for name in self.accounts_of(client_order_id))
        return max(rows, key=lambda row: row.place, default=None)

    def accounts_of(self, client_order_id: str) -> list[str]:
        """Return the accounts that have an order of an id, sorted."""
        names = self._accounts_by_id.get(client_order_id, ())
        return sorted(n for n in names if self._accounts is None or n in self._accounts)

    def newest_first(self, before: RecordPlace | None = None) -> Iterator[OrderRow]:
        """Yield the orders below ``before``, or all, the newest first."""
        end = len(self._line) if before is None else bisect_left(self._line, (before,))
        keys = (self._line[index][1] for index in range(end - 1, -1, -1))
        accounts = self._accounts
        return (self._orders[key] for key in keys if accounts is None or key[0] in accounts)

    def _add(self, first: SubmitOrder | OrderEvent, place: RecordPlace) -> OrderRow:
        key = (first.account_id, first.client_order_id)
        row = self._orders[key] = OrderRow(
            place=place,
            account_id=first.account_id,
            strategy_id=first.strategy_id,
            client_order_id=first.client_order_id,
            instrument_id=first.instrument_id,
            created_ns=place.ts_ns,
            updated_ns=place.ts_ns,
            events=deque(maxlen=_EVENTS_MAX),
        )
        insort(self._line, (place, key))
        others = self._accounts_by_id.get(first.client_order_id, ())
        self._accounts_by_id[first.client_order_id] = (*others, first.account_id)
        return row

    def _wait(self, key: OrderKey) -> None:
        """Wait for what becomes of an order, but not for ever."""
        self._unanswered.append(key)
        if len(self._unanswered) > self._orders_max:
            old = self._unanswered.popleft()
            row = self._orders.get(old)
            if row is not None and row.status is OrderStatus.INITIALIZED:
                self._close(old)

    def _close(self, key: OrderKey) -> None:
        self._closed.append(key)
        while len(self._orders) > self._orders_max and self._closed:
            old = self._closed.popleft()
            row = self._orders.get(old)
            if row is None or row.status not in _LEAVING:
                continue
            del self._orders[old]
            del self._line[bisect_left(self._line, (row.place, old))]
            if self._left is None or row.place > self._left:
                self._left = row.place
            self._forget_account(old)

    def _forget_account(self, key: OrderKey) -> None:
        account_id, order_id = key
        others = tuple(name for name in self._accounts_by_id[order_id] if name != account_id)
        if others:
            self._accounts_by_id[order_id] = others
        else:
            del self._accounts_by_id[order_id]

    def _move(self, row: OrderRow, place: RecordPlace) -> None:
        """Put an order at the place of its command."""
        key = (row.account_id, row.client_order_id)
        del self._line[bisect_left(self._line, (row.place, key))]
        row.place, row.created_ns = place, place.ts_ns
        insort(self._line, (place, key))

    def on_fill(self, published: Published) -> None:
        """Take in a record of ``orders.fills``."""
        if isinstance(published.record, Fill):
            self.fills.add(published)
