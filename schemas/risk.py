"""Risk: limits, decisions and the circuit breaker."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.enums import AutonomyMode, BreakerState, KillAction, Scope
from schemas.envelope import Record


class LimitSet(
    msgspec.Struct,
    frozen=True,
    gc=False,
    omit_defaults=True,
    kw_only=True,
    forbid_unknown_fields=True,
):
    """Bounds of one scope; None is no bound by this scope. The strictest of all scopes holds.

    Notionals, exposures and losses are in the account's base currency; ``price_collar`` and
    ``max_drawdown`` are fractions (0.05 is 5 %); ``allow`` and ``deny`` list instrument ids.
    ``max_order_rate`` orders may be sent within ``order_rate_window_s``; equal intents within
    ``duplicate_window_s`` are refused.
    """

    min_quantity: Decimal | None = None
    max_quantity: Decimal | None = None
    min_notional: Decimal | None = None
    max_notional: Decimal | None = None
    price_collar: Decimal | None = None
    stale_after_s: float | None = None
    max_position: Decimal | None = None
    max_position_notional: Decimal | None = None
    max_gross_exposure: Decimal | None = None
    max_net_exposure: Decimal | None = None
    max_order_rate: int | None = None
    order_rate_window_s: float | None = None
    duplicate_window_s: float | None = None
    max_daily_loss: Decimal | None = None
    max_drawdown: Decimal | None = None
    max_open_orders: int | None = None
    is_long_only: bool | None = None
    allow_self_match: bool | None = None
    require_session: bool | None = None
    allow: list[str] | None = None
    deny: list[str] | None = None


class SetLimits(Record, gc=False, omit_defaults=True, tag="set_limits"):
    """Replace the limits of one scope.

    ``scope_id`` is the account, strategy or instrument, empty for global.
    """

    scope: Scope
    scope_id: str
    limits: LimitSet
    operator: str
    reason: str = ""


class SetBreaker(Record, gc=False, omit_defaults=True, tag="set_breaker"):
    """Trip or reset the breaker of one scope; a reset needs a reason."""

    scope: Scope
    scope_id: str
    state: BreakerState
    operator: str
    reason: str


class BreakerChanged(Record, gc=False, omit_defaults=True, tag="breaker_changed"):
    """The breaker of one scope stands in ``state`` since ``ts_event_ns``.

    ``epoch`` counts all changes.
    """

    scope: Scope
    scope_id: str
    state: BreakerState
    epoch: int
    operator: str
    reason: str


class Kill(Record, gc=False, omit_defaults=True, tag="kill"):
    """Stop entries, cancel all orders, or flatten all positions, within one scope."""

    action: KillAction
    scope: Scope
    scope_id: str
    operator: str
    reason: str


class SetAutonomy(Record, gc=False, omit_defaults=True, tag="set_autonomy"):
    """Choose who lets orders go; waiting orders lapse after ``approval_timeout_s``."""

    mode: AutonomyMode
    operator: str
    reason: str = ""
    approval_timeout_s: float = 300.0


class RiskDecision(Record, gc=False, omit_defaults=True, tag="risk_decision"):
    """The gate's word on exactly one command: approved, or denied by the check ``code``.

    ``measured`` and ``limit`` are texts of the value found and the bound it broke; ``scope`` says
    whose bound it is.
    """

    account_id: str
    strategy_id: str
    client_order_id: str
    instrument_id: str
    is_approved: bool
    breaker_epoch: int
    code: str = ""
    measured: str = ""
    limit: str = ""
    scope: str = ""
    detail: str = ""
