"""What the checks look at: an order with its slot, and what follows from both.

Everything is computed once, before the first check, because most orders pass all of them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from agents.account.slots import Book, Slot
from schemas.commands import SubmitOrder
from schemas.enums import AutonomyMode, Side
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
        text = f"{self.measured} against {self.limit}"
        if self.scope:
            text += f" ({self.scope})"
        return f"{text}; {self.detail}" if self.detail else text


class Intent:
    """An order that asks to go, at ``now_ns`` (int64 ns UTC).

    ``signed`` is its quantity, negative when it sells; ``worst`` the position if this order and all
    that work on its side fill. ``is_exit``: it is reduce-only and no larger than what its strategy
    holds against it, so no bound on its size holds it: the venue fills no more of it than is held.
    ``is_reducing``: it makes the account's net position smaller whatever else fills, or is an exit;
    ``is_closing()`` is the same of the strategy's own position. The two differ where strategies of
    an account hold the opposite of each other. ``price`` is what it was decided on, on the grid,
    None if there is none; ``order_price`` is at which it counts: its limit, else ``price``.
    ``unit`` and ``notional`` are the worth of one unit and of the order in the account's base
    currency at that price (0 without price or rate: ``check_price`` denies such an order before
    anything looks at them). ``equity`` is the account's marked equity, for the loss checks.
    """

    __slots__ = (
        "autonomy",
        "book",
        "command",
        "equity",
        "initial_margin",
        "is_exit",
        "is_reducing",
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
        self.equity = 0.0
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
        # Reducing only if the position stays on its side even when all that works fills; an exit
        # cannot turn its own: the venue fills no more of it than its strategy holds then.
        self.is_exit = command.is_reduce_only and quantity <= self._held_against()
        self.is_reducing = self.is_exit or quantity + working <= against
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
        room = self._held_against() - self.command.quantity
        if self.is_exit or room < 0:
            return self.is_exit
        return self._own_working() <= room

    def can_exit_short(self) -> bool:
        """Return whether an exit that sells, and all sells that work, could leave a net short.

        The venue fills exits no further than their strategy holds, so all orders of the strategy
        sell at most what it holds, or what works if that is more. A plain order that fills after an
        exit, such as a stop, is not looked at: exits must go though one works.
        """
        holding, own, working = self.slot.holding, self._held_against(), self._own_working()
        sold = min(working + self.command.quantity, max(own, working))
        return holding.quantity - (holding.working_sell - working) - sold < 0

    def _own_working(self) -> Decimal:
        """Return what works for the strategy on the order's side; walks all open orders."""
        found, asked = ZERO, self.command
        for order_id in self.slot.account.open_orders:
            order = self.slot.account.orders[order_id]
            other = order.command
            if (
                other.strategy_id == asked.strategy_id
                and other.instrument_id == asked.instrument_id
                and other.side is asked.side
            ):
                found += order.leaves() + order.pending_increase
        return found

    def added_exposure(self) -> Decimal:
        """Return by how much the instrument's worst case grows, in units (0 if it does not)."""
        holding = self.slot.holding
        held = holding.quantity
        before = max(abs(held + holding.working_buy), abs(held - holding.working_sell))
        added = abs(self.worst) - before
        return added if added > 0 else ZERO


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
