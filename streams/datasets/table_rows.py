"""From the parsed blocks of a table to the rows that ``ingest`` takes.

Order, interval, close instants, plain dates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.columns import Ints
from schemas.errors import DataError
from schemas.market_data import INTERVAL_NS, INTERVALS
from streams.datasets.ingest import WAITING_ROWS, Ingest, Rows
from streams.datasets.session_ends import ends_of_bars, ends_of_days
from streams.datasets.tabular import (
    Block,
    closes_of_days,
    days_at_midnight,
    interval_of,
    is_newest_first,
)


class TableRows:
    """Feeds the blocks of one file of ``kind`` to ``ingest``: ``add`` them, then ``finish``.

    The first block settles whether bars stand newest first, as many vendors deliver them. Then all
    blocks wait for the last one and are taken from the end. The interval of bars is settled by the
    block that is taken first.
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
        self._is_begun = False
        self._waiting: list[Block] | None = None
        self._waiting_rows = 0
        self._waiting_rows_max = waiting_rows_max

    def add(self, block: Block) -> None:
        """Take in the next rows of the file; raises DataError if too many would have to wait."""
        if not self._is_begun:
            self._is_begun = True
            placed = _placed(block)
            # Ticks that run backwards may have arrived like that; bars cannot.
            if self._kind == "bar" and is_newest_first(
                block.code[placed], block.ts[placed], block.day[placed]
            ):
                self._waiting = []
        if self._waiting is None:
            self._take(block)
            return
        self._waiting.append(block)
        self._waiting_rows += len(block.ts)
        if self._waiting_rows > self._waiting_rows_max:
            raise DataError(
                f"{self._file}: bars that stand newest first must wait in memory for the oldest,"
                " and there are too many",
                field="rows",
                value=f"over {self._waiting_rows_max:,}",
                remedy="sort the file by time, oldest first, or split it",
            )

    def finish(self) -> None:
        """Hand over what waits for the end of the file."""
        while self._waiting:
            self._take(self._waiting.pop().turned())

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
        if not self._interval:
            self._interval = interval_of(
                self._file,
                block.code[is_placed],
                block.ts[is_placed],
                block.day[is_placed],
                self._asked,
            )
        length_ns = INTERVAL_NS[INTERVALS.index(self._interval)]
        if block.is_by_start:
            block.ts = block.ts + length_ns
        is_daily = self._interval == "1d"
        if not is_daily:
            for row in np.flatnonzero(block.day > 0).tolist():
                _unplaced(block, row, "the timestamp is a day without a time")
                is_placed[row] = False
        if not is_daily and not block.is_by_start:
            return
        for code, symbol in enumerate(block.symbols):
            rows = np.flatnonzero((block.code == code) & is_placed)
            if not len(rows):
                continue
            if is_daily:
                self._place_days(block, symbol, rows)
            elif block.start is not None:
                instrument = self._ingest.instrument(symbol)
                block.ts[rows] = ends_of_bars(instrument, block.start[rows], length_ns)

    def _place_days(self, block: Block, symbol: str, rows: Ints) -> None:
        """Stamp daily bars that say only their day, or only their start, at their session's close.

        Those that say when they end keep that.
        """
        instrument = self._ingest.instrument(symbol)
        stamped = block.start if block.is_by_start and block.start is not None else block.ts
        midnights = days_at_midnight(instrument, stamped[rows])
        days = np.where(block.day[rows] > 0, block.day[rows], midnights)
        if block.start is None:
            block.start = block.ts - INTERVAL_NS[INTERVALS.index("1d")]
        timed, rows, days = rows[days == 0], rows[days > 0], days[days > 0]
        opens, closes, is_session = closes_of_days(instrument, days)
        block.ts[rows] = closes
        block.start[rows] = opens
        for row, day in zip(rows[~is_session].tolist(), days[~is_session].tolist(), strict=True):
            _unplaced(block, row, f"{day} is no session of the calendar of {symbol}")
        if not block.is_by_start:
            return
        block.ts[timed], is_session = ends_of_days(instrument, block.start[timed])
        for row in timed[~is_session].tolist():
            reason = f"no session of the calendar of {symbol} opens within a day of the start"
            _unplaced(block, row, reason)


def _placed(block: Block) -> npt.NDArray[np.bool_]:
    """Return which rows have a symbol and a time."""
    is_placed = np.ones(len(block.ts), np.bool_)
    is_placed[list(block.unplaced)] = False
    return is_placed


def _unplaced(block: Block, row: int, reason: str) -> None:
    block.reasons.setdefault(row, reason)
    block.unplaced.add(row)
