"""Instants as people write them, to int64 ns UTC and back."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.errors import ConfigError

NS = 1_000_000_000


def parse_time(text: str, field: str, *, is_end: bool = False) -> int:
    """Return ns UTC of a date or RFC 3339 time; a plain date as an end is its last nanosecond.

    Without an offset the time is UTC. Raises ConfigError for anything else.
    """
    value = text.strip()
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError as error:
        raise ConfigError(
            "not a date or time",
            field=field,
            value=text,
            remedy="write 2013-10-07 or 2013-10-07T14:30:00Z",
        ) from error
    if parsed.tzinfo is None:
        parsed = parsed.replace(tzinfo=UTC)
    seconds = parsed.replace(microsecond=0)
    ns = int(seconds.timestamp()) * NS + parsed.microsecond * 1000
    if is_end and len(value) == 10:
        ns += 86_400 * NS - 1
    return ns


def format_time(ns: int) -> str:
    """Return RFC 3339 with ns, UTC."""
    seconds, rest = divmod(ns, NS)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"


def format_day(ns: int) -> str:
    """Return the UTC day of an instant."""
    return f"{datetime.fromtimestamp(ns // NS, UTC):%Y-%m-%d}"
