"""Orders asked about: lists, one, its life, and why it came to be."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from agents.domain.order_state import OPEN
from schemas.enums import OrderStatus, OrderType, Side
from streams.history import Filters
from streams.log import Published
from web.answers import orders as answers
from web.context import Context
from web.problems import FieldError, invalid
from web.route_table import Call, Route
from web.routes import past_orders
from web.routes.older import asked
from web.routes.order_entry import OrderQuery
from web.routes.resolving import instruments_of, is_among
from web.routes.scope_names import check_filter
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
    query = call.query
    check_filter(context, query.account_id)
    filters = _filters(context.views, query)
    found = await past_orders.page_of(
        context,
        asked("orders", query),
        filters,
        _statuses(query),
        lambda row: _is_wanted(query, row) and is_among(filters.instrument_ids, row.instrument_id),
    )
    orders = [order_answer(context.views, row) for row in found.rows]
    return answers.OrderPage(orders, len(orders), found.cursor, found.is_complete)


async def get_order(context: Context, call: Call[OrderQuery, None]) -> answers.Order:
    """Return one order as it stands."""
    name = call.path["client_order_id"]
    return await _one(context, name, call.query.account_id)


async def get_order_by_client_id(
    context: Context, call: Call[ClientIdQuery, None]
) -> answers.Order:
    """Return one order by the id that its sender gave it."""
    return await _one(context, call.query.client_order_id, call.query.account_id)


async def get_order_events(context: Context, call: Call[OrderQuery, None]) -> answers.OrderEvents:
    """Return what happened to one order."""
    order = await past_orders.one(context, call.path["client_order_id"], call.query.account_id)
    events = await past_orders.events_of(context, order)
    found = [plain(event) for event in events]
    return answers.OrderEvents(order.client_order_id, found)


async def get_order_causes(context: Context, call: Call[OrderQuery, None]) -> answers.Causes:
    """Return why one order came to be and what followed.

    From the market event over the strategy's signal, the order and the risk decision to the fills.
    An order that memory let go of is told of without market events and talk with the venue, which
    the database does not keep.
    """
    order = await past_orders.one(context, call.path["client_order_id"], call.query.account_id)
    chain = await past_orders.causes_of(context, order)
    links = [_link(event_id, item) for event_id, item in chain]
    return answers.Causes(order.client_order_id, order.account_id, links)


async def _one(context: Context, order_id: str, account_id: str) -> answers.Order:
    return order_answer(context.views, await past_orders.one(context, order_id, account_id))


def plain(record: Any) -> dict[str, Any]:
    """Return a record as plain values, its instant as text as well.

    Its run is the one that was asked for; not every log names it in the record.
    """
    values: dict[str, Any] = msgspec.to_builtins(record, builtin_types=(Decimal,))
    values.pop("run_id", None)
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


def _statuses(query: OrdersQuery) -> tuple[OrderStatus, ...]:
    """Return the states that are asked for, none for all; raises ProblemError (422)."""
    if not query.status:
        return ()
    if query.status == "open":
        return tuple(sorted(OPEN))
    states = {status.value for status in OrderStatus}
    if query.status not in states:
        remedy = f"choose open or one of {', '.join(sorted(states))}"
        raise invalid([FieldError("/status", "is no order status", remedy, query.status[:40])])
    return (OrderStatus(query.status),)


def _filters(views: Views, query: OrdersQuery) -> Filters:
    return Filters(
        query.account_id or "",
        query.strategy_id or "",
        client_order_id=query.client_order_id or "",
        instrument_ids=instruments_of(views, query.symbol),
        side=query.side or "",
        order_type=query.order_type or "",
    )


def _is_wanted(query: OrdersQuery, row: OrderRow) -> bool:
    return (
        query.account_id in (None, "", row.account_id)
        and query.strategy_id in (None, "", row.strategy_id)
        and query.client_order_id in (None, "", row.client_order_id)
        and query.side in (None, row.side)
        and query.order_type in (None, row.order_type)
    )


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
        errors=(503,) if handler is list_orders else (404, 503),
        is_of_run=True,
        is_stored=True,
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
