"""Order entry: submit, replace, cancel one or all."""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.commands import CancelOrder, ReplaceOrder, SubmitOrder
from schemas.enums import KillAction, OrderStatus, OrderType, ReceiptOutcome, Side, TimeInForce
from schemas.enums import Scope as RiskScope
from schemas.order_events import OrderEvent, OrderReplaced, OrderReplaceRejected
from schemas.risk import Kill, RiskDecision
from schemas.topics import ACCOUNT_INPUTS, RISK_DECISIONS
from web.answers import orders as answers
from web.context import Context
from web.problems import FieldError, ProblemError, invalid
from web.route_table import Call, Reply, Route
from web.routes.killing import open_orders
from web.routes.resolving import as_it_stands, known_order, resolve_symbol, row_of
from web.routes.scope_names import check_account, doubt
from web.routes.sending import Wait, late, order_answer, refusal, send, submit
from web.scopes import TRADE
from web.views.orders import OrderRow
from web.waiting import within

Amount = Annotated[Decimal, Meta(extra_json_schema={"exclusiveMinimum": 0})]
# Names stand in paths, so they hold no slash and are no ``.`` or ``..``, which clients leave out of
# a path: DELETE of such an order would be one of all. ``$`` alone would let a line end pass.
_NAME = r"^(?!\.{1,2}$)[\x21-\x2e\x30-\x7e]+(?!\n)$"
Name = Annotated[str, Meta(min_length=1, max_length=64, pattern=_NAME)]
Seconds = Annotated[float, Meta(ge=0, le=30)]

NEEDS_LIMIT = frozenset({OrderType.LIMIT, OrderType.STOP_LIMIT})
NEEDS_STOP = frozenset({OrderType.STOP, OrderType.STOP_LIMIT})
_AMOUNT_MAX = 10**15
_WAIT_S = 10.0


_REMEDIES = {
    "PRICE_COLLAR": "give a price nearer to the market",
    "PRICE_OFF_GRID": "give a multiple of the price increment",
    "QUANTITY_OFF_GRID": "give a multiple of the quantity increment",
    "BREAKER_HALTED": "a person resets the breaker",
    "BREAKER_REDUCING": "a person resets the breaker",
}
"""What to do about a replace that the gate denies, by its code, where less is not the way."""


class EntryQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How long to wait with the answer, and for what.

    ``receipt``: for the account stage's word; ``accepted``: for the venue's; ``filled``: for the
    order's end. After ``timeout_s`` seconds the order is answered as it stands then.
    """

    wait: Wait = "receipt"
    timeout_s: Seconds | None = None


class OrderRequest(msgspec.Struct, forbid_unknown_fields=True):
    """An order; ``symbol`` may be an instrument's id, amounts may be numbers or texts.

    Repeating a request with its ``client_order_id`` gives the same order; without one, each request
    is a new order.
    """

    symbol: Annotated[str, Meta(min_length=1, max_length=64)]
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


class ReplaceRequest(msgspec.Struct, forbid_unknown_fields=True):
    """What is to change; ``quantity`` is the new total, what is filled already included."""

    quantity: Amount | None = None
    limit_price: Amount | None = None
    stop_price: Amount | None = None


class ReplaceQuery(EntryQuery, forbid_unknown_fields=True):
    """The account of the order, where two accounts use one id, and how long to wait."""

    account_id: str = ""


class OrderQuery(msgspec.Struct, forbid_unknown_fields=True):
    """The account of the order, where two accounts use one id."""

    account_id: str = ""


class CancelQuery(OrderQuery, forbid_unknown_fields=True):
    """The account of the order, and for how many seconds to wait for the stage's receipt."""

    timeout_s: Seconds | None = None


class CheckQuery(msgspec.Struct, forbid_unknown_fields=True):
    """For how many seconds to wait for the answer of the account stage."""

    timeout_s: Seconds | None = None


class CancelAllQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Whose orders: of one account, of one strategy, in one instrument; all without any."""

    account_id: str = ""
    strategy_id: str = ""
    symbol: str = ""


async def submit_order(
    context: Context, call: Call[EntryQuery, OrderRequest]
) -> answers.Order | Reply:
    """Submit an order and answer with it as it stands: 200 also when it was denied."""
    context.check_is_present()
    command = order_of(context, call.body)
    return await submit(context, command, call.query.wait, patience(context, call.query))


def order_of(context: Context, request: OrderRequest) -> SubmitOrder:
    """Return the command for a request; raises ProblemError (422) for what does not fit."""
    check_order(request)
    if request.account_id:
        check_account(context, request.account_id, "/account_id")
    instrument_id = resolve_symbol(context.views, request.symbol)
    order_id = request.client_order_id or context.ids()
    last = context.views.market.last_price(instrument_id)
    return SubmitOrder(
        f"web:{context.ids()}",
        context.log.now_ns(),
        order_id,
        "",
        request.account_id or context.settings.default_account_id,
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


def patience(context: Context, query: EntryQuery) -> float:
    """Return for how long (s) an answer may wait."""
    if query.timeout_s is not None:
        return query.timeout_s
    return context.settings.receipt_timeout_s if query.wait == "receipt" else _WAIT_S


async def replace_order(
    context: Context, call: Call[ReplaceQuery, ReplaceRequest]
) -> answers.Order | Reply:
    """Ask for a change of an order; it is judged as a new order would be.

    Answers once the risk gate has spoken, with ``wait=accepted`` once the venue has, and 202 if the
    gate is late.
    """
    order = await known_order(context, call.path["client_order_id"], call.query.account_id)
    _check_replace(order.order_type, call.body)
    command = ReplaceOrder(
        f"web:{context.ids()}",
        context.log.now_ns(),
        order.client_order_id,
        "",
        order.account_id,
        order.strategy_id,
        order.client_order_id,
        call.body.quantity,
        call.body.limit_price,
        call.body.stop_price,
        wants_receipt=True,
    )
    last = _last_event(row_of(context, order))
    with context.waiters.expect(RISK_DECISIONS, command.event_id) as judged:
        timeout_s = patience(context, call.query)
        end_s = time.monotonic() + timeout_s
        receipt = await send(context, command, timeout_s)
        if receipt is None:
            return late(order.account_id, order.client_order_id)
        if receipt.outcome == ReceiptOutcome.REFUSED:
            raise refusal(receipt, "only working orders can be replaced")
        decision = await within(judged, max(end_s - time.monotonic(), 0.0))
    if decision is None:
        return late(order.account_id, order.client_order_id)
    if isinstance(decision, RiskDecision) and not decision.is_approved:
        words = f"{decision.measured} against {decision.limit}"
        if decision.scope:
            words += f" ({decision.scope})"
        if decision.detail:
            words += f"; {decision.detail}"
        remedy = f"{_REMEDIES.get(decision.code, 'ask for less')}; the order stands"
        error = FieldError("", f"{decision.code}: {words}", remedy)
        raise invalid([error], code=decision.code.lower())
    if call.query.wait != "receipt":
        left_s = max(end_s - time.monotonic(), 0.0)
        await context.waiters.until(lambda: _is_replaced(row_of(context, order), last), left_s)
        event = _last_event(row_of(context, order))
        if isinstance(event, OrderReplaceRejected) and event is not last:
            raise ProblemError(409, event.code.lower(), f"{event.detail}; the order stands")
    return as_it_stands(context, order)


def _last_event(row: OrderRow | None) -> OrderEvent | None:
    return row.events[-1] if row is not None and row.events else None


def _is_replaced(row: OrderRow | None, last: object) -> bool:
    """Return whether the venue has answered since the event ``last``."""
    if row is None:
        return False
    for event in reversed(row.events):
        if event is last:
            return False
        if isinstance(event, (OrderReplaced, OrderReplaceRejected)):
            return True
    return not row.is_open


def _check_replace(order_type: OrderType | None, request: ReplaceRequest) -> None:
    errors = _amount_errors(request)
    if request.quantity is request.limit_price is request.stop_price is None:
        errors.append(FieldError("", "changes nothing", "give quantity, limit_price or stop_price"))
    for name, types in (("limit_price", NEEDS_LIMIT), ("stop_price", NEEDS_STOP)):
        is_given = getattr(request, name) is not None
        if is_given and order_type is not None and order_type not in types:
            detail = f"has no meaning for {order_type} orders"
            errors.append(FieldError(f"/{name}", detail, f"leave {name} out"))
    if errors:
        raise invalid(errors)


async def cancel_order(context: Context, call: Call[CancelQuery, None]) -> answers.Order | Reply:
    """Ask for the cancel of an order; the answer shows it as it stands, usually PENDING_CANCEL."""
    order = await known_order(context, call.path["client_order_id"], call.query.account_id)
    command = CancelOrder(
        f"web:{context.ids()}",
        context.log.now_ns(),
        order.client_order_id,
        "",
        order.account_id,
        order.strategy_id,
        order.client_order_id,
        "canceled over the API",
        wants_receipt=True,
    )
    receipt = await send(context, command, call.query.timeout_s)
    if receipt is None:
        return late(order.account_id, order.client_order_id)
    if receipt.outcome == ReceiptOutcome.REFUSED:
        raise refusal(receipt, "only open orders can be canceled")
    return as_it_stands(context, order)


async def cancel_all(
    context: Context, call: Call[CancelAllQuery, None]
) -> answers.CanceledOrders | Reply:
    """Ask for the cancel of every open order, also of those that are on their way here.

    Orders that wait for approval end at once, as ``DENIED`` with ``CANCELED_BY_OWNER``.

    Answers with the orders that were open, as they stand; 202 while some are not concerned yet, or
    where this process may not know of all (``is_complete`` is false then).
    """
    context.check_is_present()
    scope, scope_id = _scope_of(context, call.query)
    rows = open_orders(context, scope, scope_id)
    event_id = f"web:{context.ids()}"
    command = Kill(
        event_id,
        context.log.now_ns(),
        event_id,
        "",
        KillAction.CANCEL_ALL,
        scope,
        scope_id,
        call.operator,
        "all canceled over the API",
    )
    await context.publish(ACCOUNT_INPUTS, command, "GET /api/orders?status=open shows what stands")
    untouched = await context.waiters.until(
        lambda: not any(_is_untouched(row) for row in rows), context.settings.receipt_timeout_s
    )
    found = [order_answer(context.views, row) for row in rows]
    is_complete = context.views.orders.knows_all_open
    warning = doubt(context, scope, scope_id)
    answer = answers.CanceledOrders(found, len(found), is_complete, warning)
    if untouched and is_complete:
        return answer
    return Reply(202, answer, {"Location": "/api/orders?status=open"})


def _is_untouched(row: OrderRow) -> bool:
    return row.is_stoppable and row.status is not OrderStatus.PENDING_CANCEL


def _scope_of(context: Context, query: CancelAllQuery) -> tuple[RiskScope, str]:
    given = [
        (scope, name, value)
        for scope, name, value in (
            (RiskScope.ACCOUNT, "account_id", query.account_id),
            (RiskScope.STRATEGY, "strategy_id", query.strategy_id),
            (RiskScope.INSTRUMENT, "symbol", query.symbol),
        )
        if value
    ]
    if len(given) > 1:
        name = given[1][1]
        raise invalid([FieldError(f"/{name}", "is one filter too many", "give one of them")])
    if not given:
        return RiskScope.GLOBAL, ""
    scope, _, value = given[0]
    if scope is RiskScope.INSTRUMENT:
        value = resolve_symbol(context.views, value)
    elif scope is RiskScope.ACCOUNT:
        check_account(context, value, "/account_id")
    return scope, value


def check_order(request: OrderRequest) -> None:
    """Raise ProblemError (422) for values that fit their types but not each other."""
    errors = _amount_errors(request)
    for name, types in (("limit_price", NEEDS_LIMIT), ("stop_price", NEEDS_STOP)):
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


def _amount_errors(request: OrderRequest | ReplaceRequest) -> list[FieldError]:
    errors: list[FieldError] = []
    for name in ("quantity", "limit_price", "stop_price"):
        amount: Decimal | None = getattr(request, name)
        if amount is not None and not (amount.is_finite() and 0 < amount < _AMOUNT_MAX):
            errors.append(
                FieldError(
                    f"/{name}",
                    "must be a number above 0 and below 10^15",
                    "give such a number",
                    str(amount)[:40],
                )
            )
    return errors


_LATE = {202: answers.OrderPending}
ROUTES = (
    Route(
        "POST",
        "/api/orders",
        submit_order,
        answers.Order,
        TRADE,
        "Submit an order",
        "orders",
        query=EntryQuery,
        body=OrderRequest,
        answers=_LATE,
        errors=(400, 409, 413, 503),
        example_body={"symbol": "IBM", "side": "BUY", "quantity": 10},
    ),
    Route(
        "DELETE",
        "/api/orders",
        cancel_all,
        answers.CanceledOrders,
        TRADE,
        "Cancel all orders",
        "orders",
        query=CancelAllQuery,
        answers={202: answers.CanceledOrders},
        errors=(409, 503),
        example="/api/orders?symbol=IBM",
    ),
    Route(
        "PATCH",
        "/api/orders/{client_order_id}",
        replace_order,
        answers.Order,
        TRADE,
        "Replace an order",
        "orders",
        query=ReplaceQuery,
        body=ReplaceRequest,
        answers=_LATE,
        errors=(400, 404, 409, 413, 503),
        example="/api/orders/o-2",
        example_body={"quantity": 5},
    ),
    Route(
        "DELETE",
        "/api/orders/{client_order_id}",
        cancel_order,
        answers.Order,
        TRADE,
        "Cancel an order",
        "orders",
        query=CancelQuery,
        answers=_LATE,
        errors=(404, 409, 503),
        example="/api/orders/o-2",
    ),
)
