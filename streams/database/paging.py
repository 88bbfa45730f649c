"""How a question becomes SQL: conditions with parameters, pages, windows of time.

Every value is a parameter. Names of tables and columns come from this package alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

from schemas.errors import ConfigError
from streams.cursors import bounded
from streams.history import LIMIT_MAX, Filters, Moment, Window

ORDER = ("ts_ns", "log_partition", "log_offset", "event_id")
"""The order of rows of flows, and the key of their cursors."""

SERIES_ORDER = ("ts_ns", "log_partition", "log_offset")

_SINGULAR = {"instrument_ids": "instrument_id", "account_ids": "account_id"}
"""Filters of several values, with their columns."""

_HOUR_NS = 3_600_000_000_000
_GROWTH = 6


class Where:
    """Conditions of one statement, joined by AND, with their parameters."""

    def __init__(self, run_id: str | None = None, *, prefix: str = "") -> None:
        self._prefix = prefix
        self._conditions: list[str] = []
        self.values: list[Any] = []
        if run_id is not None:
            self.add(f"{prefix}run_id = {{}}", run_id)

    def add(self, condition: str, *values: object) -> None:
        """Add a condition; each ``{}`` in it stands for one of ``values``."""
        self._conditions.append(condition.format(*(self.mark(value) for value in values)))

    def mark(self, value: object) -> str:
        """Add a parameter and return its mark."""
        self.values.append(storable(value))
        return f"${len(self.values)}"

    def filters(self, filters: Filters, known: Sequence[str]) -> None:
        """Add filters; a field that the table does not have is a ConfigError."""
        for field, value in zip(Filters._fields, filters, strict=True):
            if not value:
                continue
            name = _SINGULAR.get(field, field)
            if name not in known:
                raise ConfigError(
                    "these rows cannot be filtered so",
                    field=name,
                    value=value,
                    remedy=f"filter by {', '.join(k for k in known if k in Filters._fields)}",
                )
            if field in _SINGULAR:
                self.add(f"{self._prefix}{name} = ANY({{}})", list(value))
            else:
                self.add(f"{self._prefix}{name} = {{}}", value)

    def span(self, first_ns: int | None, until_ns: int | None) -> None:
        """Add a span of time."""
        if first_ns is not None:
            self.add(f"{self._prefix}ts_ns >= {{}}", bounded(first_ns))
        if until_ns is not None:
            self.add(f"{self._prefix}ts_ns < {{}}", bounded(until_ns))

    def moment(self, moment: Moment, prefix: str = "") -> None:
        """Add that rows were there at a moment."""
        if moment.offset is not None:
            self.add(
                f"{prefix}log_partition = {{}} AND {prefix}log_offset <= {{}}",
                moment.partition,
                bounded(moment.offset),
            )
        if moment.ts_ns is not None:
            self.add(f"{prefix}ts_ns <= {{}}", bounded(moment.ts_ns))

    def behind(self, key: Sequence[object] | None, names: Sequence[str], *, newest: bool) -> None:
        """Add that rows stand behind a cursor's key in the order of ``names``."""
        if key is None:
            return
        columns = ", ".join(f"{self._prefix}{name}" for name in names)
        marks = ", ".join(self.mark(value) for value in key)
        self._conditions.append(f"({columns}) {'<' if newest else '>'} ({marks})")

    def __str__(self) -> str:
        return " AND ".join(self._conditions) or "true"


def storable(value: Any) -> Any:
    """Return a value as it may stand in the database: a NUL in a text is stored as U+FFFD."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd")
    return [storable(item) for item in value] if isinstance(value, list) else value


def ordered(names: Sequence[str], *, newest: bool, prefix: str = "") -> str:
    """Return an ORDER BY list; all names in one direction."""
    return ", ".join(f"{prefix}{name} {'DESC' if newest else 'ASC'}" for name in names)


def limit_of(limit: int) -> int:
    """Return the rows of a page; raises ConfigError below 1."""
    if limit < 1:
        raise ConfigError(
            "a page has at least one row",
            field="limit",
            value=limit,
            remedy=f"give a number from 1 to {LIMIT_MAX}",
        )
    return min(limit, LIMIT_MAX)


async def stretches(
    first_ns: int, until_ns: int, *, newest: bool, width_ns: int = _HOUR_NS
) -> AsyncIterator[tuple[int, int]]:
    """Yield neighbouring spans of time that grow, from the end that is asked for.

    A page of a large table is most often in the first of them, and none of them is large before a
    smaller one was found too small.
    """
    low, high, width = first_ns, until_ns, width_ns
    while low < high:
        if newest:
            start = max(low, high - width)
            yield start, high
            high = start
        else:
            stop = min(high, low + width)
            yield low, stop
            low = stop
        width *= _GROWTH


def window_span(window: Window, first_ns: int, last_ns: int) -> tuple[int, int]:
    """Return the part of the window in which there are rows."""
    low = first_ns if window.first_ns is None else max(first_ns, window.first_ns)
    high = last_ns + 1 if window.until_ns is None else min(last_ns + 1, window.until_ns)
    return bounded(low), bounded(high)
