"""Answers about orders and executions."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec


class Order(msgspec.Struct):
    """One order as it stands; ``code`` and ``detail`` say why it was denied, rejected, canceled.

    The code of a canceled order is the venue's reason, such as IOC, REDUCE_ONLY or REQUESTED; that
    of one which nobody approved in time is APPROVAL_LAPSED. What no record has told of it yet is
    null.
    """

    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    symbol: str
    side: str | None
    order_type: str | None
    time_in_force: str | None
    is_post_only: bool | None
    is_reduce_only: bool | None
    quantity: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    status: str
    is_open: bool
    filled_quantity: Decimal
    average_price: Decimal | None
    venue_order_id: str
    code: str
    detail: str
    created_at: str
    created_ns: int
    updated_at: str
    updated_ns: int


class OrderPage(msgspec.Struct):
    """Orders, the newest first; ``next_cursor`` asks for the older ones.

    ``is_complete`` is false where this process may not know of all older ones: it began late, and
    there is no database, or it is away (then open orders are listed as far as they are known).
    """

    orders: list[Order]
    count: int
    next_cursor: str | None
    is_complete: bool = True


class OrderEvents(msgspec.Struct):
    """What happened to one order, the oldest first, as on ``orders.events``."""

    client_order_id: str
    events: list[dict[str, Any]]


class OrderPending(msgspec.Struct):
    """A command that was written to the log but has not been answered yet; ask at ``location``."""

    client_order_id: str
    status: str
    detail: str
    location: str


class Fill(msgspec.Struct):
    """One execution; ``fee`` is positive when paid."""

    trade_id: str
    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    currency: str
    liquidity_side: str
    time: str
    time_ns: int


class CanceledOrders(msgspec.Struct):
    """The orders that were open when their cancel was asked for, as they stand now.

    ``is_complete`` is false where this process began late and may not know of all of them; the
    cancel concerns them all the same.
    ``warning`` says what is doubtful about the name that was given, which may be mistyped.
    """

    orders: list[Order]
    count: int
    is_complete: bool = True
    warning: str = ""


class Approval(msgspec.Struct):
    """An order that waits for a person until ``expires_at``."""

    order: Order
    expires_at: str
    expires_ns: int


class Approvals(msgspec.Struct):
    """All orders that wait for a person, the newest first."""

    approvals: list[Approval]
    count: int


class FillPage(msgspec.Struct):
    """Executions, the newest first; ``next_cursor`` asks for the older ones."""

    fills: list[Fill]
    count: int
    next_cursor: str | None


class Link(msgspec.Struct):
    """One record in the chain of causes; ``record`` is null where it is no longer kept."""

    event_id: str
    causation_id: str
    type: str | None
    topic: str | None
    offset: int | None
    time: str | None
    time_ns: int | None
    record: dict[str, Any] | None


class Causes(msgspec.Struct):
    """Why an order is what it is: from the market event to the last fill, causes first."""

    client_order_id: str
    account_id: str
    links: list[Link]
