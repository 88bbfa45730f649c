"""What is asked of a dead letter before its record is written again: scopes, and what is known.

The stages decide on what they read. But what they would refuse again is told at once where the read
models know it: else it would be acknowledged, and come back as another letter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from agents.domain.order_state import CLOSED, TRANSITIONS, Step
from schemas.commands import ApproveOrder, CancelOrder, CheckOrder, ReplaceOrder, SubmitOrder
from schemas.enums import BreakerState, OrderStatus
from schemas.envelope import Header
from schemas.instruments import CorporateAction, ExchangeRate, Instrument
from schemas.market_data import InstrumentStatus, ReferencePrice
from schemas.order_events import VenueReport
from schemas.risk import Kill, SetAutonomy, SetBreaker, SetLimits
from schemas.topics import ACCOUNT_INPUTS, BACKTEST_REQUESTS, STRATEGY_INPUTS, VENUE_COMMANDS
from web.scopes import (
    BACKTEST,
    BREAKER_RESET,
    BREAKER_TRIP,
    CONFIG_WRITE,
    RISK_WRITE,
    TRADE,
)
from web.views.configured import configured
from web.views.models import Views
from web.views.orders import OrderRow

_OF_TOPIC = {
    ACCOUNT_INPUTS: (TRADE, RISK_WRITE, BREAKER_TRIP, BREAKER_RESET, CONFIG_WRITE),
    STRATEGY_INPUTS: (TRADE,),
    VENUE_COMMANDS: (TRADE,),
    BACKTEST_REQUESTS: (BACKTEST,),
}
_NO_COMMANDS = (
    CheckOrder,
    Instrument,
    CorporateAction,
    ExchangeRate,
    InstrumentStatus,
    ReferencePrice,
)
_OF_COMMAND: dict[type[Any], str] = {
    SetLimits: RISK_WRITE,
    Kill: RISK_WRITE,
    SetAutonomy: CONFIG_WRITE,
}


def scopes_of(topic: str, record: Header | None) -> tuple[str, ...]:
    """Return the scopes that a record takes besides that of the route, as its own route names them.

    One that cannot be read here (None) may be any of its topic.
    """
    if record is None or topic != ACCOUNT_INPUTS:
        return _OF_TOPIC.get(topic, ())
    if isinstance(record, _NO_COMMANDS):
        return ()
    if isinstance(record, SetBreaker):
        return (BREAKER_RESET if record.state is BreakerState.ACTIVE else BREAKER_TRIP,)
    return (_OF_COMMAND.get(type(record), TRADE),)


def why_unusable(views: Views, topic: str, record: Header | None) -> str:
    """Return why the account stage would refuse a record again, empty if nothing is known of it."""
    if topic != ACCOUNT_INPUTS or record is None:
        return ""
    for kinds, check in _CHECKS:
        if isinstance(record, kinds) and (reason := check(views, record)):
            return reason
    return ""


def _of_account(views: Views, record: Any) -> str:
    known = {a.account_id for a in configured(views.system.manifest).accounts.accounts}
    known |= set(views.portfolio.account_ids())
    # A run that has told of no account yet may have any.
    if not known or record.account_id in known:
        return ""
    return f"account {record.account_id} is not known"


def _submit(views: Views, record: SubmitOrder) -> str:
    row = views.orders.find(record.client_order_id, record.account_id)
    if row is not None and row.events:
        return f"order {record.client_order_id} exists already"
    return _of_instrument(views, record)


def _of_instrument(views: Views, record: Any) -> str:
    known = views.market.instruments
    if not known or record.instrument_id in known:
        return ""
    return f"instrument {record.instrument_id} is not known"


def _approve(views: Views, record: ApproveOrder) -> str:
    waits = frozenset({OrderStatus.PENDING_APPROVAL})
    return _stands(views, record, lambda row: row.status in waits, "does not wait for approval")


def _cancel(views: Views, record: CancelOrder) -> str:
    open_ = {*TRANSITIONS[Step.REQUEST_CANCEL], OrderStatus.PENDING_APPROVAL}
    return _stands(views, record, lambda row: row.status in open_, "cannot be canceled")


def _replace(views: Views, record: ReplaceOrder) -> str:
    working = TRANSITIONS[Step.REPLACE].keys() - {OrderStatus.PENDING_CANCEL}
    return _stands(views, record, lambda row: row.status in working, "cannot be replaced")


def _report(views: Views, record: VenueReport) -> str:
    return _stands(views, record, lambda row: row.status not in CLOSED, "has ended")


def _stands(views: Views, record: Any, is_fit: Callable[[OrderRow], bool], words: str) -> str:
    """Return why an order is not one that a record may be about."""
    row = views.orders.find(record.client_order_id, record.account_id)
    if row is None:
        # Where the order began before what is known here, the stage has the word.
        is_none = views.orders.knows_all_open
        return f"order {record.client_order_id} is not known, or has ended" if is_none else ""
    if is_fit(row):
        return ""
    return f"order {record.client_order_id} {words}: it is {row.status.value}"


def _limits(views: Views, record: SetLimits) -> str:
    for name in record.limits.__struct_fields__:
        bound = getattr(record.limits, name)
        if isinstance(bound, (Decimal, float)) and not math.isfinite(bound):
            return f"{name} of {bound} is no bound"
    return ""


def _breaker(views: Views, record: SetBreaker) -> str:
    is_without = record.state is BreakerState.ACTIVE and not record.reason.strip()
    return "a breaker is not reset without a reason" if is_without else ""


def _rate(views: Views, record: ExchangeRate) -> str:
    is_good = record.rate.is_finite() and record.rate > 0
    return "" if is_good else f"rate {record.rate} is no positive number"


_ORDER_COMMANDS = (SubmitOrder, ApproveOrder, CancelOrder, ReplaceOrder, VenueReport)
_CHECKS: tuple[tuple[Any, Callable[[Views, Any], str]], ...] = (
    (_ORDER_COMMANDS, _of_account),
    (SubmitOrder, _submit),
    (ApproveOrder, _approve),
    (CancelOrder, _cancel),
    (ReplaceOrder, _replace),
    (VenueReport, _report),
    (CorporateAction, _of_instrument),
    (SetLimits, _limits),
    (SetBreaker, _breaker),
    (ExchangeRate, _rate),
)
