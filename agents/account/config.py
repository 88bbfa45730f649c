"""What an account is, as configuration."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.enums import AccountKind, AutonomyMode
from schemas.risk import LimitSet


class AccountConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One account: its kind, its base currency and the cash it starts with.

    ``calendar`` names the session calendar whose days the daily loss is counted by; empty: UTC
    days.
    """

    account_id: str
    calendar: str = ""
    kind: AccountKind = AccountKind.REG_T
    base_currency: str = "USD"
    cash: Decimal = Decimal(10000)


class AccountStageConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The account stage's settings.

    ``mark_interval_s``: equity is marked once in each such interval of event time.
    ``snapshot_interval_s``: a full AccountSnapshot once in each such interval, and at the first
    mark of a day.
    ``closed_order_retention_s``: how long closed orders and their ids are remembered, which is the
    time in which a repeated client order id is recognised.
    """

    accounts: tuple[AccountConfig, ...]
    limits: LimitSet = LimitSet()
    autonomy: AutonomyMode = AutonomyMode.AUTOMATIC
    approval_timeout_s: float = 300.0
    mark_interval_s: float = 60.0
    snapshot_interval_s: float = 3600.0
    closed_order_retention_s: float = 86400.0
    initial_margin: Decimal = Decimal("0.5")
    does_breach_trip: bool = True
