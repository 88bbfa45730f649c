"""Indicators that carry a value on: exponential and Wilder averages, RSI and ATR.

They run one value after another from the carried state, in the order of operations that is written
here; a vectorized form would round in another order.
"""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any

from agents.domain.indicators.base import (
    Indicator,
    aligned,
    checked_length,
    rescaled,
    rescaled_float,
)
from schemas.columns import Floats, Ints


class EMA(Indicator):
    """Exponential moving average, alpha = 2 / (n + 1), seeded with the mean of ``n`` values.

    value += alpha * (x - value), one value after another.
    """

    STATE = ("_count", "_sum", "_value")

    def __init__(self, n: int) -> None:
        self.n = checked_length(n)
        self.alpha = 2.0 / (n + 1)
        self._count = 0
        self._sum = 0
        self._value = 0.0

    def update(self, values: Ints) -> Floats:
        """Return the average after each of ``values`` (int64)."""
        results: list[float] = []
        start = min(self.n - self._count, len(values))
        if start:
            self._sum += int(values[:start].sum())
            self._count += start
            if self._count == self.n:
                self._value = self._sum / self.n
                results.append(self._value)
        value, alpha = self._value, self.alpha
        for x in values[start:].tolist():
            value += alpha * (x - value)
            results.append(value)
        self._value = value
        return aligned(results, len(values))

    def rescale(self, ratio: Decimal) -> None:
        """Divide the average by ``ratio``."""
        self._sum = rescaled(self._sum, ratio)
        self._value = rescaled_float(self._value, ratio)


class _Wilder:
    """Wilder's smoothing: the mean of the first ``n`` values, then (value (n - 1) + x) / n."""

    __slots__ = ("count", "n", "value")

    def __init__(self, n: int) -> None:
        self.n = n
        self.count = 0
        """Values seen, counted up to ``n``."""
        self.value = 0.0
        """The smoothed value; during the warm-up the sum of what was seen."""

    def smooth(self, values: list[int]) -> list[float]:
        """Return the smoothed value after each of ``values``, from the first that stands."""
        n = self.n
        results: list[float] = []
        start = min(n - self.count, len(values))
        value = self.value + sum(values[:start])
        self.count += start
        if start and self.count == n:
            value /= n
            results.append(value)
        for x in values[start:]:
            value = (value * (n - 1) + x) / n
            results.append(value)
        self.value = value
        return results

    def rescale(self, ratio: Decimal) -> None:
        """Divide what is held by ``ratio``."""
        self.value = rescaled_float(self.value, ratio)


class RSI(Indicator):
    """Relative strength index: 100 - 100 / (1 + mean gain / mean loss), 100 without losses.

    J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.
    """

    def __init__(self, n: int = 14) -> None:
        self.n = checked_length(n)
        self._last: int | None = None
        self._gain, self._loss = _Wilder(n), _Wilder(n)

    def update(self, values: Ints) -> Floats:
        """Return the index after each of ``values`` (int64)."""
        prices = values.tolist()
        if not prices:
            return aligned((), 0)
        changes = [x - last for last, x in pairwise(prices)]
        if self._last is not None:
            changes.insert(0, prices[0] - self._last)
        self._last = prices[-1]
        gains = self._gain.smooth([max(x, 0) for x in changes])
        losses = self._loss.smooth([max(-x, 0) for x in changes])
        results = [
            100.0 - 100.0 / (1.0 + gain / loss) if loss else 100.0
            for gain, loss in zip(gains, losses, strict=True)
        ]
        return aligned(results, len(prices))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {
            "last": self._last,
            "count": self._gain.count,
            "gain": self._gain.value,
            "loss": self._loss.value,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state that ``snapshot`` gave."""
        self._last = state["last"]
        self._gain.count = self._loss.count = state["count"]
        self._gain.value, self._loss.value = state["gain"], state["loss"]

    def rescale(self, ratio: Decimal) -> None:
        """Divide the last price and the mean changes by ``ratio``."""
        self._last = None if self._last is None else rescaled(self._last, ratio)
        self._gain.rescale(ratio)
        self._loss.rescale(ratio)


class ATR(Indicator):
    """Average true range: smoothed max(high, last close) - min(low, last close).

    The first range is high - low. J. Welles Wilder, New Concepts in Technical Trading Systems,
    1978.
    """

    def __init__(self, n: int = 14) -> None:
        self.n = checked_length(n)
        self._close: int | None = None
        self._range = _Wilder(n)

    def update(self, high: Ints, low: Ints, close: Ints) -> Floats:
        """Return the average range after each bar (int64 ticks)."""
        highs, lows, closes = high.tolist(), low.tolist(), close.tolist()
        if not closes:
            return aligned((), 0)
        # Without a close before it, a first bar's own low stands in: it changes neither extreme.
        before = [lows[0] if self._close is None else self._close, *closes[:-1]]
        self._close = closes[-1]
        ranges = [
            max(top, last) - min(bottom, last)
            for top, bottom, last in zip(highs, lows, before, strict=True)
        ]
        return aligned(self._range.smooth(ranges), len(closes))

    def snapshot(self) -> dict[str, Any]:
        """Return the state as plain JSON values."""
        return {"close": self._close, "count": self._range.count, "range": self._range.value}

    def restore(self, state: dict[str, Any]) -> None:
        """Take over a state that ``snapshot`` gave."""
        self._close = state["close"]
        self._range.count, self._range.value = state["count"], state["range"]

    def rescale(self, ratio: Decimal) -> None:
        """Divide close and range by ``ratio``."""
        self._close = None if self._close is None else rescaled(self._close, ratio)
        self._range.rescale(ratio)
