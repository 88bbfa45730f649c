"""Approvals: in the semi-automatic mode an order waits for a person's word."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.commands import ApproveOrder
from schemas.enums import OrderStatus, ReceiptOutcome
from schemas.order_events import OrderPendingApproval
from web.answers import orders as answers
from web.context import Context
from web.route_table import Call, NoQuery, Reply, Route
from web.routes.order_entry import OrderQuery
from web.routes.resolving import as_it_stands, known_order, row_of
from web.routes.sending import late, order_answer, refusal, send
from web.scopes import READ, TRADE
from web.times import format_time
from web.views.orders import OrderRow


class ApprovalRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A person's word on a waiting order."""

    reason: Annotated[str, Meta(max_length=500)] = ""


async def list_approvals(context: Context, call: Call[NoQuery, None]) -> answers.Approvals:
    """List the orders that wait for a person, the newest first, with the end of their wait."""
    waiting = [
        _approval(context, row)
        for row in context.views.orders.newest_first()
        if row.status is OrderStatus.PENDING_APPROVAL
    ]
    return answers.Approvals(waiting, len(waiting))


async def approve_order(
    context: Context, call: Call[OrderQuery, ApprovalRequest]
) -> answers.Order | Reply:
    """Let a waiting order go; the risk gate judges it once more, so it may still be denied."""
    return await _speak(context, call, is_approved=True)


async def reject_order(
    context: Context, call: Call[OrderQuery, ApprovalRequest]
) -> answers.Order | Reply:
    """End a waiting order."""
    return await _speak(context, call, is_approved=False)


async def _speak(
    context: Context, call: Call[OrderQuery, ApprovalRequest], *, is_approved: bool
) -> answers.Order | Reply:
    order = await known_order(context, call.path["client_order_id"], call.query.account_id)
    command = ApproveOrder(
        f"web:{context.ids()}",
        context.log.now_ns(),
        order.client_order_id,
        "",
        order.account_id,
        order.client_order_id,
        is_approved,
        call.operator,
        call.body.reason,
        wants_receipt=True,
    )
    receipt = await send(context, command)
    if receipt is None:
        return late(order.account_id, order.client_order_id)
    if receipt.outcome == ReceiptOutcome.REFUSED:
        raise refusal(receipt, "GET /api/approvals lists the orders that wait")
    await context.waiters.until(
        lambda: _has_moved(row_of(context, order)),
        context.settings.receipt_timeout_s,
    )
    return as_it_stands(context, order)


def _has_moved(row: OrderRow | None) -> bool:
    return row is not None and row.status is not OrderStatus.PENDING_APPROVAL


def _approval(context: Context, row: OrderRow) -> answers.Approval:
    last = row.events[-1] if row.events else None
    expires_ns = last.expires_at_ns if isinstance(last, OrderPendingApproval) else 0
    return answers.Approval(order_answer(context.views, row), format_time(expires_ns), expires_ns)


ROUTES = (
    Route(
        "GET",
        "/api/approvals",
        list_approvals,
        answers.Approvals,
        READ,
        "Orders that wait for a person",
        "orders",
        is_of_run=True,
    ),
    Route(
        "POST",
        "/api/approvals/{client_order_id}/approve",
        approve_order,
        answers.Order,
        TRADE,
        "Let an order go",
        "orders",
        query=OrderQuery,
        body=ApprovalRequest,
        answers={202: answers.OrderPending},
        errors=(400, 404, 409, 413, 503),
        example="/api/approvals/wait-1/approve",
        example_body={"reason": "looks right"},
    ),
    Route(
        "POST",
        "/api/approvals/{client_order_id}/reject",
        reject_order,
        answers.Order,
        TRADE,
        "End a waiting order",
        "orders",
        query=OrderQuery,
        body=ApprovalRequest,
        answers={202: answers.OrderPending},
        errors=(400, 404, 409, 413, 503),
        example="/api/approvals/wait-2/reject",
        example_body={"reason": "too large"},
    ),
)
