"""Orders out of memory or, where it lacks them or parts of them, out of the database.

Memory keeps every open order and the newest closed ones. It lacks older ones, and where a run had
begun long before this process it may know the end of an order but not its beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, NamedTuple

from agents.domain.order_state import OPEN
from schemas.enums import OrderStatus
from schemas.order_events import OrderEvent
from schemas.topics import PORTFOLIO_POSITIONS
from streams.cursors import RecordPlace
from streams.history import Filters, History, Page, StoredOrder, Window
from streams.log import Published
from streams.stored_orders import after
from web.context import Context
from web.history import stored
from web.problems import FieldError, ProblemError, invalid, not_found
from web.routes.older import Asked, merged
from web.views.causes import in_order, named_by
from web.views.orders import OrderBook, OrderRow

Order = OrderRow | StoredOrder

_CANDIDATES_MAX = 10


class OrderList(NamedTuple):
    """A page of orders and the cursor of the next one; ``is_complete``: memory left none out."""

    rows: list[Order]
    cursor: str | None
    is_complete: bool


async def page_of(
    context: Context,
    page: Asked,
    filters: Filters,
    statuses: Sequence[OrderStatus],
    is_wanted: Callable[[OrderRow], bool],
) -> OrderList:
    """Return a page of orders, the newest first.

    ``filters`` say of stored orders what ``is_wanted`` says of those in memory, states apart. Open
    orders are no history: while the database is away, those that memory knows are given.
    """
    book = context.views.orders
    is_of_open = bool(statuses) and OPEN.issuperset(statuses)
    # No open order is ever let go of.
    floor = None if is_of_open and not book.began_late else book.floor
    if floor is not None and context.history is not None:
        _check_moment(context)

    def known(before: RecordPlace | None, *, is_whole: bool) -> Iterable[tuple[RecordPlace, Order]]:
        return (
            (row.place, row)
            for row in book.newest_first(before)
            if (book.is_whole(row) or not is_whole)
            and page.has(row.created_ns)
            and (not statuses or row.status in statuses)
            and is_wanted(row)
        )

    async def ask(history: History, window: Window) -> Page[Order]:
        return await _older(context, history, window, filters, statuses)

    try:
        found = partial(known, is_whole=context.history is not None)
        rows, cursor = await merged(context, page, floor, found, ask)
    except ProblemError as problem:
        if problem.status != 503 or not is_of_open or context.is_stored:
            raise
        rows, cursor = await merged(context, page, None, partial(known, is_whole=False), ask)
        return OrderList(rows, cursor, is_complete=False)
    return OrderList(rows, cursor, is_complete=floor is None or context.history is not None)


async def _older(
    context: Context,
    history: History,
    window: Window,
    filters: Filters,
    statuses: Sequence[OrderStatus],
) -> Page[Order]:
    """Return stored orders but for those that memory knows whole, and brought up to date by it."""
    book = context.views.orders
    items: list[Order] = []
    places: list[RecordPlace] = []
    while True:
        older = await history.orders(window, filters, statuses, context.moment)
        for place, order in zip(older.places, older.items, strict=True):
            row = book.find(order.client_order_id, order.account_id)
            if row is not None and book.is_whole(row):
                continue
            latest = order if row is None else up_to_date(order, row)
            if not statuses or latest.status in statuses:
                items.append(latest)
                places.append(place)
        if not older.cursor or len(items) >= window.limit:
            return Page(items, older.cursor, places)
        window = window._replace(cursor=older.cursor)


async def one(context: Context, order_id: str, account_id: str) -> Order:
    """Return an order by its id.

    Raises ProblemError: 404; 422 where several accounts have an order of this id and none is named;
    503 if it may be older than memory.
    """
    account_id = account_id or await _only_account(context, order_id)
    book, history = context.views.orders, context.history
    row = book.find(order_id, account_id)
    if row is not None and (history is None or book.is_whole(row)):
        return row
    found, floor = None, book.floor
    if floor is not None and history is not None:
        _check_moment(context)
        account_id = row.account_id if row is not None else account_id
        question = history.order(context.run_id, order_id, account_id, context.moment)
        try:
            found = await stored(question)
        except ProblemError as problem:
            if row is None or problem.status != 503:
                raise
            return row  # what memory knows of it goes on without the database
        if found is not None and context.is_at_offset and found.created_ns > floor.ts_ns:
            found = None  # it was not asked for yet
    if found is not None:
        return found if row is None else up_to_date(found, row)
    if row is not None:
        return row
    raise not_found("order", order_id, "GET /api/orders lists the orders of this run")


async def _only_account(context: Context, order_id: str) -> str:
    """Return the account that has an order of this id, empty if none has as far as is known.

    Raises ProblemError (422) for several: the newest may not be the one that works.
    """
    names = context.views.orders.accounts_of(order_id)
    check_is_one(names)
    stored_ones = await _stored_accounts(context, order_id, names)
    check_is_one(sorted(stored_ones.union(names)))
    return names[0] if names else ""


async def _stored_accounts(context: Context, order_id: str, known: Sequence[str]) -> set[str]:
    """Return the accounts that have a stored order of this id, of which memory may not tell."""
    floor, history = context.views.orders.floor, context.history
    has_others = context.is_stored or len(context.views.portfolio.account_ids()) > 1
    if floor is None or history is None or not has_others:
        return set()
    window, filters = Window(context.run_id), Filters(client_order_id=order_id)
    try:
        page = await stored(history.orders(window, filters, (), context.moment))
    except ProblemError as problem:
        if not known or problem.status != 503:
            raise
        return set()  # what memory knows goes on without the database
    return {
        order.account_id
        for order in page.items
        if not context.is_at_offset or order.created_ns <= floor.ts_ns
    }


def check_is_one(account_ids: Sequence[str]) -> None:
    """Raise ProblemError (422) if several accounts have an order of one id."""
    if len(account_ids) > 1:
        names = account_ids[:_CANDIDATES_MAX]
        what = "is needed: several accounts have an order of this id"
        error = FieldError("/account_id", what, f"name one of {', '.join(names)}")
        raise invalid([error], code="order_ambiguous", candidates=names)


async def events_of(context: Context, order: Order) -> list[OrderEvent]:
    """Return what happened to an order, the oldest first."""
    row = _in_memory(context, order)
    has_all = row is not None and context.views.orders.has_all_events(row)
    if row is not None and (context.history is None or (has_all and _is_whole(context, row))):
        return list(row.events)
    assert context.history is not None  # a stored order came from there
    older = await stored(
        context.history.order_events(
            context.run_id, order.client_order_id, order.account_id, context.moment
        )
    )
    newer = () if row is None else row.events
    known = {event.event_id for event in older}
    return [*older, *(event for event in newer if event.event_id not in known)]


async def causes_of(context: Context, order: Order) -> list[tuple[str, Published | None]]:
    """Return the chain of an order as (event id, record), causes before what they caused."""
    row = _in_memory(context, order)
    if row is not None and (context.history is None or _is_whole(context, row)):
        chain = context.views.causes.of(row.account_id, row.client_order_id)
        if chain or context.history is None:
            return chain
    assert context.history is not None  # a stored order came from there
    items = await stored(
        context.history.order_causes(context.run_id, order.client_order_id, order.account_id)
    )
    links: dict[str, Published | None] = {}
    for item in items:
        record: Any = item.record
        is_late = context.until_ns is not None and record.ts_event_ns >= context.until_ns
        if is_late or item.topic == PORTFOLIO_POSITIONS:
            continue
        for cause in named_by(record):
            links.setdefault(cause, None)
        links[record.event_id] = item
    return in_order(links)


def _in_memory(context: Context, order: Order) -> OrderRow | None:
    return context.views.orders.find(order.client_order_id, order.account_id)


def _is_whole(context: Context, row: OrderRow) -> bool:
    book: OrderBook = context.views.orders
    return book.is_whole(row)


def up_to_date(order: StoredOrder, row: OrderRow) -> StoredOrder:
    """Return a stored order behind the events that memory has heard since."""
    for event in row.events:
        if event.ts_event_ns >= order.updated_ns:
            order = after(order, event)
    return order


def _check_moment(context: Context) -> None:
    """Raise ProblemError (422) if older orders cannot be told as of an offset."""
    if context.is_at_offset and context.views.orders.began_late:
        remedy = "give a time: orders from before what is at hand have no offset here"
        raise invalid([FieldError("/as_of", "is an offset", remedy, context.place[-80:])])
