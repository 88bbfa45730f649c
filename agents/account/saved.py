"""The snapshot of the account stage: everything that must survive a restart, as one struct."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from agents.account.breaker import Breakers
from agents.account.state import Account
from schemas.enums import AutonomyMode, InstrumentState
from schemas.instruments import Instrument
from schemas.risk import LimitSet


class StageState(msgspec.Struct, gc=True):
    """The state of the stage; ``version`` names the code that can read it."""

    version: str
    accounts: list[Account]
    breakers: Breakers
    limits: dict[str, LimitSet]
    instruments: list[Instrument]
    states: dict[str, InstrumentState]
    rates: dict[str, Decimal]
    prices: dict[str, float]
    price_times: dict[str, int]
    autonomy: AutonomyMode
    approval_timeout_s: float
    price_ns: int
    is_marked: bool
    period: int
    now_ns: int
