"""Risk: breaker, limits and decisions; and the two commands that change the breaker."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.enums import BreakerState, Scope
from schemas.risk import BreakerChanged, RiskDecision, SetBreaker
from schemas.topics import ACCOUNT_INPUTS, RISK_BREAKER
from web.answers import risk as answers
from web.context import Context
from web.problems import FieldError, invalid
from web.route_table import Call, NoQuery, Reply, Route
from web.times import format_time
from web.views.risk import Risk
from web.waiting import within

Reason = Annotated[str, Meta(min_length=1, max_length=500)]


class RiskQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How many of the last decisions to show."""

    limit: Annotated[int, Meta(ge=0, le=500)] = 50


class TripRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Trip a scope's breaker; ``scope_id`` is its name, empty for GLOBAL."""

    reason: Reason
    scope: Scope = Scope.GLOBAL
    scope_id: str = ""
    state: BreakerState = BreakerState.HALTED
    operator: str = "api"


class ResetRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Reset the breaker of a scope to ACTIVE."""

    reason: Reason
    scope: Scope = Scope.GLOBAL
    scope_id: str = ""
    operator: str = "api"


async def get_risk(context: Context, call: Call[RiskQuery, None]) -> answers.RiskAnswer:
    """Return breaker, limits, the last decisions and the counts by reason."""
    risk = context.views.risk
    decisions = [
        _decision(item.record)
        for item in islice(reversed(risk.decisions), call.query.limit)
        if isinstance(item.record, RiskDecision)
    ]
    limits = [
        answers.ScopeLimits(
            item.scope,
            item.scope_id,
            item.limits,
            item.operator,
            format_time(item.ts_event_ns),
            item.ts_event_ns,
        )
        for _, item in sorted(risk.limits.items())
    ]
    return answers.RiskAnswer(
        _breaker(risk),
        risk.autonomy_mode,
        limits,
        decisions,
        risk.approved,
        sum(risk.denied_by_code.values()),
        risk.denied_by_code,
    )


async def trip_breaker(
    context: Context, call: Call[NoQuery, TripRequest]
) -> answers.CircuitBreaker | Reply:
    """Trip the breaker; answers once the account stage has changed it, 202 if that is late."""
    if call.body.state is BreakerState.ACTIVE:
        remedy = "choose REDUCING or HALTED, or POST /api/risk/breaker/reset"
        raise invalid([FieldError("/state", "does not trip anything", remedy, "ACTIVE")])
    return await _change(context, call.body, call.body.state)


async def reset_breaker(
    context: Context, call: Call[NoQuery, ResetRequest]
) -> answers.CircuitBreaker | Reply:
    """Reset the breaker; a reason is required."""
    return await _change(context, call.body, BreakerState.ACTIVE)


async def _change(
    context: Context, request: TripRequest | ResetRequest, state: BreakerState
) -> answers.CircuitBreaker | Reply:
    _check(request)
    risk = context.views.risk
    event_id = f"web:{context.ids()}"
    command = SetBreaker(
        event_id,
        context.log.now_ns(),
        event_id,
        "",
        request.scope,
        request.scope_id,
        state,
        request.operator,
        request.reason,
    )
    with context.waiters.expect(RISK_BREAKER, event_id) as answer:
        await context.publish(ACCOUNT_INPUTS, command, "GET /api/risk shows what stands")
        # A scope that stands in that state already does not change, so nothing will come.
        is_done = _state_of(risk, request) is state
        if not is_done:
            is_done = isinstance(
                await within(answer, context.settings.receipt_timeout_s), BreakerChanged
            )
    return _breaker(risk) if is_done else Reply(202, _breaker(risk), {"Location": "/api/risk"})


def _check(request: TripRequest | ResetRequest) -> None:
    errors = []
    if not request.reason.strip():
        errors.append(FieldError("/reason", "is empty", "say why"))
    if (request.scope is Scope.GLOBAL) == bool(request.scope_id):
        remedy = "leave it out" if request.scope_id else f"name the {request.scope.lower()}"
        errors.append(
            FieldError(
                "/scope_id", f"does not fit the scope {request.scope}", remedy, request.scope_id
            )
        )
    if errors:
        raise invalid(errors)


def _state_of(risk: Risk, request: TripRequest | ResetRequest) -> BreakerState:
    change = risk.breakers.get((request.scope, request.scope_id))
    return change.state if change is not None else BreakerState.ACTIVE


def _breaker(risk: Risk) -> answers.CircuitBreaker:
    scopes = [
        answers.Breaker(
            c.scope,
            c.scope_id,
            c.state,
            c.epoch,
            c.operator,
            c.reason,
            format_time(c.ts_event_ns),
            c.ts_event_ns,
        )
        for _, c in sorted(risk.breakers.items())
    ]
    return answers.CircuitBreaker(risk.strictest(), scopes)


def _decision(d: RiskDecision) -> answers.Decision:
    return answers.Decision(
        d.client_order_id,
        d.account_id,
        d.strategy_id,
        d.instrument_id,
        d.is_approved,
        d.code,
        d.measured,
        d.limit,
        d.scope,
        d.detail,
        format_time(d.ts_event_ns),
        d.ts_event_ns,
    )


_CHANGES = {202: answers.CircuitBreaker}
ROUTES = (
    Route(
        "GET",
        "/api/risk",
        get_risk,
        answers.RiskAnswer,
        "read",
        "Breaker, limits, decisions",
        "risk",
        query=RiskQuery,
    ),
    Route(
        "POST",
        "/api/risk/breaker/trip",
        trip_breaker,
        answers.CircuitBreaker,
        "risk",
        "Trip the breaker",
        "risk",
        body=TripRequest,
        answers=_CHANGES,
        errors=(400, 403, 413, 503),
    ),
    Route(
        "POST",
        "/api/risk/breaker/reset",
        reset_breaker,
        answers.CircuitBreaker,
        "risk",
        "Reset the breaker",
        "risk",
        body=ResetRequest,
        answers=_CHANGES,
        errors=(400, 403, 413, 503),
    ),
)
