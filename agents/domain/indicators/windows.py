"""Indicators over the last ``n`` values: exact window sums, and values picked from the window."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from decimal import Decimal
from typing import Any

import bottleneck
import numpy as np

from agents.domain.indicators.base import Indicator, aligned, checked_length, rescaled_array
from schemas.columns import Floats, Ints
from schemas.errors import DataError

_INT64_MAX = 2**63 - 1


class _Windowed(Indicator):
    """Keeps the last ``n - 1`` values, so that the next chunk has whole windows."""

    STATE = ("_tail",)

    def __init__(self, n: int) -> None:
        self.n = checked_length(n)
        self._tail = np.empty(0, np.int64)

    @property
    def is_ready(self) -> bool:
        """Whether the next value will have a result."""
        return len(self._tail) >= self.n - 1

    def _extend(self, values: Ints) -> Ints:
        """Return ``values`` behind the kept ones, and keep the last ones of both."""
        extended = np.concatenate((self._tail, values)) if len(self._tail) else values
        self._tail = extended[max(len(extended) - self.n + 1, 0) :].copy()
        return extended

    def rescale(self, ratio: Decimal) -> None:
        """Divide the window's prices by ``ratio``."""
        self._tail = rescaled_array(self._tail, ratio)


class SMA(_Windowed):
    """Simple moving average: exact window sum / n."""

    def update(self, values: Ints) -> Floats:
        """Return the mean of the last ``n`` values after each of ``values`` (int64)."""
        _check_bound(values, self.n)
        extended = self._extend(values)
        if len(extended) < self.n:
            return aligned((), len(values))
        return aligned(_window_sums(extended, self.n) / self.n, len(values))


class RollingStd(_Windowed):
    """Standard deviation of the last ``n`` values.

    sqrt((n Σx² - (Σx)²) / (n (n - ddof))), the numerator exact; so never below 0, and exactly 0
    when all values are equal.
    """

    def __init__(self, n: int, ddof: int = 0) -> None:
        super().__init__(checked_length(n, ddof + 1))
        self.ddof = ddof

    def update(self, values: Ints) -> Floats:
        """Return the deviation after each of ``values`` (int64)."""
        _check_bound(values, 2 * self.n)
        extended = self._extend(values)
        if len(extended) < self.n:
            return aligned((), len(values))
        return aligned(_deviations(extended, self.n, self.ddof)[0], len(values))


class ZScore(_Windowed):
    """(x - mean) / deviation of the last ``n`` values; 0 where the deviation is 0."""

    def __init__(self, n: int, ddof: int = 0) -> None:
        super().__init__(checked_length(n, ddof + 1))
        self.ddof = ddof

    def update(self, values: Ints) -> Floats:
        """Return the score of each of ``values`` (int64)."""
        _check_bound(values, 2 * self.n)
        extended = self._extend(values)
        if len(extended) < self.n:
            return aligned((), len(values))
        deviation, distance = _deviations(extended, self.n, self.ddof)
        scores = np.zeros(len(deviation))
        np.divide(distance / float(self.n), deviation, out=scores, where=deviation > 0)
        return aligned(scores, len(values))


class Bollinger(_Windowed):
    """Bollinger bands: mean, mean + k deviations, mean - k deviations (population deviation)."""

    def __init__(self, n: int, k: float = 2.0) -> None:
        super().__init__(n)
        self.k = k

    def update(self, values: Ints) -> tuple[Floats, Floats, Floats]:
        """Return middle, upper and lower after each of ``values`` (int64)."""
        _check_bound(values, 2 * self.n)
        extended = self._extend(values)
        count = len(values)
        if len(extended) < self.n:
            return aligned((), count), aligned((), count), aligned((), count)
        middle = _window_sums(extended, self.n) / self.n
        width = self.k * _deviations(extended, self.n, 0)[0]
        return (
            aligned(middle, count),
            aligned(middle + width, count),
            aligned(middle - width, count),
        )


class _Picked(_Windowed, ABC):
    """A value picked from the window: it cannot depend on what came before the window."""

    def update(self, values: Ints) -> Floats:
        """Return the picked value after each of ``values`` (int64, below 2**53)."""
        extended = self._extend(values)
        if len(extended) < self.n:
            return aligned((), len(values))
        return aligned(self._pick(extended.astype(np.float64))[self.n - 1 :], len(values))

    @abstractmethod
    def _pick(self, values: Floats) -> Floats:
        """Return the value picked from the window that ends at each of ``values``."""


class RollingMin(_Picked):
    """Smallest of the last ``n`` values."""

    def _pick(self, values: Floats) -> Floats:
        smallest: Floats = bottleneck.move_min(values, self.n)
        return smallest


class RollingMax(_Picked):
    """Largest of the last ``n`` values."""

    def _pick(self, values: Floats) -> Floats:
        largest: Floats = bottleneck.move_max(values, self.n)
        return largest


class RollingMedian(_Picked):
    """Median of the last ``n`` values; of an even number, the mean of the two middle ones."""

    def _pick(self, values: Floats) -> Floats:
        middle: Floats = bottleneck.move_median(values, self.n)
        return middle


class Donchian(Indicator):
    """Highest high and lowest low of ``n`` elements, the present one included or not."""

    def __init__(self, n: int, include_current: bool = True) -> None:
        self.n = checked_length(n)
        self.include_current = include_current
        self._highest = RollingMax(n)
        self._lowest = RollingMin(n)
        self._last: list[float] = [math.nan, math.nan]

    def update(self, high: Ints, low: Ints) -> tuple[Floats, Floats]:
        """Return upper and lower channel after each element (int64 highs and lows)."""
        upper, lower = self._highest.update(high), self._lowest.update(low)
        if self.include_current or not len(upper):
            return upper, lower
        before = self._last
        self._last = [float(upper[-1]), float(lower[-1])]
        return np.concatenate((before[:1], upper[:-1])), np.concatenate((before[1:], lower[:-1]))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {
            "last": [None if math.isnan(value) else value for value in self._last],
            "highest": self._highest.snapshot(),
            "lowest": self._lowest.snapshot(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state that ``snapshot`` gave."""
        self._last = [math.nan if value is None else value for value in state["last"]]
        self._highest.restore(state["highest"])
        self._lowest.restore(state["lowest"])

    def rescale(self, ratio: Decimal) -> None:
        """Divide the window's prices and the channel by ``ratio``."""
        self._highest.rescale(ratio)
        self._lowest.rescale(ratio)
        self._last = [v if math.isnan(v) else float(round(Decimal(v) / ratio)) for v in self._last]


def _check_bound(values: Ints, factor: int) -> None:
    """Raise DataError if ``factor`` times the largest of ``values`` leaves int64."""
    if not len(values):
        return
    largest = max(int(values.max()), -int(values.min()))
    if largest * factor > _INT64_MAX:
        raise DataError(
            "a value is too large for exact window sums",
            field="value",
            value=largest,
            remedy="use a coarser price grid or a shorter window",
        )


def _window_sums(extended: Ints, n: int) -> Ints:
    """Return the exact sum of every ``n`` consecutive values."""
    # The running total may wrap around 2**64; the difference of two totals comes back.
    total = np.cumsum(extended)
    sums = total[n - 1 :].copy()
    sums[1:] -= total[:-n]
    return sums


def _deviations(extended: Ints, n: int, ddof: int) -> tuple[Floats, Ints]:
    """Return deviation and exact n x - Σx of the last value, for every window."""
    # A variance does not change when all values are shifted, so a shift keeps the squares small.
    shifted = extended - extended[0]
    largest = int(np.abs(shifted).max())
    sums = _window_sums(shifted, n)
    if n * n * largest * largest <= _INT64_MAX:
        numerator = (n * _window_sums(shifted * shifted, n) - sums * sums).astype(np.float64)
    else:
        # Beyond int64 Python's integers go on: slower, and to the last bit the same.
        exact = shifted.astype(object)
        total = np.concatenate(([0], np.cumsum(exact * exact)))
        wide = sums.astype(object)
        numerator = (n * (total[n:] - total[:-n]) - wide * wide).astype(np.float64)
    return np.sqrt(numerator / float(n * (n - ddof))), n * shifted[n - 1 :] - sums
