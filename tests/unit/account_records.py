"""Records for the tests of the account stage: what it is told, with everything else filled in.

Times are seconds after ``START_NS``; a record without one comes at the running time. Orders and
reports are about A, of strategy s in the account paper, unless they say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from schemas.commands import ApproveOrder, CancelOrder, ReplaceOrder, SubmitOrder
from schemas.enums import (
    AutonomyMode,
    BreakerState,
    CorporateActionKind,
    InstrumentState,
    KillAction,
    LiquiditySide,
    OrderType,
    Scope,
    Side,
)
from schemas.envelope import Header
from schemas.instruments import CorporateAction, ExchangeRate, Instrument
from schemas.market_data import InstrumentStatus, ReferencePrice
from schemas.order_events import (
    Fill,
    VenueAccepted,
    VenueCanceled,
    VenueExpired,
    VenueRejected,
    VenueReplaced,
    VenueTriggered,
)
from schemas.risk import Kill, LimitSet, SetAutonomy, SetBreaker, SetLimits

NS = 1_000_000_000
START_NS = 1_381_152_600 * NS
"""The opening of the first session, a whole minute: 7 October 2013, 13:30 UTC."""
SESSION_S = 23_400
DAY_S = 86_400
A, B, EURO, FUTURE = "AAA.XNYS", "BBB.XNYS", "EEE.XPAR", "FFF.XCME"
"""Two shares in dollars, one in euros on a grid of 0.05, and a future worth 50 times its price."""
AnyRecord = TypeVar("AnyRecord", bound=Header)


@dataclass(frozen=True)
class Price:
    """A reference price that comes as a row of the batch, ``at`` seconds after the start."""

    at: float
    price: float
    name: str = A


Step = Header | Price


def at_ns(seconds: float) -> int:
    """Return the instant that lies ``seconds`` after the start."""
    return START_NS + round(seconds * NS)


def dec(text: str) -> Decimal:
    """Return an exact number."""
    return Decimal(text)


def instrument(name: str, **fields: Any) -> Instrument:
    """Return a share of the New York exchange in cents; ``fields`` change it."""
    symbol, venue = name.split(".")
    known: dict[str, Any] = {"ts_event_ns": START_NS, "event_id": f"define-{name}"}
    return Instrument(instrument_id=name, symbol=symbol, venue=venue, **{**known, **fields})


def instruments(**fields: Any) -> list[Instrument]:
    """Return the four instruments; ``fields`` change the first."""
    return [
        instrument(A, **{"calendar": "XNYS", **fields}),
        instrument(B),
        instrument(EURO, currency="EUR", price_increment=Decimal("0.05")),
        instrument(FUTURE, price_increment=Decimal("0.25"), multiplier=Decimal(50)),
    ]


# ---- what strategies and people ask for


def submit(
    order_id: str = "o1",
    side: str = "BUY",
    quantity: str = "1",
    limit: str | None = None,
    stop: str | None = None,
    *,
    at: float = 0,
    name: str = A,
    **fields: Any,
) -> SubmitOrder:
    """Return an order; its type follows from its prices unless ``order_type`` names another."""
    types = {(False, False): "MARKET", (True, False): "LIMIT", (False, True): "STOP"}
    kind = types.get((limit is not None, stop is not None), "STOP_LIMIT")
    known: dict[str, Any] = {
        "event_id": f"submit-{order_id}",
        "account_id": "paper",
        "strategy_id": "s",
        "order_type": OrderType(kind),
    }
    return SubmitOrder(
        ts_event_ns=at_ns(at),
        correlation_id=order_id,
        causation_id="decision",
        client_order_id=order_id,
        instrument_id=name,
        side=Side(side),
        quantity=Decimal(quantity),
        limit_price=None if limit is None else Decimal(limit),
        stop_price=None if stop is None else Decimal(stop),
        **{**known, **fields},
    )


def replace(
    order_id: str = "o1",
    quantity: str | None = None,
    limit: str | None = None,
    stop: str | None = None,
    *,
    at: float = 0,
    **fields: Any,
) -> ReplaceOrder:
    """Return a change of an order."""
    known: dict[str, Any] = {"event_id": f"replace-{order_id}", "account_id": "paper"}
    return ReplaceOrder(
        ts_event_ns=at_ns(at),
        correlation_id=order_id,
        causation_id="decision",
        strategy_id="s",
        client_order_id=order_id,
        quantity=None if quantity is None else Decimal(quantity),
        limit_price=None if limit is None else Decimal(limit),
        stop_price=None if stop is None else Decimal(stop),
        **{**known, **fields},
    )


def cancel(order_id: str = "o1", *, at: float = 0, **fields: Any) -> CancelOrder:
    """Return a cancel of an order."""
    known: dict[str, Any] = {"event_id": f"cancel-{order_id}", "account_id": "paper"}
    return CancelOrder(
        ts_event_ns=at_ns(at),
        correlation_id=order_id,
        causation_id="decision",
        strategy_id="s",
        client_order_id=order_id,
        **{**known, **fields},
    )


def approve(
    order_id: str = "o1", *, is_approved: bool = True, at: float = 0, **fields: Any
) -> ApproveOrder:
    """Return a person's word on an order that waits."""
    known: dict[str, Any] = {"event_id": f"approve-{order_id}", "account_id": "paper"}
    return ApproveOrder(
        ts_event_ns=at_ns(at),
        correlation_id=order_id,
        causation_id="",
        client_order_id=order_id,
        is_approved=is_approved,
        operator="ann",
        **{**known, **fields},
    )


# ---- what operators say


def _said(name: str, at: float) -> dict[str, Any]:
    return {"event_id": name, "ts_event_ns": at_ns(at), "correlation_id": name, "causation_id": ""}


def set_limits(
    scope: str = "GLOBAL", scope_id: str = "", *, at: float = 0, tag: str = "", **bounds: Any
) -> SetLimits:
    """Return new limits of one scope."""
    head = _said(f"limits-{scope}-{scope_id}-{at}{tag}", at)
    return SetLimits(
        scope=Scope(scope),
        scope_id=scope_id,
        limits=LimitSet(**bounds),
        operator="ann",
        **head,
    )


def set_breaker(
    state: str, scope: str = "GLOBAL", scope_id: str = "", *, at: float = 0, reason: str = "test"
) -> SetBreaker:
    """Return a change of a breaker."""
    return SetBreaker(
        scope=Scope(scope),
        scope_id=scope_id,
        state=BreakerState(state),
        operator="ann",
        reason=reason,
        **_said(f"breaker-{scope}-{scope_id}-{state}-{at}", at),
    )


def set_autonomy(mode: str, *, timeout_s: float = 300, at: float = 0) -> SetAutonomy:
    """Return a change of the autonomy mode."""
    return SetAutonomy(
        mode=AutonomyMode(mode),
        operator="ann",
        approval_timeout_s=float(timeout_s),
        **_said(f"autonomy-{mode}-{at}", at),
    )


def kill(action: str, scope: str = "GLOBAL", scope_id: str = "", *, at: float = 0) -> Kill:
    """Return one of the three acts of stopping."""
    return Kill(
        action=KillAction(action),
        scope=Scope(scope),
        scope_id=scope_id,
        operator="ann",
        reason="test",
        **_said(f"kill-{action}-{scope}-{scope_id}-{at}", at),
    )


# ---- what venues report


def _report(kind: str, order_id: str, at: float, fields: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a report on an order of strategy s in A; ``fields`` change them."""
    return {
        "event_id": f"{kind}-{order_id}",
        "ts_event_ns": at_ns(at),
        "correlation_id": order_id,
        "causation_id": "",
        "account_id": "paper",
        "strategy_id": "s",
        "client_order_id": order_id,
        "instrument_id": A,
        "venue_order_id": f"v-{order_id}",
        **fields,
    }


def accepted(order_id: str = "o1", *, at: float = 0, **fields: Any) -> VenueAccepted:
    """Return the report that the venue works an order."""
    return VenueAccepted(**_report("accepted", order_id, at, fields))


def triggered(order_id: str = "o1", *, at: float = 0, **fields: Any) -> VenueTriggered:
    """Return the report that a stop was triggered."""
    return VenueTriggered(**_report("triggered", order_id, at, fields))


def canceled(order_id: str = "o1", *, at: float = 0, **fields: Any) -> VenueCanceled:
    """Return the report that an order was taken out."""
    return VenueCanceled(**_report("canceled", order_id, at, fields))


def expired(order_id: str = "o1", *, at: float = 0, **fields: Any) -> VenueExpired:
    """Return the report that an order's time is over."""
    return VenueExpired(**_report("expired", order_id, at, fields))


def rejected(
    order_id: str = "o1", command: str = "submit", *, at: float = 0, **fields: Any
) -> VenueRejected:
    """Return the venue's refusal of an order, or of a replace or cancel of it."""
    fields = {"event_id": f"rejected-{command}-{order_id}", **fields}
    head = _report("rejected", order_id, at, fields)
    return VenueRejected(command=command, code="NO", detail="not today", **head)


def replaced(
    order_id: str = "o1",
    quantity: str = "1",
    limit: str | None = None,
    stop: str | None = None,
    *,
    at: float = 0,
    **fields: Any,
) -> VenueReplaced:
    """Return the report that an order stands with new values."""
    return VenueReplaced(
        quantity=Decimal(quantity),
        limit_price=None if limit is None else Decimal(limit),
        stop_price=None if stop is None else Decimal(stop),
        **_report("replaced", order_id, at, fields),
    )


def fill(
    order_id: str = "o1",
    side: str = "BUY",
    quantity: str = "1",
    price: str = "10",
    *,
    fee: str = "0",
    trade: str = "1",
    at: float = 0,
    name: str = A,
    **fields: Any,
) -> Fill:
    """Return an execution; ``trade`` numbers those of one order."""
    currency = "EUR" if name == EURO else "USD"
    known = {"event_id": f"fill-{order_id}-{trade}", "instrument_id": name, "currency": currency}
    fields = {**known, **fields}
    return Fill(
        trade_id=f"t-{order_id}-{trade}",
        side=Side(side),
        quantity=Decimal(quantity),
        price=Decimal(price),
        fee=Decimal(fee),
        liquidity_side=LiquiditySide.TAKER,
        reference_price=Decimal(price),
        leaves_quantity=Decimal(0),
        **_report("fill", order_id, at, fields),
    )


def traded(
    order_id: str,
    side: str,
    quantity: str,
    price: str,
    *,
    fee: str = "0",
    at: float = 0,
    name: str = A,
    strategy: str = "s",
    to: str = "paper",
) -> list[Step]:
    """Return a market order of account ``to`` and the fill of it."""
    whose = {"strategy_id": strategy, "account_id": to}
    asked = submit(order_id, side, quantity, at=at, name=name, decision_price=float(price), **whose)
    done = fill(order_id, side, quantity, price, fee=fee, at=at, name=name, **whose)
    return [asked, done]


# ---- reference data


def price(value: float, *, name: str = A, at: float = 0) -> ReferencePrice:
    """Return a reference price that comes as a record."""
    event_id = f"price-{name}-{value}-{at}"
    return ReferencePrice(event_id, at_ns(at), event_id, "", name, value)


def status(state: str, *, name: str = A, at: float = 0) -> InstrumentStatus:
    """Return the venue's word on whether it trades an instrument."""
    return InstrumentStatus(ts_event_ns=at_ns(at), instrument_id=name, state=InstrumentState(state))


def rate(base: str, quote: str, value: str, *, at: float = 0) -> ExchangeRate:
    """Return what a unit of ``base`` is worth in ``quote``."""
    return ExchangeRate(
        event_id=f"rate-{base}-{quote}-{value}-{at}",
        ts_event_ns=at_ns(at),
        base_currency=base,
        quote_currency=quote,
        rate=Decimal(value),
    )


def action(kind: str, *, name: str = A, at: float = 0, **fields: Any) -> CorporateAction:
    """Return a corporate action."""
    known: dict[str, Any] = {"event_id": f"{kind.lower()}-{name}-{at}"}
    return CorporateAction(
        ts_event_ns=at_ns(at),
        instrument_id=name,
        kind=CorporateActionKind(kind),
        **{**known, **fields},
    )


def with_tag(record: AnyRecord, tag: str) -> AnyRecord:
    """Return ``record`` with an event id of its own."""
    event_id = getattr(record, "event_id", "")
    return msgspec.structs.replace(record, event_id=f"{event_id}#{tag}")
