"""The cases of the risk gate: for each reason code an order that is denied and one that passes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.enums import AutonomyMode, OrderType
from schemas.envelope import Header
from schemas.risk import LimitSet
from tests.unit.account_records import (
    DAY_S,
    EURO,
    SESSION_S,
    A,
    B,
    Step,
    accepted,
    at_ns,
    dec,
    instruments,
    price,
    rate,
    set_autonomy,
    set_breaker,
    status,
    submit,
    traded,
)
from tests.unit.account_script import (
    Driver,
    account,
    stage_config,
)


@dataclass
class Case:
    """One reason code: what is denied with it, and the neighbor that passes.

    ``before`` is played in front of both; the last step of ``denied`` and of ``passed`` is the
    order that is judged.
    """

    code: str
    denied: Sequence[Step]
    passed: Sequence[Step]
    measured: str
    limit: str
    scope: str
    name: str = ""
    before: Sequence[Step] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    listed: dict[str, Any] = field(default_factory=dict)
    account: dict[str, Any] = field(default_factory=dict)
    stage: dict[str, Any] = field(default_factory=dict)

    def play(self, steps: Sequence[Step]) -> list[Header]:
        """Play steps behind the setup and return what the last one brought about."""
        config = stage_config(account(**self.account), limits=LimitSet(**self.limits), **self.stage)
        driver = Driver(config, instruments(**self.listed))
        driver.play(price(10.0), *self.before, *steps[:-1])
        return driver.play(steps[-1])


def resting(order_id: str, side: str, quantity: str, limit: str) -> list[Step]:
    """Return an order that works at the venue."""
    return [submit(order_id, side, quantity, limit), accepted(order_id)]


BY_DEFINITION = [
    Case(
        "INSTRUMENT_UNKNOWN",
        [submit(name="ZZZ.XNYS", decision_price=10.0)],
        [submit()],
        "ZZZ.XNYS",
        "a defined instrument",
        "",
    ),
    Case(
        "INSTRUMENT_NOT_TRADABLE",
        [submit()],
        [submit(name=B, decision_price=10.0)],
        "not tradable",
        "tradable",
        "instrument",
        listed={"is_tradable": False},
    ),
    Case(
        "INSTRUMENT_HALTED",
        [status("HALTED"), submit()],
        [status("HALTED"), status("OPEN"), submit()],
        "HALTED",
        "OPEN",
        "venue",
    ),
    Case(
        "INSTRUMENT_HALTED",
        [status("CLOSED"), submit()],
        [status("CLOSED", name=B), submit()],
        "CLOSED",
        "OPEN",
        "venue",
        name="closed",
    ),
    Case(
        "NOT_ALLOWED",
        [submit(name=B, decision_price=10.0)],
        [submit()],
        B,
        "allow list",
        "global",
        limits={"allow": [A]},
    ),
    Case(
        "DENY_LISTED",
        [submit()],
        [submit(name=B, decision_price=10.0)],
        A,
        "deny list",
        "global",
        limits={"deny": [A]},
    ),
    Case(
        "ORDER_INVALID",
        [submit(order_type=OrderType.LIMIT)],
        [submit(limit="0.01")],
        "None",
        "limit_price above 0 for LIMIT",
        "order",
    ),
    Case(
        "ORDER_INVALID",
        [submit(stop="0")],
        [submit(stop="0.01")],
        "0",
        "stop_price above 0 for STOP",
        "order",
        name="stop",
    ),
    Case(
        "ORDER_INVALID",
        [submit(limit="9", order_type=OrderType.STOP_LIMIT)],
        [submit(limit="9", stop="9")],
        "None",
        "stop_price above 0 for STOP_LIMIT",
        "order",
        name="stop limit",
    ),
    Case(
        "PRICE_OFF_GRID",
        [submit(limit="10.005")],
        [submit(limit="10.01")],
        "10.005",
        "0.01",
        "instrument",
    ),
    Case(
        "PRICE_OFF_GRID",
        [submit(stop="10.001")],
        [submit(stop="10.000")],
        "10.001",
        "0.01",
        "instrument",
        name="stop",
    ),
    Case(
        "QUANTITY_OFF_GRID",
        [submit(quantity="1.5")],
        [submit(quantity="1.0")],
        "1.5",
        "1",
        "instrument",
    ),
    Case(
        "QUANTITY_BELOW_MIN",
        [submit(quantity="4")],
        [submit(quantity="5")],
        "4",
        "5",
        "instrument",
        listed={"min_quantity": dec("5")},
    ),
    Case(
        "QUANTITY_ABOVE_MAX",
        [submit(quantity="21")],
        [submit(quantity="20")],
        "21",
        "20",
        "instrument",
        listed={"max_quantity": dec("20")},
    ),
    Case(
        "NOTIONAL_BELOW_MIN",
        [submit(quantity="9")],
        [submit(quantity="10")],
        "90.00",
        "100",
        "instrument",
        listed={"min_notional": dec("100")},
    ),
    Case(
        "NOTIONAL_ABOVE_MAX",
        [submit(quantity="11")],
        [submit(quantity="10")],
        "110.00",
        "100",
        "instrument",
        listed={"max_notional": dec("100")},
    ),
    Case(
        "NOT_SHORTABLE",
        [submit(side="SELL", quantity="11")],
        [submit(side="SELL", quantity="10")],
        "-1",
        "0",
        "instrument",
        before=traded("b", "BUY", "10", "10"),
        listed={"is_shortable": False},
    ),
]
BY_MODE = [
    Case(
        "BREAKER_HALTED",
        [set_breaker("HALTED"), submit()],
        [set_breaker("HALTED"), set_breaker("ACTIVE"), submit()],
        "new order",
        "no new orders",
        "global",
    ),
    Case(
        "BREAKER_REDUCING",
        [set_breaker("REDUCING"), submit(side="SELL", quantity="11")],
        [set_breaker("REDUCING"), submit(side="SELL", quantity="10")],
        "adds exposure",
        "only reducing orders",
        "global",
        before=traded("b", "BUY", "10", "10"),
    ),
    Case(
        "OBSERVE_ONLY",
        [submit()],
        [set_autonomy("AUTOMATIC"), submit()],
        "order",
        "no orders in this mode",
        "global",
        stage={"autonomy": AutonomyMode.OBSERVE_ONLY},
    ),
    Case(
        "COMMAND_EXPIRED",
        [submit(at=5.001, expires_at_ns=at_ns(5))],
        [submit(at=5, expires_at_ns=at_ns(5))],
        str(at_ns(5.001)),
        str(at_ns(5)),
        "command",
    ),
    Case(
        "SESSION_CLOSED",
        [submit(at=SESSION_S)],
        [submit(at=SESSION_S - 0.001)],
        str(at_ns(SESSION_S)),
        "XNYS",
        "global",
        limits={"require_session": True},
    ),
    Case(
        "SESSION_CLOSED",
        [submit(at=DAY_S - 0.001)],
        [submit(at=DAY_S)],
        str(at_ns(DAY_S - 0.001)),
        "XNYS",
        "global",
        name="before the next",
        limits={"require_session": True},
    ),
]
BY_PRICE = [
    Case(
        "NO_PRICE",
        [submit(name=B)],
        [submit(name=B, decision_price=10.0)],
        "none",
        "a quote, trade or reference price",
        "instrument",
    ),
    Case(
        "PRICE_STALE",
        [submit(at=5.001)],
        [submit(at=5)],
        "5.001 s",
        "5.0 s",
        "global",
        limits={"stale_after_s": 5.0},
    ),
    Case(
        "PRICE_STALE",
        [submit(at=9, decision_price=10.0, decision_ts_ns=at_ns(3.999))],
        [submit(at=9, decision_price=10.0, decision_ts_ns=at_ns(4))],
        "5.001 s",
        "5.0 s",
        "global",
        name="decision",
        limits={"stale_after_s": 5.0},
    ),
    Case(
        "NO_RATE",
        [submit(name=EURO, decision_price=10.0)],
        [rate("EUR", "USD", "1.5"), submit(name=EURO, decision_price=10.0)],
        "EUR",
        "USD",
        "account",
    ),
    Case(
        "PRICE_COLLAR",
        [submit(limit="10.51")],
        [submit(limit="10.50")],
        "0.051000",
        "0.05",
        "global",
        limits={"price_collar": dec("0.05")},
    ),
    Case(
        "PRICE_COLLAR",
        [submit(side="SELL", stop="9.49")],
        [submit(side="SELL", stop="9.50")],
        "0.051000",
        "0.05",
        "global",
        name="stop below",
        limits={"price_collar": dec("0.05")},
    ),
]
