"""An order at the venue, in integers of its instrument's grids."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.enums import LiquiditySide, OrderType, TimeInForce
from schemas.values import ZERO


class Change(msgspec.Struct, gc=True):
    """A cancel (``quantity`` 0) or replace on its way, in effect from ``due_ns``; ``cause`` is the command's id."""

    due_ns: int
    cause: str
    quantity: int = 0
    limit: int | None = None
    stop: int | None = None


class Resting(msgspec.Struct, gc=True):
    """One working order.

    ``sign`` 1 buys, -1 sells; ``limit`` and ``stop`` in ticks, ``quantity`` and ``filled`` in units. It sees events after
    position ``after`` of the loaded batch whose clock is at or past ``eligible_ns``. ``has_rested``: it saw an event that did not
    fill it, so it makes liquidity from then on. ``at`` is the next position at which something happens to it (-1: not
    known), ``row`` the tape row up to which that was looked for.
    """

    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    index: int
    sequence: int
    order_type: OrderType
    time_in_force: TimeInForce
    sign: int
    quantity: int
    limit: int | None
    stop: int | None
    is_reduce_only: bool
    eligible_ns: int
    expires_ns: int
    filled: int = 0
    fees: Decimal = ZERO
    is_triggered: bool = False
    has_rested: bool = False
    changes: list[Change] = []
    after: int = -1
    at: int = -1
    row: int = -1

    def is_stop(self) -> bool:
        """Return whether the order still waits for its trigger."""
        return self.stop is not None and not self.is_triggered

    def is_market(self) -> bool:
        """Return whether the order takes any price now."""
        return self.limit is None and not self.is_stop()

    def is_immediate(self) -> bool:
        """Return whether the first event decides the order's fate."""
        return self.time_in_force is TimeInForce.IOC or self.time_in_force is TimeInForce.FOK

    def venue_order_id(self) -> str:
        """Return the venue's name of the order."""
        return f"paper-{self.client_order_id}"


class Execution(msgspec.Struct, frozen=True):
    """What one event gives one order: ``price`` and ``reference`` in ticks, ``units``, instant, liquidity."""

    price: int
    reference: int
    units: int
    ts_ns: int
    liquidity: LiquiditySide


