"""What a symbol, an account or an order of a request means."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from schemas.enums import OrderType
from streams.history import StoredOrder
from web.answers import orders as answers
from web.context import Context
from web.problems import FieldError, ProblemError, invalid, not_found
from web.route_table import Reply
from web.routes import past_orders
from web.routes.past_orders import Order
from web.routes.sending import late, order_answer
from web.views.models import Views
from web.views.orders import OrderRow

_CANDIDATES_MAX = 10
_NAME = re.compile(r"[\x21-\x7e]{1,200}")


def resolve_symbol(views: Views, symbol: str, pointer: str = "/symbol") -> str:
    """Return the one instrument that ``symbol`` means; raises ProblemError (422) otherwise.

    The rule: an instrument id stands for itself; else every tradable instrument of that symbol, and
    if none is tradable every one of it; there must be exactly one.
    """
    found = views.market.resolve(symbol)
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(found[:_CANDIDATES_MAX])
        error = FieldError(pointer, "means several instruments", f"choose one of {names}", symbol)
        raise invalid([error], code="symbol_ambiguous", candidates=found[:_CANDIDATES_MAX])
    known = sorted(views.market.instruments)
    names = ", ".join(known[:_CANDIDATES_MAX])
    remedy = f"choose one of {names}" if known else "the run has no instruments yet"
    raise invalid([FieldError(pointer, "is not known", remedy, symbol)], code="symbol_unknown")


def known_instrument(views: Views, symbol: str) -> str:
    """Return the instrument that a path names; raises ProblemError (404, 422 if ambiguous)."""
    try:
        return resolve_symbol(views, symbol, "/symbol")
    except ProblemError as problem:
        if problem.code == "symbol_unknown":
            raise not_found("instrument", symbol, "GET /api/instruments lists them") from problem
        raise


def instruments_of(views: Views, symbol: str | None) -> tuple[str, ...]:
    """Return the id of the instrument that a filter names, none for a filter that names all.

    Raises ProblemError (422) for a symbol that does not stand for one instrument.
    """
    return (resolve_symbol(views, symbol),) if symbol else ()


def is_among(instrument_ids: Sequence[str], instrument_id: str) -> bool:
    """Return whether a filter lets an instrument through; one without instruments lets all."""
    return not instrument_ids or instrument_id in instrument_ids


class Target(NamedTuple):
    """The order that a command is about, as memory or the database told of it, or neither."""

    account_id: str
    strategy_id: str
    client_order_id: str
    order_type: OrderType | None = None
    order: Order | None = None


async def known_order(context: Context, order_id: str, account_id: str) -> Target:
    """Return an order by its id, out of memory or, where that began late, out of the database.

    Where neither can say whether there is one, and its account is named, it is taken as it is
    named: the account stage knows. Raises ProblemError (404; 422 where several accounts have an
    order of this id and none is named; 503 without the account).
    """
    book = context.views.orders
    if not account_id:
        past_orders.check_is_one(book.accounts_of(order_id))
    found: Order | None = book.find(order_id, account_id)
    if found is None:
        try:
            found = await past_orders.one(context, order_id, account_id)
        except ProblemError as problem:
            is_none = context.history is not None and problem.status == 404
            is_name = _NAME.fullmatch(order_id) and _NAME.fullmatch(account_id)
            if is_none or not is_name or book.floor is None:
                raise
            return Target(account_id, "", order_id)
    return Target(
        found.account_id, found.strategy_id, found.client_order_id, found.order_type, found
    )


def row_of(context: Context, target: Target) -> OrderRow | None:
    """Return what memory knows of an order by now."""
    if isinstance(target.order, OrderRow):
        return target.order
    return context.views.orders.find(target.client_order_id, target.account_id)


def as_it_stands(context: Context, target: Target) -> answers.Order | Reply:
    """Return the answer of a command that the stage took: the order, 202 if nothing tells of it."""
    order, row = target.order, row_of(context, target)
    if isinstance(order, StoredOrder) and row is not None:
        order = past_orders.up_to_date(order, row)
    order = order or row
    if order is None:
        return late(target.account_id, target.client_order_id)
    return order_answer(context.views, order)


def known_account(views: Views, account_id: str) -> str:
    """Return an account's id if it was heard of; raises ProblemError (404) otherwise."""
    known = views.portfolio.account_ids()
    if account_id not in known:
        names = ", ".join(known) or "none yet"
        raise not_found("account", account_id, f"accounts that were heard of: {names}")
    return account_id
