"""Answers about risk."""

from __future__ import annotations

import msgspec

from schemas.risk import LimitSet


class Breaker(msgspec.Struct):
    """The breaker of one scope."""

    scope: str
    scope_id: str
    state: str
    epoch: int
    operator: str
    reason: str
    since: str
    since_ns: int


class CircuitBreaker(msgspec.Struct):
    """The strictest state of all scopes, and each scope that was ever changed."""

    state: str
    scopes: list[Breaker]


class ChangedBreaker(CircuitBreaker):
    """The breaker behind a change; ``warning`` says what is doubtful about the scope's name."""

    warning: str = ""


class BreakerPage(msgspec.Struct):
    """Changes of the breaker, the newest first; ``next_cursor`` asks for the older ones."""

    changes: list[Breaker]
    count: int
    next_cursor: str | None


class ScopeLimits(msgspec.Struct):
    """Limits of one scope as applied."""

    scope: str
    scope_id: str
    limits: LimitSet
    operator: str
    reason: str
    time: str
    time_ns: int


class AppliedLimits(ScopeLimits):
    """Limits behind a change of them.

    ``warning`` says what is doubtful about the scope's name, or which breakers stay tripped; and
    which bounds of the scope are gone, since the new ones take the place of all.
    """

    warning: str = ""


class Decision(msgspec.Struct):
    """The gate's word on one order: which check, measured value against limit."""

    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    is_approved: bool
    code: str
    measured: str
    limit: str
    scope: str
    detail: str
    time: str
    time_ns: int


class RiskAnswer(msgspec.Struct):
    """Breaker, limits, last decisions (newest first) and counts."""

    circuit_breaker: CircuitBreaker
    autonomy_mode: str
    limits: list[ScopeLimits]
    decisions: list[Decision]
    approved_count: int
    denied_count: int
    denied_by_code: dict[str, int]


class EffectiveLimits(msgspec.Struct):
    """The limits that hold for one account, strategy and instrument.

    ``scopes`` names for each bound the scope whose rule binds; ``rules`` are the limits of all
    scopes that took part, the widest first.
    """

    account_id: str
    strategy_id: str
    instrument_id: str
    limits: LimitSet
    scopes: dict[str, str]
    rules: list[ScopeLimits]


class DecisionPage(msgspec.Struct):
    """Decisions of the risk gate, the newest first; ``next_cursor`` asks for the older ones."""

    decisions: list[Decision]
    count: int
    next_cursor: str | None


class OrderCheck(msgspec.Struct):
    """What the risk gate would say to an order, at one place of the log; nothing was sent.

    ``autonomy_mode``: an approved order would still wait for a person in the semi-automatic mode.
    """

    is_approved: bool
    code: str
    measured: str
    limit: str
    scope: str
    detail: str
    autonomy_mode: str
    breaker_epoch: int
    instrument_id: str
    topic: str
    partition: int
    offset: int
    time: str
    time_ns: int


class KillAnswer(msgspec.Struct):
    """What stands after an act of stopping: the breaker, open orders and positions of its scope.

    ``is_complete`` is false where this process began late and may not know of all open orders.
    ``warning`` says what is doubtful about the scope's name, which may be mistyped, or which orders
    of a flatten were denied.
    """

    action: str
    scope: str
    scope_id: str
    circuit_breaker: CircuitBreaker
    open_orders: list[str]
    open_positions: list[str]
    is_complete: bool = True
    warning: str = ""
