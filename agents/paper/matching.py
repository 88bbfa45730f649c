"""What one market event does to one order: the rule table of the paper venue.

    tier   MARKET              LIMIT (buy; sell mirrored)            STOP                         liquidity
    trade  trade price         trade <= limit: trade price if the    trade >= stop: trade price   taker unless the order
                               order is new, else the limit          (the gap price)              has rested as a limit
    quote  ask                 ask <= limit: ask if new, else        ask >= stop: ask             the same
                               limit; a trade < limit: the limit
    bar    open                open <= limit: open; else             open >= stop: open; else     open: taker; limit
                               low <= limit: the limit               high >= stop: the stop       inside the bar: maker

A resting limit fills on touch, or only when the price goes through it, as configured. A STOP_LIMIT that was triggered is a limit
order: it fills on the triggering event if that event's price allows it; on a bar, at the stop price if the limit allows
that, else it waits for the next bar (the pessimistic reading of a bar in which both happen). A trade on the quote tier
triggers nothing and fills no market order.

Instant of a fill: the event's time; of a bar, its open instant for fills at the open, else its close.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from agents.paper.resting import Resting
from agents.paper.tape import BAR, Tape
from schemas.columns import Ints

_CHUNK = 256


class Touch(NamedTuple):
    """An event reached an order: at ``price`` in ticks; ``is_maker`` if the order's own limit is that price."""

    price: int
    ts_ns: int
    is_maker: bool


def first_row(order: Resting, tape: Tape, clock: Ints) -> int:
    """Return the first tape row that the order may see."""
    pos = order.after + 1
    if order.eligible_ns > 0 and (pos >= len(clock) or clock[pos] < order.eligible_ns):
        pos = max(pos, int(clock.searchsorted(order.eligible_ns)))
    row = pos if len(tape.pos) == len(clock) else int(tape.pos.searchsorted(pos))
    if tape.tier == BAR:
        # A bar counts only if all of it lies after the order became eligible.
        while row < len(tape) and tape.start[row] < order.eligible_ns:
            row += 1
    return row


def next_row(order: Resting, tape: Tape, row: int, is_through: bool) -> int:
    """Return the first row from ``row`` on at which something may happen; ``len(tape)`` if none is there.

    The first event that an order sees is always one: it takes a marketable order at its own price, and ends an
    immediate one.
    """
    n = len(tape)
    if order.is_market() or not (order.has_rested or order.is_stop()):
        if tape.is_print is not None and order.is_market():
            side = tape.ask if order.sign > 0 else tape.bid
            while row < n and (tape.is_print[row] or not side[row]):
                row += 1
        return row
    size = _CHUNK
    while row < n:
        stop = min(row + size, n)
        hits = _hits(order, tape, row, stop, is_through)
        first = int(hits.argmax()) if len(hits) else 0
        if len(hits) and hits[first]:
            return row + first
        row = stop
        size *= 2
    return n


def _hits(order: Resting, tape: Tape, start: int, stop: int, is_through: bool) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return which rows reach the order."""
    part = slice(start, stop)
    is_buy = order.sign > 0
    if order.is_stop():
        assert order.stop is not None
        if is_buy:
            hits = tape.high[part] >= order.stop
        else:
            hits = (tape.low[part] <= order.stop) & (tape.low[part] > 0)
        return hits if tape.is_print is None else hits & ~tape.is_print[part]
    assert order.limit is not None
    limit = order.limit
    if is_buy:
        side = tape.low[part] if tape.tier == BAR else tape.ask[part]
        hits = (side <= limit) if not is_through else (side < limit)
        hits &= side > 0
        beyond = tape.bid[part] < limit
    else:
        side = tape.high[part] if tape.tier == BAR else tape.bid[part]
        hits = (side >= limit) if not is_through else (side > limit)
        beyond = tape.ask[part] > limit
    if tape.is_print is not None:
        prints = tape.is_print[part]
        hits = np.where(prints, beyond, hits)
    return hits


def touch(order: Resting, tape: Tape, row: int, is_first: bool, is_through: bool) -> Touch | None:
    """Return at what price the event at ``row`` reaches an order that waits for no trigger; None if it does not."""
    is_buy = order.sign > 0
    price = int(tape.ask[row] if is_buy else tape.bid[row])
    is_print = tape.is_print is not None and bool(tape.is_print[row])
    ts_ns = int(tape.start[row])
    limit = order.limit
    if limit is None:
        return None if is_print or not price else Touch(price, ts_ns, False)
    gap = order.sign * (limit - price)
    if is_print:
        return Touch(limit, ts_ns, True) if gap > 0 else None
    if price and gap >= 0 and (is_first or tape.tier == BAR):
        return Touch(price, ts_ns, False)
    if tape.tier == BAR:
        extreme = int(tape.low[row] if is_buy else tape.high[row])
        reach = order.sign * (limit - extreme)
        if reach > 0 or (reach == 0 and not is_through):
            return Touch(limit, int(tape.ts[row]), True)
        return None
    if price and (gap > 0 or (gap == 0 and not is_through)):
        return Touch(limit, ts_ns, True)
    return None


def trigger(order: Resting, tape: Tape, row: int) -> Touch | None:
    """Return at what price the event at ``row`` triggers a stop; None if it does not."""
    assert order.stop is not None
    is_buy = order.sign > 0
    price = int(tape.ask[row] if is_buy else tape.bid[row])
    if price and order.sign * (price - order.stop) >= 0:
        return Touch(price, int(tape.start[row]), False)
    if tape.tier == BAR:
        extreme = int(tape.high[row] if is_buy else tape.low[row])
        if order.sign * (extreme - order.stop) >= 0:
            return Touch(order.stop, int(tape.ts[row]), False)
    return None
