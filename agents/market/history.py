"""Bars under way and closed bars that a late trade may still correct.

A bar is a row of one structured array, so that bars of many instruments are joined, sorted, kept
and snapshotted as a whole. Prices are float64 as they came (open, high, low and close are picks, so
they are exact); volume is in quantity grid units; the sum of price ticks times quantity units is an
exact 128-bit integer in two parts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from schemas.columns import Codes

BAR_DTYPE = np.dtype(
    [
        ("pos", "<i8"),
        ("phase", "<i4"),
        ("interval", "<i4"),
        ("instrument", "<i4"),
        ("revision", "<i4"),
        ("start", "<i8"),
        ("end", "<i8"),
        ("first_ts", "<i8"),
        ("last_ts", "<i8"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("volume", "<i8"),
        ("notional_high", "<i8"),
        ("notional_low", "<i8"),
        ("count", "<i8"),
        ("partial", "?"),
    ]
)
"""One bar.

The notional is ``notional_high`` * 2**32 + ``notional_low`` with 0 <= ``notional_low`` < 2**32;
``first_ts`` and ``last_ts`` are the event times of open and close; ``phase`` orders bars of one
position."""

Bars = npt.NDArray[np.void]

_ROW = np.dtype((np.void, BAR_DTYPE.itemsize))
"""A bar as bytes: numpy moves such rows ten times as fast as it moves fields one by one."""

NO_BAR = np.zeros((), BAR_DTYPE)
_LEAST = 16_384
LOW_BITS = 32
LOW_MASK = 2**LOW_BITS - 1


def chosen(bars: Bars, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Bars:
    """Return a copy of the chosen rows."""
    return bars.view(_ROW)[rows].view(BAR_DTYPE)


def put(bars: Bars, rows: npt.NDArray[np.intp] | npt.NDArray[np.bool_] | Codes, new: Bars) -> None:
    """Write rows of ``bars``: one new row for each, or one for all."""
    bars.view(_ROW)[rows] = new.view(_ROW)


def together(parts: Iterable[Bars]) -> Bars:
    """Return all bars as one array, which may be one of ``parts`` itself."""
    found = [part for part in parts if len(part)]
    if len(found) == 1:
        return found[0]
    if not found:
        return np.empty(0, BAR_DTYPE)
    return np.concatenate([part.view(_ROW) for part in found]).view(BAR_DTYPE)


def joined(old: Bars, new: Bars) -> Bars:
    """Return each bar of ``old`` with the trades of ``new`` (same bar, came later) in it.

    The open is the trade of the earliest event time and the close that of the latest; of trades of
    one instant the first to come opens and the last to come closes.
    """
    out = old.view(_ROW).copy().view(BAR_DTYPE)
    opens = new["first_ts"] < old["first_ts"]
    closes = new["last_ts"] >= old["last_ts"]
    for name, wins in (
        ("first_ts", opens),
        ("open", opens),
        ("last_ts", closes),
        ("close", closes),
    ):
        np.copyto(out[name], new[name], where=wins)
    out["high"] = np.maximum(old["high"], new["high"])
    out["low"] = np.minimum(old["low"], new["low"])
    out["volume"] += new["volume"]
    out["count"] += new["count"]
    out["partial"] |= new["partial"]
    low = old["notional_low"] + new["notional_low"]
    out["notional_low"] = low & LOW_MASK
    out["notional_high"] = old["notional_high"] + new["notional_high"] + (low >> LOW_BITS)
    return out


class History:
    """The last ``depth`` closed bars of each instrument of one interval.

    More are held than that for a while, since pruning after every batch would cost more than the
    memory is worth; every answer is as if they were not.
    """

    __slots__ = ("_chunks", "_depth", "_limit", "_settled", "_size")

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._chunks: list[Bars] = []
        self._settled = 0
        self._size = 0
        self._limit = _LEAST

    def add(self, bars: Bars) -> None:
        """Take closed bars; their positions are counted in the batch that is being handled."""
        if self._depth and len(bars):
            self._chunks.append(bars.copy())
            self._size += len(bars)

    def settle(self) -> None:
        """End a batch: positions lose their meaning, memory is bounded."""
        for chunk in self._chunks[self._settled :]:
            chunk["pos"] = -1
        self._settled = len(self._chunks)
        if self._size > self._limit:
            self.pruned()
            self._settled = 1
            self._limit = max(_LEAST, 4 * self._size)

    def table(self) -> Bars:
        """Return all bars that are held, as one array that may be written to."""
        if len(self._chunks) != 1:
            joint = np.concatenate(self._chunks) if self._chunks else np.empty(0, BAR_DTYPE)
            self._chunks = [joint]
            self._settled = 0
        return self._chunks[0]

    def pruned(self) -> Bars:
        """Keep the last ``depth`` bars of each instrument; return them by instrument and end."""
        bars = self.table()
        end, instrument = (np.ascontiguousarray(bars[name]) for name in ("end", "instrument"))
        order = np.lexsort((end, instrument))
        bars, instrument = bars[order], instrument[order]
        following = np.searchsorted(instrument, instrument, "right")
        self.replace(bars[following - np.arange(len(bars)) <= self._depth])
        return self.table()

    def replace(self, bars: Bars) -> None:
        """Hold exactly ``bars``."""
        self._chunks = [bars]
        self._settled = 0
        self._size = len(bars)

    def correct(self, late: Bars) -> tuple[Bars | None, int]:
        """Work one late trade (an array of one bar made of it) into the bar that it belongs to.

        Returns the corrected bar, its revision one higher, or None if the bar is older than the
        kept ones; and the end of the oldest kept bar. A bar that had no trade until now is made
        with revision 1.
        """
        bars = self.table()
        pos, end = late["pos"][0], late["end"][0]
        rows = np.flatnonzero((bars["instrument"] == late["instrument"][0]) & (bars["pos"] <= pos))
        rows = rows[np.argsort(bars["end"][rows], kind="stable")][
            len(rows) - min(self._depth, len(rows)) :
        ]
        oldest = int(bars["end"][rows[0]]) if len(rows) else int(end)
        match = rows[bars["end"][rows] == end]
        if len(match):
            revised = joined(bars[match], late)
            revised["partial"] = bars["partial"][match]
            revised["revision"] += 1
            bars[match] = revised
            revised["pos"], revised["phase"] = pos, late["phase"]
            return revised, oldest
        if not self._depth or (len(rows) == self._depth and end < oldest):
            return None, oldest
        made = late.copy()
        made["revision"] = 1
        self.add(made)
        return made, oldest
