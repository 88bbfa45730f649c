"""What the tests of live feeds share: a hand-fed clock, records, an ``Emit`` that remembers."""

from __future__ import annotations

import asyncio
from typing import Any

from schemas.envelope import Header
from schemas.instruments import Instrument, Universe
from schemas.market_data import Quote, Trade

START_NS = 1_700_000_000_000_000_000
S = 1_000_000_000
ID = "GEN.XXXX"


class Clock:
    """A wall clock that stands until it is moved."""

    def __init__(self) -> None:
        self.ns = START_NS
        self._steady_ns = 0

    def __call__(self) -> int:
        """Return the time in ns."""
        return self.ns

    def go(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.ns += round(seconds * S)
        self._steady_ns += round(seconds * S)

    def jump(self, seconds: float) -> None:
        """Set the wall clock ahead by ``seconds``, or back; no time passes."""
        self.ns += round(seconds * S)

    def steady(self) -> int:
        """Return the ns that have passed."""
        return self._steady_ns


class Collected:
    """An ``Emit`` that keeps everything it is given."""

    def __init__(self) -> None:
        self.records: list[Header] = []
        self.refused: list[tuple[bytes, str]] = []
        self.notes: list[str] = []
        self.noted = asyncio.Event()
        self.was_refused = asyncio.Event()

    async def __call__(self, record: Header) -> None:
        """Keep a record."""
        self.records.append(record)

    async def refuse(self, value: bytes, reason: str) -> None:
        """Keep what could not be read."""
        self.refused.append((value, reason))
        self.was_refused.set()

    def note(self, text: str) -> None:
        """Keep a note."""
        self.notes.append(text)
        self.noted.set()


def instrument(symbol: str = "GEN") -> Instrument:
    """Return an instrument that trades around the clock."""
    return Instrument(ts_event_ns=0, instrument_id=f"{symbol}.XXXX", symbol=symbol, venue="XXXX")


def universe() -> Universe:
    """Return a universe of the one instrument ``ID``."""
    return Universe([instrument()])


def trade(ts_ns: int = START_NS, **changes: Any) -> Trade:
    """Return a good trade of ``ID``, but for ``changes``."""
    values: dict[str, Any] = {"instrument_id": ID, "price": 100.0, "size": 5.0}
    return Trade(ts_event_ns=ts_ns, **(values | changes))


def quote(ts_ns: int = START_NS, **changes: Any) -> Quote:
    """Return a good quote of ``ID``, but for ``changes``."""
    values: dict[str, Any] = {"instrument_id": ID, "bid_price": 99.0, "ask_price": 101.0}
    values |= {"bid_size": 1.0, "ask_size": 2.0}
    return Quote(ts_event_ns=ts_ns, **(values | changes))
