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

from typing import NamedTuple

from agents.venue.book import Resting
from agents.venue.config import BAR, QUOTE
from agents.venue.tape import Market, Tape
from agents.venue.usable import Bools
from schemas.columns import Ints

_CHUNK = 256


class Event(NamedTuple):
    """One market event in integers of the grids.

    ``bid`` and ``ask`` are both the price of a trade and the open of a bar; ``low`` and ``high`` differ
    from them for bars only. A side that does not exist is 0. ``ts_ns`` is the instant of fills at bid
    and ask, ``end_ns`` of those within a bar. ``is_print``: a trade on the quote tier.
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
    """An event reached an order at ``price`` (ticks); ``is_maker``: the order stood there before."""

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
    if event.tier == BAR and not order.is_immediate():
        if _reaches(order.sign, limit, extreme, is_through):
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

    An event meets an order that it fills or triggers, an arriving limit order and an immediate one
    in any case. Scanning goes on where it stopped, in growing chunks.
    """
    tape = market.tape
    if order.row < 0:
        order.row = first_row(order, tape, clock)
    order.row = row = _next_row(order, market, order.row, is_through)
    at = int(tape.pos[row]) if row < len(tape) else len(clock)
    prints = market.prints
    if prints is not None and order.limit is not None and order.has_rested:
        if order.print_row < 0:
            order.print_row = first_row(order, prints, clock)
        order.print_row = row = _next_print(order, prints, order.print_row)
        if row < len(prints):
            at = min(at, int(prints.pos[row]))
    return at


def _next_row(order: Resting, market: Market, row: int, is_through: bool) -> int:
    tape, n = market.tape, len(market.tape)
    is_stop = order.is_stop()
    if not is_stop and (order.limit is None or not order.has_rested):
        if market.tier != BAR and (
            market.tier != QUOTE or order.limit is not None or order.is_immediate()
        ):
            return row
    size = _CHUNK
    while row < n:
        stop = min(row + size, n)
        hits = (
            _triggers(order, market, row, stop)
            if is_stop
            else _meets(order, market, row, stop, is_through)
        )
        if market.tier == BAR:
            hits = hits & (tape.part("start", row, stop) >= order.eligible_ns)
        first = int(hits.argmax())
        if hits[first]:
            return row + first
        row = stop
        size *= 2
    return n


def _triggers(order: Resting, market: Market, start: int, stop: int) -> Bools:
    """Return which rows trigger a stop."""
    assert order.stop is not None
    tape = market.tape
    if order.sign > 0:
        name = {BAR: "high", QUOTE: "ask"}.get(market.tier, "price")
        return tape.ticks(name, start, stop) >= order.stop
    name = {BAR: "low", QUOTE: "bid"}.get(market.tier, "price")
    prices = tape.ticks(name, start, stop)
    return (prices <= order.stop) & (prices > 0)


def _meets(order: Resting, market: Market, start: int, stop: int, is_through: bool) -> Bools:
    """Return which rows meet an order that waits for no trigger."""
    tape = market.tape
    if order.sign > 0:
        name = {BAR: "low", QUOTE: "ask"}.get(market.tier, "price")
    else:
        name = {BAR: "high", QUOTE: "bid"}.get(market.tier, "price")
    prices = tape.ticks(name, start, stop)
    if order.limit is None or not order.has_rested:
        return prices > 0
    gap = order.sign * (order.limit - prices)
    return (gap > 0 if is_through else gap >= 0) & (prices > 0)


def _next_print(order: Resting, prints: Tape, row: int) -> int:
    """Return the first trade that goes through a resting limit order on the quote tier."""
    assert order.limit is not None
    n, size = len(prints), _CHUNK
    while row < n:
        stop = min(row + size, n)
        hits = order.sign * (order.limit - prints.ticks("price", row, stop)) > 0
        first = int(hits.argmax())
        if hits[first]:
            return row + first
        row = stop
        size *= 2
    return n
