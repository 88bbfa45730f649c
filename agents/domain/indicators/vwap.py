"""The volume-weighted average price: two exact sums and their quotient."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np

from agents.domain.indicators.base import Indicator
from schemas.columns import Floats, Ints

# Both are a little lower than the true bounds, since the estimate that is compared is a float sum.
_INT64_SAFE = 2.0**62
_FLOAT64_SAFE = 2.0**52


class VWAP(Indicator):
    """Volume-weighted average price since the last ``reset``: Σ price x volume / Σ volume.

    Both sums are exact and the quotient is correctly rounded.
    """

    STATE = ("_value", "_volume")

    def __init__(self) -> None:
        self._value = 0
        self._volume = 0

    def reset(self) -> None:
        """Begin anew, as at the start of a session."""
        self._value = self._volume = 0

    def update(self, price: Ints, volume: Ints) -> Floats:
        """Return the average after each element (int64 ticks and units).

        NaN while no volume was seen.
        """
        if not len(price):
            return np.empty(0)
        largest = self._largest_sum(price, volume)
        if largest > _INT64_SAFE:
            # Python's integers have no end.
            price, volume = price.astype(object), volume.astype(object)
        value = np.cumsum(price * volume) + self._value
        total = np.cumsum(volume) + self._volume
        self._value, self._volume = int(value[-1]), int(total[-1])
        if largest > _FLOAT64_SAFE:
            # float64 does not hold the sums; Python divides integers of any size correctly.
            pairs = zip(value.tolist(), total.tolist(), strict=True)
            return np.array([v / t if t else math.nan for v, t in pairs])
        out = np.full(len(price), math.nan)
        np.divide(value, total, out=out, where=total != 0)
        return out

    def _largest_sum(self, price: Ints, volume: Ints) -> float:
        """Return about how large either sum can become with these elements."""
        sizes = np.abs(volume).astype(np.float64)
        value = float(np.abs(price).astype(np.float64) @ sizes)
        return max(abs(self._value) + value, abs(self._volume) + float(sizes.sum()))

    def rescale(self, ratio: Decimal) -> None:
        """Keep the value traded; volumes before the split count on the new share count."""
        self._volume = round(self._volume * ratio)
