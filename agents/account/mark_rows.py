"""Marks as columns: at which instants they stand, and in which order."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from schemas.columns import Codes, EquityColumns, Floats, Ints
from schemas.sessions import SessionTable

_DAY_NS = 86_400_000_000_000

MarkRows = tuple[Ints, Codes, Floats, Floats, Floats, Floats, Floats]
"""Some marks: instants, sources, and the five values of ``EquityColumns``."""


def opens_of(tables: Iterable[SessionTable | None]) -> Ints:
    """Return the opens of all sessions (int64 ns UTC), ascending, and one that is never reached."""
    opens = [table.open_ns for table in tables if table is not None]
    return np.unique(np.concatenate([*opens, [np.iinfo(np.int64).max]]))


def instants(price_ns: Ints, interval_ns: int, open_ns: Ints) -> Ints:
    """Return at which instants the marks behind ascending prices stand.

    That is the next boundary, or the price's own instant if it stands on one, but always within the
    day of the price: at the latest a nanosecond before the next of ``open_ns`` and before midnight.
    """
    boundary = -(-price_ns // interval_ns) * interval_ns
    next_open = open_ns[open_ns.searchsorted(price_ns, "right")]
    midnight = (price_ns // _DAY_NS + 1) * _DAY_NS
    times: Ints = np.minimum(boundary, np.minimum(next_open, midnight) - 1)
    return times


def periods(times: Ints, interval_ns: int, open_ns: Ints) -> Ints:
    """Return numbers that grow from mark to mark with every interval and every day that begins."""
    days: Ints = times // _DAY_NS + open_ns.searchsorted(times, "right")
    return days + times // interval_ns


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
