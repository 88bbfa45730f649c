"""The checks of imported rows: which cannot be used, and what is noteworthy about the others."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from schemas.columns import BarColumns, Columns, Floats, Ints, QuoteColumns, TradeColumns
from schemas.enums import CorporateActionKind
from schemas.errors import DataError
from schemas.instruments import CorporateAction, Instrument
from schemas.market_data import INTERVAL_NS, INTERVALS
from schemas.values import Grid
from streams.calendars import date_of_number, sessions
from streams.datasets.base import time_text
from streams.datasets.known import CENT, is_known
from streams.datasets.quality import DAILY_GAP_NS, JUMP_LIMIT, TICK_GAP_NS, QualityReport

_PRICES = {
    "trade": ("price",),
    "quote": ("bid", "ask"),
    "bar": ("open", "high", "low", "close"),
}
_SIZES = {"trade": ("size",), "quote": ("bid_size", "ask_size"), "bar": ("volume",)}
_CENTS = Grid(CENT)
HIGHEST = 1e11
"""Highest price that is taken of any instrument; above it 0.0001 is no longer exact in float64."""

LARGEST_SIZE = 1e15
"""Largest size or volume of a row; whole units beyond it are no longer exact in float64."""

HIGHEST_KNOWN = 1e5
"""Highest price of a known instrument.

Two orders above anything they traded at, one below fixed-point prices.
"""


def faults_of(kind: str, values: dict[str, Floats], reasons: dict[int, str]) -> dict[int, str]:
    """Return by row why it cannot be used: ``reasons`` and what the values of the row show.

    The first one wins.

    Prices must be finite and positive, but a side of a quote may be 0 (it does not exist); sizes
    must not be negative; a bar's low and high must enclose its open and close.
    """
    found = dict(reasons)

    def note(is_bad: npt.NDArray[np.bool_], reason: str) -> None:
        for row in np.flatnonzero(is_bad).tolist():
            found.setdefault(row, reason)

    for name in _PRICES[kind] + _SIZES[kind]:
        note(~np.isfinite(values[name]), f"{name} is not a finite number")
    for name in _PRICES[kind]:
        if kind == "quote":
            note(values[name] < 0, f"{name} is negative")
        else:
            note(values[name] <= 0, f"{name} is not positive")
    for name in _SIZES[kind]:
        note(values[name] < 0, f"{name} is negative")
        note(values[name] > LARGEST_SIZE, f"{name} is too large")
    if kind == "bar":
        low = np.minimum(values["open"], values["close"])
        high = np.maximum(values["open"], values["close"])
        is_open = (values["low"] > low) | (values["high"] < high)
        note(is_open, "high and low do not enclose open and close")
    return found


class SeriesChecks:
    """Watches the rows of one series pass by.

    ``is_on_cents`` while every price lies on whole cents.
    """

    def __init__(
        self,
        file: str,
        kind: str,
        interval: str,
        instrument: Instrument,
        actions: list[CorporateAction],
    ) -> None:
        self.is_on_cents = True
        self._file = file
        self._kind = kind
        self._instrument = instrument
        self._actions = actions
        self._grid = instrument.price_grid()
        self._limit = HIGHEST_KNOWN if is_known(instrument) else HIGHEST
        self._gap_ns = _gap_limit_ns(interval)
        self._is_daily = interval == "1d"
        self._length_ns = INTERVAL_NS[INTERVALS.index(interval)] if interval else 0
        self._found = QualityReport()
        self._last: Columns | None = None
        self._last_day = 0
        self._bars_at_open = self._bars_at_close = 0

    def add_to(self, report: QualityReport) -> None:
        """Add what was found to ``report``."""
        found = self._found
        report.out_of_order += found.out_of_order
        report.duplicates += found.duplicates
        report.gaps += found.gaps
        report.longest_gap_ns = max(report.longest_gap_ns, found.longest_gap_ns)
        report.crossed_quotes += found.crossed_quotes
        report.locked_quotes += found.locked_quotes
        report.jumps += found.jumps
        report.off_grid += found.off_grid
        report.bars_cut += found.bars_cut
        report.spikes += found.spikes
        report.first_spike = report.first_spike or found.first_spike
        if not self._bars_at_close:
            report.bars_at_open += self._bars_at_open
        elif self._is_daily:
            report.days_early += self._bars_at_open
            report.first_early = report.first_early or found.first_early

    def look(self, table: Columns, days: Ints, line: Ints) -> npt.NDArray[np.bool_]:
        """Look at the next rows, with their trading days (yyyymmdd) and lines.

        Return which to keep.

        Raises DataError for bars whose time runs backwards, and for prices far beyond the grid.
        """
        keep = np.ones(len(table), np.bool_)
        if not len(table):
            return keep
        self._look_at_grid(table)
        seen = table if self._last is None else type(table).concat([self._last, table])
        extra = len(seen) - len(table)
        days = np.concatenate([[self._last_day] * extra, days])
        step = np.diff(seen.ts)
        is_same = step == 0
        if isinstance(table, BarColumns) and isinstance(seen, BarColumns):
            self._check_forward(seen, step, line)
            self._look_at_sessions(table, days[extra:])
            self._look_at_lengths(seen)
            self._look_at_spikes(seen)
            keep[1 - extra :] = ~is_same
        else:
            self._found.out_of_order += int((step < 0).sum())
            for name, _ in table.VALUES:
                values = getattr(seen, name)
                is_same = is_same & (values[1:] == values[:-1])
        self._found.duplicates += int(is_same.sum())
        is_gap = (step > self._gap_ns) & ((days[1:] == days[:-1]) | self._is_daily)
        self._found.gaps += int(is_gap.sum())
        if is_gap.any():
            longest = int(step[is_gap].max())
            self._found.longest_gap_ns = max(self._found.longest_gap_ns, longest)
        self._look_at_prices(seen, table)
        self._last = seen.take(slice(len(seen) - 1, None))
        self._last_day = int(days[-1])
        return keep

    def _look_at_grid(self, table: Columns) -> None:
        is_off = np.zeros(len(table), np.bool_)
        for name in _PRICES[self._kind]:
            values = getattr(table, name)
            highest = float(values.max())
            # Prices are compared with the limit first, so that every value fits the integers of
            # both grids.
            if highest > self._limit:
                raise DataError(
                    f"{self._file}: a price of {self._instrument.symbol} is far too high",
                    field=name,
                    value=highest,
                    remedy=f"check the price scale: prices are in {self._instrument.currency}, "
                    "not in cents or 1/10,000",
                )
            is_off |= self._grid.to_floats(self._grid.to_units(values)) != values
            if self.is_on_cents:
                cents = _CENTS.to_floats(_CENTS.to_units(values))
                self.is_on_cents = bool((cents == values).all())
        self._found.off_grid += int(is_off.sum())

    def _look_at_sessions(self, table: BarColumns, days: Ints) -> None:
        """Count the bars that end as their session opens, and as it closes.

        A daily bar has no business within its session either: it would tell what is to come.
        """
        calendar = self._instrument.calendar
        if not calendar:
            return
        first, last = date_of_number(int(days.min())), date_of_number(int(days.max()))
        found = sessions(calendar, first, last)
        if not len(found.day):
            return
        # Where one session opens as the one before closes, a bar may well end there.
        is_at_close = np.isin(table.ts, found.close_ns)
        if self._is_daily:
            is_at_open = found.session_of(table.ts) >= 0
        else:
            is_at_open = np.isin(table.ts, found.open_ns)
        is_early = is_at_open & ~is_at_close
        if is_early.any() and not self._found.first_early:
            at = time_text(int(table.ts[np.argmax(is_early)]))
            self._found.first_early = f"{self._instrument.instrument_id} {at}"
        self._bars_at_open += int(is_early.sum())
        self._bars_at_close += int(is_at_close.sum())

    def _look_at_lengths(self, seen: BarColumns) -> None:
        """Count the bars that end early though the next one begins where they would have ended.

        Trading went on after the close at which they end, and they may hold some of it.
        """
        if not self._is_daily:
            whole = seen.start + self._length_ns
            is_cut = (seen.ts[:-1] < whole[:-1]) & (seen.start[1:] == whole[:-1])
            self._found.bars_cut += int(is_cut.sum())

    def _look_at_spikes(self, seen: BarColumns) -> None:
        """Count the bars with a price far beyond their own close and the one before.

        The open lies between low and high. A price that stays is a jump, not a spike, and after a
        split the own close stands for the new price.
        """
        before, close = seen.close[:-1], seen.close[1:]
        is_high = seen.high[1:] > np.maximum(before, close) * (1.0 + JUMP_LIMIT)
        is_low = seen.low[1:] < np.minimum(before, close) * (1.0 - JUMP_LIMIT)
        rows = np.flatnonzero(is_high | is_low)
        if len(rows) and not self._found.spikes:
            row = int(rows[0])
            far = float((seen.high if is_high[row] else seen.low)[row + 1])
            self._found.first_spike = (
                f"{self._instrument.instrument_id} {time_text(int(seen.ts[row + 1]))},"
                f" {far:g} beside closes of {before[row]:g} and {close[row]:g}"
            )
        self._found.spikes += len(rows)

    def _check_forward(self, seen: Columns, step: Ints, line: Ints) -> None:
        if not (step < 0).any():
            return
        row = int(np.argmax(step < 0)) + 1
        at = int(line[row - (len(seen) - len(line))])
        raise DataError(
            f"{self._file}, line {at}: the time of a bar of {self._instrument.symbol}"
            " runs backwards",
            field="timestamp",
            value=time_text(int(seen.ts[row])),
            remedy="sort the file by time, oldest or newest first; the bar before is of "
            f"{time_text(int(seen.ts[row - 1]))}",
        )

    def _look_at_prices(self, seen: Columns, table: Columns) -> None:
        if isinstance(table, QuoteColumns):
            both = (table.bid > 0) & (table.ask > 0)
            self._found.crossed_quotes += int((both & (table.bid > table.ask)).sum())
            self._found.locked_quotes += int((both & (table.bid == table.ask)).sum())
            return
        assert isinstance(seen, (TradeColumns, BarColumns))
        price = seen.price if isinstance(seen, TradeColumns) else seen.close
        ratio = price[1:] / price[:-1]
        for row in np.flatnonzero(np.abs(ratio - 1.0) > JUMP_LIMIT).tolist():
            split = self._split_between(int(seen.ts[row]), int(seen.ts[row + 1]))
            if abs(float(ratio[row]) * split - 1.0) > JUMP_LIMIT:
                self._found.jumps += 1

    def _split_between(self, after_ns: int, until_ns: int) -> float:
        """Return the product of the ratios of the splits in (after_ns, until_ns]."""
        product = 1.0
        for action in self._actions:
            if (
                action.kind is CorporateActionKind.SPLIT
                and action.instrument_id == self._instrument.instrument_id
                and after_ns < action.ts_event_ns <= until_ns
            ):
                product *= float(action.ratio)
        return product


def _gap_limit_ns(interval: str) -> int:
    """Return the longest step that is no gap.

    Two intervals of intraday bars, but no less than for ticks.
    """
    if not interval:
        return TICK_GAP_NS
    if interval == "1d":
        return DAILY_GAP_NS
    return max(TICK_GAP_NS, 2 * INTERVAL_NS[INTERVALS.index(interval)])
