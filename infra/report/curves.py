"""Equity as a page can show it: few points that lose no extreme, and returns by month.

A curve has a mark a minute, so years of it are millions of rows. They are read a piece at a time
and folded at once; what stays in memory does not grow with the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np

from schemas.columns import Floats, Ints

POINTS_MAX = 1000
_PIECE_ROWS = 16_384
_MARK = np.dtype([("time_ns", np.int64), ("equity", np.float64)])


class Curve(NamedTuple):
    """Points in the order of time; instants are int64 ns UTC."""

    times: Ints
    values: Floats


class Month(NamedTuple):
    """What a month of UTC gained, in percent; None after nothing was left."""

    year: int
    month: int
    return_pct: float | None


class EquityHistory(NamedTuple):
    """The equity of a run: both curves reduced, drawdown in percent, and its months."""

    marks: int
    equity: Curve
    drawdown: Curve
    months: list[Month]
    years: dict[int, float | None]


class Reducer:
    """Keeps at most ``limit`` points of a series of any length.

    Rows fall into buckets of equal size, and the least and the greatest of each stay, with the
    first and the last of all. When there are too many buckets, two become one: an extreme of both
    is an extreme of one of them, so nothing has to be read again.
    """

    def __init__(self, limit: int = POINTS_MAX) -> None:
        self._buckets_max = max((limit - 2) // 2, 1)
        self._width = 1
        self._count = 0
        self._ends: tuple[int, float, int, float] | None = None
        self._rows: Ints = np.empty(0, np.int64)
        self._times: Ints = np.empty(0, np.int64)
        self._values: Floats = np.empty(0, np.float64)

    def add(self, times: Ints, values: Floats) -> None:
        """Take the next points."""
        if not len(times):
            return
        rows = np.arange(self._count, self._count + len(times), dtype=np.int64)
        self._count += len(times)
        first_ns, first = (int(times[0]), float(values[0])) if not self._ends else self._ends[:2]
        self._ends = (first_ns, first, int(times[-1]), float(values[-1]))
        while (self._count - 1) // self._width >= self._buckets_max:
            self._width *= 2
        self._rows = np.concatenate((self._rows, rows))
        self._times = np.concatenate((self._times, times))
        self._values = np.concatenate((self._values, values))
        self._keep_extremes()

    def _keep_extremes(self) -> None:
        buckets = self._rows // self._width
        order = np.lexsort((self._rows, self._values, buckets))
        is_new = np.diff(buckets[order], prepend=-1) != 0
        starts = np.flatnonzero(is_new)
        ends = np.append(starts[1:], len(order)) - 1
        kept = np.unique(order[np.concatenate((starts, ends))])  # rows lie in order of time
        self._rows, self._times = self._rows[kept], self._times[kept]
        self._values = self._values[kept]

    def curve(self) -> Curve:
        """Return the points that stayed."""
        if self._ends is None:
            return Curve(self._times, self._values)
        first_ns, first, last_ns, last = self._ends
        times, values = self._times, self._values
        if self._rows[0] != 0:
            times, values = np.insert(times, 0, first_ns), np.insert(values, 0, first)
        if self._rows[-1] != self._count - 1:
            times, values = np.append(times, last_ns), np.append(values, last)
        return Curve(times, values)


class EquityReader:
    """Folds marks into curves and months, in the order of time."""

    def __init__(self, initial: float) -> None:
        self._initial = self._peak = initial
        self._equity, self._drawdown = Reducer(), Reducer()
        self._levels: dict[int, float] = {}
        self._marks = 0
        self._last_ns: int | None = None

    def begin(self, time_ns: int) -> None:
        """Let the curves begin with the initial equity at an instant."""
        self._draw(np.array([time_ns], np.int64), np.array([self._initial]))

    def add(self, times: Ints, equity: Floats) -> None:
        """Take marks."""
        if not len(times):
            return
        self._marks += len(times)
        self._last_ns = int(times[-1])
        self._draw(times, equity)
        # A mark stands at the end of its interval and belongs to the month in which that lies.
        months = (times - 1).view("M8[ns]").astype("M8[M]").astype(np.int64)
        for row in [*np.flatnonzero(months[1:] != months[:-1]).tolist(), len(months) - 1]:
            self._levels[int(months[row])] = float(equity[row])

    def settle(self, equity: float, end_ns: int | None) -> None:
        """Take the exact equity at the end of the run as the last value."""
        if self._last_ns is None:
            return
        at = self._last_ns if end_ns is None else max(self._last_ns, end_ns)
        self._draw(np.array([at], np.int64), np.array([equity]))
        self._levels[next(reversed(self._levels))] = equity

    def _draw(self, times: Ints, equity: Floats) -> None:
        peaks = np.maximum.accumulate(np.concatenate(([self._peak], equity)))[1:]
        self._peak = float(peaks[-1])
        falls = np.zeros(len(equity))
        np.divide(equity - peaks, peaks, out=falls, where=peaks > 0)
        self._equity.add(times, equity)
        self._drawdown.add(times, 100 * falls)

    def history(self) -> EquityHistory:
        """Return what came of it."""
        return EquityHistory(
            self._marks,
            self._equity.curve(),
            self._drawdown.curve(),
            monthly_returns(self._levels, self._initial),
            yearly_returns(self._levels, self._initial),
        )


def read_equity(
    path: Path, initial: float, final: float, span_ns: tuple[int, int] | None
) -> EquityHistory:
    """Return the equity of a run out of its ``equity.csv``; raises OSError.

    The curve begins with ``initial`` at the run's first event and ends with ``final``, the exact
    equity, at its last one; ``span_ns`` has both.
    """
    reader = EquityReader(initial)
    for number, (times, equity) in enumerate(_pieces(path)):
        if number == 0 and span_ns is not None and span_ns[0] < int(times[0]):
            reader.begin(span_ns[0])
        reader.add(times, equity)
    reader.settle(final, None if span_ns is None else span_ns[1])
    return reader.history()


def _pieces(path: Path) -> Iterator[tuple[Ints, Floats]]:
    """Yield the marks of a file, some at a time; one that is no finite number cannot be drawn."""
    with path.open(encoding="ascii") as file:
        next(file, "")
        while lines := list(islice(file, _PIECE_ROWS)):
            marks = np.loadtxt(lines, _MARK, delimiter=",", usecols=(0, 1), ndmin=1)
            marks = marks[np.isfinite(marks["equity"])]
            if len(marks):
                yield marks["time_ns"].copy(), marks["equity"].copy()


def monthly_returns(levels: Mapping[int, float], initial: float) -> list[Month]:
    """Return what each month gained; ``levels`` has its last equity by its number since 1970."""
    return [
        Month(1970 + month // 12, month % 12 + 1, gain)
        for month, gain in _gains(levels, initial).items()
    ]


def yearly_returns(levels: Mapping[int, float], initial: float) -> dict[int, float | None]:
    """Return what each year gained, in percent; ``levels`` as for ``monthly_returns``."""
    lasts = {1970 + month // 12: level for month, level in levels.items()}
    return _gains(lasts, initial)


def _gains(levels: Mapping[int, float], initial: float) -> dict[int, float | None]:
    gains: dict[int, float | None] = {}
    before = initial
    for key, level in levels.items():
        gains[key] = 100 * (level / before - 1) if before > 0 else None
        before = level
    return gains
