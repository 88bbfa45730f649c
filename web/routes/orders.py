"""Orders: entry that waits for the account stage's receipt, cancel, and queries.

The stage alone decides what is a duplicate and what is a conflict; here its answer is only put into
HTTP's words.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.commands import CancelOrder, CommandReceipt, SubmitOrder
from schemas.enums import OrderStatus, OrderType, ReceiptOutcome, Side, TimeInForce
from schemas.topics import ACCOUNT_INPUTS, ORDER_RECEIPTS
from web import answers
from web.context import Context
from web.problems import FieldError, ProblemError, invalid, not_found
from web.route_table import Call, NoQuery, Reply, Route
from web.routes.pages import bad_cursor, page
from web.times import format_time
from web.views.models import Views
from web.views.orders import OrderRow
from web.waiting import within

Amount = Annotated[Decimal, Meta(extra_json_schema={"exclusiveMinimum": 0})]
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[\x21-\x7e]+$")]
_NEEDS_LIMIT = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
_NEEDS_STOP = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})


class OrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    """An order; amounts may be numbers or texts.

    Repeating a request with its ``client_order_id`` gives the same order; without one, each request
    is a new order.
    """

    symbol: Annotated[str, Meta(min_length=1, max_length=10)]
    side: Side
    quantity: Amount
    order_type: OrderType = OrderType.MARKET
    limit_price: Amount | None = None
    stop_price: Amount | None = None
    time_in_force: TimeInForce = TimeInForce.GTC
    is_post_only: bool = False
    is_reduce_only: bool = False
    client_order_id: Name | None = None
    account_id: Name | None = None
    strategy_id: Name = "manual"


class OrdersQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; ``status`` is a state, or ``open`` for all that may still trade."""

    status: str | None = None
    account_id: str | None = None
    strategy_id: str | None = None
    symbol: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


class OrderQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The account of the order, where two accounts use one id."""

    account_id: str = ""


async def submit_order(
    context: Context, call: Call[NoQuery, OrderRequest]
) -> answers.Order | Reply:
    """Submit an order and answer with it as it stands: 200 also when it was denied."""
    request = call.body
    _check(request)
    instrument_id = resolve_symbol(context.views, request.symbol)
    settings = context.settings
    order_id = request.client_order_id or context.ids()
    account_id = request.account_id or settings.default_account_id
    last = context.views.market.last_price(instrument_id)
    event_id = f"web:{context.ids()}"
    command = SubmitOrder(
        event_id,
        context.log.now_ns(),
        order_id,
        "",
        account_id,
        request.strategy_id,
        order_id,
        instrument_id,
        request.side,
        request.quantity,
        request.order_type,
        request.limit_price,
        request.stop_price,
        request.time_in_force,
        request.is_post_only,
        request.is_reduce_only,
        decision_price=last[0] if last else 0.0,
        decision_ts_ns=last[1] if last else 0,
        wants_receipt=True,
    )
    receipt = await _send(context, command, event_id)
    if receipt is None:
        return _late(account_id, order_id)
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
    row = context.views.orders.find(order_id, account_id)
    return order_answer(context.views, row) if row is not None else _late(account_id, order_id)


async def list_orders(context: Context, call: Call[OrdersQuery, None]) -> answers.OrderPage:
    """List orders, the newest first."""
    views, query = context.views, call.query
    rows, cursor = page(_selected(views, query), query.limit, _cursor_of)
    return answers.OrderPage([order_answer(views, row) for row in rows], len(rows), cursor)


async def get_order(context: Context, call: Call[OrderQuery, None]) -> answers.Order:
    """Return one order as it stands."""
    return order_answer(context.views, _known(context, call))


async def get_order_events(context: Context, call: Call[OrderQuery, None]) -> answers.OrderEvents:
    """Return what happened to one order."""
    row = _known(context, call)
    events: list[dict[str, Any]] = []
    for event in row.events:
        plain = msgspec.to_builtins(event, builtin_types=(Decimal,))
        plain["time"] = format_time(event.ts_event_ns)
        events.append(plain)
    return answers.OrderEvents(row.client_order_id, events)


async def cancel_order(context: Context, call: Call[OrderQuery, None]) -> answers.Order | Reply:
    """Ask for the cancel of an order; the answer shows it as it stands, usually PENDING_CANCEL."""
    row = _known(context, call)
    event_id = f"web:{context.ids()}"
    command = CancelOrder(
        event_id,
        context.log.now_ns(),
        row.client_order_id,
        "",
        row.account_id,
        row.strategy_id,
        row.client_order_id,
        "canceled over the API",
        wants_receipt=True,
    )
    receipt = await _send(context, command, event_id)
    if receipt is None:
        return _late(row.account_id, row.client_order_id)
    if receipt.outcome == ReceiptOutcome.REFUSED:
        if receipt.code == "ORDER_UNKNOWN":
            raise ProblemError(404, "not_found", f"{receipt.detail}; it was closed long ago")
        raise ProblemError(
            409, receipt.code.lower(), f"{receipt.detail}; only open orders can be canceled"
        )
    return order_answer(context.views, row)


async def _send(
    context: Context, command: SubmitOrder | CancelOrder, event_id: str
) -> CommandReceipt | None:
    """Publish a command and return its receipt, or None if that is late."""
    remedy = (
        f"ask GET /api/orders/{command.client_order_id} before you send it again, with the same id"
    )
    with context.waiters.expect(ORDER_RECEIPTS, event_id) as answer:
        await context.publish(ACCOUNT_INPUTS, command, remedy)
        receipt = await within(answer, context.settings.receipt_timeout_s)
    return receipt if isinstance(receipt, CommandReceipt) else None


def _check(request: OrderRequest) -> None:
    """Raise ProblemError (422) for values that fit their types but not each other."""
    errors: list[FieldError] = []
    for name in ("quantity", "limit_price", "stop_price"):
        amount: Decimal | None = getattr(request, name)
        if amount is not None and not (amount.is_finite() and 0 < amount < 10**15):
            errors.append(
                FieldError(
                    f"/{name}",
                    "must be a positive number below 10^15",
                    "give a number",
                    str(amount)[:40],
                )
            )
    for name, types in (("limit_price", _NEEDS_LIMIT), ("stop_price", _NEEDS_STOP)):
        is_given = getattr(request, name) is not None
        if is_given != (request.order_type in types):
            needs = "is required" if not is_given else "has no meaning"
            remedy = f"give {name}" if not is_given else f"leave {name} out"
            errors.append(
                FieldError(
                    f"/{name}",
                    f"{needs} for {request.order_type} orders",
                    f"{remedy}, or choose another order_type",
                )
            )
    if errors:
        raise invalid(errors)


def resolve_symbol(views: Views, symbol: str) -> str:
    """Return the one instrument that ``symbol`` means; raises ProblemError (422) otherwise."""
    found = views.market.resolve(symbol)
    if len(found) == 1:
        return found[0]
    if found:
        detail, remedy = "means several instruments", f"choose one of {', '.join(found[:10])}"
        raise invalid([FieldError("/symbol", detail, remedy, symbol)], code="symbol_ambiguous")
    known = sorted(views.market.instruments)
    remedy = f"choose one of {', '.join(known[:10])}" if known else "the run has no instruments yet"
    raise invalid([FieldError("/symbol", "is not known", remedy, symbol)], code="symbol_unknown")


def _selected(views: Views, query: OrdersQuery) -> Iterator[OrderRow]:
    states = {status.value for status in OrderStatus}
    if query.status is not None and query.status not in {*states, "open"}:
        remedy = f"choose open or one of {', '.join(sorted(states))}"
        raise invalid([FieldError("/status", "is no order status", remedy, query.status[:40])])
    before = _number_before(views, query.cursor)
    for row in views.orders.newest_first():
        if before is not None and row.number >= before:
            continue
        if query.status is not None and not (
            row.is_open if query.status == "open" else row.status == query.status
        ):
            continue
        if query.account_id not in (None, row.account_id):
            continue
        if query.strategy_id not in (None, row.strategy_id):
            continue
        if query.symbol not in (None, row.instrument_id, views.market.symbol_of(row.instrument_id)):
            continue
        yield row


def _cursor_of(row: OrderRow) -> str:
    return f"{row.account_id}|{row.client_order_id}"


def _number_before(views: Views, cursor: str | None) -> int | None:
    if cursor is None:
        return None
    account_id, _, order_id = cursor.partition("|")
    row = views.orders.find(order_id, account_id) if account_id and order_id else None
    if row is None:
        raise bad_cursor(cursor)
    return row.number


def _known(context: Context, call: Call[OrderQuery, None]) -> OrderRow:
    order_id = call.path["client_order_id"]
    row = context.views.orders.find(order_id, call.query.account_id)
    if row is None:
        raise not_found("order", order_id, "GET /api/orders lists the orders of this run")
    return row


def _late(account_id: str, order_id: str) -> Reply:
    location = f"/api/orders/{order_id}"
    body = answers.OrderPending(
        order_id, "PENDING", f"written for account {account_id}, but not answered yet", location
    )
    return Reply(202, body, {"Location": location})


def order_answer(views: Views, row: OrderRow) -> answers.Order:
    """Return an order of the read model as an answer."""
    return answers.Order(
        row.client_order_id,
        row.account_id,
        row.strategy_id,
        row.instrument_id,
        views.market.symbol_of(row.instrument_id),
        row.side,
        row.order_type,
        row.time_in_force,
        row.quantity,
        row.limit_price,
        row.stop_price,
        row.status,
        row.is_open,
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


ROUTES = (
    Route(
        "GET",
        "/api/orders",
        list_orders,
        answers.OrderPage,
        "read",
        "List orders",
        "orders",
        query=OrdersQuery,
    ),
    Route(
        "POST",
        "/api/orders",
        submit_order,
        answers.Order,
        "trade",
        "Submit an order",
        "orders",
        body=OrderRequest,
        answers={202: answers.OrderPending},
        errors=(400, 403, 409, 413, 503),
    ),
    Route(
        "GET",
        "/api/orders/{client_order_id}",
        get_order,
        answers.Order,
        "read",
        "One order",
        "orders",
        query=OrderQuery,
        errors=(404,),
    ),
    Route(
        "DELETE",
        "/api/orders/{client_order_id}",
        cancel_order,
        answers.Order,
        "trade",
        "Cancel an order",
        "orders",
        query=OrderQuery,
        answers={202: answers.OrderPending},
        errors=(403, 404, 409, 503),
    ),
    Route(
        "GET",
        "/api/orders/{client_order_id}/events",
        get_order_events,
        answers.OrderEvents,
        "read",
        "Life of an order",
        "orders",
        query=OrderQuery,
        errors=(404,),
    ),
)
