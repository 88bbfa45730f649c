"""Round steps of the two axes, and how they are written."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from infra.report.texts import amount

_SECOND = 1_000_000_000
_MINUTE = 60 * _SECOND
_HOUR = 60 * _MINUTE
_DAY = 24 * _HOUR
_MONDAY = 4 * _DAY  # the first one after the epoch, which was a Thursday
_STEPS_NS = (
    *(step * _SECOND for step in (1, 2, 5, 10, 15, 30)),
    *(step * _MINUTE for step in (1, 2, 5, 10, 15, 30)),
    *(step * _HOUR for step in (1, 2, 3, 6, 12)),
    *(step * _DAY for step in (1, 2, 7, 14)),
)
_STEPS_MONTHS = (1, 2, 3, 6, *(12 * years for years in (1, 2, 5, 10, 20, 50, 100, 200)))


class Tick(NamedTuple):
    """A place on an axis with its text; of time it is int64 ns UTC."""

    at: float
    text: str


def value_ticks(low: float, high: float, count: int, unit: str = "") -> list[Tick]:
    """Return round values from ``low`` to ``high``, about ``count`` of them."""
    raw = (high - low) / max(count, 1)
    if not raw > 0:
        return [Tick(low, amount(low) + unit)]
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(f * power for f in (1, 2, 5, 10) if f * power >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    places = min(max(-math.floor(math.log10(step) + 1e-9), 0), 8)
    return [
        Tick(number * step, amount(number * step, places) + unit)
        for number in range(first, last + 1)
    ]


def time_ticks(first_ns: int, last_ns: int, count: int) -> list[Tick]:
    """Return round instants between two, at most ``count`` or one more, each with its text."""
    span = last_ns - first_ns
    for step in _STEPS_NS:
        if span <= step * count:
            offset = _MONDAY if step % (7 * _DAY) == 0 else 0
            number = -((offset - first_ns) // step)
            places = range(number * step + offset, last_ns + 1, step)
            return [Tick(at, _time_text(at, step)) for at in places]
    return _month_ticks(first_ns, last_ns, count)


def _month_ticks(first_ns: int, last_ns: int, count: int) -> list[Tick]:
    ends = np.array([first_ns, last_ns], "M8[ns]").astype("M8[M]").astype(np.int64)
    first, last = ends.tolist()
    step = next((s for s in _STEPS_MONTHS if last - first <= s * count), _STEPS_MONTHS[-1])
    # Counted from the year 0, so that decades begin with a 0.
    origin = -1970 * 12
    number = origin + (first - origin) // step * step
    ticks = []
    for month in range(number, last + 1, step):
        at = int(np.datetime64(month, "M").astype("M8[ns]").astype(np.int64))
        if at >= first_ns:
            text = f"{1970 + month // 12}"
            ticks.append(Tick(at, text if step >= 12 else f"{text}-{month % 12 + 1:02d}"))
    return ticks


def _time_text(at: int, step: int) -> str:
    """Return a day at midnight or for steps of days, else the time of day."""
    text = str(np.datetime64(at, "ns").astype("M8[s]"))
    if at % _DAY == 0:
        return text[:10]
    return text[11:16] if step >= _MINUTE else text[11:19]
