"""Cursors over the records of several partitions, whose offsets count anew in each."""

from __future__ import annotations

import pytest

from streams.log import Published
from tests.unit.web_run import fill
from web.problems import ProblemError
from web.routes.pages import offset_cursor, older_than, page


def items() -> list[Published]:
    """Return records of two partitions as they came, the newest first."""
    places = [(0, 5), (1, 0), (0, 6), (1, 1), (0, 7)]
    return [Published("t", p, offset, fill(f"{p}-{offset}")) for p, offset in reversed(places)]


def test_pages_over_partitions_miss_nothing_and_show_nothing_twice() -> None:
    found: list[Published] = []
    cursor: str | None = None
    while True:
        shown, cursor = page(older_than(items(), cursor), 2, offset_cursor)
        found += shown
        if cursor is None:
            break

    assert found == items()


@pytest.mark.parametrize("cursor", ["1-5", "0-4", "x", ""])
def test_cursor_of_an_item_that_is_not_kept_is_refused(cursor: str) -> None:
    with pytest.raises(ProblemError) as caught:
        list(older_than(items(), cursor))

    assert caught.value.code == "bad_cursor"
