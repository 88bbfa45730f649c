"""Orders asked about: lists, one, its life, and why it came to be."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.enums import OrderStatus, OrderType, Side
from streams.log import Published
from web.answers import orders as answers
from web.context import Context
from web.problems import FieldError, invalid
from web.route_table import Call, Route
from web.routes.order_entry import OrderQuery
from web.routes.pages import bad_cursor, page, within_times
from web.routes.resolving import is_symbol, known_order
from web.routes.sending import order_answer
from web.scopes import READ
from web.times import format_time
from web.views.models import Views
from web.views.orders import OrderRow


class OrdersQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; ``status`` is a state, or ``open`` for all that may still trade.

    ``after`` and ``until`` bound the time at which an order was asked for.
    """

    status: str | None = None
    account_id: str | None = None
    strategy_id: str | None = None
    symbol: str | None = None
    side: Side | None = None
    order_type: OrderType | None = None
    client_order_id: str | None = None
    after: str | None = None
    until: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


class ClientIdQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The client order id, and the account where two accounts use one id."""

    client_order_id: str
    account_id: str = ""


async def list_orders(context: Context, call: Call[OrdersQuery, None]) -> answers.OrderPage:
    """List orders, the newest first."""
    views, query = context.views, call.query
    rows, cursor = page(_selected(views, query), query.limit, _cursor_of)
    return answers.OrderPage([order_answer(views, row) for row in rows], len(rows), cursor)


async def get_order(context: Context, call: Call[OrderQuery, None]) -> answers.Order:
    """Return one order as it stands."""
    row = known_order(context, call.path["client_order_id"], call.query.account_id)
    return order_answer(context.views, row)


async def get_order_by_client_id(
    context: Context, call: Call[ClientIdQuery, None]
) -> answers.Order:
    """Return one order by the id that its sender gave it."""
    row = known_order(context, call.query.client_order_id, call.query.account_id)
    return order_answer(context.views, row)


async def get_order_events(context: Context, call: Call[OrderQuery, None]) -> answers.OrderEvents:
    """Return what happened to one order."""
    row = known_order(context, call.path["client_order_id"], call.query.account_id)
    return answers.OrderEvents(row.client_order_id, [plain(event) for event in row.events])


async def get_order_causes(context: Context, call: Call[OrderQuery, None]) -> answers.Causes:
    """Return why one order came to be and what followed.

    From the market event over the strategy's signal, the order and the risk decision to the fills.
    """
    row = known_order(context, call.path["client_order_id"], call.query.account_id)
    chain = context.views.causes.of(row.account_id, row.client_order_id)
    links = [_link(event_id, item) for event_id, item in chain]
    return answers.Causes(row.client_order_id, row.account_id, links)


def plain(record: Any) -> dict[str, Any]:
    """Return a record as plain values, its instant as text as well."""
    values: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(Decimal,))
    values["time"] = format_time(record.ts_event_ns)
    return values


def _link(event_id: str, item: Published | None) -> answers.Link:
    if item is None:
        return answers.Link(event_id, "", None, None, None, None, None, None)
    record: Any = item.record
    return answers.Link(
        event_id,
        record.causation_id,
        str(record.__struct_config__.tag),
        item.topic,
        item.offset,
        format_time(record.ts_event_ns),
        record.ts_event_ns,
        plain(record),
    )


def _selected(views: Views, query: OrdersQuery) -> Iterator[OrderRow]:
    states = {status.value for status in OrderStatus}
    if query.status is not None and query.status not in {*states, "open"}:
        remedy = f"choose open or one of {', '.join(sorted(states))}"
        raise invalid([FieldError("/status", "is no order status", remedy, query.status[:40])])
    before = _number_before(views, query.cursor)
    is_within = within_times(query.after, query.until)
    for row in views.orders.newest_first():
        if before is not None and row.number >= before:
            continue
        if not is_within(row.created_ns):
            continue
        if _is_wanted(views, query, row):
            yield row


def _is_wanted(views: Views, query: OrdersQuery, row: OrderRow) -> bool:
    if query.status is not None:
        if query.status == "open" and not row.is_open:
            return False
        if query.status not in ("open", row.status):
            return False
    return (
        query.account_id in (None, row.account_id)
        and query.strategy_id in (None, row.strategy_id)
        and query.client_order_id in (None, row.client_order_id)
        and query.side in (None, row.side)
        and query.order_type in (None, row.order_type)
        and is_symbol(views, row.instrument_id, query.symbol)
    )


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


def _read(path: str, handler: Any, answer: Any, summary: str, query: Any, example: str) -> Route:
    return Route(
        "GET",
        path,
        handler,
        answer,
        READ,
        summary,
        "orders",
        query=query,
        errors=() if handler is list_orders else (404,),
        is_of_run=True,
        example=example,
    )


ROUTES = (
    _read(
        "/api/orders",
        list_orders,
        answers.OrderPage,
        "List orders",
        OrdersQuery,
        "/api/orders?status=open&limit=10",
    ),
    _read(
        "/api/orders:by_client_order_id",
        get_order_by_client_id,
        answers.Order,
        "One order by client id",
        ClientIdQuery,
        "/api/orders:by_client_order_id?client_order_id=o-1",
    ),
    _read(
        "/api/orders/{client_order_id}",
        get_order,
        answers.Order,
        "One order",
        OrderQuery,
        "/api/orders/o-1",
    ),
    _read(
        "/api/orders/{client_order_id}/events",
        get_order_events,
        answers.OrderEvents,
        "Life of an order",
        OrderQuery,
        "/api/orders/o-1/events",
    ),
    _read(
        "/api/orders/{client_order_id}/causes",
        get_order_causes,
        answers.Causes,
        "Why an order came to be",
        OrderQuery,
        "/api/orders/o-1/causes",
    ),
)
