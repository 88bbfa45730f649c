"""Limits of several scopes made into one effective set.

The strictest holds, and it is known whose it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, NamedTuple

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
_RATE_WINDOW_S = 1.0
_VALUE_SHOWN = 40


class Fault(NamedTuple):
    """A bound that is none: its field, what was given, what is wrong with that, what to do."""

    field: str
    value: object
    message: str
    remedy: str


def faults(limits: LimitSet) -> Iterator[Fault]:
    """Yield what is wrong with single bounds: the rule for limits from wherever they come."""
    for name in limits.__struct_fields__:
        bound = getattr(limits, name)
        if not isinstance(bound, Decimal | float | int) or (math.isfinite(bound) and bound >= 0):
            continue
        shown = bound if isinstance(bound, int) else str(bound)[:_VALUE_SHOWN]
        yield Fault(name, shown, "must be a number from 0", "or leave it out")
    fall = limits.max_drawdown
    if fall is not None and fall.is_finite() and fall > 1:
        remedy = "give a fraction: 0.2 is 20 %"
        yield Fault("max_drawdown", str(fall)[:_VALUE_SHOWN], "is more than all", remedy)


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

    An allow list of several scopes is their intersection, a deny list their union, and the last
    scope that narrowed or added to it is named. The fewest orders and the longest window of all
    order rates hold together, so that no scope's rate can be broken; a window without a number of
    orders binds nothing. ``allow_self_match`` holds only if no scope forbids it.
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
    rates = [
        (limits.max_order_rate, limits.order_rate_window_s or _RATE_WINDOW_S, scope)
        for scope, limits in scoped
        if limits.max_order_rate is not None
    ]
    if not rates:
        return
    # Two rates need not contain each other: 100 a minute lets 100 go at once, which 10 a second
    # forbids. The fewest orders in the longest window keep both.
    values["max_order_rate"], _, scopes["max_order_rate"] = min(
        rates, key=lambda rate: (rate[0], -rate[1])
    )
    values["order_rate_window_s"] = max(window for _, window, _ in rates)


def _take_lists(scoped: ScopedLimits, values: dict[str, Any], scopes: dict[str, str]) -> None:
    for scope, limits in scoped:
        if limits.allow is not None:
            known = values.get("allow")
            allowed = sorted(set(limits.allow) if known is None else set(limits.allow) & {*known})
            if allowed != known:
                values["allow"] = allowed
                scopes["allow"] = scope
        if limits.deny is not None:
            known = values.get("deny", [])
            denied = sorted({*known, *limits.deny})
            if denied != known:
                values["deny"] = denied
                scopes["deny"] = scope
