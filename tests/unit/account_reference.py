"""A naive account stage: a ledger in fractions, and orders that are plain numbers and states.

Nothing is kept up that can be counted again. Of the gate it knows the breaker of everything, the
number of open orders and the largest position; whoever uses it lets no other check deny.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import msgspec

from schemas.commands import ReplaceOrder, SubmitOrder
from schemas.enums import BreakerState, OrderStatus, Side
from schemas.instruments import CorporateAction, Instrument
from schemas.order_events import (
    Fill,
    VenueAccepted,
    VenueCanceled,
    VenueExpired,
    VenueRejected,
    VenueReplaced,
    VenueReport,
    VenueTriggered,
)

S = OrderStatus
WORKING = (S.SUBMITTED, S.ACCEPTED, S.TRIGGERED, S.PARTIALLY_FILLED)
OPEN = (*WORKING, S.PENDING_CANCEL)
STEPS: dict[type[VenueReport], dict[OrderStatus, OrderStatus]] = {
    VenueAccepted: {S.SUBMITTED: S.ACCEPTED},
    VenueTriggered: {S.ACCEPTED: S.TRIGGERED, S.PARTIALLY_FILLED: S.PARTIALLY_FILLED},
    VenueReplaced: {state: state for state in (S.ACCEPTED, S.TRIGGERED, S.PARTIALLY_FILLED)},
}
ENDS: dict[type[VenueReport], OrderStatus] = {
    VenueCanceled: S.CANCELED,
    VenueExpired: S.EXPIRED,
    VenueRejected: S.REJECTED,
}


def is_near(value: Any, exact: Fraction, parts: int) -> bool:
    """Return whether a number is exact to one of ``parts`` parts of a unit."""
    return abs(Fraction(value) - exact) < Fraction(1, parts)


@dataclass
class NaivePosition:
    """One position: every share is worth its own lot; ``average`` is the mean cost of what is open.

    Amounts are in the instrument's currency; results are before fees.
    """

    instrument: Instrument
    lots: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    average: Fraction = Fraction(0)
    realized: Fraction = Fraction(0)
    realized_fifo: Fraction = Fraction(0)
    fees: Fraction = Fraction(0)
    dividends: Fraction = Fraction(0)

    @property
    def quantity(self) -> Fraction:
        """Return the signed quantity."""
        return sum((quantity for quantity, _ in self.lots), Fraction(0))

    def trade(self, signed: Fraction, price: Fraction, fee: Fraction) -> None:
        """Buy (positive) or sell."""
        multiplier = Fraction(self.instrument.multiplier)
        self.fees += fee
        while signed and self.lots and (self.lots[0][0] > 0) != (signed > 0):
            held, cost = self.lots[0]
            closed = held if abs(held) <= abs(signed) else -signed
            self.realized += closed * (price - self.average) * multiplier
            self.realized_fifo += closed * (price - cost) * multiplier
            self.lots[0] = (held - closed, cost)
            if held == closed:
                del self.lots[0]
            signed += closed
        if signed:
            held = self.quantity
            self.average = (self.average * held + price * signed) / (held + signed)
            self.lots.append((signed, price))
        elif not self.lots:
            self.average = Fraction(0)

    def split(self, ratio: Fraction, price: Fraction) -> Fraction:
        """Make every share ``ratio`` shares; return the cash for what is no whole increment."""
        self.lots = [(quantity * ratio, cost / ratio) for quantity, cost in self.lots]
        self.average /= ratio
        increment = Fraction(self.instrument.quantity_increment)
        units = self.quantity / increment
        whole = units.numerator // units.denominator
        if units < 0 and whole != units:
            whole += 1
        odd = (units - whole) * increment
        if odd:
            self.trade(-odd, price, Fraction(0))
        return odd * price * Fraction(self.instrument.multiplier)


class NaiveLedger:
    """Positions by account, strategy and instrument, and cash by account and currency."""

    def __init__(self, cash: dict[str, Fraction], listed: list[Instrument]) -> None:
        self.listed = {item.instrument_id: item for item in listed}
        self.cash = {name: defaultdict(Fraction, {"USD": amount}) for name, amount in cash.items()}
        self.positions: dict[tuple[str, str, str], NaivePosition] = {}

    def fill(self, execution: Fill) -> NaivePosition:
        """Apply an execution; return its position."""
        instrument = self.listed[execution.instrument_id]
        key = (execution.account_id, execution.strategy_id, execution.instrument_id)
        position = self.positions.setdefault(key, NaivePosition(instrument))
        quantity, price = Fraction(execution.quantity), Fraction(execution.price)
        signed = quantity if execution.side is Side.BUY else -quantity
        position.trade(signed, price, Fraction(execution.fee))
        cash = self.cash[execution.account_id]
        cash[instrument.currency] -= signed * price * Fraction(instrument.multiplier)
        cash[instrument.currency] -= Fraction(execution.fee)
        return position

    def act(self, action: CorporateAction, price: Fraction | None) -> None:
        """Apply a split or a dividend; ``price`` is the last one on the new share count, if any."""
        for (account_id, _, instrument_id), position in self.positions.items():
            if instrument_id != action.instrument_id:
                continue
            cash, item = self.cash[account_id], position.instrument
            if action.kind == "SPLIT":
                ratio = Fraction(action.ratio)
                cash[item.currency] += position.split(ratio, price or position.average / ratio)
            else:
                paid = position.quantity * Fraction(action.amount) * Fraction(item.multiplier)
                position.dividends += paid
                cash[action.currency] += paid

    def of(self, account_id: str, strategy_id: str, instrument_id: str) -> Fraction:
        """Return what one strategy holds of an instrument."""
        position = self.positions.get((account_id, strategy_id, instrument_id))
        return Fraction(0) if position is None else position.quantity

    def held(self, account_id: str) -> dict[str, Fraction]:
        """Return what an account holds of each instrument, its strategies together."""
        sums: dict[str, Fraction] = defaultdict(Fraction)
        for (owner, _, instrument_id), position in self.positions.items():
            if owner == account_id:
                sums[instrument_id] += position.quantity
        return sums


@dataclass
class NaiveOrder:
    """One order; ``increase`` is what a replace on its way (``is_replacing``) would add.

    ``before`` is the state that a refused cancel goes back to.
    """

    command: SubmitOrder
    quantity: Fraction
    status: OrderStatus
    before: OrderStatus = S.INITIALIZED
    filled: Fraction = Fraction(0)
    increase: Fraction = Fraction(0)
    is_replacing: bool = False
    trades: set[str] = field(default_factory=set)

    def may_trade(self) -> Fraction:
        """Return what counts against the limits."""
        return self.quantity - self.filled + self.increase if self.status in OPEN else Fraction(0)

    def move(self, status: OrderStatus) -> None:
        """Go on to ``status``, behind the pending cancel if there is one."""
        if self.status is S.PENDING_CANCEL and status in WORKING:
            self.before = status
        else:
            self.status = status


class NaiveStage:
    """Orders, breaker and ledger; every method says what the stage should make of its record."""

    def __init__(self, ledger: NaiveLedger, position_max: int, open_orders_max: int) -> None:
        self.ledger = ledger
        self.position_max = position_max
        self.open_orders_max = open_orders_max
        self.breaker = BreakerState.ACTIVE
        self.orders: dict[tuple[str, str], NaiveOrder] = {}
        self.prices: dict[str, float] = {}
        self.euro = Fraction(1)

    def judge(self, command: SubmitOrder, quantity: Fraction, old: NaiveOrder | None = None) -> str:
        """Return the code with which an order is denied, empty if it passes.

        ``old`` is what it takes the place of.
        """
        account_id, instrument_id = command.account_id, command.instrument_id
        others = [
            order
            for (owner, _), order in self.orders.items()
            if owner == account_id and order is not old
        ]
        beside = [
            order
            for order in others
            if order.command.instrument_id == instrument_id and order.command.side is command.side
        ]
        working = sum(order.may_trade() for order in beside)
        held = self.ledger.held(account_id)[instrument_id]
        sign = 1 if command.side is Side.BUY else -1
        own = self.ledger.of(account_id, command.strategy_id, instrument_id)
        own_working = sum(
            order.may_trade()
            for order in beside
            if order.command.strategy_id == command.strategy_id and not command.is_reduce_only
        )
        reduces = (sign * held < 0 and working + quantity <= abs(held)) or (
            sign * own < 0 and own_working + quantity <= abs(own)
        )
        if self.breaker is BreakerState.HALTED:
            return "BREAKER_HALTED"
        if self.breaker is BreakerState.REDUCING and not reduces:
            return "BREAKER_REDUCING"
        if not command.decision_price and instrument_id not in self.prices:
            return "NO_PRICE"
        if command.is_reduce_only and sign * own >= 0:
            return "REDUCE_ONLY"
        is_exit = command.is_reduce_only and quantity <= abs(own)
        if not is_exit and sum(order.status in OPEN for order in others) >= self.open_orders_max:
            return "OPEN_ORDERS"
        if not reduces and abs(held + sign * (working + quantity)) > self.position_max:
            return "MAX_POSITION"
        return ""

    def submit(self, command: SubmitOrder) -> str | None:
        """Return the code of the decision, None if the id is used already."""
        key = (command.account_id, command.client_order_id)
        if key in self.orders:
            return None
        quantity = Fraction(command.quantity)
        code = self.judge(command, quantity)
        self.orders[key] = NaiveOrder(command, quantity, S.DENIED if code else S.SUBMITTED)
        return code

    def replace(self, order: NaiveOrder, command: ReplaceOrder) -> str | None:
        """Return the code of the decision, None if the order cannot be replaced."""
        assert command.quantity is not None
        quantity = Fraction(command.quantity)
        is_replaceable = order.status in WORKING and order.status is not S.SUBMITTED
        if not is_replaceable or order.is_replacing or quantity <= order.filled:
            return None
        undecided = msgspec.structs.replace(order.command, decision_price=0.0)
        code = self.judge(undecided, quantity - order.filled, order)
        if not code:
            order.is_replacing = True
            order.increase = max(quantity - order.quantity, Fraction(0))
        return code

    def cancel(self, order: NaiveOrder) -> bool:
        """Return whether the cancel goes to the venue."""
        if order.status not in WORKING:
            return False
        order.before, order.status = order.status, S.PENDING_CANCEL
        return True

    def report(self, order: NaiveOrder, report: VenueReport) -> bool:
        """Apply a venue's report; return whether it is legal."""
        if isinstance(report, VenueRejected) and report.command != "submit":
            if report.command == "replace":
                order.increase, order.is_replacing = Fraction(0), False
            elif order.status is S.PENDING_CANCEL:
                order.status = order.before
            return True
        if order.status not in OPEN:
            return False
        if isinstance(report, Fill):
            return self._fill(order, report)
        is_pending = order.status is S.PENDING_CANCEL
        if type(report) in ENDS:
            is_answer = is_pending or order.status is S.SUBMITTED
            if isinstance(report, VenueRejected) and not is_answer:
                return False
            order.status = ENDS[type(report)]
            return True
        known = order.before if is_pending else order.status
        after = STEPS[type(report)].get(known)
        if after is None and not is_pending:
            return False
        if isinstance(report, VenueReplaced):
            order.quantity, order.increase = Fraction(report.quantity), Fraction(0)
            order.is_replacing = False
        order.move(after or known)
        return True

    def _fill(self, order: NaiveOrder, report: Fill) -> bool:
        quantity = Fraction(report.quantity)
        if order.filled + quantity > order.quantity or report.trade_id in order.trades:
            return False
        order.trades.add(report.trade_id)
        order.filled += quantity
        if order.filled == order.quantity:
            order.status = S.FILLED
        else:
            order.move(S.PARTIALLY_FILLED)
        self.ledger.fill(report)
        return True

    def act(self, action: CorporateAction) -> None:
        """Apply a split or a dividend to price, positions and open orders."""
        name, ratio = action.instrument_id, Fraction(action.ratio)
        price: Fraction | None = None
        if action.kind == "SPLIT" and name in self.prices:
            self.prices[name] /= float(action.ratio)
            grid = self.ledger.listed[name].price_grid()
            price = Fraction(grid.nearest(self.prices[name]))
        self.ledger.act(action, price)
        if action.kind != "SPLIT":
            return
        for order in self.orders.values():
            if order.status in OPEN and order.command.instrument_id == name:
                asked = (order.quantity + order.increase) * ratio // 1
                order.quantity = Fraction(order.quantity * ratio // 1)
                order.filled = Fraction(order.filled * ratio // 1)
                order.increase = asked - order.quantity

    def worth(self, account_id: str, instrument_id: str, held: Fraction) -> Fraction:
        """Return the worth of a holding in dollars, at average cost where there is no price."""
        item = self.ledger.listed[instrument_id]
        if instrument_id in self.prices:
            unit = Fraction(self.prices[instrument_id])
        else:
            positions = [
                position
                for (owner, _, name), position in self.ledger.positions.items()
                if (owner, name) == (account_id, instrument_id)
            ]
            units = sum(abs(position.quantity) for position in positions)
            cost = sum(abs(position.quantity) * position.average for position in positions)
            unit = cost / units if units else Fraction(0)
        rate = self.euro if item.currency == "EUR" else 1
        return held * unit * Fraction(item.multiplier) * rate

    def equity(self, account_id: str) -> tuple[Fraction, Fraction]:
        """Return equity and gross exposure of an account in dollars."""
        ledger = self.ledger
        cash = ledger.cash[account_id]["USD"] + ledger.cash[account_id]["EUR"] * self.euro
        values = [self.worth(account_id, *item) for item in ledger.held(account_id).items()]
        return cash + sum(values), sum(map(abs, values), Fraction(0))
