"""What list routes share: pages and their cursors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import TypeVar

from web.problems import FieldError, ProblemError, invalid

T = TypeVar("T")


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
