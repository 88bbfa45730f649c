"""The market stage as one processor: bars, reference prices, quality and indicators of batches.

Nothing here depends on orders, so nothing waits for feedback: a batch goes in, everything it gives
comes out. The result is the same for every way of cutting the stream into batches, with or without
a snapshot between two of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple, TypeVar

import msgspec
import numpy as np

from agents.market.bars import TRADES, UNKNOWN, BarBuilder, TooLate
from agents.market.buckets import Buckets
from agents.market.config import MarketConfig
from agents.market.grouping import Grouped
from agents.market.indicator_feed import IndicatorFeed
from agents.market.quality import QualityMonitor
from agents.market.reference_prices import ReferencePrices, prints
from agents.market.state import Arrays, MarketState, bars_with_codes, codes_in, decode, fill
from agents.market.validity import Findings, Validity
from schemas.columns import (
    BarColumns,
    Codes,
    Columns,
    Ints,
    MarketBatch,
    PriceColumns,
    TradeColumns,
)
from schemas.enums import CorporateActionKind, QualityKind
from schemas.instruments import CorporateAction, Universe
from schemas.market_data import INTERVALS, DataQuality, IndicatorValue, Watermark
from schemas.sessions import SessionTable

Table = TypeVar("Table", bound=Columns)

_NEVER = np.iinfo(np.int64).min


class MarketOutput(NamedTuple):
    """What a batch gives, each part by position in the batch.

    ``bars``: a bar stands before the event at its position, unless that event makes it (an input
    bar, a bar that the input bar completes, a correction). ``prices``: reference prices, at the
    positions of their events.
    """

    bars: BarColumns
    prices: PriceColumns
    quality: list[tuple[int, DataQuality]]
    indicators: list[tuple[int, IndicatorValue]]


class MarketStage:
    """Make everything that can be said of market data without knowing of any order.

    ``sessions`` holds a session table for each calendar of the universe (only "1d" bars ask for
    them).
    """

    def __init__(
        self, universe: Universe, config: MarketConfig, sessions: Mapping[str, SessionTable]
    ) -> None:
        self._universe = universe
        self._config = config
        self._sessions = sessions
        self._reset()

    def _reset(self) -> None:
        universe, config = self._universe, self._config
        self._builder = BarBuilder(
            universe, config.intervals, self._sessions, config.correction_bars
        )
        self._prices = ReferencePrices(round(config.reference_interval_s * 1e9))
        self._validity = Validity(universe)
        checks = {
            QualityKind.OUT_OF_ORDER: config.check_order,
            QualityKind.CROSSED: config.check_crossed,
            QualityKind.JUMP: config.check_jumps,
        }
        kinds = frozenset(kind for kind, is_on in checks.items() if is_on)
        self._monitor = QualityMonitor(universe, config.jump_limit, kinds, config.actions)
        self._feed = IndicatorFeed(universe, config.indicators, Buckets(universe, self._sessions))
        self._promised = _NEVER

    def process(self, batch: MarketBatch) -> MarketOutput:
        """Return what ``batch`` gives; batches come in the order of the stream."""
        if not len(batch):
            return MarketOutput(BarColumns.empty(), PriceColumns.empty(), [], [])
        self._grow()
        known = self._known(batch)
        found: list[Findings] = []
        trades = self._validity.trades(batch.trades, found)
        quotes = self._validity.quotes(batch.quotes, found)
        bars = self._validity.bars(batch.bars, found)
        self._builder.coverage.note(batch)

        by_trade = Grouped(trades.instrument)
        shown = prints(trades, bars)
        grouped = by_trade if len(shown) == len(trades) else Grouped(shown.instrument)
        self._monitor.check_order(trades, by_trade, found)
        if len(quotes):
            self._monitor.check_order(quotes, Grouped(quotes.instrument), found)
            self._monitor.check_crossed(quotes, found)
        if len(bars):
            self._monitor.check_order(bars, Grouped(bars.instrument), found)
        self._monitor.check_jumps(batch, shown, grouped, found)
        prices = self._prices.process(shown, grouped, quotes, bars)
        made = self._bars(known, trades, by_trade, bars, self._splits(batch), found)
        quality = self._monitor.report(batch, known, found)
        return MarketOutput(made, prices, quality, self._feed.process(made, batch))

    def finish(self, clock_ns: int) -> MarketOutput:
        """End the run at ``clock_ns``: open bars leave, faults only counted are reported."""
        self._grow()
        made = self._builder.finish(max(clock_ns, self._promised))
        quality = self._monitor.finish(clock_ns)
        return MarketOutput(made, PriceColumns.empty(), quality, self._feed.process(made, None))

    def snapshot(self) -> bytes:
        """Return the whole state as JSON; equal states give equal bytes."""
        self._grow()
        builder = self._builder
        histories = {INTERVALS[j]: h.pruned().tobytes() for j, h in builder.history.items()}
        state = MarketState(
            instruments=[instrument.instrument_id for instrument in self._universe.instruments],
            promised_ns=self._promised,
            covered_from_ns=builder.coverage.of_all,
            arrays={name: array.tobytes() for name, array in self._arrays().items()},
            histories=histories,
            indicators=self._feed.snapshot(),
        )
        return msgspec.json.encode(state)

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave; raises RecordError if it does not fit."""
        saved = decode(state)
        codes = codes_in(self._universe, saved.instruments)
        self._reset()
        builder = self._builder
        builder.coverage.of_all = saved.covered_from_ns
        self._grow()
        fill(self._arrays(), saved.arrays, codes)
        for bars in builder.open.values():
            bars["instrument"] = np.where(bars["end"] != 0, np.arange(len(bars)), 0)
        for j, history in builder.history.items():
            history.replace(bars_with_codes(saved.histories[INTERVALS[j]], codes))
        self._promised = saved.promised_ns
        self._feed.restore(saved.indicators)

    def _arrays(self) -> Arrays:
        """Return the live arrays that have an entry for each instrument, by name."""
        builder, monitor = self._builder, self._monitor
        arrays: Arrays = {
            "source_level": builder.level,
            "source_since": builder.since,
            "covered_from": builder.coverage.since,
            "last_source_bar": builder.last_ts,
            "last_reference": self._prices.last,
            "last_price": monitor.last_price,
            "last_price_ts": monitor.last_ts,
            "is_split": monitor.is_split,
        }
        arrays |= {f"open_{INTERVALS[j]}": bars for j, bars in builder.open.items()}
        arrays |= {f"highest_{name}": array for name, array in monitor.highest.items()}
        arrays |= {f"minute_{kind}": array for kind, array in monitor.minute.items()}
        arrays |= {f"pending_{kind}": array for kind, array in monitor.pending.items()}
        return arrays

    def _grow(self) -> None:
        self._builder.grow()
        self._validity.grow()
        self._monitor.grow()
        self._prices.grow(len(self._universe))

    def _known(self, batch: MarketBatch) -> Ints:
        """Return how far time is known at each position: the clock or a watermark's promise."""
        known = batch.clock
        marks = [(pos, r.ts_event_ns) for pos, _, r in batch.records if isinstance(r, Watermark)]
        if not marks and self._promised <= int(known[0]):
            return known
        promised = np.full(len(known), _NEVER, np.int64)
        promised[0] = self._promised
        for pos, ts in marks:
            promised[pos] = max(int(promised[pos]), ts + 1)
        np.maximum.accumulate(promised, out=promised)
        self._promised = int(promised[-1])
        return np.maximum(known, promised)

    def _bars(
        self,
        known: Ints,
        trades: TradeColumns,
        grouped: Grouped,
        bars: BarColumns,
        splits: list[tuple[int, int, float]],
        found: list[Findings],
    ) -> BarColumns:
        """Return the bars of a batch, in stretches without a split or a change of source."""
        changes = self._source_changes(trades, grouped, bars)
        cuts = sorted({pos for pos, _, _ in (*changes, *splits)} | {0, len(known)})
        made: list[BarColumns] = []
        late: list[TooLate] = []
        for start, stop in pairwise(cuts):
            here = [change for change in changes if change[0] == start]
            split_here = [split for split in splits if split[0] == start]
            if split_here or any(
                self._builder.level[instrument] != UNKNOWN for _, instrument, _ in here
            ):
                # Bars that are due here stand before the split, or before the event that changes a
                # source.
                none = TradeColumns.empty(), Grouped(trades.instrument[:0]), BarColumns.empty()
                due, _ = self._builder.process(known[start : start + 1], *none)
                made.append(due.moved(due.pos + start))
            for _, instrument, level in here:
                self._builder.change_source(instrument, level, int(known[start]))
            for _, instrument, ratio in split_here:
                self._builder.split(instrument, ratio)
            part_trades, part_bars = _cut(trades, start, stop), _cut(bars, start, stop)
            by_trade = grouped if len(cuts) == 2 else Grouped(part_trades.instrument)
            out, too_late = self._builder.process(
                known[start:stop], part_trades, by_trade, part_bars
            )
            made.append(out.moved(out.pos + start) if start else out)
            late += [item._replace(pos=item.pos + start) for item in too_late]
        if late:
            found.append(_late_findings(late))
        return BarColumns.concat(made)

    def _splits(self, batch: MarketBatch) -> list[tuple[int, int, float]]:
        """Return the splits of a batch: (position, instrument, ratio)."""
        found = []
        for pos, _, record in batch.records:
            if isinstance(record, CorporateAction) and record.kind is CorporateActionKind.SPLIT:
                instrument = self._universe.index(record.instrument_id)
                if instrument is not None and record.ratio.is_finite() and record.ratio > 0:
                    found.append((pos, instrument, float(record.ratio)))
        return found

    def _source_changes(
        self, trades: TradeColumns, grouped: Grouped, bars: BarColumns
    ) -> list[tuple[int, int, int]]:
        """Return where an instrument shows something finer: (position, instrument, level).

        The first source of an instrument stands at position 0: nothing before it could be touched.
        """
        level = self._builder.level
        steps: list[tuple[int, int, int]] = []
        if len(trades) and np.any(level[grouped.codes] != TRADES):
            steps += _steps(trades, np.full(len(trades), TRADES, np.int32), level)
        if len(bars):
            steps += _steps(bars, bars.interval, level)
        now: dict[int, int] = {}
        changes = []
        for pos, instrument, to_level in sorted(steps):
            before = now.get(instrument, int(level[instrument]))
            if to_level < before:
                now[instrument] = to_level
                changes.append((0 if before == UNKNOWN else pos, instrument, to_level))
        return changes


def _steps(table: Columns, target: Codes, level: Ints) -> list[tuple[int, int, int]]:
    """Return the first row of each instrument and level below its ``level``.

    As (position, instrument, level).
    """
    finer = np.flatnonzero(target < level[table.instrument])
    if not len(finer):
        return []
    keys = table.instrument[finer].astype(np.int64) * 128 + target[finer]
    rows = finer[np.unique(keys, return_index=True)[1]]
    columns = (table.pos[rows], table.instrument[rows], target[rows])
    pos, codes, levels = (column.tolist() for column in columns)
    return list(zip(pos, codes, levels, strict=True))


def _cut(table: Table, start: int, stop: int) -> Table:
    """Return the rows at positions ``start`` to ``stop``, positions counted from ``start``."""
    first, last = np.searchsorted(table.pos, (start, stop)).tolist()
    if not start and last == len(table):
        return table
    part = table.take(slice(first, last))
    return part.moved(part.pos - start)


def _late_findings(late: list[TooLate]) -> Findings:
    late = sorted(late, key=lambda item: (item.pos, item.interval))

    def detail(row: int) -> str:
        name = INTERVALS[late[row].interval]
        return f"data came {late[row].lag_s} s late, in no {name} bar"

    pos, ts, instrument, _, lag_s, limit_s = (np.array(c) for c in zip(*late, strict=True))
    return Findings(QualityKind.LATE, pos, ts, instrument.astype(np.int32), lag_s, limit_s, detail)
