"""Limits of several scopes made into one effective set.

The strictest holds, and it is known whose it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from schemas.risk import LimitSet

ScopedLimits = list[tuple[str, LimitSet]]
"""Limit sets with the text of their scope ("account paper"), widest first."""

_MINIMUM = (
    "max_quantity",
    "max_notional",
    "price_collar",
    "stale_after_s",
    "max_position",
    "max_position_notional",
    "max_gross_exposure",
    "max_net_exposure",
    "max_daily_loss",
    "max_drawdown",
    "max_open_orders",
)
_MAXIMUM = ("min_quantity", "min_notional", "duplicate_window_s")
_ANY_TRUE = ("is_long_only", "require_session")


class EffectiveLimits(msgspec.Struct, frozen=True):
    """The limits that hold for one account, strategy and instrument.

    ``limits`` is the composition; ``scopes`` names for each bound the scope that binds. ``allow``
    of None allows all.
    """

    limits: LimitSet
    scopes: dict[str, str]

    def scope(self, field: str) -> str:
        """Return whose bound ``field`` is."""
        return self.scopes.get(field, "")


def compose(scoped: ScopedLimits) -> EffectiveLimits:
    """Compose limit sets so that the strictest bound of each field holds.

    An allow list of several scopes is their intersection, a deny list their union; the order rate
    with the fewest orders a second binds together with its window; ``allow_self_match`` holds only
    if no scope forbids it.
    """
    values: dict[str, Any] = {}
    scopes: dict[str, str] = {}

    def take(field: str, is_stricter: Callable[[Any, Any], bool]) -> None:
        for scope, limits in scoped:
            value = getattr(limits, field)
            if value is not None and (field not in values or is_stricter(value, values[field])):
                values[field] = value
                scopes[field] = scope

    for field in _MINIMUM:
        take(field, lambda new, old: new < old)
    for field in _MAXIMUM:
        take(field, lambda new, old: new > old)
    for field in _ANY_TRUE:
        take(field, lambda new, old: new and not old)
    take("allow_self_match", lambda new, old: old and not new)
    _take_rate(scoped, values, scopes)
    _take_lists(scoped, values, scopes)
    return EffectiveLimits(LimitSet(**values), scopes)


def _take_rate(scoped: ScopedLimits, values: dict[str, Any], scopes: dict[str, str]) -> None:
    best: float | None = None
    for scope, limits in scoped:
        if limits.max_order_rate is None:
            continue
        window = limits.order_rate_window_s or 1.0
        rate = limits.max_order_rate / window
        if best is None or rate < best:
            best = rate
            values["max_order_rate"] = limits.max_order_rate
            values["order_rate_window_s"] = window
            scopes["max_order_rate"] = scope


def _take_lists(scoped: ScopedLimits, values: dict[str, Any], scopes: dict[str, str]) -> None:
    for scope, limits in scoped:
        if limits.allow is not None:
            known = values.get("allow")
            values["allow"] = (
                sorted(limits.allow) if known is None else [i for i in known if i in limits.allow]
            )
            scopes["allow"] = scope
        if limits.deny:
            values["deny"] = sorted({*values.get("deny", []), *limits.deny})
            scopes["deny"] = scope
