"""Risk: what the gate knows and says, and what operators tell it."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta

from agents.domain.limits import compose
from schemas.commands import CheckOrder, OrderChecked
from schemas.enums import BreakerState, Scope
from schemas.risk import BreakerChanged, LimitSet, RiskDecision, SetBreaker, SetLimits
from schemas.topics import ACCOUNT_INPUTS, ORDER_RECEIPTS, RISK_BREAKER, RISK_LIMITS
from streams.history import Filters
from web.answers import risk as answers
from web.context import Context
from web.problems import FieldError, invalid, unavailable
from web.route_table import Call, NoQuery, Reply, Route
from web.routes.older import records
from web.routes.order_entry import CheckQuery, OrderRequest, order_of
from web.routes.resolving import instruments_of, is_among, resolve_symbol
from web.routes.risk_answers import (
    applied_limits,
    breaker_answer,
    change_answer,
    changed_answer,
    check_bounds,
    decision_answer,
    limits_answer,
    scope_of,
    state_of,
    with_ids,
)
from web.routes.scope_names import check_filter
from web.routes.stored_risk import check_limits, last_decisions
from web.scopes import BREAKER_RESET, BREAKER_TRIP, READ, RISK_WRITE
from web.times import format_time
from web.waiting import item_within, within

Reason = Annotated[str, Meta(min_length=1, max_length=500)]
ScopeId = Annotated[str, Meta(max_length=100)]
Operator = Annotated[str, Meta(max_length=100)]


class RiskQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How many of the last decisions to show, and of which account; all without one."""

    account_id: str | None = None
    limit: Annotated[int, Meta(ge=0, le=500)] = 50


class LimitsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """For whom the limits hold; without an account the default one is meant."""

    account_id: str = ""
    strategy_id: str = ""
    symbol: str = ""


class DecisionsQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; ``cursor`` is that of the page before."""

    is_approved: bool | None = None
    code: str | None = None
    account_id: str | None = None
    strategy_id: str | None = None
    symbol: str | None = None
    client_order_id: str | None = None
    after: str | None = None
    until: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


class BreakerQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the list; ``cursor`` is that of the page before."""

    scope: Scope | None = None
    scope_id: str | None = None
    after: str | None = None
    until: str | None = None
    limit: Annotated[int, Meta(ge=1, le=500)] = 50
    cursor: str | None = None


class LimitsRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The limits of one scope; they take the place of those that stand, all of them."""

    limits: LimitSet
    reason: Reason
    scope: Scope = Scope.GLOBAL
    scope_id: ScopeId = ""
    operator: Operator = ""


class TripRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Trip a scope's breaker; ``scope_id`` is its name, empty for GLOBAL."""

    reason: Reason
    scope: Scope = Scope.GLOBAL
    scope_id: ScopeId = ""
    state: BreakerState = BreakerState.HALTED
    operator: Operator = ""


class ResetRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Reset the breaker of a scope to ACTIVE."""

    reason: Reason
    scope: Scope = Scope.GLOBAL
    scope_id: ScopeId = ""
    operator: Operator = ""


async def get_risk(context: Context, call: Call[RiskQuery, None]) -> answers.RiskAnswer:
    """Return breaker, limits, the last decisions and the counts by reason.

    `account_id` chooses whose decisions are shown and counted; breaker and limits are of all.
    """
    risk, query = context.views.risk, call.query
    account_id = query.account_id or ""
    check_filter(context, query.account_id)
    if context.is_stored:
        await check_limits(context)
        decisions, counts = await last_decisions(context, account_id, query.limit)
    else:
        newest = (item.record for item in risk.decisions.newest_first())
        wanted = (
            decision
            for decision in newest
            if isinstance(decision, RiskDecision) and account_id in ("", decision.account_id)
        )
        decisions, counts = list(islice(wanted, query.limit)), risk.counts(account_id)
    approved = counts.pop("", 0)
    return answers.RiskAnswer(
        breaker_answer(risk),
        risk.autonomy_mode,
        [limits_answer(item) for _, item in sorted(risk.limits.items())],
        [decision_answer(decision) for decision in decisions],
        approved,
        sum(counts.values()),
        counts,
    )


async def get_limits(context: Context, call: Call[LimitsQuery, None]) -> answers.EffectiveLimits:
    """Return the limits that hold for an account, strategy and instrument.

    Each bound names the scope whose rule binds: the strictest of all that apply.
    """
    await check_limits(context)
    query = call.query
    if (Scope.ACCOUNT, query.account_id) not in context.views.risk.limits:
        check_filter(context, query.account_id)
    account_id = query.account_id or context.settings.default_account_id
    instrument_id = resolve_symbol(context.views, query.symbol) if query.symbol else ""
    rules = []
    for scope, scope_id in (
        (Scope.GLOBAL, ""),
        (Scope.ACCOUNT, account_id),
        (Scope.STRATEGY, query.strategy_id),
        (Scope.INSTRUMENT, instrument_id),
    ):
        found = context.views.risk.limits.get((scope, scope_id))
        if found is not None:
            rules.append((f"{scope.lower()} {scope_id}".strip(), found))
    effective = compose([(name, rule.limits) for name, rule in rules])
    return answers.EffectiveLimits(
        account_id,
        query.strategy_id,
        instrument_id,
        effective.limits,
        effective.scopes,
        [limits_answer(rule) for _, rule in rules],
    )


async def put_limits(
    context: Context, call: Call[NoQuery, LimitsRequest]
) -> answers.AppliedLimits | Reply:
    """Replace the limits of one scope; answers once the account stage holds by them.

    They take the place of all that the scope had: ``warning`` names bounds that are gone. Lists
    name instruments by symbol or id; the answer shows ids.
    """
    context.check_is_present()
    request = call.body
    check_bounds(request.limits)
    limits = with_ids(context, request.limits)
    scope_id = scope_of(context, request.scope, request.scope_id, request.reason)
    before = context.views.risk.limits.get((request.scope, scope_id))
    event_id = f"web:{context.ids()}"
    command = SetLimits(
        event_id,
        context.log.now_ns(),
        event_id,
        "",
        request.scope,
        scope_id,
        limits,
        call.named(request.operator),
        request.reason,
    )
    with context.waiters.expect(RISK_LIMITS, event_id) as answer:
        await context.publish(ACCOUNT_INPUTS, command, "GET /api/risk shows what stands")
        applied = await within(answer, context.settings.receipt_timeout_s)
    if isinstance(applied, SetLimits):
        return applied_limits(context, applied, before)
    return Reply(202, applied_limits(context, command, before), {"Location": "/api/risk/limits"})


async def list_decisions(
    context: Context, call: Call[DecisionsQuery, None]
) -> answers.DecisionPage:
    """List the decisions of the risk gate, the newest first."""
    views, query = context.views, call.query
    check_filter(context, query.account_id)
    chosen = instruments_of(views, query.symbol)
    filters = Filters(
        query.account_id or "",
        query.strategy_id or "",
        client_order_id=query.client_order_id or "",
        instrument_ids=chosen,
        code=query.code or "",
    )

    def is_wanted(d: RiskDecision) -> bool:
        return (
            query.is_approved in (None, d.is_approved)
            and query.code in (None, "", d.code)
            and query.account_id in (None, "", d.account_id)
            and query.strategy_id in (None, "", d.strategy_id)
            and query.client_order_id in (None, "", d.client_order_id)
            and is_among(chosen, d.instrument_id)
        )

    found, cursor = await records(
        context,
        views.risk.decisions,
        "risk_decisions",
        query,
        is_wanted,
        lambda history, window: history.risk_decisions(window, filters, query.is_approved),
    )
    return answers.DecisionPage([decision_answer(d) for d in found], len(found), cursor)


async def list_breaker_changes(
    context: Context, call: Call[BreakerQuery, None]
) -> answers.BreakerPage:
    """List the changes of the breaker, the newest first."""
    query = call.query
    scope = query.scope.value if query.scope is not None else ""

    def is_wanted(change: BreakerChanged) -> bool:
        return scope in ("", change.scope) and query.scope_id in (None, "", change.scope_id)

    found, cursor = await records(
        context,
        context.views.risk.changes,
        "breaker_changes",
        query,
        is_wanted,
        lambda history, window: history.breaker_changes(window, scope, query.scope_id or ""),
    )
    return answers.BreakerPage([change_answer(change) for change in found], len(found), cursor)


async def get_breaker(context: Context, call: Call[NoQuery, None]) -> answers.CircuitBreaker:
    """Return the breaker: its strictest state, and that of each scope that was ever changed."""
    return breaker_answer(context.views.risk)


async def trip_breaker(
    context: Context, call: Call[NoQuery, TripRequest]
) -> answers.ChangedBreaker | Reply:
    """Trip the breaker; answers once the account stage has changed it, 202 if that is late."""
    if call.body.state is BreakerState.ACTIVE:
        remedy = "choose REDUCING or HALTED, or POST /api/risk/breaker/reset"
        raise invalid([FieldError("/state", "does not trip anything", remedy, "ACTIVE")])
    return await _change(context, call.body, call.body.state, call.named(call.body.operator))


async def reset_breaker(
    context: Context, call: Call[NoQuery, ResetRequest]
) -> answers.ChangedBreaker | Reply:
    """Reset the breaker; a reason is required."""
    operator = call.named(call.body.operator)
    return await _change(context, call.body, BreakerState.ACTIVE, operator)


async def _change(
    context: Context, request: TripRequest | ResetRequest, state: BreakerState, operator: str
) -> answers.ChangedBreaker | Reply:
    context.check_is_present()
    scope_id = scope_of(
        context,
        request.scope,
        request.scope_id,
        request.reason,
        takes_back=isinstance(request, ResetRequest),
    )
    risk = context.views.risk
    event_id = f"web:{context.ids()}"
    command = SetBreaker(
        event_id,
        context.log.now_ns(),
        event_id,
        "",
        request.scope,
        scope_id,
        state,
        operator,
        request.reason,
    )
    with context.waiters.expect(RISK_BREAKER, event_id) as answer:
        await context.publish(ACCOUNT_INPUTS, command, "GET /api/risk shows what stands")
        # A scope that stands in that state already does not change, so nothing will come.
        is_done = state_of(risk, request.scope, scope_id) is state
        if not is_done:
            is_done = isinstance(
                await within(answer, context.settings.receipt_timeout_s), BreakerChanged
            )
    found = changed_answer(context, request.scope, scope_id)
    return found if is_done else Reply(202, found, {"Location": "/api/risk/breaker"})


async def check_order(context: Context, call: Call[CheckQuery, OrderRequest]) -> answers.OrderCheck:
    """Ask the risk gate what it would say to an order; nothing is sent and nothing changes.

    The question is a record: its answer holds for the place of the log at which it stands.
    """
    context.check_is_present()
    order = order_of(context, call.body)
    event_id = f"web:{context.ids()}"
    command = CheckOrder(
        event_id, order.ts_event_ns, order.client_order_id, "", order.account_id, order
    )
    with context.waiters.expect(ORDER_RECEIPTS, event_id) as answer:
        await context.publish(ACCOUNT_INPUTS, command, "nothing was asked as far as is known")
        timeout_s = call.query.timeout_s
        if timeout_s is None:
            timeout_s = context.settings.receipt_timeout_s
        item = await item_within(answer, timeout_s)
    if item is None or not isinstance(item.record, OrderChecked):
        raise unavailable("the account stage does not answer; try again", code="no_answer")
    found = item.record
    return answers.OrderCheck(
        found.is_approved,
        found.code,
        found.measured,
        found.limit,
        found.scope,
        found.detail,
        found.autonomy,
        found.breaker_epoch,
        found.instrument_id,
        item.topic,
        item.partition,
        item.offset,
        format_time(found.ts_event_ns),
        found.ts_event_ns,
    )


_ERRORS = (400, 409, 413, 503)
_CHANGES = {202: answers.ChangedBreaker}
ROUTES = (
    Route(
        "GET",
        "/api/risk",
        get_risk,
        answers.RiskAnswer,
        READ,
        "Breaker, limits, decisions",
        "risk",
        query=RiskQuery,
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
    ),
    Route(
        "GET",
        "/api/risk/limits",
        get_limits,
        answers.EffectiveLimits,
        READ,
        "Effective limits and whose they are",
        "risk",
        query=LimitsQuery,
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
        example="/api/risk/limits?strategy_id=momentum&symbol=SPY",
    ),
    Route(
        "PUT",
        "/api/risk/limits",
        put_limits,
        answers.AppliedLimits,
        RISK_WRITE,
        "Replace the limits of a scope",
        "risk",
        body=LimitsRequest,
        answers={202: answers.AppliedLimits},
        errors=_ERRORS,
        example_body={
            "scope": "INSTRUMENT",
            "scope_id": "SPY",
            "limits": {"max_position": "500", "price_collar": 0.05},
            "reason": "earnings tonight",
        },
    ),
    Route(
        "GET",
        "/api/risk/decisions",
        list_decisions,
        answers.DecisionPage,
        READ,
        "Decisions of the risk gate",
        "risk",
        query=DecisionsQuery,
        errors=(503,),
        is_of_run=True,
        is_stored=True,
        example="/api/risk/decisions?is_approved=false&limit=20",
    ),
    Route(
        "GET",
        "/api/risk/breaker",
        get_breaker,
        answers.CircuitBreaker,
        READ,
        "The circuit breaker",
        "risk",
        is_of_run=True,
        is_stored=True,
    ),
    Route(
        "GET",
        "/api/risk/breaker/changes",
        list_breaker_changes,
        answers.BreakerPage,
        READ,
        "Changes of the circuit breaker",
        "risk",
        query=BreakerQuery,
        errors=(503,),
        is_of_run=True,
        is_stored=True,
        example="/api/risk/breaker/changes?scope=GLOBAL&limit=20",
    ),
    Route(
        "POST",
        "/api/risk/breaker/trip",
        trip_breaker,
        answers.ChangedBreaker,
        BREAKER_TRIP,
        "Trip the breaker",
        "risk",
        body=TripRequest,
        answers=_CHANGES,
        errors=_ERRORS,
        example_body={"reason": "fast market", "state": "REDUCING"},
    ),
    Route(
        "POST",
        "/api/risk/breaker/reset",
        reset_breaker,
        answers.ChangedBreaker,
        BREAKER_RESET,
        "Reset the breaker",
        "risk",
        body=ResetRequest,
        answers=_CHANGES,
        errors=_ERRORS,
        example_body={"reason": "calm again"},
    ),
    Route(
        "POST",
        "/api/risk/check",
        check_order,
        answers.OrderCheck,
        READ,
        "What the risk gate would say to an order",
        "risk",
        query=CheckQuery,
        body=OrderRequest,
        errors=_ERRORS,
        example_body={"symbol": "IBM", "side": "BUY", "quantity": 10},
    ),
)
