"""Indicators with one definition each, equal to the last bit however the input is cut.

``update`` takes a chunk of consecutive values (one event is a chunk of one) and returns the
indicator after each of them, NaN until it is ready. Prices come as int64 ticks and volumes as int64
units, so window sums are exact integers: a running float sum would differ after every cut. All
results are float64 in ticks (or the unit of the input).

    base         the common base: snapshot, restore, rescale after a split
    windows      exact window sums, and values picked from the window
    recurrences  averages that carry a value on, one value after another
    vwap         the volume-weighted average price
"""

from __future__ import annotations

from agents.domain.indicators.base import Indicator, NotRescalableError
from agents.domain.indicators.recurrences import ATR, EMA, RSI
from agents.domain.indicators.vwap import VWAP
from agents.domain.indicators.windows import (
    SMA,
    Bollinger,
    Donchian,
    RollingMax,
    RollingMedian,
    RollingMin,
    RollingStd,
    ZScore,
)

__all__ = [
    "ATR",
    "EMA",
    "RSI",
    "SMA",
    "VWAP",
    "Bollinger",
    "Donchian",
    "Indicator",
    "NotRescalableError",
    "RollingMax",
    "RollingMedian",
    "RollingMin",
    "RollingStd",
    "ZScore",
]
