"""How an order stands: its command and the events behind it, folded.

The read models of a run (``web.views.orders``) fold the same records in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.commands import CommandReceipt, SubmitOrder
from schemas.enums import OrderStatus, ReceiptOutcome
from schemas.identifiers import is_approval_timer
from schemas.order_events import (
    OrderAccepted,
    OrderCanceled,
    OrderDenied,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderInitialized,
    OrderPartiallyFilled,
    OrderRejected,
    OrderReplaced,
    OrderSubmitted,
    OrderUnknown,
)
from schemas.values import ZERO
from streams.history import StoredOrder

APPROVAL_LAPSED = "APPROVAL_LAPSED"
"""Code of an order that expired because nobody approved it in time; its event has none."""


def folded(
    command: SubmitOrder | OrderInitialized,
    events: Sequence[OrderEvent],
    receipts: Sequence[CommandReceipt],
) -> StoredOrder:
    """Return an order as its command, the events behind it and its refusal leave it.

    An order of the account stage's own has no command but an ``OrderInitialized``.
    """
    order = StoredOrder(
        command.account_id,
        command.strategy_id,
        command.client_order_id,
        command.instrument_id,
        command.side,
        command.quantity,
        command.order_type,
        command.limit_price,
        command.stop_price,
        command.time_in_force,
        isinstance(command, SubmitOrder) and command.is_post_only,
        command.is_reduce_only,
        OrderStatus.INITIALIZED,
        ZERO,
        None,
        "",
        "",
        "",
        command.event_id,
        command.ts_event_ns,
        command.ts_event_ns,
    )
    for event in events:
        order = after(order, event)
    if not events:
        for receipt in receipts:
            if (
                receipt.outcome == ReceiptOutcome.REFUSED
                and receipt.causation_id == command.event_id
            ):
                order = order._replace(
                    status=OrderStatus.DENIED,
                    code=receipt.code,
                    detail=receipt.detail,
                    updated_ns=receipt.ts_event_ns,
                )
    return order


def reason_of(event: OrderEvent) -> tuple[str, str] | None:
    """Return why an order stands as it does after an event, as code and detail, if that tells it.

    What was refused of a cancel or a replace says nothing of the order, which stands as before.
    """
    if isinstance(event, (OrderDenied, OrderRejected)):
        return event.code, event.detail
    if isinstance(event, OrderCanceled):
        return event.reason, ""
    if isinstance(event, OrderExpired) and is_approval_timer(event.causation_id):
        return APPROVAL_LAPSED, ""
    return ("", event.detail) if isinstance(event, OrderUnknown) else None


def after(order: StoredOrder, event: OrderEvent) -> StoredOrder:
    """Return an order as one more event leaves it; one that it has seen last changes nothing."""
    order = order._replace(
        status=event.status, instrument_id=event.instrument_id, updated_ns=event.ts_event_ns
    )
    reason = reason_of(event)
    if reason is not None:
        order = order._replace(code=reason[0], detail=reason[1])
    if isinstance(event, (OrderFilled, OrderPartiallyFilled)):
        return order._replace(
            filled_quantity=event.cumulative_quantity, average_price=event.average_price
        )
    if isinstance(event, OrderSubmitted):
        order = order._replace(
            side=event.side, order_type=event.order_type, time_in_force=event.time_in_force
        )
    if isinstance(event, OrderReplaced) and event.cumulative_quantity is not None:
        order = order._replace(
            filled_quantity=event.cumulative_quantity, average_price=event.average_price
        )
    if isinstance(event, (OrderSubmitted, OrderReplaced)):
        return order._replace(
            quantity=event.quantity, limit_price=event.limit_price, stop_price=event.stop_price
        )
    if isinstance(event, OrderAccepted):
        return order._replace(venue_order_id=event.venue_order_id)
    return order
