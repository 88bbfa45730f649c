"""Which records can be worked with, of those that decode: place, size of numbers, names.

A record that ends a stage would end it again at every restart. So whatever no stage could take, or
would carry its clock away, is found here, before anything has changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from agents.market.validity import PRODUCT_LIMIT
from agents.runners.kafka.parts.part import partition_of
from schemas.enums import CorporateActionKind
from schemas.envelope import Header, Record
from schemas.errors import MillraceError
from schemas.instruments import OTHER_THING, CorporateAction, Instrument, Universe
from schemas.market_data import INTERVALS, Bar, Quote, ReferencePrice, Trade
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    STRATEGY_INPUTS,
    VENUE_COMMANDS,
    goes_everywhere,
    key_of,
)
from streams.calendars import check_calendar

STAGE_INPUTS = frozenset(
    {MARKET_EVENTS, MARKET_BARS, ACCOUNT_INPUTS, STRATEGY_INPUTS, VENUE_COMMANDS}
)
"""What stages read; on other topics everything that decodes is good."""

_MARKET_DATA = frozenset({MARKET_EVENTS, MARKET_BARS})
_FIELDS: dict[type[Any], tuple[tuple[str, ...], tuple[str, ...]]] = {
    Trade: (("price",), ("size",)),
    Quote: (("bid_price", "ask_price"), ("bid_size", "ask_size")),
    Bar: (("open", "high", "low", "close", "vwap"), ("volume",)),
    ReferencePrice: (("price",), ()),
}
"""Prices and sizes of what becomes columns."""

_UNITS_MAX = 2**53
_INT64 = 2**63
_INT32_MAX = 2**31 - 1
_EXPONENT_MAX = 300
_RATIO_LEAST, _RATIO_MOST = Decimal("0.000001"), Decimal(1_000_000)
_RATIO_DIGITS_MAX = 38
_DAY_NS = 86_400_000_000_000
_SHOWN = 80


def home_of(topic: str, record: Header, partitions: int) -> int | None:
    """Return the partition that a stage's input belongs to; None for one that is for all."""
    if goes_everywhere(topic, record):
        return None
    return partition_of(key_of(topic, record), partitions)


class KnownInstruments:
    """Holds market data to the instruments of a session and to their grids.

    ``is_open``: there is no session yet, and what is not known may be defined before it begins.
    """

    def __init__(self, universe: Universe, partitions: int = 1, *, is_open: bool = False) -> None:
        self.is_open = is_open
        self._universe = universe
        self._partitions = partitions
        self._largest: dict[str, tuple[float, float]] = {}

    def fault(self, topic: str, record: Any) -> str:
        """Return why a market event, bar or reference price cannot be used, or nothing.

        A definition among market events is learned. Bars and prices of instruments that are not
        known pass: their definition comes on another topic, and nobody trades them.
        """
        if topic not in _MARKET_DATA and not isinstance(record, ReferencePrice):
            return ""
        if isinstance(record, Instrument):
            return self._learn(record)
        instrument_id = getattr(record, "instrument_id", None)
        if instrument_id is None:
            return ""
        largest = self.largest(instrument_id)
        if largest is None:
            if topic != MARKET_EVENTS or self.is_open:
                return ""
            return (
                f"instrument {_short(instrument_id)} is not known; publish its definition on"
                " reference.instruments.v1 first"
            )
        if isinstance(record, CorporateAction) and record.kind is CorporateActionKind.SYMBOL_CHANGE:
            return self._renaming(record)
        name = self.beyond(record)
        return name and (
            f"{name} is {getattr(record, name)}, beyond exact numbers on the grid of"
            f" {_short(instrument_id)}; check the scale of prices and sizes"
        )

    def beyond(self, record: Any) -> str:
        """Return which price or size of a known instrument is beyond exact numbers, or nothing.

        A size may be so by what it is worth at its price.
        """
        largest = self.largest(record.instrument_id)
        if largest is None:
            return ""
        prices, sizes = _FIELDS.get(type(record), ((), ()))
        for names, most in zip((prices, sizes), largest, strict=True):
            for name in names:
                if not -most < getattr(record, name) < most:
                    return name
        if isinstance(record, Trade | Bar):
            price = max(getattr(record, name) for name in prices)
            size = getattr(record, sizes[0])
            if not (price / largest[0]) * (size / largest[1]) < PRODUCT_LIMIT:
                return sizes[0]
        return ""

    def _renaming(self, action: CorporateAction) -> str:
        """Return why positions and orders cannot go on under a new symbol, or nothing."""
        old, new = action.instrument_id, self._universe.new_id(action)
        if new is None:
            return f"new_symbol {_short(action.new_symbol)} is not known, or {OTHER_THING}"
        home, target = (partition_of(name, self._partitions) for name in (old, new))
        if home == target:
            return ""
        return (
            f"{_short(old)} has its orders and positions in partition {home} and {_short(new)} in"
            f" {target} of {self._partitions}, where they cannot follow; close them before the"
            " change, and trade the new symbol"
        )

    def _learn(self, instrument: Instrument) -> str:
        try:
            check_calendar(instrument)
            self._universe.add(instrument)
        except MillraceError as error:
            return str(error)
        return ""

    def largest(self, instrument_id: str) -> tuple[float, float] | None:
        """Return the bound of exact prices and that of sizes; None if it is not known."""
        found = self._largest.get(instrument_id)
        return self._look_up(instrument_id) if found is None else found

    def _look_up(self, instrument_id: str) -> tuple[float, float] | None:
        index = self._universe.index(instrument_id)
        if index is None:
            return None
        grids = self._universe.price_grids[index], self._universe.quantity_grids[index]
        found = grids[0].to_float(_UNITS_MAX), grids[1].to_float(_UNITS_MAX)
        self._largest[instrument_id] = found
        return found


def unfit(instrument: Instrument) -> str:
    """Return why no stage could learn a definition, or nothing.

    It is refused where it comes from: handed on, it would be missed among what stages have taken.
    """
    try:
        check_calendar(instrument)
        Universe([instrument])
    except MillraceError as error:
        return str(error)
    return ""


class MarketData:
    """Tells of most trades and quotes of a partition at once that there is nothing wrong with them.

    ``is_sound`` asks what ``unusable`` and ``KnownInstruments.fault`` ask, in one go;
    where it says no, they tell what is wrong, if anything is.
    """

    def __init__(self, known: KnownInstruments, partition: int, partitions: int) -> None:
        self._known = known
        self._partition = partition
        self._partitions = partitions
        self._limits: dict[str, tuple[float, float]] = {}

    def is_sound(self, record: Any, written_ns: int) -> bool:
        """Return whether a market event is a trade or quote that surely can be used."""
        kind = type(record)
        if kind is not Trade and kind is not Quote:
            return False
        limits = self._limits.get(record.instrument_id) or self._look_up(record)
        if limits is None:
            return False
        price, size = limits
        is_exact: bool
        if kind is Trade:
            is_exact = (
                0 < record.price < price
                and 0 <= record.size < size
                and (record.price / price) * (record.size / size) < PRODUCT_LIMIT
            )
        else:
            is_exact = (
                0 <= record.bid_price < price
                and 0 <= record.ask_price < price
                and 0 <= record.bid_size < size
                and 0 <= record.ask_size < size
            )
        ts: int = record.ts_event_ns
        seq: int = record.source_seq
        return (
            is_exact and 0 < ts < _INT64 and ts <= written_ns + _DAY_NS and -_INT64 <= seq < _INT64
        )

    def are_sound(self, records: Sequence[Any], written_ns: Sequence[int]) -> bool:
        """Return whether all are trades of which ``is_sound`` would say yes; it may doubt more.

        The narrowest limits among the instruments hold for all of them here.
        """
        if set(map(type, records)) != {Trade}:
            return False
        limits = []
        for name, record in {record.instrument_id: record for record in records}.items():
            found = self._limits.get(name) or self._look_up(record)
            if found is None:
                return False
            limits.append(found)
        prices = np.array([record.price for record in records], np.float64)
        sizes = np.array([record.size for record in records], np.float64)
        times = [record.ts_event_ns for record in records]
        numbers = [record.source_seq for record in records]
        price, size = min(price for price, _ in limits), min(size for _, size in limits)
        return bool(
            ((prices > 0) & (prices < price)).all()
            and ((sizes >= 0) & (sizes < size)).all()
            and (prices.max() / price) * (sizes.max() / size) < PRODUCT_LIMIT
            and min(times) > 0
            and max(times) < _INT64
            and max(times) <= min(written_ns) + _DAY_NS
            and min(numbers) >= -_INT64
            and max(numbers) < _INT64
        )

    def _look_up(self, record: Any) -> tuple[float, float] | None:
        """Return the limits of an instrument that is known and belongs to this partition."""
        if home_of(MARKET_EVENTS, record, self._partitions) != self._partition:
            return None
        limits = self._known.largest(record.instrument_id)
        if limits is not None:
            self._limits[record.instrument_id] = limits
        return limits


def unusable(topic: str, partition: int, partitions: int, record: Any, written_ns: int) -> str:
    """Return why a stage cannot use an input that decodes, or nothing.

    ``written_ns`` is the stamp that Kafka keeps with the record: every reading finds the same.
    """
    if topic == MARKET_EVENTS:
        return (
            _market_time(record, written_ns)
            or _misplaced(topic, partition, partitions, record)
            or _market_numbers(record)
        )
    return (
        _unnamed(record)
        or _numbers(record)
        or _time(record, written_ns)
        or _misplaced(topic, partition, partitions, record)
        or _unsourced(record)
        or (_bar(record) if isinstance(record, Bar) else "")
        or (_action(record) if isinstance(record, CorporateAction) else "")
    )


def _market_time(record: Any, written_ns: int) -> str:
    ts = record.ts_event_ns
    if isinstance(record, Instrument):
        return ""  # a definition has no instant
    if not 0 < ts < _INT64:
        return f"ts_event_ns is {ts}; give ns since 1970 in UTC"
    if ts > written_ns + _DAY_NS:
        return (
            f"ts_event_ns is {ts}, more than a day after the record was written; set the clock of"
            " its source, and give ns since 1970"
        )
    return ""


def _time(record: Any, written_ns: int) -> str:
    # What market events bring about may bear their time, and be written a little earlier by
    # another clock: so twice what is allowed them. A definition has no instant.
    if record.ts_event_ns > written_ns + 2 * _DAY_NS and not isinstance(record, Instrument):
        return (
            f"ts_event_ns is {record.ts_event_ns}, days after the record was written; give ns since"
            " 1970 in UTC"
        )
    return ""


def _misplaced(topic: str, partition: int, partitions: int, record: Header) -> str:
    home = home_of(topic, record, partitions)
    if home is None or home == partition:
        return ""
    return (
        f"the key {_short(key_of(topic, record))} belongs to partition {home} of {partitions}, not"
        f" to {partition}; produce with this key and the murmur2 partitioner"
        " (partitioner=murmur2_random in librdkafka, kcat and confluent-kafka)"
    )


def _market_numbers(record: Any) -> str:
    if not -_INT64 <= record.source_seq < _INT64:
        return _too_large("source_seq", record.source_seq)
    if isinstance(record, Instrument | CorporateAction):
        reason = _numbers(record)
        return reason or (_action(record) if isinstance(record, CorporateAction) else "")
    return _values(record) or (_bar(record) if type(record) is Bar else "")


def _values(record: Any) -> str:
    """Return which price or size of a market event cannot be true, as a live feed would.

    The market stage would leave it out; here nobody else comes to work with it either.
    """
    prices, sizes = _FIELDS.get(type(record), ((), ()))
    # A side of a quote that does not exist has price 0, a bar without volume may have no vwap.
    can_be_zero = {"bid_price", "ask_price", "vwap"}
    for name in prices:
        value = getattr(record, name)
        if value < 0 or (not value and name not in can_be_zero):
            return f"{name} is {value}; give a price above 0"
    for name in sizes:
        if getattr(record, name) < 0:
            return f"{name} is {getattr(record, name)}; give a size of 0 or more"
    if type(record) is Bar and not (
        record.low <= min(record.open, record.close)
        and max(record.open, record.close) <= record.high
    ):
        return f"low is {record.low} and high {record.high}; open and close lie between them"
    return ""


def _action(action: CorporateAction) -> str:
    """Hold a split to what prices and quantities can be scaled by."""
    ratio = action.ratio
    digits = len(ratio.as_tuple().digits)
    if _RATIO_LEAST <= ratio <= _RATIO_MOST and digits <= _RATIO_DIGITS_MAX:
        return ""
    return (
        f"ratio is {_short(str(ratio))}; give the new shares for one old share, {_RATIO_LEAST:f} to"
        f" {_RATIO_MOST:f} in at most {_RATIO_DIGITS_MAX} digits"
    )


def _unnamed(record: Any) -> str:
    """Tell of a record whose outputs would bear the names of another one's outputs."""
    if isinstance(record, Record) and not record.event_id:
        return "event_id is empty; give every record one of its own, what follows is named after it"
    return ""


def _unsourced(record: Any) -> str:
    """Tell of a market record that the market stage did not make: it alone writes them here."""
    if isinstance(record, Bar | ReferencePrice) and not record.source:
        return "source is empty; the market stage makes this record, publish to market.events.v1"
    return ""


def _bar(bar: Bar) -> str:
    if bar.interval not in INTERVALS:
        return f"interval is {_short(bar.interval)}; give one of {', '.join(INTERVALS)}"
    for field in ("trade_count", "revision"):
        if not 0 <= getattr(bar, field) <= _INT32_MAX:
            return _too_large(field, getattr(bar, field))
    if not 0 <= bar.start_ns < bar.ts_event_ns:
        return (
            f"start_ns is {_short(str(bar.start_ns))}; give the instant at which the bar begins,"
            " before ts_event_ns, or leave it out"
        )
    return ""


def _numbers(record: Any) -> str:
    """Hold whole numbers to 64 bits, and Decimals to what can be added up."""
    kind = type(record)
    fields = _NUMBER_FIELDS.get(kind)
    if fields is None:
        fields = _NUMBER_FIELDS[kind] = _fields_with_numbers(kind)
    for field in fields:
        value = getattr(record, field)
        if isinstance(value, int):
            if not -_INT64 <= value < _INT64:
                return _too_large(field, value)
        elif isinstance(value, Decimal) and not (
            value.is_finite() and abs(value.adjusted()) <= _EXPONENT_MAX
        ):
            return f"{field} is {_short(str(value))}; give a finite number of a sensible size"
        elif isinstance(value, msgspec.Struct):
            inner = _numbers(value)
            if inner:
                return f"{field}.{inner}"
    return ""


_NUMBER_FIELDS: dict[type[Any], tuple[str, ...]] = {}
"""By type of record, so that each is looked through once."""


def _fields_with_numbers(kind: type[Any]) -> tuple[str, ...]:
    """Return the fields that hold whole numbers or Decimals, or structs with such."""
    looked_for = msgspec.inspect.IntType, msgspec.inspect.DecimalType, msgspec.inspect.StructType
    found = []
    for field in msgspec.inspect.type_info(kind).fields:  # type: ignore[attr-defined]
        kinds = getattr(field.type, "types", (field.type,))
        if any(isinstance(k, looked_for) for k in kinds):
            found.append(field.name)
    return tuple(found)


def _too_large(field: str, value: int) -> str:
    return f"{field} is {_short(str(value))}, which does not fit; give a number that was counted"


def _short(text: str) -> str:
    """Return text of a stranger as far as a reason has room for it, and harmless to show."""
    shown = text if text.isprintable() else repr(text)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"
