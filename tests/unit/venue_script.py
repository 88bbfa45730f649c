"""Scripts of market events and commands for the tests of the paper venue, and what plays them.

Prices and sizes of events are in ticks and units of the instrument's grids, times in ns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from typing import Any

import numpy as np

from agents.processor import Outbox
from agents.venue.config import VenueConfig
from agents.venue.paper_venue import PaperVenue
from schemas.columns import BarColumns, MarketBatch, QuoteColumns, TradeColumns
from schemas.commands import VenueCancel, VenueReplace, VenueSubmit
from schemas.enums import InstrumentState, OrderType, Side, TimeInForce
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.market_data import InstrumentStatus, Watermark
from schemas.sessions import SessionTable
from schemas.topics import MARKET_EVENTS

A, B = "AAA.XNYS", "BBB.XNYS"
HOUR = 3_600_000_000_000
CLOSES = (8 * HOUR, 32 * HOUR)
Command = VenueSubmit | VenueReplace | VenueCancel


@dataclass(frozen=True)
class Trade:
    """A print; ``price`` in ticks, ``size`` in units."""

    ts: int
    price: float
    size: float = 100
    name: str = A


@dataclass(frozen=True)
class Quote:
    """Best bid and ask in ticks, sizes in units; 0 is no side."""

    ts: int
    bid: float
    ask: float
    bid_size: float = 100
    ask_size: float = 100
    name: str = A


@dataclass(frozen=True)
class Bar:
    """A bar that closes at ``ts``; prices in ticks."""

    ts: int
    start: int
    open: float
    high: float
    low: float
    close: float
    volume: float = 100
    name: str = A
    revision: int = 0
    interval: int = 2


@dataclass(frozen=True)
class Status:
    """The venue opens, halts or closes an instrument."""

    ts: int
    state: InstrumentState
    name: str = A


@dataclass(frozen=True)
class Mark:
    """A watermark: time passes."""

    ts: int


Event = Trade | Quote | Bar | Status | Mark


def make_universe(multiplier: str = "1") -> Universe:
    """Return A, in cents and whole shares, and B, in 0.25 and tenths and without a calendar."""
    universe = Universe(
        [
            Instrument(
                instrument_id=A,
                symbol="AAA",
                venue="XNYS",
                ts_event_ns=0,
                calendar="XNYS",
                multiplier=Decimal(multiplier),
            ),
            Instrument(
                instrument_id=B,
                symbol="BBB",
                venue="XNYS",
                ts_event_ns=0,
                price_increment=Decimal("0.25"),
                quantity_increment=Decimal("0.1"),
            ),
        ]
    )
    for source in ("trade", "quote", "bar"):
        universe.source_index(source)
    return universe


def sessions() -> dict[str, SessionTable]:
    """Return two sessions of eight hours from midnight."""
    opens, days = (0, 24 * HOUR), (19700101, 19700102)
    return {"XNYS": SessionTable(np.array(opens), np.array(CLOSES), np.array(days))}


def event_id(event: Event, number: int) -> str:
    """Return the id of the ``number``-th event of a script."""
    return f"{type(event).__name__.lower()}:{getattr(event, 'name', '')}:{number}"


def make_batch(
    universe: Universe, events: Sequence[Event], first: int = 0, clock_ns: int = 0
) -> MarketBatch:
    """Return ``events`` as a batch; ``first`` events stand before it, up to ``clock_ns``."""
    clock = np.maximum.accumulate(np.array([clock_ns, *(e.ts for e in events)], np.int64))[1:]
    records: list[tuple[int, str, Header]] = []
    for pos, event in enumerate(events):
        if isinstance(event, Status):
            status = InstrumentStatus(
                ts_event_ns=event.ts, instrument_id=event.name, state=event.state
            )
            records.append((pos, MARKET_EVENTS, status))
        elif isinstance(event, Mark):
            records.append((pos, MARKET_EVENTS, Watermark(ts_event_ns=event.ts)))
    return MarketBatch(
        universe,
        clock,
        trades=TradeColumns(**_columns(universe, events, Trade, first)),
        quotes=QuoteColumns(**_columns(universe, events, Quote, first)),
        bars=BarColumns(**_columns(universe, events, Bar, first)),
        records=records,
        first_offset=first,
    )


_PRICES = {"price", "bid", "ask", "open", "high", "low", "close"}
_SIZES = {"size", "bid_size", "ask_size", "volume"}
_OTHERS = {"start", "revision", "interval"}


def _columns(
    universe: Universe, events: Sequence[Event], kind: type[Trade | Quote | Bar], first: int
) -> dict[str, Any]:
    chosen: list[tuple[int, Any]] = [(i, e) for i, e in enumerate(events) if isinstance(e, kind)]
    indexes = [universe.index(event.name) or 0 for _, event in chosen]
    columns: dict[str, list[Any]] = {
        "pos": [pos for pos, _ in chosen],
        "ts": [event.ts for _, event in chosen],
        "instrument": indexes,
        "source": [universe.source_index(kind.__name__.lower())] * len(chosen),
        "seq": [first + pos for pos, _ in chosen],
        "count": [1] * len(chosen),
        "partial": [False] * len(chosen),
        "vwap": [1.0] * len(chosen),
    }
    for name in (entry.name for entry in fields(kind)):
        values = [getattr(event, name) for _, event in chosen]
        if name in _PRICES:
            columns[name] = [
                v * float(universe.price_grids[i].increment)
                for v, i in zip(values, indexes, strict=True)
            ]
        elif name in _SIZES:
            columns[name] = [
                v * float(universe.quantity_grids[i].increment)
                for v, i in zip(values, indexes, strict=True)
            ]
        elif name in _OTHERS:
            columns[name] = values
    return {name: np.array(values) for name, values in columns.items()}


def submit(
    order_id: str = "o1",
    side: str = "BUY",
    quantity: str = "10",
    limit: str | None = None,
    stop: str | None = None,
    *,
    name: str = A,
    tif: str = "GTC",
    is_post_only: bool = False,
    is_reduce_only: bool = False,
    kind: str = "",
    event_id: str = "",
) -> VenueSubmit:
    """Return a new order; its type follows from its prices unless ``kind`` names another."""
    types = {(False, False): "MARKET", (True, False): "LIMIT", (False, True): "STOP"}
    order_type = kind or types.get((limit is not None, stop is not None), "STOP_LIMIT")
    return VenueSubmit(
        event_id or f"submit-{order_id}",
        0,
        order_id,
        "cause",
        "paper",
        "s",
        order_id,
        name,
        Side(side),
        Decimal(quantity),
        OrderType(order_type),
        None if limit is None else Decimal(limit),
        None if stop is None else Decimal(stop),
        TimeInForce(tif),
        is_post_only,
        is_reduce_only,
        "decision",
        1,
    )


def replace(
    order_id: str = "o1",
    quantity: str = "10",
    limit: str | None = None,
    stop: str | None = None,
    *,
    name: str = A,
    event_id: str = "",
) -> VenueReplace:
    """Return a change of an order."""
    return VenueReplace(
        event_id or f"replace-{order_id}",
        0,
        order_id,
        "cause",
        "paper",
        "s",
        order_id,
        name,
        Decimal(quantity),
        None if limit is None else Decimal(limit),
        None if stop is None else Decimal(stop),
        "decision",
        1,
    )


def cancel(order_id: str = "o1", *, name: str = A, event_id: str = "") -> VenueCancel:
    """Return a cancel of an order."""
    return VenueCancel(
        event_id or f"cancel-{order_id}", 0, order_id, "cause", "paper", "s", order_id, name
    )


@dataclass
class Player:
    """Plays scripts on a venue the way the engine does, and keeps what came out."""

    config: VenueConfig = field(default_factory=VenueConfig)
    universe: Universe = field(default_factory=make_universe)
    out: Outbox = field(default_factory=list)
    played: int = 0
    clock_ns: int = 0

    def __post_init__(self) -> None:
        self.venue = PaperVenue(self.config, self.universe, sessions())

    def play(self, steps: Iterable[Event | Command | CorporateAction]) -> list[Header]:
        """Play events as one batch, each command right after the event before it.

        Return the reports.
        """
        script = list(steps)
        events: list[Event] = []
        commands: list[tuple[int, Command | CorporateAction]] = []
        for step in script:
            if isinstance(step, Event):
                events.append(step)
            else:
                commands.append((len(events) - 1, step))
        start = len(self.out)
        while commands and commands[0][0] < 0:
            self._give(commands.pop(0)[1], -1, self.clock_ns)
        if events:
            self._play(events, commands)
        return [record for _, record in self.out[start:]]

    def _play(
        self, events: list[Event], commands: list[tuple[int, Command | CorporateAction]]
    ) -> None:
        batch = make_batch(self.universe, events, self.played, self.clock_ns)
        self.venue.load(batch)
        handled = -1
        while True:
            at = self.venue.next()
            pos = min(at, commands[0][0] if commands else len(events))
            assert handled <= pos
            if pos == len(events):
                break
            if at == pos:
                assert handled < pos
                self.venue.fire(pos, self.out)
            handled = pos
            while commands and commands[0][0] == pos:
                self._give(commands.pop(0)[1], pos, int(batch.clock[pos]))
        self.clock_ns = int(batch.clock[-1])
        self.played += len(events)
        self.venue.end()

    def _give(self, step: Command | CorporateAction, pos: int, now_ns: int) -> None:
        if isinstance(step, CorporateAction):
            self.venue.on_corporate_action(step, pos, now_ns, self.out)
        else:
            self.venue.on_command(step, pos, now_ns, self.out)

    def restart(self) -> None:
        """Go on with a new venue that takes over the state of this one."""
        state = self.venue.snapshot()
        self.venue = PaperVenue(self.config, self.universe, sessions())
        self.venue.restore(state)
        assert self.venue.snapshot() == state
