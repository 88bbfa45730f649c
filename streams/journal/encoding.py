"""How entries of a journal look as bytes: framing with checksums, and the payload of every kind.

An entry is a 16-byte header and a payload, padded with zeros to a multiple of 8 bytes so that
columns stay aligned. The header has a CRC32C of its own: without it a flipped bit in a length would
look like a torn tail, and everything behind it would be cut off as if it had never been
acknowledged. All numbers are little-endian.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from struct import Struct
from typing import NamedTuple

import google_crc32c
import numpy as np
import numpy.typing as npt

from schemas.codec import ENCODER
from schemas.columns import Columns
from schemas.envelope import Header
from schemas.errors import RecordError
from schemas.rows import TABLE_TYPES
from schemas.topics import MARKET_EVENTS

MAGIC = b"MJ"
HEADER = Struct("<2sBxIII")
HEADER_BYTES = HEADER.size
_HEAD = Struct("<2sBxII")
_CRC = Struct("<I")
MAX_PAYLOAD_BYTES = 1 << 30
"""Far more than a batch comes to, and less than the two gigabytes that one read may bring."""

_GROUP = Struct("<II")
_SPAN = Struct("<IIQI")
_TABLE = Struct("<IIQI")
_BATCH = Struct("<qqQII")
_MARK = Struct("<II")

_PADS = tuple(bytes(-n % 8) for n in range(8))
_crc = google_crc32c.value

EPOCH_MARK = "epoch"
"""The mark that comes first in the journal of a live run: what tells it from all others."""

Part = bytes | npt.NDArray[np.generic]
"""A piece of a payload; columns are written as they lie in memory."""

Span = tuple[str, int, int]
"""Topic, first offset and number of records that an entry adds to it."""


class Kind(IntEnum):
    """What an entry holds; SEGMENT and NAMES belong to the file and are not counted."""

    SEGMENT = 1
    NAMES = 2
    RECORDS = 3
    COLUMNS = 4
    BATCH = 5
    MARK = 6


_KINDS = {kind.value: kind for kind in Kind}


class EncodedGroup:
    """Records that are written together, encoded once for the journal and the output hash.

    ``lines[i]`` holds the records of ``topics[i]`` as JSON, each ended by a line feed; ``order``
    has one byte a record, the index of its topic, and is empty if there is one topic only.
    """

    __slots__ = ("counts", "lines", "order", "topics")

    def __init__(
        self,
        topics: tuple[str, ...],
        counts: tuple[int, ...],
        lines: tuple[bytes, ...],
        order: bytes,
    ) -> None:
        self.topics = topics
        self.counts = counts
        self.lines = lines
        self.order = order

    def __len__(self) -> int:
        return sum(self.counts)

    def values(self, topics: frozenset[str] | None = None) -> list[tuple[str, bytes]]:
        """Return (topic, JSON) of each record in order, of all topics or of ``topics`` only."""
        if len(self.topics) == 1:
            topic = self.topics[0]
            if topics is not None and topic not in topics:
                return []
            return [(topic, value) for value in self.lines[0].split(b"\n")[:-1]]
        iterators = [iter(lines.split(b"\n")) for lines in self.lines]
        pairs = [(self.topics[code], next(iterators[code])) for code in self.order]
        return pairs if topics is None else [pair for pair in pairs if pair[0] in topics]


EMPTY_GROUP = EncodedGroup((), (), (), b"")


def encode_group(items: Sequence[tuple[str, Header]]) -> EncodedGroup:
    """Encode (topic, record) pairs, keeping their order; at most 255 topics a group."""
    if len(items) == 1:
        topic, record = items[0]
        return EncodedGroup((topic,), (1,), (ENCODER.encode(record) + b"\n",), b"")
    by_topic: dict[str, list[Header]] = {}
    for topic, record in items:
        try:
            by_topic[topic].append(record)
        except KeyError:
            by_topic[topic] = [record]
    if len(by_topic) > 255:
        raise RecordError(
            "too many topics in one group",
            field="topics",
            value=len(by_topic),
            remedy="write at most 255 topics in a group",
        )
    order = b""
    if len(by_topic) > 1:
        code = {topic: index for index, topic in enumerate(by_topic)}
        order = bytes([code[topic] for topic, _ in items])
    return EncodedGroup(
        tuple(by_topic),
        tuple(map(len, by_topic.values())),
        tuple(map(ENCODER.encode_lines, by_topic.values())),
        order,
    )


class Content(NamedTuple):
    """What an entry holds, whatever file it came from; tables have the journal's codes.

    ``values`` are (topic, JSON), for a batch at the positions ``places``. ``clock_ns`` is the first
    clock value of a batch and ``stream_offset`` its ``first_offset``. ``name`` and ``payload``
    belong to a mark.
    """

    topic: str = ""
    tables: tuple[Columns, ...] = ()
    values: Sequence[tuple[str, bytes]] = ()
    places: Sequence[int] = ()
    clock_ns: int = 0
    stream_offset: int = 0
    name: str = ""
    payload: bytes = b""


def frame(kind: Kind, parts: Sequence[Part]) -> bytes:
    """Return header and padded payload as one piece of bytes."""
    payload = b"".join(parts)  # type: ignore[arg-type]
    if len(payload) & 7:
        payload += _PADS[len(payload) & 7]
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise RecordError(
            "an entry is too large for the journal",
            field="bytes",
            value=len(payload),
            remedy="write it in several groups or tables",
        )
    head = _HEAD.pack(MAGIC, kind, len(payload), _crc(payload))
    return head + _CRC.pack(_crc(head)) + payload


def read_header(head: bytes) -> tuple[Kind, int, int] | None:
    """Return kind, payload length and payload CRC of a header; None if it is not valid."""
    magic, kind, length, crc, head_crc = HEADER.unpack(head)
    if magic != MAGIC or head_crc != _crc(head[:12]) or kind not in _KINDS:
        return None
    return _KINDS[kind], length, crc


def is_intact(payload: bytes, crc: int) -> bool:
    """Return whether ``payload`` has the checksum ``crc``."""
    return bool(_crc(payload) == crc)


def group_parts(group: EncodedGroup, offsets: Sequence[int]) -> list[bytes]:
    """Return the payload of a RECORDS entry in parts; ``offsets`` has each topic's first."""
    parts = [_GROUP.pack(len(group.topics), len(group))]
    for topic, count, lines, offset in zip(
        group.topics, group.counts, group.lines, offsets, strict=True
    ):
        name = topic.encode()
        parts.append(_SPAN.pack(count, len(lines), offset, len(name)))
        parts.append(name)
    parts.append(group.order)
    parts.extend(group.lines)
    return parts


def read_group(payload: bytes, at: int) -> tuple[EncodedGroup, list[Span]]:
    """Read what ``group_parts`` wrote, from position ``at`` on."""
    topics, total = _GROUP.unpack_from(payload, at)
    spans, sizes, at = _read_spans(payload, at + _GROUP.size, topics)
    order = payload[at : at + total] if topics > 1 else b""
    at += len(order)
    lines = []
    for size in sizes:
        lines.append(payload[at : at + size])
        at += size
    names = tuple(topic for topic, _, _ in spans)
    counts = tuple(count for _, _, count in spans)
    return EncodedGroup(names, counts, tuple(lines), order), spans


def _read_spans(payload: bytes, at: int, topics: int) -> tuple[list[Span], list[int], int]:
    spans: list[Span] = []
    sizes = []
    for _ in range(topics):
        count, size, offset, length = _SPAN.unpack_from(payload, at)
        at += _SPAN.size
        spans.append((payload[at : at + length].decode(), offset, count))
        sizes.append(size)
        at += length
    return spans, sizes, at


def table_parts(topic: str, offset: int, table: Columns) -> list[Part]:
    """Return the payload of a COLUMNS entry in parts: raw columns, each padded to 8 bytes."""
    name = topic.encode()
    kind = TABLE_TYPES.index(type(table))
    head = _TABLE.pack(kind, len(table), offset, len(name)) + name
    parts: list[Part] = [head, _PADS[len(head) & 7]]
    for column in table.names():
        values = np.ascontiguousarray(getattr(table, column))
        parts.append(values)
        if values.nbytes & 7:
            parts.append(_PADS[values.nbytes & 7])
    return parts


def read_table(payload: bytes, at: int) -> tuple[Span, Columns, int]:
    """Read what ``table_parts`` wrote at ``at``, without copying: span, table, end."""
    kind, rows, offset, length = _TABLE.unpack_from(payload, at)
    at += _TABLE.size
    topic = payload[at : at + length].decode()
    at += length + (-(_TABLE.size + length) % 8)
    table_type = TABLE_TYPES[kind]
    table = object.__new__(table_type)
    for name, dtype in table_type.KEYS + table_type.VALUES:
        values = np.frombuffer(payload, dtype, rows, at)
        setattr(table, name, values)
        at += values.nbytes + (-values.nbytes % 8)
    return (topic, offset, rows), table, at


def mark_parts(name: str, payload: bytes) -> list[bytes]:
    """Return the payload of a MARK entry in parts."""
    encoded = name.encode()
    return [_MARK.pack(len(encoded), len(payload)), encoded, payload]


def batch_parts(
    clock_ns: int,
    stream_offset: int,
    offset: int,
    tables: Sequence[Columns],
    places: Sequence[int],
    group: EncodedGroup,
    group_offsets: Sequence[int],
) -> list[Part]:
    """Return the payload of a BATCH entry in parts: tables, then records with their positions."""
    parts: list[Part] = [_BATCH.pack(clock_ns, stream_offset, offset, len(tables), len(places))]
    for table in tables:
        parts.extend(table_parts("", offset, table))
    parts.append(np.array(places, "<i8"))
    parts.extend(group_parts(group, group_offsets))
    return parts


def read_content(kind: Kind, payload: bytes, topics: frozenset[str] | None = None) -> Content:
    """Return what an entry of ``kind`` holds.

    ``topics`` leaves out the records of other topics in a RECORDS entry.
    """
    if kind is Kind.RECORDS:
        group, spans = read_group(payload, 0)
        return Content(topic=spans[0][0], values=group.values(topics))
    if kind is Kind.COLUMNS:
        (topic, _, _), table, _ = read_table(payload, 0)
        return Content(topic=topic, tables=(table,))
    if kind is Kind.MARK:
        length, size = _MARK.unpack_from(payload)
        at = _MARK.size + length
        name = payload[_MARK.size : at].decode()
        return Content(name=name, payload=payload[at : at + size])
    return _read_batch(payload)[0]


def read_spans(kind: Kind, payload: bytes) -> list[Span]:
    """Return which topics an entry adds to, without reading the records."""
    if kind is Kind.RECORDS:
        topics, _ = _GROUP.unpack_from(payload)
        return _read_spans(payload, _GROUP.size, topics)[0]
    if kind is Kind.COLUMNS:
        _, rows, offset, length = _TABLE.unpack_from(payload)
        return [(payload[_TABLE.size : _TABLE.size + length].decode(), offset, rows)]
    if kind is Kind.BATCH:
        return _read_batch(payload)[1]
    return []


def first_record(kind: Kind, payload: bytes) -> tuple[str, int]:
    """Return topic and offset of an entry's first record; ("", 0) for a mark."""
    if kind is Kind.BATCH:
        return MARKET_EVENTS, _BATCH.unpack_from(payload)[2]
    if kind is Kind.RECORDS:
        return _read_spans(payload, _GROUP.size, 1)[0][0][:2]
    if kind is Kind.COLUMNS:
        return read_spans(kind, payload)[0][:2]
    return "", 0


def _read_batch(payload: bytes) -> tuple[Content, list[Span]]:
    clock_ns, stream_offset, offset, count, records = _BATCH.unpack_from(payload)
    at = _BATCH.size
    tables = []
    for _ in range(count):
        _, table, at = read_table(payload, at)
        tables.append(table)
    places = np.frombuffer(payload, "<i8", records, at).tolist()
    group, group_spans = read_group(payload, at + 8 * records)
    spans = batch_spans(offset, tables, group_spans)
    content = Content(
        topic=MARKET_EVENTS,
        tables=tuple(tables),
        values=group.values(),
        places=places,
        clock_ns=clock_ns,
        stream_offset=stream_offset,
    )
    return content, spans


def batch_spans(offset: int, tables: Sequence[Columns], group_spans: Sequence[Span]) -> list[Span]:
    """Return the spans of a batch.

    Its rows and own records count on ``market.events``, other records on their topics.
    """
    events = sum(len(table) for table in tables)
    events += sum(count for topic, _, count in group_spans if topic == MARKET_EVENTS)
    others = [span for span in group_spans if span[0] != MARKET_EVENTS]
    return [(MARKET_EVENTS, offset, events), *others]
