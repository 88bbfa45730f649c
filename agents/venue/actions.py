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
from schemas.values import Grid


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
    found = renamed(action, universe)
    if found is None:
        for order in orders:
            reporter.canceled(order, "SYMBOL_CHANGE", now_ns, action.event_id, out)
            book.drop(order)
        return []
    name, index = found
    for order in orders:
        order.instrument_id, order.index = name, index
    for task in book.agenda.tasks():
        if task.command is not None and task.command.instrument_id == old:
            task.command = msgspec.structs.replace(task.command, instrument_id=name)
    for key in [key for key in book.positions if key.endswith(f"|{old}")]:
        book.positions[f"{key.removesuffix(old)}{name}"] = book.positions.pop(key)
    if old in book.last:
        book.last[name] = book.last.pop(old)
    if old in book.states:
        book.states[name] = book.states.pop(old)
    return orders


def scale_units(units: int, ratio: Decimal) -> int:
    """Return a quantity on the new share count, rounded towards 0."""
    numerator, denominator = ratio.as_integer_ratio()
    whole = abs(units) * numerator // denominator
    return whole if units >= 0 else -whole


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


def renamed(action: CorporateAction, universe: Universe) -> tuple[str, int] | None:
    """Return id and index that an instrument has after a symbol change.

    None if the universe does not know it, or knows it with other grids: its orders cannot be moved.
    ``new_symbol`` names the instrument by its id, or by its symbol at the same venue.
    """
    venue = action.instrument_id.partition(".")[2]
    old = universe.index(action.instrument_id)
    for name in (action.new_symbol, f"{action.new_symbol}.{venue}"):
        new = universe.index(name)
        if old is None or new is None:
            continue
        before, after = universe.instruments[old], universe.instruments[new]
        if (before.price_increment, before.quantity_increment) == (
            after.price_increment,
            after.quantity_increment,
        ):
            return name, new
    return None
