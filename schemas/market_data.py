"""Market data as single records: the form it has on ``market.events`` and ``market.bars``.

A row of a column batch (``schemas.columns``) and a record here hold the same values;
``schemas.codec`` converts. Prices and sizes are float64 on the instrument's grid.
"""

from __future__ import annotations

import msgspec

from schemas.enums import InstrumentState, QualityKind
from schemas.envelope import Incoming, Record

INTERVALS: tuple[str, ...] = ("1s", "5s", "1m", "5m", "15m", "1h", "1d")
"""Names of the bar intervals; a bar column holds the index into this tuple."""

INTERVAL_NS: tuple[int, ...] = tuple(
    seconds * 1_000_000_000 for seconds in (1, 5, 60, 300, 900, 3600, 86400)
)
"""Length of each interval in ns; "1d" is one session where there is a calendar."""


class Trade(Incoming, gc=False, omit_defaults=True, tag="trade", kw_only=True):
    """A public print."""

    instrument_id: str
    price: float
    size: float
    condition: str = ""


class Quote(Incoming, gc=False, omit_defaults=True, tag="quote", kw_only=True):
    """Best bid and ask; a side that does not exist has price 0 and size 0."""

    instrument_id: str
    bid_price: float
    ask_price: float
    bid_size: float
    ask_size: float


class Bar(Incoming, gc=False, omit_defaults=True, tag="bar", kw_only=True):
    """Trades of one interval, stamped at its end (``ts_event_ns`` is the close).

    ``is_partial``: the interval was not seen whole (the data began or ended inside it).
    ``revision`` above 0: a correction that takes the place of the bar with the same instrument,
    interval and end, made by a late trade. ``start_ns`` is the bar's open instant where that is not
    its close less the interval's length, as of a day's session; 0 where it is.
    """

    instrument_id: str
    interval: str
    open: float
    high: float
    low: float
    close: float
    volume: float
    vwap: float
    trade_count: int
    is_partial: bool = False
    revision: int = 0
    start_ns: int = 0


class BookLevel(msgspec.Struct, gc=False, array_like=True):
    """Price and size of one level; in a delta a size of 0 removes the level."""

    price: float
    size: float


class BookSnapshot(Incoming, gc=False, omit_defaults=True, tag="book_snapshot", kw_only=True):
    """The whole book, best levels first."""

    instrument_id: str
    bids: list[BookLevel]
    asks: list[BookLevel]


class BookDelta(Incoming, gc=False, omit_defaults=True, tag="book_delta", kw_only=True):
    """Levels that changed since the last snapshot or delta.

    ``is_last`` ends a group that belongs together.
    """

    instrument_id: str
    bids: list[BookLevel]
    asks: list[BookLevel]
    is_last: bool = True


class InstrumentStatus(
    Incoming, gc=False, omit_defaults=True, tag="instrument_status", kw_only=True
):
    """The venue opens, halts or closes an instrument."""

    instrument_id: str
    state: InstrumentState
    reason: str = ""


class Watermark(Incoming, gc=False, omit_defaults=True, tag="watermark", kw_only=True):
    """A source's promise: nothing at or before ``ts_event_ns`` follows in this partition."""


CLOSING_SOURCE = "closing"
"""Source of the watermark with which a run over a recording ends: the run's own, not its data's."""


class ReferencePrice(Record, gc=False, omit_defaults=True, tag="reference_price"):
    """The price at which the account stage marks an instrument."""

    instrument_id: str
    price: float


class IndicatorValue(Record, gc=False, omit_defaults=True, tag="indicator_value"):
    """The value of one indicator after one bar or trade."""

    instrument_id: str
    name: str
    values: list[float]


class DataQuality(Record, gc=False, omit_defaults=True, tag="data_quality"):
    """Something is wrong with the data: which kind, measured value against limit."""

    instrument_id: str
    kind: QualityKind
    detail: str
    measured: float = 0.0
    limit: float = 0.0
    count: int = 1


MarketEvent = Trade | Quote | Bar | BookSnapshot | BookDelta | InstrumentStatus | Watermark
"""Everything that may stand on ``market.events``.

Bars stand there when history holds nothing finer.
"""
