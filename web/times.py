"""Instants in requests and answers: RFC 3339 text to int64 ns UTC and back."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from streams.cursors import bounded

_NS = 1_000_000_000
_DAY_NS = 86_400 * _NS
_FORM = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)?)?", re.ASCII
)


def format_time(ns: int) -> str:
    """Return an instant as RFC 3339, UTC, with nanoseconds."""
    seconds, rest = divmod(ns, _NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def day_text(ns: int) -> str:
    """Return the UTC day of an instant as yyyy-mm-dd."""
    return f"{datetime.fromtimestamp(ns // _NS, UTC):%Y-%m-%d}"


def parse_time(text: str, *, is_end: bool = False) -> int | None:
    """Return the instant of an RFC 3339 time or a plain date as ns UTC, or None if it is neither.

    Without an offset the time is UTC. A plain date is its first nanosecond, or with ``is_end`` its
    last. What lies before or behind all times of records (int64 ns: 1677 to 2262) is the first or
    the last of them.
    """
    match = _FORM.fullmatch(text.strip())
    if match is None:
        return None
    day, clock, fraction, offset = match.groups()
    zone = "+00:00" if offset in (None, "Z", "z") else offset
    try:
        instant = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{zone}")
    except ValueError:
        return None
    ns = int(instant.timestamp()) * _NS + int((fraction or "0").ljust(9, "0"))
    return bounded(ns + _DAY_NS - 1 if is_end and clock is None else ns)
