"""How far bars stand from each other, and what follows: their order, their interval, what is odd.

A bar that is filed under a shorter interval than it covers ends before its last trade, if it is
stamped by its start: it tells the future. So every symbol is held against the interval of its file.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from schemas.columns import Ints
from schemas.errors import DataError
from schemas.market_data import INTERVAL_NS, INTERVALS
from streams.calendars import days_since_epoch

_HOUR_NS = 3_600_000_000_000
_DAY_NS = 24 * _HOUR_NS
_LONGEST_CLOSURE_NS = 4 * _DAY_NS
"""Daily bars: longest step that says nothing of their interval, a weekend with a holiday."""

_FEWEST_STEPS = 3
"""So many equal steps of a symbol that make up most of them are its interval, not chance."""

_NEAR = 0.15
"""Months are not all of one length: steps of days count as one up to so far from their median."""

_FEWEST_NEAR = 12
"""So many nearly equal steps are no chance; of fewer, a share that trades seldom has them too."""

_TOO_LONG = (
    "bars of more than a day cannot be used, filed as daily ones they tell the future: give daily"
    " bars; if these are, and only leave out days on which nothing traded, say so with"
    " --interval 1d"
)

_STRETCH_STEPS = 4
"""Fewest equal steps in a row that may be a stretch of bars of a longer interval."""

_SURE_STEPS = 12
"""So many equal steps in a row are told however many bars there are besides."""

_STRETCH_SHARE = 0.01
"""Shorter stretches are told from this share of a symbol's steps on; thin trading has some too."""

_DISTINCT_MAX = 4096
"""Most lengths of steps that are counted one by one; what is common comes among the first."""


def bar_times(ts: Ints, days: Ints) -> Ints:
    """Return the instants of bars, that of midnight for plain ``days`` (yyyymmdd, else 0)."""
    return np.where(days > 0, days_since_epoch(days) * _DAY_NS, ts)


def is_newest_first(code: npt.NDArray[np.int32], times: Ints) -> bool:
    """Return whether rows stand the wrong way round: within no symbol does time ever go on."""
    order = np.argsort(code, kind="stable")
    steps = np.diff(times[order])[np.diff(code[order]) == 0]
    return bool((steps < 0).any() and (steps <= 0).all())


def interval_of(
    file: str, code: npt.NDArray[np.int32], ts: Ints, days: Ints, interval: str | None
) -> str:
    """Return the interval of bars.

    The one given, else the commonest step between bars of one symbol.

    Raises DataError if there is no such interval, and for one that is longer than that step: bars
    do not overlap.
    """
    common = 0 if (days > 0).any() else _commonest_step(code, ts)
    if interval is not None:
        if interval not in INTERVALS:
            raise DataError(
                "there is no such bar interval",
                field="interval",
                value=interval,
                remedy=f"use one of {', '.join(INTERVALS)}",
            )
        if 0 < common < INTERVAL_NS[INTERVALS.index(interval)] - _HOUR_NS * (interval == "1d"):
            raise DataError(
                f"{file}: bars {common / 1e9:g} s apart cannot be of this interval",
                field="interval",
                value=interval,
                remedy="leave it out, or give that of the file: bars of one symbol do not overlap",
            )
        return interval
    if (days > 0).any():
        return "1d"
    # Where clocks change, a day has an hour less or more.
    if abs(common - _DAY_NS) <= _HOUR_NS and common > 0:
        return "1d"
    if common in INTERVAL_NS:
        return INTERVALS[INTERVAL_NS.index(common)]
    known = f"say which it is with --interval: one of {', '.join(INTERVALS)}"
    raise DataError(
        f"{file}: the interval of the bars cannot be told from their spacing",
        field="interval",
        value=f"{common / 1e9:g} s" if common else "one bar only",
        remedy=_TOO_LONG if common > _LONGEST_CLOSURE_NS else known,
    )


def _commonest_step(code: npt.NDArray[np.int32], ts: Ints) -> int:
    """Return the commonest time between bars of one symbol (ns), 0 for one bar only.

    In whatever order they stand: whether that can be used is not asked here.
    """
    order = np.lexsort((ts, code))
    steps = np.diff(ts[order])[np.diff(code[order]) == 0]
    steps = steps[steps > 0]
    lengths, counts = np.unique(steps, return_counts=True)
    return int(lengths[np.argmax(counts)]) if len(lengths) else 0


class Spacing:
    """Counts the steps between the bars of one symbol, oldest first, in a file of ``interval``.

    ``add`` their times, then ``oddity`` says what does not fit the interval.
    """

    def __init__(self, interval: str) -> None:
        self._interval = interval
        self._length_ns = INTERVAL_NS[INTERVALS.index(interval)]
        self._longest_ns = _LONGEST_CLOSURE_NS if interval == "1d" else self._length_ns
        self._last = np.empty(0, np.int64)
        self._steps: Counter[int] = Counter()
        self._count = self._longer = self._shorter = 0
        self._run_step = self._run = 0
        self._stretch_steps: Counter[int] = Counter()
        self._longest_run = 0

    def add(self, times: Ints) -> None:
        """Count the steps from the last time before to these, and between them."""
        steps = np.diff(np.concatenate([self._last, times]))
        self._last = times[-1:]
        steps = _whole_days(steps[steps > 0])
        if not len(steps):
            return
        self._count += len(steps)
        self._longer += int((steps > self._longest_ns).sum())
        self._shorter += int((steps < self._length_ns).sum())
        lengths, counts = np.unique(steps, return_counts=True)
        for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
            if length in self._steps or len(self._steps) < _DISTINCT_MAX:
                self._steps[length] += count
        if self._interval == "1d":
            # What is further apart than any closure may be weeks or months, which vary.
            steps = np.where(steps > self._longest_ns, self._longest_ns + 1, steps)
        self._look_at_runs(steps)

    def _look_at_runs(self, steps: Ints) -> None:
        """Count the steps of stretches in which all bars stand as far apart as a longer interval.

        The last run may go on in the next rows and waits for them.
        """
        begins = np.flatnonzero(np.diff(steps, prepend=steps[0] - 1))
        values, lengths = steps[begins], np.diff(begins, append=len(steps))
        if int(values[0]) == self._run_step:
            lengths[0] += self._run
        else:
            self._end_runs(np.array([self._run_step]), np.array([self._run]))
        self._end_runs(values[:-1], lengths[:-1])
        self._run_step, self._run = int(values[-1]), int(lengths[-1])

    def _end_runs(self, values: Ints, lengths: Ints) -> None:
        longer = [n for n in (*INTERVAL_NS, _LONGEST_CLOSURE_NS + 1) if n > self._longest_ns]
        is_stretch = (lengths >= _STRETCH_STEPS) & np.isin(values, longer)
        found = zip(values[is_stretch].tolist(), lengths[is_stretch].tolist(), strict=True)
        for step, run in found:
            self._stretch_steps[step] += run
            self._longest_run = max(self._longest_run, run)

    def is_daily(self) -> bool:
        """Return whether the symbol shows by itself that the bars of its file are daily ones."""
        is_dense = self._count >= _SURE_STEPS and self._longer * 2 <= self._count
        return is_dense and self._interval == "1d"

    def oddity(self, file: str, symbol: str, *, is_asked: bool, is_daily: bool = False) -> str:
        """Return what does not fit the interval, or nothing.

        Raises DataError for bars that overlap, and, unless the interval ``is_asked`` for, for those
        that are plainly of a longer one: it takes more of them where another symbol of the file
        ``is_daily``.
        """
        self._end_runs(np.array([self._run_step]), np.array([self._run]))
        self._run_step = self._run = 0
        if not self._count:
            return ""
        step, times, about = self._typical()
        file_bars = f"in a file of {self._interval} bars"
        stand = f"bars of {symbol} stand {about}{length_text(step)} apart {file_bars}"
        is_most = times * 2 > self._count
        if self._shorter * 2 > self._count:
            raise DataError(
                f"{file}: {stand}, and bars of one symbol do not overlap",
                field="interval",
                value=self._interval,
                remedy="split the file by interval; if all bars are of one, say it with --interval",
            )
        if is_most and step > self._longest_ns:
            if not is_asked and times >= (_FEWEST_NEAR if about or is_daily else _FEWEST_STEPS):
                raise DataError(
                    f"{file}: {stand}",
                    field="interval",
                    value=self._interval,
                    remedy=_TOO_LONG
                    if self._interval == "1d"
                    else "split the file by interval; if it only leaves out bars in which nothing"
                    f" traded, say so with --interval {self._interval}",
                )
            return stand
        if self._longer * 2 > self._count:
            return f"most bars of {symbol} stand over {self._interval} apart {file_bars}"
        return self._stretch(symbol, file_bars)

    def _typical(self) -> tuple[int, int, str]:
        """Return the commonest step, how many there are, and a word if they are not all equal.

        Steps of days count as one with those near their median, if that is no closure and a few
        equal ones do not settle it.
        """
        step, times = min(self._steps.items(), key=lambda item: (-item[1], item[0]))
        if self._interval != "1d":
            return step, times, ""
        lengths = np.array(sorted(self._steps))
        counts = np.array([self._steps[length] for length in lengths.tolist()])
        middle = int(lengths[np.searchsorted(counts.cumsum(), counts.sum() / 2)])
        near = int(counts[np.abs(lengths - middle) <= _NEAR * middle].sum())
        is_settled = near < _FEWEST_NEAR and times >= _FEWEST_STEPS and times * 2 > self._count
        if middle <= self._longest_ns or near == self._steps[middle] or is_settled:
            return step, times, ""
        return middle, near, "about "

    def _stretch(self, symbol: str, file_bars: str) -> str:
        """Return which bars stand further apart for a while, or nothing."""
        found = sum(self._stretch_steps.values())
        if self._longest_run < _SURE_STEPS and found < max(_STRETCH_SHARE * self._count, 1):
            return ""
        step, times = min(self._stretch_steps.items(), key=lambda item: (-item[1], item[0]))
        apart = length_text(step) if step in INTERVAL_NS else "over 4d"
        return f"{times + 1:,} bars of {symbol} stand {apart} apart {file_bars}"


def _whole_days(steps: Ints) -> Ints:
    """Return steps in whole days where a change of clocks makes them an hour less or more."""
    days = (steps + _DAY_NS // 2) // _DAY_NS * _DAY_NS
    return np.where((days > 0) & (np.abs(steps - days) <= _HOUR_NS), days, steps)


def length_text(ns: int) -> str:
    """Return a length of time as an interval is written, such as 5m, 30m or 7d."""
    for unit, size in (("d", _DAY_NS), ("h", _HOUR_NS), ("m", 60 * 10**9), ("s", 10**9)):
        if ns % size == 0:
            return f"{ns // size}{unit}"
    return f"{ns / 1e9:g}s"
