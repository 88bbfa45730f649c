"""From the parsed blocks of a table to the rows that ``ingest`` takes.

Interval, close instants, plain dates.
"""

from __future__ import annotations

import numpy as np

from schemas.columns import Ints
from schemas.market_data import INTERVAL_NS, INTERVALS
from streams.datasets.ingest import Ingest, Rows
from streams.datasets.session_ends import ends_of_bars, ends_of_days
from streams.datasets.tabular import Block, closes_of_days, days_at_midnight, interval_of


class TableRows:
    """Feeds the blocks of one file of ``kind`` to ``ingest``.

    The interval of bars is settled by the first block.
    """

    def __init__(self, ingest: Ingest, file: str, kind: str, interval: str | None) -> None:
        self._ingest = ingest
        self._file = file
        self._kind = kind
        self._asked = interval
        self._interval = ""

    def add(self, block: Block) -> None:
        """Take in the next rows of the file."""
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
        is_placed = np.ones(len(block.ts), np.bool_)
        is_placed[list(block.unplaced)] = False
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


def _unplaced(block: Block, row: int, reason: str) -> None:
    block.reasons.setdefault(row, reason)
    block.unplaced.add(row)
