"""Positions: listed, one with its lots, and closed by a reduce-only order."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

import msgspec

from schemas.commands import SubmitOrder
from schemas.enums import OrderType, Side
from schemas.portfolio import PositionChanged
from schemas.values import ZERO
from web.answers import orders as order_answers
from web.answers import portfolio as answers
from web.context import Context
from web.problems import FieldError, invalid, not_found
from web.route_table import Call, Reply, Route
from web.routes.order_entry import EntryQuery, Name, patience
from web.routes.resolving import instruments_of, is_among, known_instrument
from web.routes.scope_names import check_filter
from web.routes.sending import submit
from web.routes.valuing import position_answer
from web.scopes import READ, TRADE

_HUNDRED = Decimal(100)


class PositionsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; flat positions are left out unless ``is_open`` is false."""

    account_id: str | None = None
    strategy_id: str | None = None
    symbol: str | None = None
    is_open: bool = True


class PositionQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Whose positions in the instrument; all without."""

    account_id: str | None = None
    strategy_id: str | None = None


class CloseQuery(EntryQuery, forbid_unknown_fields=True):
    """How much to close: a quantity, or a percentage of the position; all of it without either.

    ``account_id`` and ``strategy_id`` choose among several positions in the instrument. A
    ``client_order_id`` that closed one of them before stands for that order: repeated, it is
    answered and closes no more, whatever is held by now.
    """

    quantity: Decimal | None = None
    percentage: Decimal | None = None
    account_id: str | None = None
    strategy_id: str | None = None
    client_order_id: Name | None = None


async def list_positions(context: Context, call: Call[PositionsQuery, None]) -> answers.Positions:
    """List positions by account, strategy and instrument."""
    views, query = context.views, call.query
    check_filter(context, query.account_id)
    chosen = instruments_of(views, query.symbol)
    found = [
        position_answer(views, p)
        for _, p in sorted(views.portfolio.positions.items())
        if query.account_id in (None, "", p.account_id)
        and query.strategy_id in (None, "", p.strategy_id)
        and is_among(chosen, p.instrument_id)
        and (p.quantity or not query.is_open)
    ]
    return answers.Positions(found, len(found))


async def get_position(context: Context, call: Call[PositionQuery, None]) -> answers.PositionDetail:
    """Return the positions in one instrument, and each account's net quantity of it.

    The net quantity is over all strategies of the account, whichever positions are asked for.
    """
    instrument_id, found = _positions(context, call.path["symbol"], call.query)
    views = context.views
    accounts = dict.fromkeys(p.account_id for p in found)
    net = {name: views.portfolio.net_of(name)[instrument_id] for name in accounts}
    return answers.PositionDetail(
        instrument_id,
        views.market.symbol_of(instrument_id),
        net,
        [position_answer(views, p) for p in found],
    )


async def get_lots(context: Context, call: Call[PositionQuery, None]) -> answers.Lots:
    """Return the open lots of the positions in one instrument, first in first out."""
    instrument_id, found = _positions(context, call.path["symbol"], call.query)
    rows = []
    async with context.share_deadline():
        for p in found:
            share = await context.lots(p.account_id, p.strategy_id)
            lots = share.of((p.account_id, p.strategy_id, p.instrument_id))
            rows.append(
                answers.PositionLots(
                    p.account_id,
                    p.strategy_id,
                    p.instrument_id,
                    p.quantity,
                    [answers.Lot(quantity, price) for quantity, price in lots],
                    sum((quantity for quantity, _ in lots), ZERO) == p.quantity,
                )
            )
    return answers.Lots(instrument_id, context.views.market.symbol_of(instrument_id), rows)


async def close_position(
    context: Context, call: Call[CloseQuery, None]
) -> order_answers.Order | Reply:
    """Close a position, or a part of it, by a reduce-only market order that the gate judges."""
    context.check_is_present()
    query = call.query
    instrument_id, found = _positions(context, call.path["symbol"], query)
    closing = _repeated(context, found, query) or _closing(context, instrument_id, found, query)
    order_id = query.client_order_id or context.ids()
    last = context.views.market.last_price(instrument_id)
    command = SubmitOrder(
        f"web:{context.ids()}",
        context.log.now_ns(),
        order_id,
        "",
        closing.account_id,
        closing.strategy_id,
        order_id,
        instrument_id,
        closing.side,
        closing.quantity,
        OrderType.MARKET,
        is_reduce_only=True,
        decision_price=last[0] if last else 0.0,
        decision_ts_ns=last[1] if last else 0,
        wants_receipt=True,
    )
    return await submit(context, command, query.wait, patience(context, query))


class _Closing(NamedTuple):
    """Whose position is closed, by what side, and how much of it."""

    account_id: str
    strategy_id: str
    side: Side
    quantity: Decimal


def _repeated(context: Context, found: list[PositionChanged], query: CloseQuery) -> _Closing | None:
    """Return what the order of the request's id asked for, if it was in one of the positions.

    The account stage knows a repeated order by its content, and what is held has changed since.
    """
    if query.client_order_id is None:
        return None
    _check_one_amount(query)
    for p in found:
        row = context.views.orders.find(query.client_order_id, p.account_id)
        if row is None or row.side is None or row.quantity is None:
            continue
        if (row.strategy_id, row.instrument_id) == (p.strategy_id, p.instrument_id):
            quantity = row.quantity if query.quantity is None else query.quantity
            return _Closing(p.account_id, p.strategy_id, row.side, quantity)
    return None


def _closing(
    context: Context, instrument_id: str, found: list[PositionChanged], query: CloseQuery
) -> _Closing:
    """Return what is to be closed of what is held; raises ProblemError (404, 422)."""
    held = [p for p in found if p.quantity]
    if not held:
        raise not_found("position", instrument_id, "GET /api/positions lists those that are open")
    if len(held) > 1:
        names = [f"{p.account_id}/{p.strategy_id}" for p in held]
        remedy = f"name account_id and strategy_id of one: {', '.join(names[:10])}"
        error = FieldError("/strategy_id", "is needed: there are several positions", remedy)
        raise invalid([error], code="position_ambiguous", candidates=names[:10])
    position = held[0]
    side = Side.SELL if position.quantity > 0 else Side.BUY
    quantity = _quantity(context, position, query)
    return _Closing(position.account_id, position.strategy_id, side, quantity)


def _positions(
    context: Context, symbol: str, query: PositionQuery | CloseQuery
) -> tuple[str, list[PositionChanged]]:
    """Return an instrument's id and the positions in it; raises ProblemError (404, 422)."""
    instrument_id = known_instrument(context.views, symbol)
    found = [
        p
        for _, p in sorted(context.views.portfolio.positions.items())
        if p.instrument_id == instrument_id
        and query.account_id in (None, "", p.account_id)
        and query.strategy_id in (None, "", p.strategy_id)
    ]
    if not found:
        raise not_found("position", symbol, "GET /api/positions lists them")
    return instrument_id, found


def _check_one_amount(query: CloseQuery) -> None:
    if query.quantity is not None and query.percentage is not None:
        raise invalid([FieldError("/percentage", "is given beside quantity", "give one of them")])


def _quantity(context: Context, position: PositionChanged, query: CloseQuery) -> Decimal:
    """Return how much is to be closed, on the grid; raises ProblemError (422)."""
    held = abs(position.quantity)
    quantity, percentage = query.quantity, query.percentage
    _check_one_amount(query)
    if quantity is not None:
        if not (quantity.is_finite() and 0 < quantity <= held):
            remedy = f"give a number above 0, up to {held}"
            raise invalid([FieldError("/quantity", "does not fit", remedy, str(quantity)[:40])])
        return quantity
    if percentage is None:
        return held
    if not (percentage.is_finite() and 0 < percentage <= _HUNDRED):
        remedy = "give a number above 0, up to 100"
        raise invalid([FieldError("/percentage", "does not fit", remedy, str(percentage)[:40])])
    instrument = context.views.market.instruments[position.instrument_id]
    part = instrument.quantity_grid().floor(held * percentage / _HUNDRED)
    if not part:
        increment = instrument.quantity_increment
        remedy = f"close more: quantities are multiples of {increment}"
        raise invalid([FieldError("/percentage", "is less than one unit", remedy)])
    return part


ROUTES = (
    Route(
        "GET",
        "/api/positions",
        list_positions,
        answers.Positions,
        READ,
        "Positions",
        "positions",
        query=PositionsQuery,
        is_of_run=True,
        is_stored=True,
        example="/api/positions?strategy_id=momentum",
    ),
    Route(
        "GET",
        "/api/positions/{symbol}",
        get_position,
        answers.PositionDetail,
        READ,
        "Positions in one instrument",
        "positions",
        query=PositionQuery,
        errors=(404,),
        is_of_run=True,
        is_stored=True,
        example="/api/positions/SPY",
    ),
    Route(
        "DELETE",
        "/api/positions/{symbol}",
        close_position,
        order_answers.Order,
        TRADE,
        "Close a position",
        "positions",
        query=CloseQuery,
        answers={202: order_answers.OrderPending},
        errors=(404, 409, 503),
        example="/api/positions/SPY?strategy_id=momentum&percentage=50",
    ),
    Route(
        "GET",
        "/api/positions/{symbol}/lots",
        get_lots,
        answers.Lots,
        READ,
        "Open lots",
        "positions",
        query=PositionQuery,
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
        example="/api/positions/SPY/lots",
    ),
)
