"""Bars from trades, coarser bars from bars, and corrections by late trades.

Rules, each on single events and so independent of batches (``known`` at a position is the clock
there, or the instant after the latest watermark if that is later):

- A bar closes at the first position whose ``known`` reaches its end, and stands before the event of
  that position. Bars of one position come by end, interval, instrument.
- A trade whose bar is closed by then is late. It corrects the bar: the same bar with the trade
  worked in and the revision one higher comes at the trade's position. Bars older than the last
  ``correction_bars`` are not corrected any more.
- The open is the trade with the earliest event time and the close the one with the latest, so a
  corrected bar is the bar that ordered trades would have made.
- A bar without a trade is not made.
- A bar is partial if its instrument was not seen from its start on (see ``coverage``) and its own
  first trade lies after the start. Bars still open when the run ends are partial as well.
- A split brings the bar under way of its instrument to the new count of shares, at the split's
  position: prices are divided by the ratio, the volume multiplied (to the nearest unit, half to
  even). A bar never mixes two counts; what closed before stays as it was.
- Sums are exact integers on the grids. The vwap is float(notional) / float(volume) in ticks, then
  brought to a price; the close where the volume is 0.

Bars of the input go out unchanged at their own position. An instrument's *source* is the finest
thing it has shown so far: trades, else the finest interval among its bars. Configured intervals
coarser than the source are built from it, and input bars of those intervals are left out. When
something finer turns up, bars under way from the coarser source are dropped. A bar built from bars
closes with the source bar that ends with it, else at the first position known to lie after its end.
Source bars that are corrections, or not later than the one before, go out but are not built upon;
they are reported as LATE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from agents.market.buckets import NO_BUCKET, Buckets
from agents.market.coverage import Coverage
from agents.market.grouping import Bools, GridTable, Grouped, grown
from agents.market.history import (
    BAR_DTYPE,
    LOW_BITS,
    NO_BAR,
    Bars,
    History,
    chosen,
    put,
    together,
)
from agents.market.history import joined as join_bars
from agents.market.prints import Prints, check_volume, of_trades, runs
from schemas.columns import BarColumns, Ints, TradeColumns
from schemas.identifiers import BAR_SOURCE
from schemas.instruments import Universe
from schemas.market_data import INTERVALS
from schemas.sessions import SessionTable

TRADES = -1
UNKNOWN = 99
"""Source levels of an instrument besides the indexes of intervals."""

_BY_CLOCK, _INPUT, _COMPLETED, _CORRECTION = range(4)


class TooLate(NamedTuple):
    """A trade or source bar that no bar took in.

    It came ``lag_s`` behind the clock; ``limit_s`` would have been in time.
    """

    pos: int
    ts: int
    instrument: int
    interval: int
    lag_s: float
    limit_s: float


class BarBuilder:
    """Bars of all instruments of a universe, by the rules in the module's docstring.

    ``intervals`` names the bars to build, ``sessions`` holds a session table for each calendar,
    ``depth`` closed bars of each instrument and interval can be corrected.
    """

    def __init__(
        self,
        universe: Universe,
        intervals: tuple[str, ...],
        sessions: Mapping[str, SessionTable],
        depth: int,
    ) -> None:
        self._universe = universe
        self.intervals = tuple(sorted(INTERVALS.index(name) for name in intervals))
        self._buckets = Buckets(universe, sessions)
        self._source = universe.source_index(BAR_SOURCE)
        self.level = np.empty(0, np.int64)
        self.since = np.empty(0, np.int64)
        self.last_ts = np.empty(0, np.int64)
        self.open = {j: np.zeros(0, BAR_DTYPE) for j in self.intervals}
        self.history = {j: History(depth) for j in self.intervals}
        self.coverage = Coverage(universe)
        self._prices = GridTable(universe, "price")
        self._sizes = GridTable(universe, "quantity")

    def grow(self) -> None:
        """Make room for the instruments that the universe has now."""
        size = len(self._universe)
        self.coverage.grow()
        if size == len(self.level):
            return
        self.level = grown(self.level, size, UNKNOWN)
        self.since = grown(self.since, size, np.iinfo(np.int64).min)
        self.last_ts = grown(self.last_ts, size, np.iinfo(np.int64).min)
        for j, bars in self.open.items():
            self.open[j] = grown(bars, size, NO_BAR)
        self._prices = GridTable(self._universe, "price")
        self._sizes = GridTable(self._universe, "quantity")

    def process(
        self, known: Ints, trades: TradeColumns, grouped: Grouped, bars: BarColumns
    ) -> tuple[BarColumns, list[TooLate]]:
        """Return what a stretch of events gives; no instrument's source may change inside it.

        ``known``: int64 ns, one entry an event, never falling. ``trades`` (with their grouping) and
        ``bars`` are valid rows.
        """
        too_late: list[TooLate] = []
        passing = self._passing(bars)
        trade_prints = (
            of_trades(known, trades, grouped, self._prices, self._sizes) if len(trades) else None
        )
        bar_prints = self._prints_of_bars(known, bars, too_late) if len(bars) else None
        made = [
            self._interval(j, known, trade_prints, bar_prints, too_late) for j in self.intervals
        ]
        for history in self.history.values():
            history.settle()
        too_late.sort(key=lambda item: (item.pos, item.interval))
        return self._ordered(made, passing), too_late

    def finish(self, clock_ns: int) -> BarColumns:
        """Return all bars still open, partial if they end after ``clock_ns``; nothing follows."""
        made = []
        for j, held in self.open.items():
            bars = held[held["end"] != 0]
            bars["pos"] = 0
            bars["partial"] |= self._uncovered(bars) | (bars["end"] > clock_ns)
            made.append(bars)
            self.open[j] = np.zeros(len(held), BAR_DTYPE)
        return self._ordered(made, BarColumns.empty())

    def change_source(self, instrument: int, level: int, now_ns: int) -> None:
        """Build the bars of ``instrument`` from something finer; drop those under way."""
        if self.level[instrument] != UNKNOWN:
            self.since[instrument] = now_ns
            for bars in self.open.values():
                bars[instrument] = NO_BAR
        self.level[instrument] = level

    def split(self, instrument: int, ratio: float) -> None:
        """Bring the bars under way of ``instrument`` to the new count of shares."""
        for bars in self.open.values():
            bar = bars[instrument]
            for name in ("open", "high", "low", "close"):
                bar[name] /= ratio
            # The notional stays: fewer ticks for each of more units.
            bar["volume"] = np.rint(bar["volume"] * ratio)

    def _passing(self, bars: BarColumns) -> BarColumns:
        """Return the input bars that go out as they are."""
        if not len(bars):
            return bars
        is_built = np.isin(bars.interval, self.intervals) & (
            bars.interval > self.level[bars.instrument]
        )
        return bars.take(~is_built) if np.any(is_built) else bars

    def _prints_of_bars(
        self, known: Ints, bars: BarColumns, too_late: list[TooLate]
    ) -> Prints | None:
        """Return the bars that others are built from, by instrument; note those too late."""
        is_source = bars.interval == self.level[bars.instrument]
        is_source &= bars.interval < max(self.intervals, default=0)
        if not np.any(is_source):
            return None
        bars = bars if np.all(is_source) else bars.take(is_source)
        grouped = Grouped(bars.instrument)
        table = bars if grouped.order is None else bars.take(grouped.order)
        highest = grouped.highest_before(table.ts, self.last_ts)
        fresh = (table.ts > highest) & (table.revision == 0)
        tails = grouped.tails()
        self.last_ts[grouped.codes] = np.maximum(highest[tails], table.ts[tails])
        stale = np.flatnonzero(~fresh)
        for row in stale.tolist():
            pos, ts = int(table.pos[row]), int(table.ts[row])
            lag_s = (int(known[pos]) - ts) / 1e9
            code, interval = int(table.instrument[row]), int(table.interval[row])
            too_late.append(TooLate(pos, ts, code, interval, lag_s, 0.0))
        table = table.take(fresh) if len(stale) else table
        units = self._sizes.to_units(table.instrument, table.volume)
        worth = np.where(table.vwap > 0, table.vwap, table.close)
        ticks = worth / self._prices.largest[table.instrument] * 2.0**53
        notional = np.rint(ticks * units).astype(np.int64)
        return Prints(
            table.pos, known[table.pos], table.ts - 1, table.ts, table.start, table.instrument,
            table.open, table.high, table.low, table.close, units, notional, table.count,
            table.partial,
        )  # fmt: skip

    def _interval(
        self,
        j: int,
        known: Ints,
        trades: Prints | None,
        bars: Prints | None,
        too_late: list[TooLate],
    ) -> Bars:
        """Return the bars of interval ``j`` that close or are corrected; carry the open ones."""
        made: list[Bars] = []
        behind: Prints | None = None
        if trades is not None:
            trades, behind = self._split_late(j, trades, wait_ns=0)
            made.append(runs(self._buckets, j, trades))
        if bars is not None:
            is_finer = self.level[bars.instrument] < j
            coarser = bars if np.all(is_finer) else bars.rows(is_finer)
            # A bar made of bars waits for those that end when it does.
            coarser, missed = self._split_late(j, coarser, wait_ns=1)
            made.append(self._completed(runs(self._buckets, j, coarser)))
            if missed is not None:
                columns = (missed.pos, missed.ts, missed.instrument, missed.now)
                rows = zip(*(column.tolist() for column in columns), strict=True)
                too_late += [
                    TooLate(pos, ts, code, j, (now - ts) / 1e9, 0.0) for pos, ts, code, now in rows
                ]
        closed = self._close(j, known, made)
        self.history[j].add(closed)
        if behind is None:
            return closed
        return np.concatenate([closed, *self._corrections(j, behind, too_late)])

    def _split_late(self, j: int, rows: Prints, wait_ns: int) -> tuple[Prints, Prints | None]:
        """Split off the prints whose bar is closed already (None if there are none).

        A bar closes when ``wait_ns`` beyond its end is known.
        """
        lagging = np.flatnonzero(rows.now > rows.ts)
        if not len(lagging):
            return rows, None
        instrument = rows.instrument[lagging]
        starts = self._buckets.starts(j, rows.time[lagging], instrument)
        ends = self._buckets.ends(j, starts, instrument)
        late = lagging[(rows.now[lagging] >= ends + wait_ns) & (starts > NO_BUCKET)]
        if not len(late):
            return rows, None
        in_time = np.ones(len(rows.pos), np.bool_)
        in_time[late] = False
        return rows.rows(in_time), rows.rows(late)

    @staticmethod
    def _completed(made: Bars) -> Bars:
        """Mark the bars whose last source bar ends with them: they close at its position."""
        made["phase"] = np.where(made["last_ts"] == made["end"], _COMPLETED, _BY_CLOCK)
        return made

    def _close(self, j: int, known: Ints, made: list[Bars]) -> Bars:
        """Join ``made`` with the bars under way; return those that close, carry the rest."""
        held = self.open[j]
        due = (held["end"] != 0) & (held["end"] + (self.level > TRADES) <= known[-1])
        if not any(map(len, made)) and not due.any():
            return np.empty(0, BAR_DTYPE)
        bars = together(made)
        if len(made) == 2:
            bars = bars[np.lexsort((bars["end"], bars["instrument"]))]
        instrument = bars["instrument"]
        heads = np.flatnonzero(np.append(True, instrument[1:] != instrument[:-1])[: len(bars)])
        codes = instrument[heads]
        same = held["end"][codes] == bars["end"][heads]
        rows, codes = heads[same], codes[same]
        if len(rows):
            new = chosen(bars, rows)
            merged = join_bars(chosen(held, codes), new)
            merged["pos"], merged["phase"] = new["pos"], new["phase"]
            check_volume(merged)
            put(bars, rows, merged)
            put(held, codes, NO_BAR)
        due &= held["end"] != 0
        if due.any():
            bars = together([chosen(held, due), bars])
            put(held, due, NO_BAR)
        close = bars["end"] + (self.level[bars["instrument"]] > TRADES)
        by_clock = bars["phase"] == _BY_CLOCK
        np.copyto(bars["pos"], known.searchsorted(close), where=by_clock)
        is_closed = bars["pos"] < len(known)
        rest = chosen(bars, ~is_closed)
        rest["pos"] = 0
        put(held, rest["instrument"], rest)
        if len(rest) == len(bars):
            return bars[:0]
        closed = chosen(bars, is_closed)
        closed["partial"] |= self._uncovered(closed)
        return closed

    def _uncovered(self, bars: Bars) -> Bools:
        """Return which bars began before the run, or the source of the instrument."""
        instrument = bars["instrument"]
        covered_from = np.maximum(self.since[instrument], self.coverage.since[instrument])
        start: Ints = bars["start"]
        first_ts: Ints = bars["first_ts"]
        uncovered: Bools = (start < covered_from) & (first_ts > start)
        return uncovered

    def _corrections(self, j: int, rows: Prints, too_late: list[TooLate]) -> list[Bars]:
        """Work late trades into closed bars one by one, in the order in which they came."""
        out = []
        arrival = np.argsort(rows.pos, kind="stable")
        for i in range(len(arrival)):
            late = runs(self._buckets, j, rows.rows(arrival[i : i + 1]))
            late["phase"] = _CORRECTION
            late["partial"] |= self._uncovered(late)
            oldest = int(self.since[late["instrument"][0]])
            if late["end"][0] > oldest:
                bar, oldest = self.history[j].correct(late)
                if bar is not None:
                    out.append(bar)
                    continue
            now, ts = int(rows.now[arrival[i]]), int(rows.ts[arrival[i]])
            pos, code = int(late["pos"][0]), int(late["instrument"][0])
            too_late.append(TooLate(pos, ts, code, j, (now - ts) / 1e9, (now - oldest) / 1e9))
        return out

    def _ordered(self, made: list[Bars], passing: BarColumns) -> BarColumns:
        """Return bars in the order in which they stand in the stream, as columns."""
        bars = together(made)
        if not len(bars):
            return passing
        place = bars["pos"] * 4 + bars["phase"]
        if len(bars) > 1 and not np.all(place[1:] > place[:-1]):
            keys = [np.ascontiguousarray(bars[key]) for key in ("instrument", "interval", "end")]
            order = np.lexsort([*keys, place])
            bars, place = bars[order], place[order]
        columns = self._columns(bars)
        if not len(passing):
            return columns
        places = np.concatenate((place, passing.pos * 4 + _INPUT))
        return BarColumns.concat([columns, passing]).take(np.argsort(places, kind="stable"))

    def _columns(self, bars: Bars) -> BarColumns:
        instrument = np.ascontiguousarray(bars["instrument"])
        volume = self._sizes.to_floats(instrument, bars["volume"])
        notional = bars["notional_high"] * float(2**LOW_BITS) + bars["notional_low"]
        empty = bars["volume"] == 0
        ticks = notional / np.where(empty, 1, bars["volume"])
        vwap = np.where(empty, bars["close"], self._prices.to_floats(instrument, ticks))
        names = ("pos", "instrument", "start", "interval", "open", "high", "low", "close", "count",
                 "partial", "revision")  # fmt: skip
        return BarColumns(
            ts=bars["end"], seq=bars["end"], source=np.full(len(bars), self._source, np.int32),
            volume=volume, vwap=vwap, **{name: bars[name] for name in names},
        )  # fmt: skip
