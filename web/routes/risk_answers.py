"""Risk records as answers, and what a request's scope means."""

from __future__ import annotations

import msgspec

from agents.domain.limits import faults
from schemas.enums import BreakerState, Scope
from schemas.risk import BreakerChanged, LimitSet, RiskDecision, SetLimits
from web.answers import risk as answers
from web.context import Context
from web.problems import FieldError, invalid
from web.routes.resolving import resolve_symbol
from web.routes.scope_names import check_account, doubt
from web.times import format_time
from web.views.risk import Risk


def breaker_answer(risk: Risk) -> answers.CircuitBreaker:
    """Return the breaker of all scopes."""
    scopes = [change_answer(c) for _, c in sorted(risk.breakers.items())]
    return answers.CircuitBreaker(risk.strictest(), scopes)


def changed_answer(context: Context, scope: Scope, scope_id: str) -> answers.ChangedBreaker:
    """Return the breaker of all scopes behind a change of one."""
    found = breaker_answer(context.views.risk)
    return answers.ChangedBreaker(found.state, found.scopes, doubt(context, scope, scope_id))


def change_answer(c: BreakerChanged) -> answers.Breaker:
    """Return a change of the breaker, which is its state since then."""
    return answers.Breaker(
        c.scope,
        c.scope_id,
        c.state,
        c.epoch,
        c.operator,
        c.reason,
        format_time(c.ts_event_ns),
        c.ts_event_ns,
    )


def state_of(risk: Risk, scope: Scope, scope_id: str) -> BreakerState:
    """Return the breaker's state of one scope."""
    change = risk.breakers.get((scope, scope_id))
    return change.state if change is not None else BreakerState.ACTIVE


def limits_answer(item: SetLimits) -> answers.ScopeLimits:
    """Return the limits of one scope."""
    return answers.ScopeLimits(
        item.scope,
        item.scope_id,
        item.limits,
        item.operator,
        item.reason,
        format_time(item.ts_event_ns),
        item.ts_event_ns,
    )


def applied_limits(
    context: Context, item: SetLimits, before: SetLimits | None
) -> answers.AppliedLimits:
    """Return the limits of one scope behind a change of them; ``before`` are those they replace."""
    limits = msgspec.structs.asdict(limits_answer(item))
    doubtful = doubt(context, item.scope, item.scope_id) or _tripped(context.views.risk)
    warnings = (doubtful, "" if before is None else _gone(before.limits, item.limits))
    return answers.AppliedLimits(**limits, warning="; ".join(filter(None, warnings)))


def _gone(before: LimitSet, limits: LimitSet) -> str:
    """Return which bounds a scope had and has no longer; empty if it has all of them."""
    names = [
        name
        for name in LimitSet.__struct_fields__
        if getattr(before, name) is not None and getattr(limits, name) is None
    ]
    if not names:
        return ""
    verb = "holds" if len(names) == 1 else "hold"
    return f"this replaces the whole set: {', '.join(names)} no longer {verb}"


def _tripped(risk: Risk) -> str:
    """Return which breakers other limits leave as they are; empty if all are ACTIVE."""
    found = [
        f"{change.scope.lower()} {change.scope_id}".strip() + f" ({change.state.value})"
        for _, change in sorted(risk.breakers.items())
        if change.state is not BreakerState.ACTIVE
    ]
    if not found:
        return ""
    return (
        f"limits reset no breaker, and these stay tripped: {', '.join(found)};"
        " POST /api/risk/breaker/reset resets one"
    )


def check_bounds(limits: LimitSet) -> None:
    """Raise ProblemError (422) for bounds that are no bounds."""
    errors = [
        FieldError(f"/limits/{found.field}", found.message, found.remedy, found.value)
        for found in faults(limits)
    ]
    if errors:
        raise invalid(errors)


def with_ids(context: Context, limits: LimitSet) -> LimitSet:
    """Return limits whose lists name instruments by their ids, as the gate compares them.

    Raises ProblemError (422) for a name that means no instrument, or several.
    """
    lists = {
        field: list(
            dict.fromkeys(
                resolve_symbol(context.views, name, f"/limits/{field}/{at}")
                for at, name in enumerate(names)
            )
        )
        for field in ("allow", "deny")
        if (names := getattr(limits, field)) is not None
    }
    return msgspec.structs.replace(limits, **lists) if lists else limits


def decision_answer(d: RiskDecision) -> answers.Decision:
    """Return a decision of the gate."""
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


def scope_of(
    context: Context, scope: Scope, scope_id: str, reason: str, *, takes_back: bool = False
) -> str:
    """Return the id of a request's scope, an instrument's symbol resolved.

    With ``takes_back`` it may be any for which something stands, whoever wrote that.

    Raises ProblemError (422) for a scope without its name, a name without a scope, an account that
    the run does not have, no reason.
    """
    errors = []
    if not reason.strip():
        errors.append(FieldError("/reason", "is empty", "say why"))
    if (scope is Scope.GLOBAL) == bool(scope_id):
        remedy = "leave it out" if scope_id else f"name the {scope.lower()}"
        errors.append(FieldError("/scope_id", f"does not fit the scope {scope}", remedy, scope_id))
    if errors:
        raise invalid(errors)
    if scope is Scope.INSTRUMENT:
        return resolve_symbol(context.views, scope_id, "/scope_id")
    stands = (scope, scope_id) in context.views.risk.breakers
    if scope is Scope.ACCOUNT and not (takes_back and stands):
        check_account(context, scope_id, "/scope_id")
    return scope_id
