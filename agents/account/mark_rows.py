"""Marks as columns: at which instants they stand, and in which order."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from schemas.columns import Codes, EquityColumns, Floats, Ints

_DAY_NS = 86_400_000_000_000

MarkRows = tuple[Ints, Codes, Floats, Floats, Floats, Floats, Floats]
"""Some marks: instants, sources, and the five values of ``EquityColumns``."""


def instants(price_ns: Ints, interval_ns: int) -> Ints:
    """Return at which instants the marks behind prices stand: the next boundary or the price's own.

    A boundary at midnight is moved a nanosecond before it: the mark ends the day of the price.
    """
    times = -(-price_ns // interval_ns) * interval_ns
    is_midnight = (times % _DAY_NS == 0) & (times > price_ns)
    return np.where(is_midnight, times - 1, times)


def in_order(rows: Sequence[MarkRows], sources: Sequence[str]) -> EquityColumns:
    """Return marks in the order in which they stand in the stream: mark by mark, line by line.

    Lines are settled one after another, whatever the cut. Names rank the lines: indexes of sources
    differ between a run and its restart.
    """
    ts = np.concatenate([row[0] for row in rows])
    source = np.concatenate([row[1] for row in rows])
    codes, places = np.unique(source, return_inverse=True)
    names = np.array([sources[code] for code in codes])
    order = np.lexsort((names[places], ts))
    columns = {
        name: np.concatenate([row[k] for row in rows])[order]
        for k, name in ((2, "equity"), (3, "cash"), (4, "gross"), (5, "net"), (6, "drawdown"))
    }
    return EquityColumns(
        pos=np.arange(len(ts)),
        ts=ts[order],
        instrument=np.zeros(len(ts), np.int32),
        source=source[order],
        seq=ts[order],
        **columns,
    )
