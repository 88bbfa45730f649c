"""Corporate actions on what the venue has in mind: working orders and commands on their way.

The order manager scales its copy of an order by the same rule: quantities down to the grid, prices
to the nearest increment, half to even.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from agents.processor import Outbox
from agents.venue.book import Book, Resting
from agents.venue.reports import Reporter
from schemas.commands import VenueCancel, VenueReplace
from schemas.enums import CorporateActionKind
from schemas.errors import RecordError
from schemas.instruments import CorporateAction, Universe
from schemas.values import ONE, Grid, on_share_count


def apply_action(
    book: Book,
    universe: Universe,
    action: CorporateAction,
    now_ns: int,
    reporter: Reporter,
    out: Outbox,
) -> list[Resting]:
    """Apply a corporate action; return the orders that it changed and that still work.

    Raises RecordError for a split whose ratio is not positive.
    """
    name = action.instrument_id
    if action.kind is CorporateActionKind.DIVIDEND:
        return []
    orders = [order for order in book.orders.values() if order.instrument_id == name]
    if action.kind is CorporateActionKind.SPLIT:
        return _split(book, universe, action, orders, now_ns, reporter, out)
    return _rename(book, universe, action, orders, now_ns, reporter, out)


def _split(
    book: Book,
    universe: Universe,
    action: CorporateAction,
    orders: list[Resting],
    now_ns: int,
    reporter: Reporter,
    out: Outbox,
) -> list[Resting]:
    ratio, instrument_id = action.ratio, action.instrument_id
    if not ratio > 0:
        raise RecordError(
            "the ratio of a split must be positive",
            field="ratio",
            value=str(ratio),
            remedy="give the new shares for one old share, such as 2",
        )
    left = []
    for order in orders:
        if scale_order(order, ratio):
            left.append(order)
        else:
            reporter.canceled(order, "SPLIT", now_ns, action.event_id, out)
            book.drop(order)
    index = universe.index(instrument_id)
    if index is not None:
        grid, lots = universe.price_grids[index], universe.quantity_grids[index]
        for task in book.agenda.tasks():
            if task.command is not None and task.command.instrument_id == instrument_id:
                task.command = scale_command(task.command, ratio, grid, lots)
    for key in book.positions:
        if key.endswith(f"|{instrument_id}"):
            book.positions[key] = scale_units(book.positions[key], ratio)
    if instrument_id in book.last:
        bid, ask = book.last[instrument_id]
        book.last[instrument_id] = (bid / float(ratio), ask / float(ratio))
    return left


def _rename(
    book: Book,
    universe: Universe,
    action: CorporateAction,
    orders: list[Resting],
    now_ns: int,
    reporter: Reporter,
    out: Outbox,
) -> list[Resting]:
    old = action.instrument_id
    before, name = universe.index(old), universe.new_id(action)
    after = None if name is None else universe.index(name)
    is_moving = before is not None and after is not None and _same_grids(universe, before, after)
    if not is_moving:
        for order in orders:
            reporter.canceled(order, "SYMBOL_CHANGE", now_ns, action.event_id, out)
            book.drop(order)
        orders = []
    if name is None or before is None or after is None:
        return []
    for order in orders:
        order.instrument_id, order.index = name, after
    for task in book.agenda.tasks():
        if task.command is not None and task.command.instrument_id == old:
            task.command = msgspec.structs.replace(task.command, instrument_id=name)
    lots, new_lots = universe.quantity_grids[before], universe.quantity_grids[after]
    for key in [key for key in book.positions if key.endswith(f"|{old}")]:
        # A strategy may hold the new instrument already; both are one position from now on.
        ratio = lots.increment / new_lots.increment
        moved = scale_units(book.positions.pop(key), ratio)
        new_key = f"{key.removesuffix(old)}{name}"
        book.positions[new_key] = book.positions.get(new_key, 0) + moved
    # What the venue has told of the new name itself holds before what it told of the old one.
    if old in book.last:
        book.last.setdefault(name, book.last.pop(old))
    if old in book.states:
        book.states.setdefault(name, book.states.pop(old))
    return orders


def scale_units(units: int, ratio: Decimal) -> int:
    """Return a quantity on the new share count, rounded towards 0."""
    return int(on_share_count(Decimal(units), ratio, ONE))


def scale_ticks(ticks: int, ratio: Decimal) -> int:
    """Return a price on the new share count: the nearest tick, half to even, at least 1."""
    numerator, denominator = ratio.as_integer_ratio()
    whole, rest = divmod(ticks * denominator, numerator)
    is_up = 2 * rest > numerator or (2 * rest == numerator and whole % 2 == 1)
    return max(whole + is_up, 1)


def scale_order(order: Resting, ratio: Decimal) -> bool:
    """Bring an order onto the new share count; return whether anything of it is left."""
    order.quantity = scale_units(order.quantity, ratio)
    order.filled = scale_units(order.filled, ratio)
    order.limit = None if order.limit is None else scale_ticks(order.limit, ratio)
    order.stop = None if order.stop is None else scale_ticks(order.stop, ratio)
    return order.quantity > order.filled


def scale_command(
    command: VenueReplace | VenueCancel, ratio: Decimal, grid: Grid, lots: Grid
) -> VenueReplace | VenueCancel:
    """Return a command on its way on the new share count."""
    if isinstance(command, VenueCancel):
        return command
    units = lots.from_decimal(command.quantity)
    prices = {
        name: grid.to_decimal(scale_ticks(ticks, ratio))
        for name in ("limit_price", "stop_price")
        if (price := getattr(command, name)) is not None
        and (ticks := grid.from_decimal(price)) is not None
    }
    quantity = lots.to_decimal(scale_units(units or 0, ratio))
    return msgspec.structs.replace(command, quantity=quantity, **prices)


def _same_grids(universe: Universe, before: int, after: int) -> bool:
    """Return whether two instruments have the same grids, so that orders can be moved."""
    old, new = universe.instruments[before], universe.instruments[after]
    return (old.price_increment, old.quantity_increment) == (
        new.price_increment,
        new.quantity_increment,
    )
