"""Rows of many instruments side by side in one numpy pass.

One stable sort brings the rows of each instrument together; afterwards "the row before, of the same
instrument" is the neighbor, and state that is carried from batch to batch is one array with an
entry for each instrument.
"""

from __future__ import annotations

from typing import TypeVar, cast

import numpy as np
import numpy.typing as npt

from schemas.columns import Codes, Floats, Ints
from schemas.instruments import Universe
from schemas.values import Grid

Order = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)


class Grouped:
    """Rows brought together by instrument, in their old order within each.

    ``order`` sorts the rows (None where they are in order as they stand), ``heads`` holds the first
    sorted row of each instrument that is there, ``codes`` those instruments, ascending.
    """

    __slots__ = ("_is_in_order", "codes", "heads", "order", "size")

    def __init__(self, instrument: Codes) -> None:
        self.size = len(instrument)
        self._is_in_order: bool | None = None
        self.order: Order | None = None
        if not self.size:
            self.heads = np.empty(0, np.intp)
            self.codes = instrument
            return
        steps = np.flatnonzero(instrument[1:] != instrument[:-1])
        if len(steps) and not np.all(instrument[steps + 1] > instrument[steps]):
            # Radix sort serves 16 bits only; it is several times faster than other sorts.
            narrow = instrument.astype(np.uint16) if int(instrument.max()) < 65536 else instrument
            self.order = np.argsort(narrow, kind="stable")
            instrument = instrument[self.order]
            steps = np.flatnonzero(instrument[1:] != instrument[:-1])
        self.heads = np.concatenate(([0], steps + 1))
        self.codes = instrument[self.heads]

    def sort(self, column: npt.NDArray[Scalar]) -> npt.NDArray[Scalar]:
        """Return ``column`` (any dtype, one entry a row) in grouped order."""
        return column if self.order is None else column[self.order]

    def tails(self) -> Order:
        """Return the last sorted row of each instrument that is there."""
        return np.append(self.heads[1:], self.size)[: len(self.heads)] - 1

    def previous(
        self, column: npt.NDArray[Scalar], carried: npt.NDArray[Scalar]
    ) -> npt.NDArray[Scalar]:
        """Return for each sorted row the value of the row before it of its instrument.

        ``carried`` (by instrument) stands before the first.
        """
        out = np.empty_like(column)
        out[1:] = column[:-1]
        out[self.heads] = carried[self.codes]
        return out

    def is_in_order(self, ts: Ints) -> bool:
        """Return whether the sorted times ``ts`` never fall within an instrument; look once."""
        if self._is_in_order is None:
            if len(self.codes) == 1:
                self._is_in_order = bool(np.all(ts[1:] >= ts[:-1]))
            else:
                falls = np.flatnonzero(ts[1:] < ts[:-1]) + 1
                self._is_in_order = bool(np.all(np.isin(falls, self.heads)))
        return self._is_in_order

    def highest_before(self, column: Ints, carried: Ints) -> Ints:
        """Return for each sorted row the maximum before it, ``carried`` included."""
        out = self.previous(column, carried)
        if np.all(column >= out):
            return out  # Nothing falls, so the row before is the maximum.
        for head, tail in zip(self.heads.tolist(), self.tails().tolist(), strict=True):
            np.maximum.accumulate(out[head : tail + 1], out=out[head : tail + 1])
        return out


def interval_heads(ts: Ints, length: int) -> Order:
    """Return the first row of each interval of ``length`` that the times ``ts`` reach.

    The times never fall and are not empty; intervals are counted from the epoch.
    """
    first, last = int(ts[0]) // length, int(ts[-1]) // length
    if (last - first) * 8 > len(ts):
        number = ts // length
        return np.concatenate(([0], np.flatnonzero(number[1:] != number[:-1]) + 1))
    # Few intervals: looking for their edges is cheaper than dividing every time.
    edges = np.searchsorted(ts, np.arange(first + 1, last + 1) * length)
    heads = np.concatenate(([0], edges))
    is_last = np.append(heads[1:] != heads[:-1], True)
    reached: Order = heads[is_last]
    return reached


def grown(array: npt.NDArray[Scalar], size: int, fill: object) -> npt.NDArray[Scalar]:
    """Return ``array`` lengthened to ``size`` with ``fill``."""
    out = np.full(size, fill, array.dtype)
    out[: len(array)] = array
    return out


class GridTable:
    """Conversions to and from grid integers for columns of many instruments.

    ``largest`` holds for each instrument the value (float64) from which 2**53 grid units are
    reached.
    """

    __slots__ = ("_grids", "_group", "largest")

    def __init__(self, universe: Universe, name: str) -> None:
        """Read the grids of ``universe``; ``name`` is "price" or "quantity"."""
        grids: list[Grid] = universe.price_grids if name == "price" else universe.quantity_grids
        distinct: dict[object, int] = {}
        self._grids: list[Grid] = []
        self._group = np.empty(len(grids), np.int32)
        self.largest = np.empty(len(grids), np.float64)
        for i, grid in enumerate(grids):
            group = distinct.setdefault(grid.increment, len(distinct))
            if group == len(self._grids):
                self._grids.append(grid)
            self._group[i] = group
            self.largest[i] = grid.to_float(2**53)

    def to_units(self, instrument: Codes, values: Floats) -> Ints:
        """Return float64 ``values`` as int64 grid units of each row's instrument."""
        if len(self._grids) == 1:
            return self._grids[0].to_units(values)
        group = self._group[instrument]
        out = np.empty(len(values), np.int64)
        for i in np.unique(group).tolist():
            rows = group == i
            out[rows] = self._grids[i].to_units(values[rows])
        return out

    def to_floats(self, instrument: Codes, units: Ints | Floats) -> Floats:
        """Return ``units`` of each row's grid as float64; fractions (a vwap) are welcome."""
        whole = cast(
            Ints, units
        )  # Grid multiplies and divides in float64 whatever the units' dtype is.
        if len(self._grids) == 1:
            return self._grids[0].to_floats(whole)
        group = self._group[instrument]
        out = np.empty(len(units), np.float64)
        for i in np.unique(group).tolist():
            rows = group == i
            out[rows] = self._grids[i].to_floats(whole[rows])
        return out
