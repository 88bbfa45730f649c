"""Why an order was sent and what followed: its records, and what they name as their causes.

A strategy's order is caused by a market event or a bar, and so is the signal beside it; a fill
names the market event behind it. Market events are many, so only the newest are kept, and those
that a signal, an order or a fill has named.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from schemas.commands import ApproveOrder, SubmitOrder
from schemas.control import StrategySignal
from schemas.order_events import (
    Fill,
    OrderDenied,
    OrderFilled,
    OrderInitialized,
    OrderPartiallyFilled,
    OrderPendingApproval,
    OrderPendingCancel,
    OrderSubmitted,
)
from schemas.risk import Kill
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    ORDER_EVENTS,
    ORDER_FILLS,
    ORDER_RECEIPTS,
    RISK_DECISIONS,
    STRATEGY_SIGNALS,
    VENUE_COMMANDS,
)
from streams.log import Published

_MARKET = frozenset({MARKET_EVENTS, MARKET_BARS})
_ABOUT_ORDERS = frozenset(
    {ACCOUNT_INPUTS, ORDER_EVENTS, ORDER_FILLS, ORDER_RECEIPTS, RISK_DECISIONS, VENUE_COMMANDS}
)
_RECORDS_MAX = 500
_NAMED_PER_ORDER = 4

OrderKey = tuple[str, str]


class Causes:
    """Records by order, and the market events and signals that they come from; all bounded."""

    def __init__(self, orders_max: int, events_max: int = 20_000) -> None:
        self._orders_max = orders_max
        self._events_max = events_max
        self._events: OrderedDict[str, Published] = OrderedDict()
        self._named: OrderedDict[str, Published] = OrderedDict()
        self._signals: OrderedDict[tuple[str, str], Published] = OrderedDict()
        self._orders: OrderedDict[OrderKey, dict[str, Published]] = OrderedDict()

    def apply(self, item: Published) -> None:
        """Take in one record of any topic."""
        record: Any = item.record
        if item.topic in _MARKET or isinstance(record, Kill):
            self._events[record.event_id] = item
            _bound(self._events, self._events_max)
        elif item.topic == STRATEGY_SIGNALS:
            if isinstance(record, StrategySignal):
                self._name(record.causation_id)
                self._signals[record.strategy_id, record.causation_id] = item
                _bound(self._signals, self._orders_max)
        elif item.topic in _ABOUT_ORDERS and hasattr(record, "client_order_id"):
            self._on_order(item, record)

    def of(self, account_id: str, client_order_id: str) -> list[tuple[str, Published | None]]:
        """Return the chain of an order as (event id, record), causes before what they caused.

        A record that is no longer kept is None.
        """
        records = self._orders.get((account_id, client_order_id), {})
        chain: dict[str, Published | None] = {}
        for name, item in records.items():
            for cause, known in self._causes_of(item):
                chain.setdefault(cause, known)
            chain[name] = item
        return in_order(chain)

    def _causes_of(self, item: Published) -> Iterator[tuple[str, Published | None]]:
        record: Any = item.record
        for cause in named_by(record):
            yield cause, self._known(cause)
        if isinstance(record, (SubmitOrder, OrderInitialized)):
            signal = self._signals.get((record.strategy_id, record.causation_id))
            if signal is not None:
                yield signal.record.event_id, signal  # type: ignore[attr-defined]

    def _known(self, event_id: str) -> Published | None:
        return self._named.get(event_id) or self._events.get(event_id)

    def _on_order(self, item: Published, record: Any) -> None:
        key = (record.account_id, record.client_order_id)
        records = self._orders.get(key)
        if records is None:
            records = self._orders[key] = {}
            _bound(self._orders, self._orders_max)
        if len(records) < _RECORDS_MAX:
            # A fill stands on two topics; the first is where it came from.
            records.setdefault(record.event_id, item)
        for cause in named_by(record):
            self._name(cause)

    def _name(self, event_id: str) -> None:
        found = self._events.get(event_id)
        if found is not None:
            self._named[event_id] = found
            _bound(self._named, _NAMED_PER_ORDER * self._orders_max)


_RANKS: dict[type[Any], int] = {
    Kill: 1,
    ApproveOrder: 1,
    SubmitOrder: 2,
    OrderInitialized: 2,
    OrderSubmitted: 5,
    OrderDenied: 5,
    OrderPendingApproval: 5,
    OrderPendingCancel: 5,
    Fill: 9,
    OrderPartiallyFilled: 10,
    OrderFilled: 10,
}
_TOPIC_RANKS = {
    MARKET_EVENTS: 0,
    MARKET_BARS: 0,
    STRATEGY_SIGNALS: 1,
    ORDER_RECEIPTS: 3,
    RISK_DECISIONS: 4,
    VENUE_COMMANDS: 6,
    ACCOUNT_INPUTS: 7,
}
_LATER = 8


def in_order(chain: dict[str, Published | None]) -> list[tuple[str, Published | None]]:
    """Return a chain's links by time, and at one instant causes before what they caused.

    A link whose record is not known stands before the first record that names it.
    """
    places = {name: _place(item) for name, item in chain.items() if item is not None}
    for name, item in chain.items():
        if item is None:
            continue
        ts_ns, rank = places[name]
        for cause in named_by(item.record):
            if chain.get(cause, item) is None:
                before = (ts_ns, rank - 0.5)
                places[cause] = min(places.get(cause, before), before)
    return sorted(chain.items(), key=lambda link: places.get(link[0], (0, 0.0)))


def named_by(record: Any) -> tuple[str, ...]:
    """Return the ids of the records outside the order's own that one of its records comes from."""
    if isinstance(record, (SubmitOrder, OrderInitialized)):
        return (record.causation_id,) if record.causation_id else ()
    if isinstance(record, Fill):
        return (record.market_event_id,) if record.market_event_id else ()
    return ()


def _place(item: Published) -> tuple[int, float]:
    """Return where a record stands: by time, and at one instant by what leads to what."""
    rank = _RANKS.get(type(item.record), _TOPIC_RANKS.get(item.topic, _LATER))
    return (getattr(item.record, "ts_event_ns", 0), rank)


def _bound(kept: OrderedDict[Any, Any], most: int) -> None:
    """Let the oldest entry go if there are more than ``most``.

    The first key of a plain dict is found behind all that were deleted in front of it.
    """
    if len(kept) > most:
        kept.popitem(last=False)
