"""What list routes share: pages and their cursors, and bounds in time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeVar

from streams.log import Published
from web.problems import FieldError, ProblemError, invalid
from web.times import parse_time

T = TypeVar("T")
_PLACE = re.compile(r"(\d{1,9})-(\d{1,18})", re.ASCII)


def page(
    items: Iterable[T], limit: int, cursor_of: Callable[[T], str]
) -> tuple[list[T], str | None]:
    """Return up to ``limit`` items and the cursor of the last one if more follow."""
    found = list(islice(items, limit + 1))
    if len(found) <= limit:
        return found, None
    return found[:limit], cursor_of(found[limit - 1])


def bad_cursor(cursor: str) -> ProblemError:
    """Return the problem of a cursor that is none, or whose item is no longer kept."""
    return invalid(
        [
            FieldError(
                "/cursor",
                "is not a cursor of this list, or too old",
                "start again without a cursor",
                cursor[:100],
            )
        ],
        code="bad_cursor",
    )


def place_of(cursor: str) -> tuple[int, int]:
    """Return partition and offset of the record that a cursor names; raises ProblemError (422)."""
    match = _PLACE.fullmatch(cursor)
    if match is None:
        raise bad_cursor(cursor)
    return int(match[1]), int(match[2])


def older_than(items: Iterable[Published], cursor: str | None) -> Iterator[Published]:
    """Yield the items, the newest first, that stand behind the one that ``cursor`` names.

    Partitions count their offsets on their own, so only that one item tells where to go on. Raises
    ProblemError (422) where it is no longer kept: an empty page would look like the end.
    """
    place = place_of(cursor) if cursor is not None else None
    is_reached = place is None
    for item in items:
        if is_reached:
            yield item
        else:
            is_reached = (item.partition, item.offset) == place
    if not is_reached and cursor is not None:
        raise bad_cursor(cursor)


def offset_cursor(item: Published) -> str:
    """Return the cursor behind an item."""
    return f"{item.partition}-{item.offset}"


def instant(name: str, text: str | None, *, is_end: bool = False) -> int | None:
    """Return the instant (ns) of a query's time; raises ProblemError (422) if it is none."""
    if text is None:
        return None
    ns = parse_time(text, is_end=is_end)
    if ns is None:
        remedy = "write 2014-01-01 or 2014-01-01T00:00:00Z"
        raise invalid([FieldError(f"/{name}", "is not a date or time", remedy, text[:40])])
    return ns
