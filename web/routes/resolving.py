"""What a symbol, an account or an order of a request means."""

from __future__ import annotations

from web.context import Context
from web.problems import FieldError, ProblemError, invalid, not_found
from web.views.models import Views
from web.views.orders import OrderRow

_CANDIDATES_MAX = 10


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


def is_symbol(views: Views, instrument_id: str, symbol: str | None) -> bool:
    """Return whether an instrument is the one that a filter names; nothing names all."""
    return symbol in (None, "", instrument_id, views.market.symbol_of(instrument_id))


def known_order(context: Context, order_id: str, account_id: str) -> OrderRow:
    """Return an order by its id; raises ProblemError (404)."""
    row = context.views.orders.find(order_id, account_id)
    if row is None:
        raise not_found("order", order_id, "GET /api/orders lists the orders of this run")
    return row


def known_account(views: Views, account_id: str) -> str:
    """Return an account's id if it was heard of; raises ProblemError (404) otherwise."""
    known = views.portfolio.account_ids()
    if account_id not in known:
        names = ", ".join(known) or "none yet"
        raise not_found("account", account_id, f"accounts that were heard of: {names}")
    return account_id
