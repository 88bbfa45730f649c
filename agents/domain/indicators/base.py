"""What every indicator is: state that can be snapshotted, restored and brought over a split."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, ClassVar

import numpy as np

from schemas.columns import Floats, Ints
from schemas.errors import ConfigError, DataError


class Indicator:
    """Base of the indicators.

    The attributes named in ``STATE`` hold the state: ints, floats, None, or int64 arrays. An
    indicator that is made of others has its own ``snapshot`` and ``restore``.
    """

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
        super().__init__(
            "this indicator cannot follow a split",
            field="indicator",
            value=name,
            remedy="override on_split in the strategy",
        )


def checked_length(n: int, least: int = 1) -> int:
    """Return ``n``; raise ConfigError if it is below ``least``."""
    if n < least:
        raise ConfigError(
            "an indicator's length is too small", field="n", value=n, remedy=f"give {least} or more"
        )
    return n


def aligned(results: Floats | Sequence[float], count: int) -> Floats:
    """Return ``results`` as the last of ``count`` float64 values, NaN before them."""
    if len(results) == count and isinstance(results, np.ndarray):
        return results
    out = np.full(count, math.nan)
    if len(results):
        out[count - len(results) :] = results
    return out


def rescaled(ticks: int, ratio: Decimal) -> int:
    """Return a price in ticks after a split of ``ratio`` shares for one, rounded half to even."""
    return round(ticks / ratio)


def rescaled_float(value: float, ratio: Decimal) -> float:
    """Return a mean of prices in ticks after a split of ``ratio`` shares for one."""
    return float(Decimal(value) / ratio)


def rescaled_array(ticks: Ints, ratio: Decimal) -> Ints:
    """Return prices in ticks after a split of ``ratio`` shares for one, rounded half to even."""
    return np.array([rescaled(value, ratio) for value in ticks.tolist()], np.int64)
