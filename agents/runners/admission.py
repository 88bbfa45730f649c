"""Which live records are let in: known instruments, announced kinds, values that can be true.

What is refused here could not be journaled or would do harm whatever comes after: it has no place
among the columns, or would carry the clock away. Data that is merely doubtful (crossed, late, out
of order, a jump) is let in, and reported by the market stage, where a replay reports it as well.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from operator import index
from typing import Any

import msgspec

from agents.runners.kafka.usable import KnownInstruments
from schemas.codec import decode, encode
from schemas.envelope import Header
from schemas.errors import RecordError
from schemas.instruments import Universe
from schemas.market_data import INTERVALS, Bar, InstrumentStatus, Quote, Trade, Watermark
from schemas.topics import MARKET_EVENTS

_COUNT_MAX = 2**31 - 1
_NS = 1_000_000_000


class Admission:
    """Checks single records; ``ahead_s`` and ``behind_s`` bound event times about the wall clock.

    An event time far ahead would close bars and end orders of hours to come; one far behind is
    history, or not in nanoseconds.
    """

    def __init__(
        self, universe: Universe, kinds: frozenset[str], *, ahead_s: float, behind_s: float
    ) -> None:
        self._universe = universe
        self._known = KnownInstruments(universe)
        self._kinds = kinds
        self._ahead_ns = round(ahead_s * _NS)
        self._behind_ns = round(behind_s * _NS)

    def admit(self, record: Header, wall_ns: int) -> Any:
        """Return a copy of ``record``, since its maker may use the object again.

        Raises RecordError for one that cannot be used; ``wall_ns`` is the present time (ns UTC).
        """
        check = _CHECKS.get(type(record))
        if check is None:
            raise RecordError(
                "a feed cannot emit records of this type",
                field="type",
                value=type(record).__name__,
                remedy=f"emit {', '.join(cls.__name__ for cls in _CHECKS)}",
            )
        taken: Any = copy(record)
        try:
            self._check_time(taken, wall_ns)
            if not isinstance(taken, Watermark):
                self._check_instrument(taken)
            check(taken)
            self._check_grid(taken)
        except (TypeError, ValueError, OverflowError) as error:
            raise RecordError(
                f"a field of a {type(record).__name__} has a value of a wrong type: {error}",
                field="type",
                value=type(record).__name__,
                remedy="give names as str, times and counts as int, prices and sizes as float",
            ) from error
        self._check_kind(taken)
        return taken

    def _check_time(self, record: Any, wall_ns: int) -> None:
        ts = record.ts_event_ns = index(record.ts_event_ns)
        if ts > wall_ns + self._ahead_ns:
            raise RecordError(
                f"an event time lies more than {self._ahead_ns / _NS:g} s ahead of the clock",
                field="ts_event_ns",
                value=ts,
                remedy="set the clocks of the source and of this machine by NTP",
            )
        if ts < wall_ns - self._behind_ns:
            raise RecordError(
                f"an event time lies more than {self._behind_ns / _NS:g} s behind the clock",
                field="ts_event_ns",
                value=ts,
                remedy="give ns since 1970 in UTC; play history with data instead of feed",
            )

    def _check_instrument(self, record: Any) -> None:
        if self._universe.index(record.instrument_id) is None:
            raise RecordError(
                "the feed does not serve this instrument",
                field="instrument_id",
                value=record.instrument_id,
                remedy="return its definition from instruments() of the adapter",
            )

    def _check_grid(self, record: Any) -> None:
        name = "" if isinstance(record, Watermark) else self._known.beyond(record)
        if name:
            raise RecordError(
                f"a {type(record).__name__} of {record.instrument_id} is beyond exact numbers on"
                " the instrument's grid",
                field=name,
                value=getattr(record, name),
                remedy="check the scale of prices and sizes",
            )

    def _check_kind(self, record: Header) -> None:
        kind = _KINDS.get(type(record))
        if isinstance(record, Bar):
            kind = f"bar/{record.interval}"
        if kind is not None and kind not in self._kinds:
            raise RecordError(
                "the feed has not announced data of this kind",
                field="kinds",
                value=kind,
                remedy="add it to the kinds of the adapter, and begin a new session",
            )


_KINDS: dict[type[Any], str] = {Trade: "trade", Quote: "quote"}


def _positive(record: Any, *fields: str) -> None:
    for field in fields:
        if not 0 < getattr(record, field) < math.inf:
            raise _unusable(record, field, "a finite number above 0")


def _not_negative(record: Any, *fields: str) -> None:
    for field in fields:
        if not 0 <= getattr(record, field) < math.inf:
            raise _unusable(record, field, "a finite number of 0 or more")


def _unusable(record: Any, field: str, wanted: str) -> RecordError:
    return RecordError(
        f"a {type(record).__name__} of {record.instrument_id} cannot be used",
        field=field,
        value=getattr(record, field),
        remedy=f"give {wanted}",
    )


def _trade(record: Trade) -> None:
    _positive(record, "price")
    _not_negative(record, "size")


def _quote(record: Quote) -> None:
    # A side that does not exist has price 0.
    _not_negative(record, "bid_price", "ask_price", "bid_size", "ask_size")


def _bar(record: Bar) -> None:
    if record.interval not in INTERVALS:
        raise _unusable(record, "interval", f"one of {', '.join(INTERVALS)}")
    _positive(record, "open", "high", "low", "close")
    _not_negative(record, "volume", "vwap")
    if not record.low <= min(record.open, record.close):
        raise _unusable(record, "low", "a price that is not above open and close")
    if not record.high >= max(record.open, record.close):
        raise _unusable(record, "high", "a price that is not below open and close")
    for field in ("trade_count", "revision"):
        if not 0 <= index(getattr(record, field)) <= _COUNT_MAX:
            raise _unusable(record, field, f"a whole number from 0 to {_COUNT_MAX}")
    if not 0 <= index(record.start_ns) < record.ts_event_ns:
        raise _unusable(record, "start_ns", "an instant before ts_event_ns, or leave it out")


def _as_on_the_wire(record: Header) -> None:
    # It is journaled as JSON: what does not come back from there would end every restart.
    decode(MARKET_EVENTS, encode(record))


_CHECKS: dict[type[Any], Callable[[Any], None]] = {
    Trade: _trade,
    Quote: _quote,
    Bar: _bar,
    InstrumentStatus: _as_on_the_wire,
    Watermark: _as_on_the_wire,
}


def shown(record: Header, most_bytes: int) -> bytes:
    """Return a refused record for its dead letter: as JSON if it has such a form."""
    try:
        text = encode(record)
    except (TypeError, ValueError, OverflowError, msgspec.MsgspecError):
        text = repr(record).encode(errors="replace")
    return text[:most_bytes]
