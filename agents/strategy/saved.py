"""The snapshot of the strategy stage: everything that must survive a restart, as structs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from agents.strategy.parameters import ParameterValue
from schemas.enums import StrategyStatus


class InstanceState(msgspec.Struct, gc=True):
    """What an instance must keep over a restart; ``attributes`` are the strategy's own."""

    status: StrategyStatus
    parameters: dict[str, ParameterValue]
    positions: dict[str, Decimal]
    working: dict[str, Decimal]
    prices: dict[str, Decimal]
    open_orders: dict[str, tuple[str, Decimal]]
    cash: Decimal
    next_order: int
    last_target: float | None
    timers: list[int]
    attributes: dict[str, Any]


class StageState(msgspec.Struct, gc=True):
    """The state of the stage; ``version`` names the code that can read it."""

    version: str
    instances: dict[str, InstanceState]
    plans: dict[str, Any]
