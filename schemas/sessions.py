"""Trading sessions of one calendar as plain arrays.

So that whole columns can be looked up at once.
"""

from __future__ import annotations

import numpy as np

from schemas.columns import Ints

_DAY_NS = 86_400_000_000_000


class SessionTable:
    """Regular sessions, ascending: ``open_ns``, ``close_ns`` (int64 ns UTC), ``day`` (yyyymmdd)."""

    __slots__ = ("close_ns", "day", "open_ns")

    def __init__(self, open_ns: Ints, close_ns: Ints, day: Ints) -> None:
        self.open_ns = open_ns
        self.close_ns = close_ns
        self.day = day

    def session_of(self, ts: Ints) -> Ints:
        """Return for each instant the index of the session with open <= ts < close, or -1."""
        index = np.searchsorted(self.open_ns, ts, "right") - 1
        inside = (index >= 0) & (ts < self.close_ns[index])
        return np.where(inside, index, -1)


def days_of(table: SessionTable | None, times: Ints) -> Ints:
    """Return the trading days of instants, by a calendar's sessions, or days of UTC without one."""
    if table is None:
        return times // _DAY_NS
    # A day lasts until the next session opens: what happens after the close is its own.
    opened = table.open_ns.searchsorted(times, "right") - 1
    return table.day[np.maximum(opened, 0)]
