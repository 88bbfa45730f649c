"""What an order asks for, on the grids of its instrument, or why it cannot be taken."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from agents.venue.book import Resting
from schemas.commands import VenueReplace, VenueSubmit
from schemas.enums import OrderType, TimeInForce
from schemas.values import Grid

_NEEDS_LIMIT = frozenset((OrderType.LIMIT, OrderType.STOP_LIMIT))
_NEEDS_STOP = frozenset((OrderType.STOP, OrderType.STOP_LIMIT))


class Terms(NamedTuple):
    """Quantity in units, prices in ticks."""

    quantity: int
    limit: int | None
    stop: int | None


class Refusal(NamedTuple):
    """Why a command is refused: a stable code, and words."""

    code: str
    detail: str = ""


def read_terms(command: VenueSubmit, grid: Grid, lots: Grid) -> Terms | Refusal:
    """Return the terms of a new order on its price grid and quantity grid ``lots``."""
    kind = command.order_type
    if command.is_post_only:
        is_immediate = command.time_in_force in (TimeInForce.IOC, TimeInForce.FOK)
        if kind is not OrderType.LIMIT or is_immediate:
            return Refusal("POST_ONLY", "only a limit order that may rest can be post-only")
    return _terms(kind, command.quantity, command.limit_price, command.stop_price, grid, lots)


def changed_terms(order: Resting, command: VenueReplace, grid: Grid, lots: Grid) -> Terms | Refusal:
    """Return the terms of an order after a replace; a price of None stays as it is."""
    terms = _terms(
        order.order_type,
        command.quantity,
        _kept(command.limit_price, order.limit, grid),
        _kept(command.stop_price, order.stop, grid),
        grid,
        lots,
    )
    if isinstance(terms, Terms) and terms.quantity <= order.filled:
        filled = lots.to_decimal(order.filled)
        return Refusal("FILLED_MEANWHILE", f"{filled} of {command.quantity} are filled already")
    return terms


def _kept(price: Decimal | None, ticks: int | None, grid: Grid) -> Decimal | None:
    if price is None and ticks is not None:
        return grid.to_decimal(ticks)
    return price


def _terms(
    kind: OrderType,
    quantity: Decimal,
    limit_price: Decimal | None,
    stop_price: Decimal | None,
    grid: Grid,
    lots: Grid,
) -> Terms | Refusal:
    units = lots.from_decimal(quantity)
    if units is None:
        return Refusal("OFF_GRID", f"quantity {quantity} is not a multiple of {lots.increment}")
    if units <= 0:
        return Refusal("INVALID_QUANTITY", f"quantity {quantity} is not positive")
    limit = _ticks("limit", limit_price, kind, kind in _NEEDS_LIMIT, grid)
    if isinstance(limit, Refusal):
        return limit
    stop = _ticks("stop", stop_price, kind, kind in _NEEDS_STOP, grid)
    if isinstance(stop, Refusal):
        return stop
    return Terms(units, limit, stop)


def _ticks(
    name: str, price: Decimal | None, kind: OrderType, is_needed: bool, grid: Grid
) -> int | Refusal | None:
    if (price is not None) is not is_needed:
        want = "needs a" if is_needed else "takes no"
        return Refusal("INVALID_PRICE", f"a {kind.value} order {want} {name} price")
    if price is None:
        return None
    ticks = grid.from_decimal(price)
    if ticks is None:
        return Refusal("OFF_GRID", f"{name} {price} is not a multiple of {grid.increment}")
    if ticks <= 0:
        return Refusal("INVALID_PRICE", f"{name} {price} is not positive")
    return ticks
