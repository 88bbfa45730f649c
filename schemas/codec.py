"""Bytes to records and back: one encoder, one prebuilt typed decoder for each topic.

Values are plain JSON. A record's ``type`` field names its struct; decoding validates every field.
``schemas.rows`` converts between single market-data records and column rows.
"""

from __future__ import annotations

from functools import cache, reduce
from operator import or_
from typing import Any

import msgspec

from schemas.envelope import SCHEMA_VERSION, Header
from schemas.errors import NewerSchemaError, RecordError
from schemas.topics import TOPIC_BY_NAME

ENCODER = msgspec.json.Encoder(decimal_format="string", uuid_format="canonical")

encode = ENCODER.encode


@cache
def decoder(topic: str) -> msgspec.json.Decoder[Any]:
    """Return the typed decoder of ``topic``.

    Raises RecordError for a topic that the catalogue does not have.
    """
    entry = TOPIC_BY_NAME.get(topic)
    if entry is None:
        raise RecordError(
            "unknown topic",
            field="topic",
            value=topic,
            remedy="`millrace topics list` shows the catalogue",
        )
    return msgspec.json.Decoder(reduce(or_, entry.values))


def decode(topic: str, value: bytes) -> Header:
    """Decode one value of ``topic``.

    Raises RecordError with the path of the wrong field, and NewerSchemaError for a schema version
    newer than this code knows.
    """
    try:
        record: Header = decoder(topic).decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _check_version(topic, _version_of(value))
        raise RecordError(
            f"a record on {topic} cannot be read: {error}",
            field="value",
            value=value[:80],
            remedy="compare it with the JSON Schema that `millrace schema export` writes",
        ) from error
    _check_version(topic, record.schema_version)
    return record


class _Versioned(msgspec.Struct):
    schema_version: int = SCHEMA_VERSION


def _version_of(value: bytes) -> int:
    """Return the schema version that a value names, whatever else it holds."""
    try:
        return msgspec.json.decode(value, type=_Versioned).schema_version
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return SCHEMA_VERSION


def _check_version(topic: str, version: int) -> None:
    if version > SCHEMA_VERSION:
        raise NewerSchemaError(
            f"a record on {topic} has a newer schema version than this program knows",
            field="schema_version",
            value=version,
            remedy="upgrade Millrace before it reads this topic",
        )
