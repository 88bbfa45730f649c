"""Bytes of a Kafka partition to records that stages can take, or to dead letters with the reason.

What is decided here depends on nothing but the partition's own content: never on this machine's
clock, nor on how the records were cut into batches. So every reading of a partition, by any worker,
refuses the same records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from schemas.codec import decode, decoder
from schemas.control import DeadLetter
from schemas.envelope import SCHEMA_VERSION, Header
from schemas.errors import MillraceError, RecordError
from schemas.identifiers import source_id
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.topics import MARKET_EVENTS
from streams.calendars import check_calendar

VALUE_MAX_BYTES = 1_048_576
_LETTER_BYTES = 4096
_NS_OF_MS = 1_000_000
_AHEAD_NS = 86_400_000_000_000
_LATEST_NS = 2**63 - 1


class Arrived(Protocol):
    """A record as the Kafka client gives it."""

    @property
    def offset(self) -> int:
        """Its place in the partition."""
        ...

    @property
    def timestamp(self) -> int:
        """When it was written, in ms."""
        ...

    @property
    def key(self) -> bytes | None:
        """Its key."""
        ...

    @property
    def value(self) -> bytes | None:
        """Its bytes; None for a tombstone."""
        ...


class Taken(NamedTuple):
    """Records of one partition in order, each with its offset, and what could not be used."""

    records: list[tuple[int, Header]]
    letters: list[DeadLetter]


def take_records(
    topic: str, partition: int, arrived: Sequence[Arrived], universe: Universe | None
) -> Taken:
    """Decode and check records of one partition.

    A market event without a source gets the partition as its source and the offset as its number:
    that names it for ever. Without a universe any instrument will do; else definitions among the
    records are added to it, and hold for what stands behind them.
    """
    taken: list[tuple[int, Header]] = []
    letters: list[DeadLetter] = []
    check = _MarketCheck(partition, universe) if topic == MARKET_EVENTS else None
    for item, found in zip(arrived, _decoded(topic, arrived), strict=True):
        reason = found if isinstance(found, str) else ""
        if not isinstance(found, str) and check is not None:
            reason = check.fault(found, item)
        if reason:
            letters.append(_letter(topic, partition, item, reason))
        elif not isinstance(found, str):
            taken.append((item.offset, found))
    return Taken(taken, letters)


def is_usable(record: Header, universe: Universe) -> bool:
    """Return whether a market event that was recorded as readable is of a known instrument.

    Definitions are added to ``universe``, as ``take_records`` does.
    """
    if isinstance(record, Instrument):
        return not _learn(record, universe)
    instrument_id = getattr(record, "instrument_id", None)
    return instrument_id is None or universe.index(instrument_id) is not None


def _learn(instrument: Instrument, universe: Universe) -> str:
    """Let what stands behind a definition be of its instrument; return why not, or nothing."""
    try:
        check_calendar(instrument)
        universe.add(instrument)
    except MillraceError as error:
        return str(error)
    return ""


def _decoded(topic: str, arrived: Sequence[Arrived]) -> list[Header | str]:
    """Return each record, or why it cannot be read."""
    read = decoder(topic).decode
    try:
        records: list[Any] = [read(item.value or b"") for item in arrived]
    except (msgspec.DecodeError, UnicodeDecodeError):
        return [_decoded_alone(topic, item) for item in arrived]
    if all(
        record.schema_version <= SCHEMA_VERSION and len(item.value or b"") <= VALUE_MAX_BYTES
        for record, item in zip(records, arrived, strict=True)
    ):
        return records
    return [_decoded_alone(topic, item) for item in arrived]


def _decoded_alone(topic: str, item: Arrived) -> Header | str:
    if item.value is None:
        return "a tombstone has no place on this topic"
    if len(item.value) > VALUE_MAX_BYTES:
        return f"the value has {len(item.value):,} bytes; at most {VALUE_MAX_BYTES:,} are read"
    try:
        return decode(topic, item.value)
    except RecordError as error:
        return str(error)


class _MarketCheck:
    """Checks market events, and names those that have no name."""

    def __init__(self, partition: int, universe: Universe | None) -> None:
        self._source = f"kafka/{partition}"
        self._universe = universe

    def fault(self, record: Any, item: Arrived) -> str:
        """Return why a record cannot be used, or nothing."""
        if isinstance(record, Instrument):
            return _learn(record, self._universe) if self._universe is not None else ""
        ts = record.ts_event_ns
        if not 0 < ts <= _LATEST_NS:
            return f"ts_event_ns is {ts}; give ns since 1970 in UTC"
        # The stamp stands in the partition, so every reading finds the same.
        if ts > item.timestamp * _NS_OF_MS + _AHEAD_NS:
            return (
                f"ts_event_ns is {ts}, more than a day after the record was written; set the clock"
                " of its source, and give ns since 1970"
            )
        instrument_id = getattr(record, "instrument_id", None)
        known = self._universe
        if known is not None and instrument_id is not None and known.index(instrument_id) is None:
            return (
                f"instrument {instrument_id} is not known; publish its definition on"
                " reference.instruments.v1 first"
            )
        if not record.source:
            record.source, record.source_seq = self._source, item.offset
        if isinstance(record, CorporateAction):
            is_positive = record.ratio.is_finite() and record.ratio > 0
            if not (is_positive and record.amount.is_finite()):
                return f"ratio {record.ratio}, amount {record.amount}: give a positive ratio"
            if record.event_id:
                return ""
        record.event_id = source_id(record.source, instrument_id or "", record.source_seq)
        return ""


def _letter(topic: str, partition: int, item: Arrived, reason: str) -> DeadLetter:
    return DeadLetter(
        event_id=f"dead:{topic}:{partition}:{item.offset}",
        ts_event_ns=item.timestamp * _NS_OF_MS,
        topic=topic,
        partition=partition,
        offset=item.offset,
        reason=reason,
        key=(item.key or b"")[:_LETTER_BYTES].decode(errors="replace"),
        value=(item.value or b"")[:_LETTER_BYTES],
    )
