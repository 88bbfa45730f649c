"""Bytes of a Kafka partition to records that stages can take, or to dead letters with the reason.

What is decided here depends on nothing but the partition's own content: never on this machine's
clock, nor on how the records were cut into batches. So every reading of a partition, by any worker,
a re-run or a recording, refuses the same records.

A record of a newer schema version is no dead letter: who reads on would act without it. It stops
the reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from agents.runners.kafka.usable import (
    STAGE_INPUTS,
    KnownInstruments,
    MarketData,
    unfit,
    unusable,
)
from schemas.codec import decode, decoder
from schemas.control import DeadLetter
from schemas.envelope import SCHEMA_VERSION, Header
from schemas.errors import NewerSchemaError, RecordError
from schemas.identifiers import source_id
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.market_data import Trade
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_EVENTS,
    REFERENCE_ACTIONS,
    REFERENCE_INSTRUMENTS,
    STRATEGY_INPUTS,
    VENUE_COMMANDS,
)

VALUE_MAX_BYTES = 262_144
"""The longest value that a stage takes: a book of ten thousand levels."""

COMMAND_MAX_BYTES = 65_536
"""The longest command or report: what follows from it repeats its names several times."""

_SOURCES = {MARKET_EVENTS: "kafka", REFERENCE_ACTIONS: "actions"}
"""Topics whose records may come without a name, and the source that they get then."""

_COMMANDS = frozenset({ACCOUNT_INPUTS, STRATEGY_INPUTS, VENUE_COMMANDS})
_NESTING_MAX = 128
_SHORT_BYTES = 2 * _NESTING_MAX
"""No shorter value can be nested too deeply, so most need no look."""

_MANY = 16
"""From so many records on they are looked at together; fewer are cheaper one by one."""

_LETTER_BYTES = 4096
_REASON_LENGTH = 1000
_NS_OF_MS = 1_000_000


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
    topic: str,
    partition: int,
    arrived: Sequence[Arrived],
    universe: Universe | None,
    partitions: int,
) -> Taken:
    """Decode and check records of one of ``partitions`` partitions of a topic.

    A market event without a source gets the partition as its source and the offset as its number:
    that names it for ever. Without a universe any instrument will do; else definitions among the
    records are added to it, and hold for what stands behind them. Raises NewerSchemaError for a
    record that this program is too old for; its ``offset`` says where that stands.
    """
    known = KnownInstruments(universe, partitions) if universe is not None else None
    return _take((topic, partition, partitions), arrived, known, is_naming=True)


def usable_records(
    topic: str, partition: int, arrived: Sequence[Arrived], known: KnownInstruments, partitions: int
) -> Taken:
    """Decide as ``take_records`` does, for who only shows or stores: the records stay unnamed."""
    return _take((topic, partition, partitions), arrived, known, is_naming=False)


def _take(
    place: tuple[str, int, int],
    arrived: Sequence[Arrived],
    known: KnownInstruments | None,
    *,
    is_naming: bool,
) -> Taken:
    taking = _Taking(place, known, is_naming=is_naming)
    read = _decoded(place[0], place[1], arrived)
    if taking.market is None:
        for item, found in zip(arrived, read, strict=True):
            taking.one(item, found)
        return Taken(taking.records, taking.letters)
    begin = 0
    for end in (*(at for at, found in enumerate(read) if type(found) is not Trade), len(read)):
        if end - begin < _MANY or not taking.all_of(arrived[begin:end], read[begin:end]):
            for at in range(begin, end):
                taking.one(arrived[at], read[at])
        if end < len(read):
            taking.one(arrived[end], read[end])
        begin = end + 1
    return Taken(taking.records, taking.letters)


class _Taking:
    """Takes what was read of one partition, record by record or many trades at once."""

    def __init__(
        self, place: tuple[str, int, int], known: KnownInstruments | None, *, is_naming: bool
    ) -> None:
        topic, partition, partitions = place
        self.records: list[tuple[int, Header]] = []
        self.letters: list[DeadLetter] = []
        self._place = place
        self._source = _SOURCES.get(topic, "") if is_naming else ""
        self._name = f"{self._source}/{partition}"
        self._known = known
        self.market: MarketData | None = None
        if known is not None and topic == MARKET_EVENTS:
            self.market = MarketData(known, partition, partitions)

    def all_of(self, arrived: Sequence[Arrived], trades: Sequence[Any]) -> bool:
        """Take trades if there is surely nothing wrong with any of them, else none."""
        written_ns = [item.timestamp * _NS_OF_MS for item in arrived]
        if self.market is None or not self.market.are_sound(trades, written_ns):
            return False
        offsets = [item.offset for item in arrived]
        if self._source:
            for trade, offset in zip(trades, offsets, strict=True):
                if not trade.source:
                    trade.source, trade.source_seq = self._name, offset
                trade.event_id = source_id(trade.source, trade.instrument_id, trade.source_seq)
        self.records += zip(offsets, trades, strict=True)
        return True

    def one(self, item: Arrived, found: Any) -> None:
        """Take a record, or make a dead letter of it."""
        topic, partition, partitions = self._place
        written_ns = item.timestamp * _NS_OF_MS
        if self.market is not None and self.market.is_sound(found, written_ns):
            if self._source:
                _name_event(found, self._name, item.offset)
            self.records.append((item.offset, found))
            return
        reason = found if isinstance(found, str) else ""
        if topic in STAGE_INPUTS and not reason:
            reason = unusable(topic, partition, partitions, found, written_ns)
            if not reason and self._known is not None:
                reason = self._known.fault(topic, found)
        elif topic == REFERENCE_INSTRUMENTS and isinstance(found, Instrument):
            reason = unfit(found)
        if reason:
            self.letters.append(dead_letter(topic, partition, item, reason))
            return
        has_name = isinstance(found, Instrument) or (
            isinstance(found, CorporateAction) and found.event_id
        )
        if self._source and not has_name:
            # Reference data that have a name come as they are.
            _name_event(found, self._name, item.offset)
        self.records.append((item.offset, found))


def _decoded(topic: str, partition: int, arrived: Sequence[Arrived]) -> list[Header | str]:
    """Return each record, or why it cannot be read."""
    read = decoder(topic).decode
    try:
        records: list[Any] = [read(item.value or b"") for item in arrived]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return [_decoded_alone(topic, partition, item) for item in arrived]
    newest = max([record.schema_version for record in records], default=0)
    longest = max([len(item.value or b"") for item in arrived], default=0)
    if newest <= SCHEMA_VERSION and longest <= _SHORT_BYTES:
        return records
    return [
        record
        if record.schema_version <= SCHEMA_VERSION and not _outsize(topic, item.value or b"")
        else _decoded_alone(topic, partition, item)
        for record, item in zip(records, arrived, strict=True)
    ]


def _decoded_alone(topic: str, partition: int, item: Arrived) -> Header | str:
    if item.value is None:
        return "a tombstone has no place on this topic"
    reason = _outsize(topic, item.value)
    if reason:
        return reason
    try:
        return decode(topic, item.value)
    except NewerSchemaError as error:
        raise NewerSchemaError(
            f"the record at offset {item.offset} of {topic}/{partition} has a newer schema version"
            " than this program knows",
            field=error.field,
            value=error.value,
            remedy="upgrade Millrace on this machine; it goes on at this record then",
            offset=item.offset,
        ) from error
    except RecordError as error:
        return str(error)


def _outsize(topic: str, value: bytes) -> str:
    """Return why a value is not looked into, or nothing."""
    if topic not in STAGE_INPUTS or len(value) <= _SHORT_BYTES:
        return ""
    most = COMMAND_MAX_BYTES if topic in _COMMANDS else VALUE_MAX_BYTES
    if len(value) > most:
        return f"the value has {len(value):,} bytes; at most {most:,} are read"
    # How deep a decoder goes depends on who calls it, and must not.
    if value.count(b"[") + value.count(b"{") > _NESTING_MAX and _depth(value) > _NESTING_MAX:
        return f"the value is nested more than {_NESTING_MAX} levels deep"
    return ""


def _depth(value: bytes) -> int:
    """Return how deep brackets are nested, those in strings left out."""
    depth = deepest = 0
    is_text = is_escaped = False
    for byte in value:
        if is_escaped:
            is_escaped = False
        elif byte == 0x22:
            is_text = not is_text
        elif is_text:
            is_escaped = byte == 0x5C
        elif byte in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif byte in b"]}":
            depth -= 1
    return deepest


def _name_event(record: Any, source: str, offset: int) -> None:
    """Give a market event its name, by its place if it has no source."""
    if not record.source:
        record.source, record.source_seq = source, offset
    instrument_id = getattr(record, "instrument_id", "")
    record.event_id = source_id(record.source, instrument_id or "", record.source_seq)


def dead_letter(topic: str, partition: int, item: Arrived, reason: str) -> DeadLetter:
    """Return the letter that tells of a record, with its place, its reason and its first bytes."""
    return DeadLetter(
        event_id=f"dead:{topic}:{partition}:{item.offset}",
        ts_event_ns=item.timestamp * _NS_OF_MS,
        topic=topic,
        partition=partition,
        offset=item.offset,
        reason=reason[:_REASON_LENGTH],
        key=(item.key or b"")[:_LETTER_BYTES].decode(errors="replace"),
        value=(item.value or b"")[:_LETTER_BYTES],
    )
