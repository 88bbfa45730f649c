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


class ScopeLimits(msgspec.Struct):
    """Limits of one scope as applied."""

    scope: str
    scope_id: str
    limits: LimitSet
    operator: str
    time: str
    time_ns: int


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
