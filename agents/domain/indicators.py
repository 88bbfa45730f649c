"""Indicators with one definition each, equal to the last bit however the input is cut.

``update`` takes a chunk of consecutive values (one event is a chunk of one) and returns the indicator after each of them, NaN
until it is ready. Prices come as int64 ticks and volumes as int64 units, so window sums are exact integers: a
running float sum would differ after every cut. Recurrences (EMA, Wilder) run one value after another from the carried state,
in the order of operations that is written here. Minimum, maximum and median are picked from the window by bottleneck.

All results are float64 in ticks (or the unit of the input). Window sums are taken modulo 2**64 and are right as long as the
true sum of a window lies below 2**63; ``update`` raises DataError where it might not.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any, ClassVar

import bottleneck
import numpy as np

from schemas.columns import Floats, Ints
from schemas.errors import ConfigError, DataError

_INT64_MAX = 2**63 - 1
_NAN = math.nan


def _check_length(n: int, least: int = 1) -> int:
    if n < least:
        raise ConfigError("an indicator's length is too small", field="n", value=n, remedy=f"give {least} or more")
    return n


def _check_bound(values: Ints, factor: int) -> None:
    if values.size and int(max(values.max(), -int(values.min()))) * factor > _INT64_MAX:
        raise DataError(
            "values are too large for exact window sums", field="value", value=int(values.max()),
            remedy="use a coarser price grid or a shorter window",
        )  # fmt: skip


def _window_sums(extended: Ints, n: int) -> Ints:
    """Return the exact sum of every ``n`` consecutive values; int64 wraps in between and comes back."""
    total = np.cumsum(extended)
    sums = total[n - 1 :].copy()
    sums[1:] -= total[:-n]
    return sums


class Indicator:
    """Base: state in ``STATE`` attributes, which are ints, floats, None, lists of them or int64 arrays."""

    STATE: ClassVar[tuple[str, ...]] = ()

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {
            name: value.tolist() if isinstance(value := getattr(self, name), np.ndarray) else value
            for name in self.STATE
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state that ``snapshot`` gave."""
        for name in self.STATE:
            is_array = isinstance(getattr(self, name), np.ndarray)
            setattr(self, name, np.array(state[name], np.int64) if is_array else state[name])

    def rescale(self, ratio: Decimal) -> None:
        """Divide held prices by ``ratio`` after a split; ticks are rounded half to even."""
        raise NotRescalableError(type(self).__name__)


class NotRescalableError(DataError):
    """An indicator that cannot follow a split."""

    def __init__(self, name: str) -> None:
        super().__init__("this indicator cannot follow a split", field="indicator", value=name,
                         remedy="override on_split in the strategy")  # fmt: skip


def _scaled(values: Ints, ratio: Decimal) -> Ints:
    return np.array([round(int(value) / ratio) for value in values], np.int64)


class _Windowed(Indicator):
    """Keeps the last ``n - 1`` values, so the next chunk has whole windows."""

    STATE = ("_tail",)

    def __init__(self, n: int) -> None:
        self.n = _check_length(n)
        self._tail = np.empty(0, np.int64)

    @property
    def is_ready(self) -> bool:
        """Whether the next value will have a result."""
        return len(self._tail) >= self.n - 1

    def _extend(self, values: Ints) -> Ints:
        extended = np.concatenate((self._tail, values)) if len(self._tail) else values
        keep = self.n - 1
        self._tail = extended[len(extended) - keep :].copy() if 0 < keep < len(extended) else (
            extended.copy() if keep else extended[:0]
        )  # fmt: skip
        return extended

    def _padded(self, values: Ints, results: Floats) -> Floats:
        """Return ``results`` aligned to the end of ``values``, NaN before."""
        if len(results) == len(values):
            return results
        out = np.full(len(values), _NAN)
        if len(results):
            out[len(values) - len(results) :] = results
        return out

    def rescale(self, ratio: Decimal) -> None:
        """Divide the window's prices by ``ratio``."""
        self._tail = _scaled(self._tail, ratio)


class SMA(_Windowed):
    """Simple moving average: exact window sum / n."""

    def update(self, values: Ints) -> Floats:
        """Return the mean of the last ``n`` values after each of ``values`` (int64)."""
        _check_bound(values, self.n)
        extended = self._extend(values)
        if len(extended) < self.n:
            return np.full(len(values), _NAN)
        return self._padded(values, _window_sums(extended, self.n) / self.n)


class RollingStd(_Windowed):
    """Standard deviation of the last ``n`` values: sqrt((n Σx² - (Σx)²) / (n (n - ddof))), the numerator exact."""

    def __init__(self, n: int, ddof: int = 0) -> None:
        super().__init__(_check_length(n, ddof + 1))
        self.ddof = ddof

    def update(self, values: Ints) -> Floats:
        """Return the deviation after each of ``values`` (int64)."""
        extended = self._extend(values)
        if len(extended) < self.n:
            return np.full(len(values), _NAN)
        return self._padded(values, _deviations(extended, self.n, self.ddof)[0])


def _deviations(extended: Ints, n: int, ddof: int) -> tuple[Floats, Ints]:
    """Return deviation and exact n x - Σx of the last value, for every window."""
    # A variance does not change when all values are shifted, so shift them near 0 to keep squares small.
    _check_bound(extended, 2 * n)
    shifted = extended - extended[0]
    largest = int(np.abs(shifted).max())
    sums = _window_sums(shifted, n)
    if n * n * largest * largest <= _INT64_MAX:
        numerator = (n * _window_sums(shifted * shifted, n) - sums * sums).astype(np.float64)
    else:
        exact = shifted.astype(object)
        total = np.concatenate(([0], np.cumsum(exact * exact)))
        squares = total[n:] - total[:-n]
        wide = sums.astype(object)
        numerator = (n * squares - wide * wide).astype(np.float64)
    return np.sqrt(numerator / float(n * (n - ddof))), n * shifted[n - 1 :] - sums


class ZScore(_Windowed):
    """(x - mean) / deviation of the last ``n`` values; 0 where the deviation is 0."""

    def __init__(self, n: int, ddof: int = 0) -> None:
        super().__init__(_check_length(n, ddof + 1))
        self.ddof = ddof

    def update(self, values: Ints) -> Floats:
        """Return the score of each of ``values`` (int64)."""
        extended = self._extend(values)
        if len(extended) < self.n:
            return np.full(len(values), _NAN)
        deviation, distance = _deviations(extended, self.n, self.ddof)
        scores = np.zeros(len(deviation))
        np.divide(distance / float(self.n), deviation, out=scores, where=deviation > 0)
        return self._padded(values, scores)


class Bollinger(_Windowed):
    """Bollinger bands: mean, mean + k deviations, mean - k deviations (population deviation)."""

    def __init__(self, n: int, k: float = 2.0) -> None:
        super().__init__(n)
        self.k = k

    def update(self, values: Ints) -> tuple[Floats, Floats, Floats]:
        """Return middle, upper and lower after each of ``values`` (int64)."""
        _check_bound(values, self.n)
        extended = self._extend(values)
        if len(extended) < self.n:
            nothing = np.full(len(values), _NAN)
            return nothing, nothing.copy(), nothing.copy()
        middle = _window_sums(extended, self.n) / self.n
        width = self.k * _deviations(extended, self.n, 0)[0]
        return (
            self._padded(values, middle),
            self._padded(values, middle + width),
            self._padded(values, middle - width),
        )


class _Picked(_Windowed):
    """A value picked from the window; bottleneck's result does not depend on what came before the window."""

    _move: ClassVar[Callable[[Floats, int], Floats]]

    def update(self, values: Ints) -> Floats:
        """Return the picked value after each of ``values`` (int64, below 2**53)."""
        extended = self._extend(values)
        if len(extended) < self.n:
            return np.full(len(values), _NAN)
        return self._padded(values, type(self)._move(extended.astype(np.float64), self.n)[self.n - 1 :])


class RollingMin(_Picked):
    """Smallest of the last ``n`` values."""

    _move = staticmethod(bottleneck.move_min)


class RollingMax(_Picked):
    """Largest of the last ``n`` values."""

    _move = staticmethod(bottleneck.move_max)


class RollingMedian(_Picked):
    """Median of the last ``n`` values; of an even number, the mean of the two middle ones."""

    _move = staticmethod(bottleneck.move_median)


class Donchian(Indicator):
    """Highest high and lowest low of ``n`` elements, the present one included or not."""

    STATE = ("_last",)

    def __init__(self, n: int, include_current: bool = True) -> None:
        self.n = _check_length(n)
        self.include_current = include_current
        self._highest = RollingMax(n)
        self._lowest = RollingMin(n)
        self._last: list[float] = [_NAN, _NAN]

    def update(self, high: Ints, low: Ints) -> tuple[Floats, Floats]:
        """Return upper and lower channel after each element (int64 highs and lows)."""
        upper, lower = self._highest.update(high), self._lowest.update(low)
        if self.include_current or not len(upper):
            return upper, lower
        before = self._last
        self._last = [float(upper[-1]), float(lower[-1])]
        return np.concatenate(([before[0]], upper[:-1])), np.concatenate(([before[1]], lower[:-1]))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        last = [None if math.isnan(value) else value for value in self._last]
        return {"last": last, "highest": self._highest.snapshot(), "lowest": self._lowest.snapshot()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state that ``snapshot`` gave."""
        self._last = [_NAN if value is None else value for value in state["last"]]
        self._highest.restore(state["highest"])
        self._lowest.restore(state["lowest"])

    def rescale(self, ratio: Decimal) -> None:
        """Divide the window's prices and the channel by ``ratio``."""
        self._highest.rescale(ratio)
        self._lowest.rescale(ratio)
        self._last = [v if math.isnan(v) else float(round(Decimal(v) / ratio)) for v in self._last]


class EMA(Indicator):
    """Exponential moving average, alpha = 2 / (n + 1), seeded with the mean of the first ``n`` values.

    value += alpha * (x - value), one value after another.
    """

    STATE = ("_count", "_sum", "_value")

    def __init__(self, n: int) -> None:
        self.n = _check_length(n)
        self.alpha = 2.0 / (n + 1)
        self._count = 0
        self._sum = 0
        self._value = 0.0

    def update(self, values: Ints) -> Floats:
        """Return the average after each of ``values`` (int64)."""
        out = np.full(len(values), _NAN)
        start = min(max(self.n - self._count, 0), len(values))
        if start:
            self._sum += int(values[:start].sum())
            self._count += start
            if self._count == self.n:
                self._value = self._sum / self.n
                out[start - 1] = self._value
        value, alpha = self._value, self.alpha
        results = []
        for x in values[start:].tolist():
            value += alpha * (x - value)
            results.append(value)
        if results:
            out[start:] = results
            self._value = value
        return out

    def rescale(self, ratio: Decimal) -> None:
        """Divide the average by ``ratio``."""
        self._value = float(Decimal(self._value) / ratio)
        self._sum = round(self._sum / ratio)


class _Wilder:
    """Wilder's smoothing: the mean of the first ``n`` values, then (value (n - 1) + x) / n."""

    __slots__ = ("count", "n", "value")

    def __init__(self, n: int) -> None:
        self.n = n
        self.count = 0
        self.value = 0.0

    def step(self, x: float) -> bool:
        """Take one value; return whether the smoothed value stands."""
        self.count += 1
        if self.count < self.n:
            self.value += x
            return False
        if self.count == self.n:
            self.value = (self.value + x) / self.n
        else:
            self.value = (self.value * (self.n - 1) + x) / self.n
        return True


class RSI(Indicator):
    """Relative strength index (Wilder, 1978): 100 - 100 / (1 + mean gain / mean loss); 100 without losses."""

    STATE = ("_last",)

    def __init__(self, n: int = 14) -> None:
        self.n = _check_length(n)
        self._last: int | None = None
        self._gain, self._loss = _Wilder(n), _Wilder(n)

    def update(self, values: Ints) -> Floats:
        """Return the index after each of ``values`` (int64)."""
        out = np.full(len(values), _NAN)
        last = self._last
        for k, x in enumerate(values.tolist()):
            if last is not None:
                change = x - last
                is_ready = self._gain.step(float(max(change, 0)))
                self._loss.step(float(max(-change, 0)))
                if is_ready:
                    gain, loss = self._gain.value, self._loss.value
                    out[k] = 100.0 if loss == 0 else 100.0 - 100.0 / (1.0 + gain / loss)
            last = x
        self._last = last
        return out

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {"last": self._last, "count": self._gain.count, "gain": self._gain.value, "loss": self._loss.value}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state that ``snapshot`` gave."""
        self._last = state["last"]
        self._gain.count = self._loss.count = state["count"]
        self._gain.value, self._loss.value = state["gain"], state["loss"]

    def rescale(self, ratio: Decimal) -> None:
        """Divide the last price and the mean changes by ``ratio``."""
        self._last = None if self._last is None else round(self._last / ratio)
        self._gain.value = float(Decimal(self._gain.value) / ratio)
        self._loss.value = float(Decimal(self._loss.value) / ratio)


class ATR(Indicator):
    """Average true range (Wilder): smoothed max(high, last close) - min(low, last close); the first is high - low."""

    def __init__(self, n: int = 14) -> None:
        self.n = _check_length(n)
        self._close: int | None = None
        self._range = _Wilder(n)

    def update(self, high: Ints, low: Ints, close: Ints) -> Floats:
        """Return the average range after each bar (int64 ticks)."""
        out = np.full(len(close), _NAN)
        last = self._close
        for k, (h, l, c) in enumerate(zip(high.tolist(), low.tolist(), close.tolist(), strict=True)):  # noqa: E741
            true_range = h - l if last is None else max(h, last) - min(l, last)
            if self._range.step(float(true_range)):
                out[k] = self._range.value
            last = c
        self._close = last
        return out

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {"close": self._close, "count": self._range.count, "range": self._range.value}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state that ``snapshot`` gave."""
        self._close = state["close"]
        self._range.count, self._range.value = state["count"], state["range"]

    def rescale(self, ratio: Decimal) -> None:
        """Divide close and range by ``ratio``."""
        self._close = None if self._close is None else round(self._close / ratio)
        self._range.value = float(Decimal(self._range.value) / ratio)


class VWAP(Indicator):
    """Volume-weighted average price since the last ``reset``: exact sum of price x volume / sum of volume."""

    STATE = ("_value", "_volume")

    def __init__(self) -> None:
        self._value = 0
        self._volume = 0

    def reset(self) -> None:
        """Begin anew, as at the start of a session."""
        self._value = self._volume = 0

    def update(self, price: Ints, volume: Ints) -> Floats:
        """Return the average after each element (int64 ticks and units); NaN while no volume was seen."""
        if not len(price):
            return np.empty(0)
        value = np.cumsum(price.astype(object) * volume.astype(object)) + self._value
        total = np.cumsum(volume.astype(object)) + self._volume
        self._value, self._volume = int(value[-1]), int(total[-1])
        return np.array(
            [v / t if t else _NAN for v, t in zip(value.tolist(), total.tolist(), strict=True)], np.float64
        )

    def rescale(self, ratio: Decimal) -> None:
        """Keep the value traded; volumes before the split count on the new share count."""
        self._volume = round(self._volume * ratio)
