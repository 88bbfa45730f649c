"""How ids are made, so that equal inputs give equal ids everywhere.

Source rows are named by where they stand in their source, never by their content: equal prints are
common. Derived records hash what caused them, so ids do not depend on offsets in between, and a
second run of the same records makes the same ids. Records with a natural key (a bar) are named by
it.
"""

from __future__ import annotations

import xxhash

_DAY_FACTOR = 10**10

_hash = xxhash.xxh3_128_hexdigest


def derived_base(producer: str, cause_id: str) -> str:
    """Return the common part of the ids of all records that ``producer`` makes of ``cause_id``.

    ``producer`` is processor and instance together, such as ``account:paper``. 32 hexadecimal
    digits (xxh3-128).
    """
    return _hash(f"{producer}|{cause_id}".encode())


def derived_id(producer: str, cause_id: str, ordinal: int) -> str:
    """Return the id of the ``ordinal``-th record that ``producer`` makes of ``cause_id``."""
    return f"{derived_base(producer, cause_id)}-{ordinal}"


def source_sequence(day: int, ordinal: int) -> int:
    """Return the sequence number of row ``ordinal`` (from 0) of trading day ``day`` (yyyymmdd)."""
    return day * _DAY_FACTOR + ordinal


def source_id(source: str, instrument_id: str, source_seq: int) -> str:
    """Return the id of a row of an outside source.

    Data set and kind, instrument, day and ordinal.
    """
    return f"{source}:{instrument_id}:{source_seq}"


BAR_SOURCE = "bar"
"""Source of the bars that the market stage makes.

Rows of it are named by ``bar_id``, their sequence is their end.
"""


def bar_id(instrument_id: str, interval: str, end_ns: int, revision: int = 0) -> str:
    """Return the id of the bar that closes at ``end_ns``, or of its ``revision``-th correction."""
    correction = f".r{revision}" if revision else ""
    return f"bar:{instrument_id}:{interval}:{end_ns}{correction}"


def bar_row_id(source: str, instrument_id: str, interval: str, seq: int, revision: int) -> str:
    """Return the id of a bar in a table.

    Of its natural key if the market stage made it, else of its source row.
    """
    if source == BAR_SOURCE:
        return bar_id(instrument_id, interval, seq, revision)
    return source_id(source, instrument_id, seq)


APPROVAL_TIMER = "approval:"
"""How the name of a timer begins that ends an order for which nobody spoke in time."""


def timer_id(name: str, due_ns: int) -> str:
    """Return the id that stands as the cause of what a passing instant brings about."""
    return f"timer:{name}:{due_ns}"


def is_approval_timer(causation_id: str) -> bool:
    """Return whether a cause is the end of the time in which an order could be approved."""
    return causation_id.startswith(f"timer:{APPROVAL_TIMER}")


def content_hash(data: bytes) -> str:
    """Return the hash by which contents are compared: xxh3-128, 32 hexadecimal digits."""
    return _hash(data)
