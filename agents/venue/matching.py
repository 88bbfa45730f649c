"""What one market event does to one order: the rules of the paper venue.

For a buy; a sell is its mirror image. Arriving: the first event that the order sees.

    tier   order   filled when                    at         instant      liquidity
    trade  MARKET  next trade                     the trade  event        taker
           LIMIT   arriving: trade reaches limit  the trade  event        taker
                   later: trade reaches limit     the limit  event        maker
           STOP    trade >= stop                  the trade  event        taker
    quote  MARKET  next quote that has an ask     the ask    event        taker
           LIMIT   arriving: ask <= limit         the ask    event        taker
                   later: ask reaches limit       the limit  event        maker
                   later: a trade < limit         the limit  event        maker
           STOP    ask >= stop                    the ask    event        taker
    bar    MARKET  next bar                       the open   bar's start  taker
           LIMIT   open reaches limit             the open   bar's start  taker; later maker
                   else low reaches limit         the limit  bar's close  maker
           STOP    open >= stop                   the open   bar's start  taker
                   else high >= stop              the stop   bar's close  taker

Reaches: ``touch`` at or below the limit, ``through`` below it; an arriving order takes a quote at
its limit either way. A stop fills at the event's price, beyond the stop where the price gaps.

STOP_LIMIT: what triggers a stop makes it a limit order. It fills on the same event, as a taker, at
the price that triggered it if its limit allows that; else it rests and waits for later events (on a
bar the pessimistic reading: nobody knows whether the price came back within the bar).

IOC and FOK are decided by the first event, for a stop by the event that triggers it; on a bar that
is the open. Trades on the quote tier trigger nothing and fill no arriving order. A bar counts if it
begins at or after the instant from which the order is eligible.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from agents.venue.book import Resting
from agents.venue.config import BAR, QUOTE, TRADE
from agents.venue.tape import Market, Tape
from agents.venue.usable import Bools
from schemas.columns import Ints

_CHUNK = 256

_COLUMN = {
    (TRADE, False, 1): "price",
    (TRADE, False, -1): "price",
    (TRADE, True, 1): "price",
    (TRADE, True, -1): "price",
    (QUOTE, False, 1): "ask",
    (QUOTE, False, -1): "bid",
    (QUOTE, True, 1): "ask",
    (QUOTE, True, -1): "bid",
    (BAR, False, 1): "low",
    (BAR, False, -1): "high",
    (BAR, True, 1): "high",
    (BAR, True, -1): "low",
}
"""Which column decides whether a row meets an order: by tier, whether it is a stop, and sign."""


class Event(NamedTuple):
    """One market event in integers of the grids.

    ``bid`` and ``ask`` are both the price of a trade and the open of a bar; ``low`` and ``high``
    differ from them for bars only. A side that does not exist is 0. ``ts_ns`` is the instant of
    fills at bid and ask, ``end_ns`` of those within a bar. ``is_print``: a trade on the quote tier.
    """

    tier: str
    is_print: bool
    ts_ns: int
    end_ns: int
    bid: int
    ask: int
    low: int
    high: int


class Touch(NamedTuple):
    """An event reached an order at ``price`` (ticks); ``is_maker``: the order stood there."""

    price: int
    ts_ns: int
    is_maker: bool


def read_event(market: Market, tape: Tape, row: int, now_ns: int) -> Event:
    """Return the event at ``row``; a late trade or quote happens at ``now_ns``, the clock."""
    if market.tier == BAR:
        price = tape.tick("open", row)
        return Event(
            BAR,
            False,
            tape.value("start", row),
            tape.value("ts", row),
            price,
            price,
            tape.tick("low", row),
            tape.tick("high", row),
        )
    if tape is market.tape and market.tier == QUOTE:
        bid, ask = tape.tick("bid", row), tape.tick("ask", row)
        return Event(QUOTE, False, now_ns, now_ns, bid, ask, bid, ask)
    price = tape.tick("price", row)
    return Event(market.tier, market.tier == QUOTE, now_ns, now_ns, price, price, price, price)


def touch(order: Resting, event: Event, is_through: bool) -> Touch | None:
    """Return at what price an event reaches an order that waits for no trigger, or None."""
    price = event.ask if order.sign > 0 else event.bid
    limit = order.limit
    if limit is None:
        return Touch(price, event.ts_ns, False) if price and not event.is_print else None
    if event.is_print:
        is_beyond = order.has_rested and order.sign * (limit - price) > 0
        return Touch(limit, event.ts_ns, True) if is_beyond else None
    is_arriving = not order.has_rested
    is_strict = is_through and not (event.tier == QUOTE and is_arriving)
    if price and _reaches(order.sign, limit, price, is_strict):
        at = price if is_arriving or event.tier == BAR else limit
        return Touch(at, event.ts_ns, order.has_rested)
    extreme = event.low if order.sign > 0 else event.high
    is_within = event.tier == BAR and not order.is_immediate()
    if is_within and _reaches(order.sign, limit, extreme, is_through):
        return Touch(limit, event.end_ns, True)
    return None


def trigger(order: Resting, event: Event) -> Touch | None:
    """Return at what price an event triggers a stop; None if it does not."""
    price = event.ask if order.sign > 0 else event.bid
    stop = order.stop
    if stop is None or event.is_print:
        return None
    if price and order.sign * (price - stop) >= 0:
        return Touch(price, event.ts_ns, False)
    extreme = event.high if order.sign > 0 else event.low
    if event.tier == BAR and order.sign * (extreme - stop) >= 0:
        return Touch(stop, event.end_ns, False)
    return None


def _reaches(sign: int, limit: int, price: int, is_strict: bool) -> bool:
    gap = sign * (limit - price)
    return gap > 0 or (gap == 0 and not is_strict)


def first_row(order: Resting, tape: Tape, clock: Ints) -> int:
    """Return the first row of ``tape`` that the order may see."""
    pos = order.after + 1
    if pos < len(clock) and clock[pos] < order.eligible_ns:
        pos = int(clock.searchsorted(order.eligible_ns))
    return tape.row_from(pos)


def look(order: Resting, market: Market, clock: Ints, is_through: bool) -> int:
    """Return the next position at which an event meets the order, ``len(clock)`` if none does.

    An event meets an order that it fills or triggers, and an arriving or immediate one in any case.
    """
    tape, tier = market.tape, market.tier
    row = order.row
    if row < 0:
        row = first_row(order, tape, clock)
    if not (tier == TRADE and order.takes_any()):
        row = _scan(lambda start, stop: _meets(order, market, start, stop, is_through), row, tape)
    order.row = row
    at = tape.position(row)
    prints = market.prints
    if prints is not None and order.has_rested:
        if order.print_row < 0:
            order.print_row = first_row(order, prints, clock)
        order.print_row = _scan(
            lambda start, stop: _goes_through(order, prints, start, stop), order.print_row, prints
        )
        at = min(at, prints.position(order.print_row))
    return at


def _scan(hits: Callable[[int, int], Bools], row: int, tape: Tape) -> int:
    """Return the first row from ``row`` on that hits, in growing chunks; the size if none does."""
    size = _CHUNK
    while row < tape.size:
        stop = min(row + size, tape.size)
        chunk = hits(row, stop)
        first = int(chunk.argmax())
        if chunk[first]:
            return row + first
        row = stop
        size *= 2
    return tape.size


def _meets(order: Resting, market: Market, start: int, stop: int, is_through: bool) -> Bools:
    """Return which rows of the tape meet an order."""
    tape, tier, sign = market.tape, market.tier, order.sign
    is_stop = order.is_stop()
    prices = tape.ticks(_COLUMN[tier, is_stop, sign], start, stop)
    if is_stop:
        assert order.stop is not None
        hits = (sign * (prices - order.stop) >= 0) & (prices > 0)
    elif order.limit is None and not order.is_immediate():
        hits = prices > 0
    elif order.takes_any():
        hits = np.ones(stop - start, bool)
    else:
        assert order.limit is not None
        gap = sign * (order.limit - prices)
        hits = (gap > 0 if is_through else gap >= 0) & (prices > 0)
    if tier == BAR:
        hits &= tape.part("start", start, stop) >= order.eligible_ns
    return hits


def _goes_through(order: Resting, prints: Tape, start: int, stop: int) -> Bools:
    """Return which trades go through a resting limit order on the quote tier."""
    assert order.limit is not None
    hits: Bools = order.sign * (order.limit - prints.ticks("price", start, stop)) > 0
    return hits
