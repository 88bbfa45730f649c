"""From the parsed blocks of a table to the rows that ``ingest`` takes.

Order, interval, close instants, plain dates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import numpy.typing as npt

from schemas.columns import Ints
from schemas.errors import DataError
from schemas.instruments import Instrument
from schemas.market_data import INTERVAL_NS, INTERVALS
from streams.datasets.ingest import WAITING_ROWS, Ingest, Rows
from streams.datasets.session_ends import ends_of_bars, ends_of_days
from streams.datasets.spacing import Spacing, bar_times, interval_of, is_newest_first
from streams.datasets.tabular import Block, closes_of_days, days_at_midnight

SETTLING_ROWS = 65_536
"""Rows at the beginning of a file, however they come in blocks, that settle order and interval."""


class TableRows:
    """Feeds the blocks of one file of ``kind`` to ``ingest``: ``add`` them, then ``finish``.

    The first rows settle whether bars stand newest first, as many vendors deliver them. Then all
    blocks wait for the last one and are taken from the end. The interval of bars is settled by the
    oldest rows, as many of them in either order, so that both orders give the same set.
    """

    def __init__(
        self,
        ingest: Ingest,
        file: str,
        kind: str,
        interval: str | None,
        waiting_rows_max: int = WAITING_ROWS,
    ) -> None:
        self._ingest = ingest
        self._file = file
        self._kind = kind
        self._asked = interval
        self._interval = ""
        self._is_begun = kind != "bar"
        self._is_newest_first = False
        self._waiting: list[Block] = []
        self._waiting_rows = 0
        self._waiting_rows_max = waiting_rows_max
        self._spacing: dict[str, Spacing] = {}

    def add(self, block: Block) -> None:
        """Take in the next rows of the file; raises DataError if too many would have to wait."""
        if self._is_begun and not self._is_newest_first:
            self._take(block)
            return
        self._waiting.append(block)
        self._waiting_rows += len(block.ts)
        if not self._is_begun and self._waiting_rows >= min(SETTLING_ROWS, self._waiting_rows_max):
            self._begin()
        if self._is_newest_first and self._waiting_rows > self._waiting_rows_max:
            raise DataError(
                f"{self._file}: bars that stand newest first must wait in memory for the oldest,"
                " and there are too many",
                field="rows",
                value=f"over {self._waiting_rows_max:,}",
                remedy="sort the file by time, oldest first, or split it",
            )

    def finish(self) -> None:
        """Hand over what waits for the end of the file, and tell what does not fit the interval.

        Raises DataError for symbols whose bars are of another interval.
        """
        if not self._is_begun and self._waiting:
            self._begin()
        if self._waiting:
            self._settle_interval(block.turned() for block in reversed(self._waiting))
        while self._waiting:
            self._take(self._waiting.pop().turned())
        is_asked = self._asked is not None
        is_daily = any(spacing.is_daily() for spacing in self._spacing.values())
        for symbol, spacing in sorted(self._spacing.items()):
            oddity = spacing.oddity(self._file, symbol, is_asked=is_asked, is_daily=is_daily)
            self._ingest.quality.note_spacing(oddity)

    def _begin(self) -> None:
        """Settle by the first rows how bars stand; oldest first, they need not wait any longer."""
        self._is_begun = True
        code, ts, day = _head(self._waiting)
        # Ticks that run backwards may have arrived like that; bars cannot.
        self._is_newest_first = is_newest_first(code, bar_times(ts, day))
        if self._is_newest_first:
            return
        self._settle_interval(self._waiting)
        for block in self._waiting:
            self._take(block)
        self._waiting = []

    def _settle_interval(self, blocks: Iterable[Block]) -> None:
        """Settle the interval by the first rows of ``blocks``, which are the oldest."""
        self._interval = interval_of(self._file, *_head(blocks), self._asked)

    def _take(self, block: Block) -> None:
        """Hand the rows of ``block`` to ``ingest``."""
        if self._kind == "bar":
            self._complete_bars(block)
        else:
            for row in np.flatnonzero(block.day > 0).tolist():
                _unplaced(block, row, "the timestamp is a day without a time")
        self._ingest.add(
            Rows(
                kind=self._kind,
                interval=self._interval,
                symbols=block.symbols,
                code=block.code,
                ts=block.ts,
                values=block.values,
                line=block.line,
                text=block.text,
                reasons=block.reasons,
                unplaced=frozenset(block.unplaced),
                source=block.source,
                seq=block.seq,
                start=block.start,
            )
        )

    def _complete_bars(self, block: Block) -> None:
        """Give every bar its close and its open instant."""
        is_placed = _placed(block)
        is_daily = self._interval == "1d"
        if not is_daily:
            for row in np.flatnonzero(block.day > 0).tolist():
                _unplaced(block, row, "the timestamp is a day without a time")
                is_placed[row] = False
        times = bar_times(block.ts, block.day)
        if block.is_by_start:
            block.ts = block.ts + self._length_ns()
        for symbol, rows in _by_symbol(block, is_placed):
            spacing = self._spacing.get(symbol)
            if spacing is None:
                spacing = self._spacing[symbol] = Spacing(self._interval)
            spacing.add(times[rows])
            if is_daily:
                self._place_days(block, symbol, rows)
            elif block.is_by_start and block.start is not None:
                instrument = self._ingest.instrument(symbol)
                block.ts[rows] = ends_of_bars(instrument, block.start[rows], self._length_ns())
        if block.start is not None and not block.is_by_start:
            self._check_starts(block, block.start, _placed(block))

    def _check_starts(self, block: Block, start: Ints, is_placed: npt.NDArray[np.bool_]) -> None:
        """Reject bars whose ``start``, given beside their end, is none."""
        if block.start_day is not None and self._interval != "1d":
            for row in np.flatnonzero(block.start_day > 0).tolist():
                block.reasons.setdefault(row, "the start is a day without a time")
        for row in np.flatnonzero(is_placed & (start >= block.ts)).tolist():
            block.reasons.setdefault(row, "the start is not before the end")

    def _length_ns(self) -> int:
        return INTERVAL_NS[INTERVALS.index(self._interval)]

    def _place_days(self, block: Block, symbol: str, rows: Ints) -> None:
        """Stamp daily bars that say only their day, or only their start, at their session's close.

        Those that say when they end keep that.
        """
        instrument = self._ingest.instrument(symbol)
        stamped = block.start if block.is_by_start and block.start is not None else block.ts
        midnights = days_at_midnight(instrument, stamped[rows])
        days = np.where(block.day[rows] > 0, block.day[rows], midnights)
        if block.start is None:
            block.start = block.ts - self._length_ns()
        timed, rows, days = rows[days == 0], rows[days > 0], days[days > 0]
        opens, closes, is_session = closes_of_days(instrument, days)
        block.ts[rows] = closes
        block.start[rows] = opens
        for row, day in zip(rows[~is_session].tolist(), days[~is_session].tolist(), strict=True):
            _unplaced(block, row, f"{day} is no session of the calendar of {symbol}")
        if not block.is_by_start:
            _place_starts(block, instrument, timed)
            return
        block.ts[timed], is_session = ends_of_days(instrument, block.start[timed])
        for row in timed[~is_session].tolist():
            reason = f"no session of the calendar of {symbol} opens within a day of the start"
            _unplaced(block, row, reason)


def _place_starts(block: Block, instrument: Instrument, rows: Ints) -> None:
    """Let those of ``rows`` that say the day of their start begin as its session opens."""
    if block.start is None or block.start_day is None:
        return
    rows = rows[block.start_day[rows] > 0]
    days = block.start_day[rows]
    block.start[rows], _, is_session = closes_of_days(instrument, days)
    for row, day in zip(rows[~is_session].tolist(), days[~is_session].tolist(), strict=True):
        reason = f"the start, {day}, is no session of the calendar of {instrument.symbol}"
        block.reasons.setdefault(row, reason)


def _head(blocks: Iterable[Block]) -> tuple[npt.NDArray[np.int32], Ints, Ints]:
    """Return symbols (as numbers), times and plain days of the placed ones of the first rows."""
    numbers: dict[str, int] = {}
    found: list[tuple[npt.NDArray[np.int32], Ints, Ints]] = []
    left = SETTLING_ROWS
    for block in blocks:
        # Every block numbers its symbols anew.
        codes = [numbers.setdefault(symbol, len(numbers)) for symbol in block.symbols]
        rows = np.flatnonzero(_placed(block)[:left])
        found.append((np.array(codes, np.int32)[block.code[rows]], block.ts[rows], block.day[rows]))
        left -= len(block.ts)
        if left <= 0:
            break
    code, ts, day = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return code, ts, day


def _by_symbol(block: Block, is_chosen: npt.NDArray[np.bool_]) -> Iterator[tuple[str, Ints]]:
    """Yield the symbols of the chosen rows, each with its rows in their order."""
    rows = np.flatnonzero(is_chosen)
    if not len(rows):
        return
    rows = rows[np.argsort(block.code[rows], kind="stable")]
    codes, begins = np.unique(block.code[rows], return_index=True)
    for code, found in zip(codes.tolist(), np.split(rows, begins[1:]), strict=True):
        yield block.symbols[code], found


def _placed(block: Block) -> npt.NDArray[np.bool_]:
    """Return which rows have a symbol and a time."""
    is_placed = np.ones(len(block.ts), np.bool_)
    is_placed[list(block.unplaced)] = False
    return is_placed


def _unplaced(block: Block, row: int, reason: str) -> None:
    block.reasons.setdefault(row, reason)
    block.unplaced.add(row)
