"""Corporate actions on what the account stage has in mind beside positions and cash.

A split changes the orders that work or wait for approval, by the same rule as at the venue:
quantities down to the grid, prices to the nearest increment. A symbol change takes what stands by
the instrument's name (breaker, limits, lists, halt) along to the new one.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from typing import TYPE_CHECKING

import msgspec

from agents.account.intent import Denial
from agents.account.orders import base_of, restate
from agents.account.state import Account, Holding, Order
from agents.domain.limits import compose
from agents.processor import Outbox
from schemas.enums import OrderStatus, Scope, Side
from schemas.identifiers import derived_id
from schemas.instruments import CorporateAction, Instrument
from schemas.risk import LimitSet, SetLimits
from schemas.topics import RISK_LIMITS
from schemas.values import ZERO, Grid, on_share_count

if TYPE_CHECKING:
    from agents.account.stage import AccountStage

_WHO = "symbol change"


def scale_orders(
    stage: AccountStage,
    account: Account,
    action: CorporateAction,
    instrument: Instrument,
    now_ns: int,
    out: Outbox,
) -> None:
    """Scale an instrument's orders by a split and publish how they stand.

    One that waits for approval ends if nothing of it is left; a working one is canceled by the
    venue.
    """
    holding = account.holdings.get(action.instrument_id)
    if holding is None:
        return
    holding.working_buy = holding.working_sell = ZERO
    for order in _orders_of(account, action.instrument_id):
        _scale(order, action.ratio, instrument)
        if order.status is not OrderStatus.PENDING_APPROVAL:
            _count(holding, order)
        elif not order.quantity:
            _end(stage, account, order, instrument, action, now_ns, out)
            continue
        if order.leaves():
            restate(order, action.event_id, action.ts_event_ns, out)


def rename_orders(account: Account, action: CorporateAction, out: Outbox) -> None:
    """Bring an instrument's orders under its new name and publish how they stand."""
    for order in _orders_of(account, action.instrument_id):
        order.command = msgspec.structs.replace(order.command, instrument_id=action.new_symbol)
        restate(order, action.event_id, action.ts_event_ns, out)


def _orders_of(account: Account, instrument_id: str) -> list[Order]:
    """Return an instrument's orders that work or wait for approval."""
    orders = (account.orders[name] for name in (*account.open_orders, *account.pending_approval))
    return [order for order in orders if order.command.instrument_id == instrument_id]


def _scale(order: Order, ratio: Decimal, instrument: Instrument) -> None:
    quantities, prices = instrument.quantity_grid(), instrument.price_grid()

    def scaled(quantity: Decimal) -> Decimal:
        return quantities.floor(on_share_count(quantity, ratio, quantities.increment))

    asked, filled = scaled(order.quantity + order.pending_increase), scaled(order.filled)
    if order.filled:
        # What each share cost stays, whatever the grid leaves of their number.
        order.notional *= filled / (order.filled * ratio)
    order.quantity, order.filled = scaled(order.quantity), filled
    order.pending_increase = asked - order.quantity
    order.limit_price = _scaled_price(order.limit_price, ratio, prices)
    order.stop_price = _scaled_price(order.stop_price, ratio, prices)


def _scaled_price(price: Decimal | None, ratio: Decimal, grid: Grid) -> Decimal | None:
    """Return a price on the new share count: the nearest on the grid, at least one increment."""
    if price is None:
        return None
    units = (price / ratio / grid.increment).to_integral_value(ROUND_HALF_EVEN)
    return grid.to_decimal(max(int(units), 1))


def _count(holding: Holding, order: Order) -> None:
    if order.command.side is Side.BUY:
        holding.working_buy += order.leaves() + order.pending_increase
    else:
        holding.working_sell += order.leaves() + order.pending_increase


def _end(
    stage: AccountStage,
    account: Account,
    order: Order,
    instrument: Instrument,
    action: CorporateAction,
    now_ns: int,
    out: Outbox,
) -> None:
    """Deny an order that waits, of which a split leaves nothing."""
    increment, cause = str(instrument.quantity_increment), action.event_id
    denial = Denial("QUANTITY_BELOW_MIN", "0", increment, "instrument", "a split left nothing")
    stage.gate.deny(account, order, denial, base_of(order.command, cause), cause, now_ns, out)


def carry_over(stage: AccountStage, action: CorporateAction, now_ns: int, out: Outbox) -> None:
    """Let what stands by an instrument's name stand by its new one as well.

    The old name keeps it, since a breaker never resets itself; of two limit sets or breaker states
    the stricter holds. A halt that the venue has told of the new name itself holds before that of
    the old one.
    """
    old, new = action.instrument_id, action.new_symbol
    states = stage.book.states
    if old in states:
        states.setdefault(new, states.pop(old))
    before = stage.book.limits
    after = {key: _listed(limits, old, new) for key, limits in before.items()}
    carried = after.get(f"{Scope.INSTRUMENT}|{old}")
    if carried is not None:
        key = f"{Scope.INSTRUMENT}|{new}"
        known = after.get(key)
        after[key] = carried if known is None else compose([("", known), ("", carried)]).limits
    for key, limits in after.items():
        if before.get(key) != limits:
            _set(stage, key, limits, action, now_ns, out)
    state = stage.breakers.of(Scope.INSTRUMENT, old)
    if stage.breakers.is_stricter(Scope.INSTRUMENT, new, state):
        reason = stage.breakers.reasons.get(f"{Scope.INSTRUMENT}|{old}", "")
        reason = f"stood for {old}: {reason}"
        cause = action.event_id
        stage.gate.change_breaker(Scope.INSTRUMENT, new, state, _WHO, reason, cause, now_ns, out)


def _set(
    stage: AccountStage,
    key: str,
    limits: LimitSet,
    action: CorporateAction,
    now_ns: int,
    out: Outbox,
) -> None:
    cause = action.event_id
    scope, _, scope_id = key.partition("|")
    event_id = derived_id(f"account:limits:{key}", cause, 0)
    stage.book.limits[key] = limits
    applied = SetLimits(event_id, now_ns, cause, cause, Scope(scope), scope_id, limits, _WHO)
    out.append((RISK_LIMITS, applied))


def _listed(limits: LimitSet, old: str, new: str) -> LimitSet:
    """Return limits whose lists name an instrument under its new name too."""
    lists = {
        name: [*listed, new]
        for name in ("allow", "deny")
        if (listed := getattr(limits, name)) is not None and old in listed and new not in listed
    }
    return msgspec.structs.replace(limits, **lists) if lists else limits
