"""Commands about orders on their way: published, answered by the account stage's receipt.

The stage alone decides what is a duplicate and what is a conflict; here its answer is only put into
HTTP's words, so any number of web processes agree.
"""

from __future__ import annotations

import time
from typing import Literal
from urllib.parse import quote

from agents.domain.order_state import CLOSED, OPEN
from schemas.commands import ApproveOrder, CancelOrder, CommandReceipt, ReplaceOrder, SubmitOrder
from schemas.enums import OrderStatus, ReceiptOutcome
from schemas.topics import ACCOUNT_INPUTS, ORDER_RECEIPTS
from streams.history import StoredOrder
from web.answers import orders as answers
from web.context import Context
from web.problems import FieldError, ProblemError, invalid
from web.route_table import Reply
from web.times import format_time
from web.views.models import Views
from web.views.orders import OrderRow
from web.waiting import within

Command = SubmitOrder | ReplaceOrder | CancelOrder | ApproveOrder
Wait = Literal["receipt", "accepted", "filled"]

_SETTLED = CLOSED | {OrderStatus.UNKNOWN, OrderStatus.PENDING_APPROVAL}
_ON_THE_WAY = frozenset({OrderStatus.INITIALIZED, OrderStatus.SUBMITTED})


async def send(
    context: Context, command: Command, timeout_s: float | None = None
) -> CommandReceipt | None:
    """Publish a command and return its receipt, or None if that is late."""
    context.check_is_present()
    remedy = (
        f"ask GET /api/orders/{command.client_order_id} before you send it again, with the same id"
    )
    with context.waiters.expect(ORDER_RECEIPTS, command.event_id) as answer:
        await context.publish(ACCOUNT_INPUTS, command, remedy)
        patience_s = context.settings.receipt_timeout_s if timeout_s is None else timeout_s
        receipt = await within(answer, patience_s)
    return receipt if isinstance(receipt, CommandReceipt) else None


async def submit(
    context: Context, command: SubmitOrder, wait: Wait, timeout_s: float
) -> answers.Order | Reply:
    """Send an order and answer with it as it stands: 200 also when it was denied.

    Raises ProblemError for a conflict (409) or an order that was refused at the door (422).
    """
    account_id, order_id = command.account_id, command.client_order_id
    end_s = time.monotonic() + timeout_s
    receipt = await send(context, command, timeout_s)
    if receipt is None:
        return late(account_id, order_id)
    if receipt.outcome == ReceiptOutcome.CONFLICT:
        raise ProblemError(
            409,
            "conflict",
            f"client_order_id {order_id} belongs to another order; use a new id for a new order",
        )
    if receipt.outcome == ReceiptOutcome.REFUSED:
        raise invalid(
            [FieldError("", receipt.detail, "correct the order and send it again")],
            code=receipt.code.lower() or "refused",
        )
    orders = context.views.orders

    def has_come_far_enough() -> bool:
        row = orders.find(order_id, account_id)
        if row is None:
            return False
        if wait == "filled":
            return row.status in _SETTLED
        if wait == "accepted":
            return row.status not in _ON_THE_WAY
        # The order's first event and its receipt are written together, but may come by two ways.
        return row.status is not OrderStatus.INITIALIZED

    await context.waiters.until(has_come_far_enough, max(end_s - time.monotonic(), 0.0))
    row = orders.find(order_id, account_id)
    return order_answer(context.views, row) if row is not None else late(account_id, order_id)


def late(account_id: str, order_id: str) -> Reply:
    """Return the answer (202) for a command whose receipt is late."""
    # An id is of one account, and others may use it too.
    account = quote(account_id, safe="")
    location = f"/api/orders/{quote(order_id, safe='')}?account_id={account}"
    body = answers.OrderPending(
        order_id, "PENDING", f"written for account {account_id}, but not answered yet", location
    )
    return Reply(202, body, {"Location": location})


def refusal(receipt: CommandReceipt, remedy: str) -> ProblemError:
    """Return the problem for a command about an order that its state does not allow."""
    if receipt.code == "ORDER_UNKNOWN":
        return ProblemError(404, "not_found", f"{receipt.detail}; it was closed long ago")
    return ProblemError(409, receipt.code.lower(), f"{receipt.detail}; {remedy}")


def order_answer(views: Views, row: OrderRow | StoredOrder) -> answers.Order:
    """Return an order as an answer."""
    return answers.Order(
        row.client_order_id,
        row.account_id,
        row.strategy_id,
        row.instrument_id,
        views.market.symbol_of(row.instrument_id),
        row.side,
        row.order_type,
        row.time_in_force,
        row.is_post_only,
        row.is_reduce_only,
        row.quantity,
        row.limit_price,
        row.stop_price,
        row.status,
        row.status in OPEN,
        row.filled_quantity,
        row.average_price,
        row.venue_order_id,
        row.code,
        row.detail,
        format_time(row.created_ns),
        row.created_ns,
        format_time(row.updated_ns),
        row.updated_ns,
    )
