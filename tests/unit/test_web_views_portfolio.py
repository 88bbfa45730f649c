"""The equity curve that the web app keeps: bounded, over the whole run, its newest point last."""

from __future__ import annotations

from itertools import pairwise

import pytest

from schemas.portfolio import EquityMark
from web.views.portfolio import Portfolio


def filled(count: int) -> Portfolio:
    """Return a view that heard ``count`` marks, one a second."""
    portfolio = Portfolio({})
    for number in range(count):
        mark = EquityMark(
            f"m{number}", number * 1_000_000_000, "", "", "paper", "", 100.0 + number, 0, 0, 0, 0
        )
        portfolio.on_mark(mark)
    return portfolio


@pytest.mark.parametrize("count", [1, 4_999, 5_000, 5_001, 23_456])
def test_curve_spans_the_run_in_bounded_memory(count: int) -> None:
    curve = filled(count).curves["paper", ""]
    equity = [mark.equity for mark in curve.points(5_000)]
    assert equity[0] == 100.0
    assert equity[-1] == 100.0 + count - 1
    assert equity == sorted(set(equity))
    assert min(count, 2_500) <= len(equity) <= 5_000
    gaps = {b - a for a, b in pairwise(equity[:-1])}
    assert len(gaps) <= 1


@pytest.mark.parametrize("limit", [1, 2, 10, 500])
def test_asked_for_fewer_points_the_curve_is_thinned_out(limit: int) -> None:
    equity = [mark.equity for mark in filled(3_000).curves["paper", ""].points(limit)]
    assert len(equity) <= max(limit, 2)
    assert equity[-1] == 3_099.0
