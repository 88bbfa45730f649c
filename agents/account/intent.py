"""What the checks look at: an order with its slot, and what follows from both.

Everything is computed once, before the first check, because most orders pass all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

from agents.account.slots import Book, Slot
from agents.account.state import Order
from schemas.commands import SubmitOrder
from schemas.enums import AutonomyMode, OrderStatus, OrderType, Side, TimeInForce
from schemas.errors import DataError
from schemas.values import ZERO


class Denial(NamedTuple):
    """Why an order may not go: stable code, measured value, limit, and whose limit it is."""

    code: str
    measured: str = ""
    limit: str = ""
    scope: str = ""
    detail: str = ""

    def in_words(self) -> str:
        """Return the denial as people read it."""
        text = _WORDS.get(self.code, _AGAINST).format(self.measured, self.limit)
        if self.scope:
            text += f" ({self.scope})"
        return f"{text}; {self.detail}" if self.detail else text


_AGAINST = "{} against {}"
_WORDS = {
    "ORDER_INVALID": "{} where it needs {}",
    "INSTRUMENT_UNKNOWN": "{} is not {}",
    "INSTRUMENT_NOT_TRADABLE": "the instrument is {}",
    "NOT_ALLOWED": "{} is not on the {}",
    "DENY_LISTED": "{} is on the {}",
    "INSTRUMENT_HALTED": "the instrument is {}, not {}",
    "BREAKER_HALTED": "the breaker lets no new orders pass",
    "BREAKER_REDUCING": "it {}, and the breaker lets pass {}",
    "OBSERVE_ONLY": "{1}",
    "COMMAND_EXPIRED": "it is {}, and the command ended at {}",
    "SESSION_CLOSED": "{} lies outside of the sessions of {}",
    "PRICE_OFF_GRID": "price {} is no multiple of {}",
    "QUANTITY_OFF_GRID": "quantity {} is no multiple of {}",
    "QUANTITY_BELOW_MIN": f"quantity {_AGAINST}",
    "QUANTITY_ABOVE_MAX": f"quantity {_AGAINST}",
    "NO_RATE": "no exchange rate leads from {} to {}",
    "NO_PRICE": "there is no price: it needs {1}",
    "PRICE_STALE": f"age of the price {_AGAINST}",
    "PRICE_COLLAR": f"distance from the price {_AGAINST}",
    "NOTIONAL_BELOW_MIN": f"worth {_AGAINST}",
    "NOTIONAL_ABOVE_MAX": f"worth {_AGAINST}",
    "REDUCE_ONLY": "an order for {} needs {}",
    "LONG_ONLY": f"position could become {_AGAINST}",
    "NOT_SHORTABLE": f"position could become {_AGAINST}",
    "OPEN_ORDERS": f"open orders {_AGAINST}",
    "ORDER_RATE": f"orders {_AGAINST}",
    "DUPLICATE_INTENT": f"age of the same order {_AGAINST}",
    "SELF_MATCH": "it could trade with {} of the same account",
    "MAX_POSITION": f"position could become {_AGAINST}",
    "MAX_POSITION_NOTIONAL": f"position could be worth {_AGAINST}",
    "DAILY_LOSS": f"loss of the day {_AGAINST}",
    "DRAWDOWN": f"fall from the peak {_AGAINST}",
    "GROSS_EXPOSURE": f"gross exposure could become {_AGAINST}",
    "NET_EXPOSURE": f"net exposure could become {_AGAINST}",
    "BUYING_POWER": f"worth {_AGAINST}",
    "NOT_APPROVED": "refused by a person",
    "CANCELED_BY_OWNER": "taken back while it waited for approval",
}
"""Denials as people read them, of what was measured and the limit."""


class Working(NamedTuple):
    """What works for a strategy on one side: plain orders, exits, and orders on their way out.

    Exits fill nothing once the position is closed, and those on their way out are gone by then:
    their cancel was sent before.
    """

    plain: Decimal = ZERO
    exits: Decimal = ZERO
    leaving: Decimal = ZERO

    def others(self) -> Decimal:
        """Return what works but for plain orders."""
        return self.exits + self.leaving


_NONE = Working()


class Intent:
    """An order that asks to go, at ``now_ns`` (int64 ns UTC).

    ``signed`` is its quantity, negative when it sells; ``worst`` the position if this order and all
    that work on its side fill. ``is_exit``: it is reduce-only and no larger than what its strategy
    holds against it, so no bound on its size holds it: the venue fills no more of it than is held.
    ``is_reducing``: it makes the account's net position smaller whatever else fills;
    ``is_closing()`` is the same of the strategy's own position. The two differ where strategies of
    an account hold the opposite of each other. ``makes_way``: it is judged as if the plain orders
    ``in_the_way()`` were canceled before it. ``price`` is what it was decided on, on the grid,
    None if there is none; ``order_price`` is at which it counts: its limit, else ``price``.
    ``unit`` and ``notional`` are the worth of one unit and of the order in the account's base
    currency at that price (0 without price or rate: ``check_price`` denies such an order before
    anything looks at them). ``equity`` is the account's at this place, and ``day_start`` that
    with which the day began, for the loss checks.
    """

    __slots__ = (
        "autonomy",
        "book",
        "command",
        "day_start",
        "equity",
        "initial_margin",
        "is_exit",
        "is_reducing",
        "makes_way",
        "notional",
        "now_ns",
        "order_price",
        "price",
        "signed",
        "slot",
        "unit",
        "worst",
    )

    def __init__(
        self,
        command: SubmitOrder,
        slot: Slot,
        book: Book,
        now_ns: int,
        autonomy: AutonomyMode,
        initial_margin: Decimal,
    ) -> None:
        self.command = command
        self.slot = slot
        self.book = book
        self.now_ns = now_ns
        self.autonomy = autonomy
        self.initial_margin = initial_margin
        self.equity = self.day_start = 0.0
        self.makes_way = False
        holding, quantity = slot.holding, command.quantity
        held = holding.quantity
        if command.side is Side.BUY:
            self.signed = quantity
            against, working = -held, holding.working_buy
            self.worst = held + working + quantity
        else:
            self.signed = -quantity
            against, working = held, holding.working_sell
            self.worst = held - working - quantity
        self.is_exit = command.is_reduce_only and quantity <= self._held_against()
        # Reducing only if the position stays on its side even when all that works fills.
        self.is_reducing = quantity + working <= against
        decided = command.decision_price
        price = _on_grid(slot, decided) if decided > 0 else book.price(slot)
        order_price = price if command.limit_price is None else command.limit_price
        self.price = price
        self.order_price = order_price
        factor = slot.factor
        if order_price is None or factor is None:
            self.unit = self.notional = ZERO
        else:
            self.unit = order_price if slot.is_plain else order_price * factor
            self.notional = quantity * self.unit

    def _held_against(self) -> Decimal:
        """Return what the strategy holds on the other side, negative if it is on the order's."""
        own = self.slot.position.quantity
        return own if self.signed < 0 else -own

    def is_closing(self) -> bool:
        """Return whether the order makes its strategy's position smaller whatever else fills.

        Walks the account's open orders, so checks ask only when they are about to deny.
        """
        held, quantity = self._held_against(), self.command.quantity
        own = self._working().get(self.slot.strategy_id, _NONE)
        if self.is_exit:
            return not own.plain or own.plain + min(own.others() + quantity, held) <= held
        return quantity <= held and own.plain + own.others() <= held - quantity

    def can_exit_short(self) -> bool:
        """Return whether an exit that sells, and all sells that work, could leave a net short.

        The venue fills exits no further than their strategy holds, so the exits of a strategy sell
        at most that. A plain order that works beside them may fill after all of them.
        """
        slot, sold = self.slot, ZERO
        working = self._working()
        own = working.get(slot.strategy_id, _NONE)
        working[slot.strategy_id] = own._replace(exits=own.exits + self.command.quantity)
        for strategy_id, sells in working.items():
            position = slot.account.positions.get(f"{strategy_id}|{slot.instrument_id}")
            held = ZERO if position is None else position.quantity
            sold += sells.plain + min(sells.others(), max(held, sells.leaving))
        return slot.holding.quantity - sold < 0

    def _working(self) -> dict[str, Working]:
        """Return what works on the order's side of its instrument, by strategy."""
        found: dict[str, Working] = {}
        for order in self._orders_beside():
            known = found.get(order.command.strategy_id, _NONE)
            left = order.leaves() + order.pending_increase
            is_own = order.command.strategy_id == self.slot.strategy_id
            if order.command.is_reduce_only:
                known = known._replace(exits=known.exits + left)
            elif not _can_fill_after(order) or (is_own and self.makes_way):
                known = known._replace(leaving=known.leaving + left)
            else:
                known = known._replace(plain=known.plain + left)
            found[order.command.strategy_id] = known
        return found

    def _orders_beside(self) -> Iterator[Order]:
        """Yield the account's open orders on the order's side; walks all open orders."""
        asked = self.command
        for order_id in self.slot.account.open_orders:
            order = self.slot.account.orders[order_id]
            other = order.command
            if other.instrument_id == asked.instrument_id and other.side is asked.side:
                yield order

    def in_the_way(self) -> list[Order]:
        """Return the strategy's plain orders that could fill after it and turn the position."""
        return [
            order
            for order in self._orders_beside()
            if order.command.strategy_id == self.slot.strategy_id and _can_fill_after(order)
        ]

    def closes_all(self) -> bool:
        """Return whether it is an exit of all that its strategy holds, and lasts until it fills."""
        command = self.command
        return (
            self.is_exit
            and command.order_type is OrderType.MARKET
            and command.time_in_force is TimeInForce.GTC
            and command.quantity == self._held_against()
        )

    def added_exposure(self) -> Decimal:
        """Return by how much the instrument's worst case grows, in units (0 if it does not)."""
        holding = self.slot.holding
        held = holding.quantity
        before = max(abs(held + holding.working_buy), abs(held - holding.working_sell))
        added = abs(self.worst) - before
        return added if added > 0 else ZERO


def _can_fill_after(order: Order) -> bool:
    """Return whether an order may still fill when an exit sent now has closed the position."""
    return not order.command.is_reduce_only and order.status is not OrderStatus.PENDING_CANCEL


def _on_grid(slot: Slot, price: float) -> Decimal | None:
    """Return a price on the grid; None for one that is 0 there, or beyond what the grid holds."""
    try:
        return slot.price_grid.nearest(price) or None
    except DataError:
        return None


def impossible(command: SubmitOrder) -> Denial | None:
    """Deny numbers that nothing can be computed with: no check could stand them."""
    for name in ("quantity", "limit_price", "stop_price"):
        value: Decimal | None = getattr(command, name)
        if value is not None and not value.is_finite():
            return Denial("ORDER_INVALID", str(value), f"a finite {name}", "order")
    if "|" in command.strategy_id:
        return Denial("ORDER_INVALID", command.strategy_id, "a strategy id without |", "order")
    return None


def fingerprint(command: SubmitOrder) -> tuple[object, ...]:
    """Return what two submits with one client order id must share to be the same request."""
    return (
        command.strategy_id,
        command.instrument_id,
        command.side,
        command.quantity,
        command.order_type,
        command.limit_price,
        command.stop_price,
        command.time_in_force,
        command.is_post_only,
        command.is_reduce_only,
    )
