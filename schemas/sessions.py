"""Trading sessions of one calendar as plain arrays.

So that whole columns can be looked up at once.
"""

from __future__ import annotations

import numpy as np

from schemas.columns import Ints


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

    def day_of(self, ts: Ints) -> Ints:
        """Return for each instant the day of its session, or 0 outside of the sessions."""
        index = self.session_of(ts)
        return np.where(index >= 0, self.day[index], 0)
