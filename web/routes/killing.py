"""The three acts of stopping: stop entries, cancel all, flatten. None of them implies another."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.enums import BreakerState, KillAction, OrderStatus, Scope
from schemas.portfolio import PositionChanged
from schemas.risk import Kill
from schemas.topics import ACCOUNT_INPUTS
from web.answers import risk as answers
from web.context import Context
from web.route_table import Call, NoQuery, Reply, Route
from web.routes.risk_answers import breaker_answer, scope_of, state_of
from web.routes.scope_names import doubt
from web.scopes import RISK_WRITE
from web.views.orders import OrderRow

_TOLD = 5

Act = Literal["stop_entries", "cancel_all", "flatten", "STOP_ENTRIES", "CANCEL_ALL", "FLATTEN"]


class KillRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Stop within a scope; ``scope_id`` is its name, empty for GLOBAL.

    ``stop_entries`` lets only orders pass that reduce, ``cancel_all`` takes out every open order
    and ends those that wait for approval, ``flatten`` sends an order against every position, which
    the gate judges: what it denies, or lets wait for approval, and which other orders may trade
    after it, is told in ``warning``. An account that the run does not have is refused; a strategy
    that nothing bears yet is taken, and the answer says so.
    """

    action: Act
    reason: Annotated[str, Meta(min_length=1, max_length=500)]
    scope: Scope = Scope.GLOBAL
    scope_id: Annotated[str, Meta(max_length=100)] = ""
    operator: Annotated[str, Meta(max_length=100)] = ""


async def kill(context: Context, call: Call[NoQuery, KillRequest]) -> answers.KillAnswer | Reply:
    """Stop; answers with what stands, 202 while the act is not carried out whole."""
    context.check_is_present()
    request = call.body
    scope_id = scope_of(context, request.scope, request.scope_id, request.reason)
    action = KillAction(request.action.upper())
    event_id = f"web:{context.ids()}"
    command = Kill(
        event_id,
        context.log.now_ns(),
        event_id,
        "",
        action,
        request.scope,
        scope_id,
        call.named(request.operator),
        request.reason,
    )
    await context.publish(ACCOUNT_INPUTS, command, "GET /api/risk shows what stands")

    def is_done() -> bool:
        if action is KillAction.STOP_ENTRIES:
            state = state_of(context.views.risk, request.scope, scope_id)
            return state is not BreakerState.ACTIVE
        if action is KillAction.CANCEL_ALL:
            rows = open_orders(context, request.scope, scope_id)
            return all(row.status is OrderStatus.PENDING_CANCEL for row in rows)
        return not open_positions(context, request.scope, scope_id)

    is_whole = await context.waiters.until(is_done, context.settings.receipt_timeout_s)
    is_complete = context.views.orders.knows_all_open
    is_whole = is_whole and (is_complete or action is not KillAction.CANCEL_ALL)
    answer = answers.KillAnswer(
        action,
        request.scope,
        scope_id,
        breaker_answer(context.views.risk),
        [row.client_order_id for row in open_orders(context, request.scope, scope_id)],
        [
            f"{p.account_id}/{p.strategy_id}/{p.instrument_id}"
            for p in open_positions(context, request.scope, scope_id)
        ],
        is_complete,
        warning=doubt(context, request.scope, scope_id) or held_up(context, command),
    )
    return answer if is_whole else Reply(202, answer, {"Location": "/api/risk"})


def held_up(context: Context, command: Kill) -> str:
    """Return what an act leaves: its own orders that do not go, and others beside a flatten."""
    denied, waiting = [], 0
    for row in context.views.orders.newest_first():
        if row.created_ns < command.ts_event_ns:
            break
        if row.cause_id != command.event_id:
            continue
        waiting += row.status is OrderStatus.PENDING_APPROVAL
        if row.status is OrderStatus.DENIED:
            denied.append(f"{row.strategy_id}/{row.instrument_id}: {row.code} {row.detail}")
    found = []
    if waiting:
        verb = "waits" if waiting == 1 else "wait"
        found.append(f"{waiting} of its orders {verb} for approval (GET /api/approvals)")
    if denied:
        stands = "this position stands" if len(denied) == 1 else "these positions stand"
        told = _listed(denied, "; ")
        found.append(f"{len(denied)} of its orders denied, {stands}: {told}")
    if command.action is KillAction.FLATTEN:
        others = [
            row.client_order_id
            for row in open_orders(context, command.scope, command.scope_id)
            if row.cause_id != command.event_id and row.status is not OrderStatus.PENDING_CANCEL
        ]
        if others:
            one = len(others) == 1
            stay, them = ("order stays", "it") if one else ("orders stay", "them")
            found.append(
                f"{len(others)} other {stay} and may trade after it, cancel_all ends {them}:"
                f" {_listed(others, ', ')}"
            )
    return "; ".join(found)


def _listed(found: list[str], separator: str) -> str:
    """Return the oldest of what was found, the newest first."""
    more = " and more" if len(found) > _TOLD else ""
    return separator.join(reversed(found[-_TOLD:])) + more


def open_orders(context: Context, scope: Scope, scope_id: str) -> list[OrderRow]:
    """Return the orders of a scope that may trade or wait for approval, the newest first."""
    rows = (row for row in context.views.orders.newest_first() if row.is_stoppable)
    return [row for row in rows if concerns(row, scope, scope_id)]


def open_positions(context: Context, scope: Scope, scope_id: str) -> list[PositionChanged]:
    """Return the positions of a scope that are not flat."""
    found = (p for p in context.views.portfolio.positions.values() if p.quantity)
    return [p for p in found if concerns(p, scope, scope_id)]


def concerns(item: OrderRow | PositionChanged, scope: Scope, scope_id: str) -> bool:
    """Return whether a scope holds an order or a position."""
    return {
        Scope.GLOBAL: True,
        Scope.ACCOUNT: item.account_id == scope_id,
        Scope.STRATEGY: item.strategy_id == scope_id,
        Scope.INSTRUMENT: item.instrument_id == scope_id,
    }[scope]


ROUTES = (
    Route(
        "POST",
        "/api/risk/kill",
        kill,
        answers.KillAnswer,
        RISK_WRITE,
        "Stop entries, cancel all, or flatten",
        "risk",
        body=KillRequest,
        answers={202: answers.KillAnswer},
        errors=(400, 409, 413, 503),
        example_body={"action": "cancel_all", "reason": "end of the day"},
    ),
)
