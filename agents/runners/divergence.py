"""Backtest against live: which fills differ, and what kind of difference each one is.

The session's market data goes through a new engine in the order in which the session consumed it,
without its operators' commands. What differs then answers "would it do live what the backtest did?"
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from agents.runners.engine import Engine
from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.order_events import Fill
from schemas.topics import ACCOUNT_INPUTS, ORDER_FILLS, STRATEGY_INPUTS, TOPIC_BY_NAME
from schemas.values import ZERO
from streams.journal import JournalReader, Kind
from streams.journal.batches import batch_piece, recut

OPERATOR = "operator action"
LATENCY = "latency"
ROUNDING = "rounding"
FILL_MODEL = "fill model"
LATE = "late data"
ORDER = "order of inputs"
OTHER = "other"
CLASSES: dict[str, str] = {
    OPERATOR: "behind a command from outside to its order, its account or its strategy",
    LATENCY: "the same fill of the same order at another instant",
    ROUNDING: "at the same instant, apart by less than an increment of its instrument",
    FILL_MODEL: "at the same instant, with another price, quantity or fee",
    LATE: "on one side only, behind late data of its instrument",
    ORDER: "on one side only, behind late data of another instrument",
    OTHER: "on one side only, for none of these reasons",
}
"""The classes of differences, in the order in which they are tried, and what belongs to each."""

_COMMANDS = frozenset({ACCOUNT_INPUTS, STRATEGY_INPUTS})
_DATA = frozenset(TOPIC_BY_NAME) - _COMMANDS
_BATCH_EVENTS = 65_536


class Differing(NamedTuple):
    """The fills of one class: how many differ, and the first of them on both sides."""

    fills: int
    live: Fill | None
    backtest: Fill | None


class Divergence(NamedTuple):
    """What backtest and session have in common, and what not, by class."""

    fills_live: int
    fills_backtest: int
    equal: int
    late_events: int
    classes: dict[str, Differing]


class Disturbances:
    """What a session had that a backtest does not expect, with the first instants (int64 ns UTC).

    ``orders`` are named by commands from outside; ``scopes`` are accounts and strategies that got
    one ("" stands for all of them); ``late`` are instruments with data that came late.
    """

    def __init__(self) -> None:
        self.orders: set[str] = set()
        self.scopes: dict[str, int] = {}
        self.late: dict[str, int] = {}
        self.late_events = 0

    def note_commands(self, batch: MarketBatch) -> None:
        """Note the commands among the records of a batch."""
        for pos, topic, record in batch.records:
            if topic in _COMMANDS:
                order_id: str = getattr(record, "client_order_id", "")
                if order_id:
                    self.orders.add(order_id)
                scope: str = getattr(record, "account_id", "") or getattr(record, "strategy_id", "")
                self.scopes.setdefault(scope, int(batch.clock[pos]))

    def note_late(self, batch: MarketBatch) -> None:
        """Note the rows of a batch of data alone that are older than what came before them."""
        for table in (batch.trades, batch.quotes, batch.bars):
            for row in np.flatnonzero(table.ts < batch.clock[table.pos]).tolist():
                instrument = batch.universe.instruments[int(table.instrument[row])]
                clock_ns = int(batch.clock[table.pos[row]])
                self.late.setdefault(instrument.instrument_id, clock_ns)
                self.late_events += 1


FillKey = tuple[str, int]
"""Client order id and number of the fill within the order."""


def backtest_against_live(reader: JournalReader, universe: Universe, engine: Engine) -> Divergence:
    """Run the session's data through ``engine``, a new one, and class the fills that differ."""
    live, backtest, found = _Fills(), _Fills(), Disturbances()
    for batch in data_batches(reader, universe):
        found.note_late(batch)
        backtest.add(engine.process(batch).records)
    backtest.add(engine.finish().records)
    for entry in reader.entries():
        if entry.kind is Kind.RECORDS:
            live.add(entry.records(frozenset({ORDER_FILLS})))
        elif entry.kind is Kind.BATCH:
            found.note_commands(entry.batch(universe))
    return compare_fills(live.found, backtest.found, found, universe)


def data_batches(reader: JournalReader, universe: Universe) -> Iterator[MarketBatch]:
    """Yield what the session consumed, but for commands.

    Corporate actions and exchange rates are data as well; without them a position would differ.
    """
    pieces = (
        batch_piece(entry.batch(universe), _DATA)
        for entry in reader.entries()
        if entry.kind is Kind.BATCH
    )
    return recut(universe, (piece for piece in pieces if piece.size), _BATCH_EVENTS)


def compare_fills(
    live: dict[FillKey, Fill],
    backtest: dict[FillKey, Fill],
    found: Disturbances,
    universe: Universe,
) -> Divergence:
    """Count the fills that are equal, and those that are not by class, the earliest as example."""
    classes = dict.fromkeys(CLASSES, Differing(0, None, None))
    equal = 0
    for key in sorted(
        {*live, *backtest}, key=lambda k: (_instant(live.get(k), backtest.get(k)), k)
    ):
        a, b = live.get(key), backtest.get(key)
        if a is not None and b is not None and _content(a) == _content(b):
            equal += 1
            continue
        name = classify(a, b, found, universe)
        known = classes[name]
        classes[name] = known._replace(fills=known.fills + 1) if known.fills else Differing(1, a, b)
    return Divergence(len(live), len(backtest), equal, found.late_events, classes)


def classify(a: Fill | None, b: Fill | None, found: Disturbances, universe: Universe) -> str:
    """Return the class of a fill that differs: ``a`` live, ``b`` in the backtest, one may lack."""
    fill = a if a is not None else b
    assert fill is not None  # a difference has a side
    at_ns = _instant(a, b)
    scopes = {"", fill.account_id, fill.strategy_id}
    if fill.client_order_id in found.orders or any(
        scope in scopes and begun_ns <= at_ns for scope, begun_ns in found.scopes.items()
    ):
        return OPERATOR
    if a is not None and b is not None:
        if a.ts_event_ns != b.ts_event_ns:
            return LATENCY
        return ROUNDING if _is_rounding(a, b, universe) else FILL_MODEL
    if found.late.get(fill.instrument_id, at_ns + 1) <= at_ns:
        return LATE
    return ORDER if any(late_ns <= at_ns for late_ns in found.late.values()) else OTHER


def _is_rounding(a: Fill, b: Fill, universe: Universe) -> bool:
    index = universe.index(a.instrument_id)
    if index is None or a.side is not b.side:
        return False
    instrument = universe.instruments[index]
    price = instrument.price_increment
    return (
        abs(a.price - b.price) < price
        and abs(a.quantity - b.quantity) < instrument.quantity_increment
        and (abs(a.fee - b.fee) < price or a.fee == b.fee == ZERO)
    )


def _content(fill: Fill) -> tuple[object, ...]:
    return fill.ts_event_ns, fill.side, fill.price, fill.quantity, fill.fee


def _instant(a: Fill | None, b: Fill | None) -> int:
    return min(fill.ts_event_ns for fill in (a, b) if fill is not None)


class _Fills:
    """Gathers fills by order and number."""

    def __init__(self) -> None:
        self.found: dict[FillKey, Fill] = {}
        self._counts: dict[str, int] = {}

    def add(self, records: list[tuple[str, Header]]) -> None:
        for topic, record in records:
            if topic == ORDER_FILLS and isinstance(record, Fill):
                number = self._counts.get(record.client_order_id, 0)
                self._counts[record.client_order_id] = number + 1
                self.found[record.client_order_id, number] = record
