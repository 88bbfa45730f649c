"""Cursors of pages: the place of the last row, as a text that fits the same question only.

Lists of records go by *place*: time, partition, offset, event id. A record has the same place in
memory and in the database, so one cursor holds for both.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec

from schemas.errors import ConfigError
from streams.log import Published

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1


class RecordPlace(NamedTuple):
    """Where a record stands among all of its kind; partitions count their offsets on their own."""

    ts_ns: int
    partition: int
    offset: int
    event_id: str


END_PLACE = RecordPlace(_INT64_MAX, 0, 0, "")
"""Behind every record."""


def place_of(item: Published) -> RecordPlace:
    """Return the place of a published record; one without a name is named by where it stands."""
    record: Any = item.record
    event_id = record.event_id or f"{item.topic}/{item.partition}/{item.offset}"
    return RecordPlace(record.ts_event_ns, item.partition, item.offset, event_id)


def bounded(value: int) -> int:
    """Return a number cut to what 64 bits hold."""
    return max(_INT64_MIN, min(value, _INT64_MAX))


def write_cursor(question: str, key: Sequence[object]) -> str:
    """Return a key as an opaque text that fits the same question only."""
    return base64.urlsafe_b64encode(msgspec.json.encode([question, *key])).decode().rstrip("=")


def read_cursor(question: str, cursor: str, *types: type) -> tuple[Any, ...] | None:
    """Return the key of a cursor, None for the first page.

    Raises ConfigError for a text that is not a cursor of this question.
    """
    if not cursor:
        return None
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        found, *key = msgspec.json.decode(raw, type=list[str | int])
    except (binascii.Error, ValueError, msgspec.DecodeError) as error:
        raise _foreign(cursor) from error
    if found != question or tuple(map(type, key)) != types:
        raise _foreign(cursor)
    if any(isinstance(value, int) and bounded(value) != value for value in key):
        raise _foreign(cursor)
    return tuple(key)


def read_place(question: str, cursor: str) -> RecordPlace | None:
    """Return the place that a cursor of a list of records names, None for the first page.

    Raises ConfigError for a text that is not a cursor of this question.
    """
    key = read_cursor(question, cursor, int, int, int, str)
    return None if key is None else RecordPlace(*key)


def _foreign(cursor: str) -> ConfigError:
    return ConfigError(
        "this is not a cursor of this question",
        field="cursor",
        value=cursor[:100],
        remedy="give back the cursor of the page before, with the same question",
    )
