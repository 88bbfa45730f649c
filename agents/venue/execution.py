"""Executions: one market event meets the orders it reaches, and they share what it offers.

Orders go by the instant within the event (the open of a bar before the rest), within a bar stops
before limits (the adverse reading), then by price, then by arrival. Makers pay no slippage, and
slippage never goes beyond an order's limit.
"""

from __future__ import annotations

from typing import NamedTuple

from agents.processor import Outbox
from agents.venue.book import Resting
from agents.venue.config import BAR, QUOTE, THROUGH, VenueConfig
from agents.venue.matching import Event, Touch, touch, trigger
from agents.venue.models import NoSlippage, Share
from agents.venue.reports import Reporter
from agents.venue.tape import Tape
from schemas.enums import TimeInForce

_ANY_PRICE = 2**63


class _Meeting(NamedTuple):
    order: Resting
    found: Touch | None
    rank: tuple[int, bool, int, int]


class Pool:
    """What orders may still take of one event, in units; a quote offers to each side its own."""

    __slots__ = ("_left",)

    def __init__(self, share: Share, tape: Tape, row: int, event: Event) -> None:
        if event.tier == QUOTE and not event.is_print:
            sizes = {1: tape.units("ask_size", row), -1: tape.units("bid_size", row)}
            self._left = {sign: [share.floor(size)] for sign, size in sizes.items()}
        else:
            name = "volume" if event.tier == BAR else "size"
            both = [share.floor(tape.units(name, row))]
            self._left = {1: both, -1: both}

    def take(self, sign: int, units: int) -> None:
        """Take ``units`` out."""
        self._left[sign][0] -= units

    def left(self, sign: int) -> int:
        """Return what an order of ``sign`` may take."""
        return self._left[sign][0]


class Executor:
    """Fills orders by the venue's models; the book's positions follow the fills."""

    def __init__(self, config: VenueConfig, reporter: Reporter, positions: dict[str, int]) -> None:
        self._reporter = reporter
        self._positions = positions
        self._is_through = config.limit_fill == THROUGH
        self._slippage = None if isinstance(config.slippage, NoSlippage) else config.slippage
        share = config.participation
        self._share = None if share is None else Share(share)

    def meet(
        self, orders: list[Resting], event: Event, tape: Tape, row: int, market_id: str, out: Outbox
    ) -> list[Resting]:
        """Let the event at ``row`` meet ``orders``; return those that it ended."""
        pool = None if self._share is None else Pool(self._share, tape, row, event)
        if len(orders) == 1:
            order = orders[0]
            is_over = self._apply(order, self._find(order, event), event, pool, market_id, out)
            return orders if is_over else []
        meetings = []
        for order in orders:
            found = self._find(order, event)
            meetings.append(_Meeting(order, found, _rank(order, found, event)))
        meetings.sort(key=lambda meeting: meeting.rank)
        return [
            order
            for order, found, _ in meetings
            if self._apply(order, found, event, pool, market_id, out)
        ]

    def _find(self, order: Resting, event: Event) -> Touch | None:
        if order.is_stop():
            return trigger(order, event)
        return touch(order, event, self._is_through)

    def _apply(
        self,
        order: Resting,
        found: Touch | None,
        event: Event,
        pool: Pool | None,
        market_id: str,
        out: Outbox,
    ) -> bool:
        """Let the event do to the order what was found; return whether the order is over."""
        ts_ns = event.ts_ns if found is None else found.ts_ns
        is_reached = found is not None
        if order.is_stop():
            order.is_triggered = True
            self._reporter.triggered(order, ts_ns, market_id, out)
            is_reached = found is not None and not _is_beyond_limit(order, found.price)
        order.has_rested = order.limit is not None
        if found is not None and is_reached:
            units = self._units(order, pool)
            if units:
                self._fill(order, found, event, units, market_id, out)
                if pool is not None:
                    pool.take(order.sign, units)
                if order.filled == order.quantity:
                    return True
            if order.is_reduce_only and not self._reducible(order):
                self._reporter.canceled(order, "REDUCE_ONLY", ts_ns, market_id, out)
                return True
        if order.is_immediate():
            self._reporter.canceled(order, order.time_in_force.value, ts_ns, market_id, out)
            return True
        return False

    def _units(self, order: Resting, pool: Pool | None) -> int:
        """Return how many units an order may fill now."""
        units = order.quantity - order.filled
        if order.is_reduce_only:
            units = min(units, self._reducible(order))
        if pool is not None:
            units = min(units, pool.left(order.sign))
        is_short = order.time_in_force is TimeInForce.FOK and units < order.quantity
        return 0 if is_short else units

    def _fill(
        self,
        order: Resting,
        found: Touch,
        event: Event,
        units: int,
        market_id: str,
        out: Outbox,
    ) -> None:
        """Fill ``units``; the position follows."""
        order.filled += units
        self._reporter.fill(order, found, self._price(order, found, event), units, market_id, out)
        key = order.position_key()
        self._positions[key] = self._positions.get(key, 0) + order.sign * units

    def _price(self, order: Resting, found: Touch, event: Event) -> int:
        """Return the price of a fill in ticks: what was found, and slippage if the order takes."""
        if found.is_maker or self._slippage is None:
            return found.price
        spread = event.ask - event.bid if event.bid and event.ask else 0
        price = found.price + order.sign * self._slippage.against(found.price, spread)
        if order.limit is not None and _is_beyond_limit(order, price):
            return order.limit
        return max(price, 1)

    def _reducible(self, order: Resting) -> int:
        """Return how many units the order may fill without opening a position."""
        return max(-order.sign * self._positions.get(order.position_key(), 0), 0)


def _is_beyond_limit(order: Resting, price: int) -> bool:
    return order.limit is not None and order.sign * (price - order.limit) > 0


def _rank(order: Resting, found: Touch | None, event: Event) -> tuple[int, bool, int, int]:
    """Return the place of an order among those that one event meets."""
    ts_ns = event.end_ns if found is None else found.ts_ns
    is_limit_in_bar = found is not None and found.is_maker and event.ts_ns < ts_ns
    if order.limit is None:
        depth = _ANY_PRICE
    else:
        depth = order.sign * (order.limit - (event.ask if order.sign > 0 else event.bid))
    return ts_ns, is_limit_in_bar, -depth, order.priority
