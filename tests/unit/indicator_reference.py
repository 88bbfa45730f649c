"""Indicators computed anew for every element, from their textbook definitions, with fractions.

Slow and exact, and without a line in common with the engine. ``None`` stands for what is not ready.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import pairwise

Outcome = list[float | None]


def over_windows(
    values: Sequence[int], n: int, value_of: Callable[[Sequence[int]], float | Fraction]
) -> Outcome:
    """Return ``value_of`` the last ``n`` of ``values`` after each of them."""
    return [
        float(value_of(values[end - n : end])) if end >= n else None
        for end in range(1, len(values) + 1)
    ]


def mean(window: Sequence[int]) -> Fraction:
    """Return the exact mean."""
    return Fraction(sum(window), len(window))


def deviation(window: Sequence[int], ddof: int = 0) -> float:
    """Return the standard deviation from the squared distances to the mean."""
    center = mean(window)
    squares = sum(((x - center) ** 2 for x in window), Fraction(0))
    return math.sqrt(squares / (len(window) - ddof))


def zscore(window: Sequence[int], ddof: int = 0) -> float:
    """Return how many deviations the last value lies from the mean, 0 if all are equal."""
    spread = deviation(window, ddof)
    return float(window[-1] - mean(window)) / spread if spread else 0.0


def bollinger(values: Sequence[int], n: int, k: float) -> list[Outcome]:
    """Return middle, upper and lower band."""
    return [
        over_windows(values, n, mean),
        over_windows(values, n, lambda window: float(mean(window)) + k * deviation(window)),
        over_windows(values, n, lambda window: float(mean(window)) - k * deviation(window)),
    ]


def median(values: Sequence[int], n: int) -> Outcome:
    """Return the rolling median."""
    return over_windows(values, n, statistics.median)


def donchian(
    high: Sequence[int], low: Sequence[int], n: int, includes_current: bool
) -> list[Outcome]:
    """Return the upper and lower channel."""
    channel = [over_windows(high, n, max), over_windows(low, n, min)]
    return channel if includes_current else [[None, *side][: len(side)] for side in channel]


def ema(values: Sequence[int], n: int) -> Outcome:
    """Return the exponential average, seeded with the mean of the first ``n`` values."""
    alpha = Fraction(2, n + 1)
    found: list[Fraction | None] = []
    for end in range(1, len(values) + 1):
        before = found[-1] if found else None
        if before is not None:
            found.append(alpha * values[end - 1] + (1 - alpha) * before)
        else:
            found.append(mean(values[:n]) if end == n else None)
    return [None if value is None else float(value) for value in found]


def wilder(values: Sequence[int], n: int) -> list[Fraction | None]:
    """Return Wilder's average: the mean of ``n`` values, then one nth of each new one."""
    found: list[Fraction | None] = []
    for end in range(1, len(values) + 1):
        before = found[-1] if found else None
        if before is not None:
            found.append(before + (values[end - 1] - before) / n)
        else:
            found.append(mean(values[:n]) if end == n else None)
    return found


def rsi(values: Sequence[int], n: int) -> Outcome:
    """Return the relative strength index, of the share that gains have in all changes."""
    changes = [after - before for before, after in pairwise(values)]
    gains = wilder([max(change, 0) for change in changes], n)
    losses = wilder([max(-change, 0) for change in changes], n)
    found: Outcome = [None]
    for gain, loss in zip(gains, losses, strict=True):
        if gain is None or loss is None:
            found.append(None)
        else:
            found.append(float(100 * gain / (gain + loss)) if loss else 100.0)
    return found[: len(values)]


def atr(high: Sequence[int], low: Sequence[int], close: Sequence[int], n: int) -> Outcome:
    """Return Wilder's average of the true range: the largest of three distances."""
    ranges = [top - bottom for top, bottom in zip(high, low, strict=True)]
    for bar in range(1, len(close)):
        last = close[bar - 1]
        ranges[bar] = max(ranges[bar], abs(high[bar] - last), abs(low[bar] - last))
    return [None if value is None else float(value) for value in wilder(ranges, n)]


def vwap(price: Sequence[int], volume: Sequence[int]) -> Outcome:
    """Return value traded over volume traded, from the first element on."""
    found: Outcome = []
    for end in range(1, len(price) + 1):
        traded = sum(volume[:end])
        value = sum(p * v for p, v in zip(price[:end], volume[:end], strict=True))
        found.append(float(Fraction(value, traded)) if traded else None)
    return found
