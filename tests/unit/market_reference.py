"""A market stage written event by event in plain Python, to hold the real one to.

It follows the rules in the docstrings of ``agents.market`` and shares none of its code.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from schemas.instruments import Universe
from schemas.market_data import INTERVAL_NS, INTERVALS

Event = tuple[Any, ...]
SECOND = 1_000_000_000
SESSIONS = [
    (1_614_954_600 * SECOND, 1_614_978_000 * SECOND),  # 5 March 2021, 14:30 to 21:00 UTC
    (1_615_213_800 * SECOND, 1_615_237_200 * SECOND),
]


@dataclass
class Bar:
    """One bar with exact sums."""

    end: int
    start: int
    first_ts: int
    last_ts: int
    open: float
    high: float
    low: float
    close: float
    volume: int
    notional: int
    count: int
    partial: bool = False
    revision: int = 0

    def add(self, other: Bar) -> None:
        """Work ``other``, which came later, into this bar."""
        if other.first_ts < self.first_ts:
            self.first_ts, self.open = other.first_ts, other.open
        if other.last_ts >= self.last_ts:
            self.last_ts, self.close = other.last_ts, other.close
        self.high, self.low = max(self.high, other.high), min(self.low, other.low)
        self.volume += other.volume
        self.notional += other.notional
        self.count += other.count
        self.partial |= other.partial


def bucket(universe: Universe, code: int, interval: int, ts: int) -> tuple[int, int] | None:
    """Return start and end of the interval that ``ts`` lies in."""
    length = INTERVAL_NS[interval]
    instrument = universe.instruments[code]
    if INTERVALS[interval] == "1d" and instrument.calendar:
        return next(((o, c) for o, c in SESSIONS if o <= ts < c), None)
    shift = 0
    if INTERVALS[interval] == "1h":
        local = datetime.fromtimestamp(ts // SECOND, UTC).astimezone(ZoneInfo(instrument.time_zone))
        offset = local.utcoffset()
        assert offset is not None
        shift = int(offset.total_seconds()) * SECOND
    start = (ts + shift) // length * length - shift
    return start, start + length


@dataclass
class Reference:
    """The market stage, one event at a time; ``out`` collects (position, what)."""

    universe: Universe
    intervals: tuple[int, ...]
    depth: int
    interval_ns: int
    pos: int = -1
    clock: int = -(2**62)
    promised: int = -(2**62)
    covered_from: dict[int, int] = field(default_factory=dict)
    covered_all: int | None = None
    level: dict[int, int] = field(default_factory=dict)
    since: dict[int, int] = field(default_factory=dict)
    last_source: dict[int, int] = field(default_factory=dict)
    open: dict[tuple[int, int], Bar] = field(default_factory=dict)
    closed: dict[tuple[int, int], list[Bar]] = field(default_factory=dict)
    reference: dict[int, int] = field(default_factory=dict)
    highest: dict[tuple[str, int], int] = field(default_factory=dict)
    last_price: dict[int, tuple[float, bool]] = field(default_factory=dict)
    reported: dict[tuple[str, int], list[int]] = field(default_factory=dict)
    bars: list[tuple[Any, ...]] = field(default_factory=list)
    prices: list[tuple[Any, ...]] = field(default_factory=list)
    quality: list[tuple[Any, ...]] = field(default_factory=list)

    @property
    def _known(self) -> int:
        return max(self.clock, self.promised)

    def handle(self, event: Event) -> None:
        """Take the next event."""
        self.pos += 1
        kind, ts = event[0], event[1]
        self.clock = max(self.clock, ts)
        if kind == "watermark":
            self.promised = max(self.promised, ts + 1)
        if kind == "watermark" and self.covered_all is None:
            self.covered_all = ts + 1
        elif kind not in {"watermark", "split"}:
            start = ts - INTERVAL_NS[event[3]] if kind == "bar" else ts
            first = start if self.covered_all is None else self.covered_all
            self.covered_from.setdefault(event[2], first)
        self._close_due()
        if kind == "split":
            if event[2] in self.last_price:
                self.last_price[event[2]] = (self.last_price[event[2]][0], True)
            for (code, _), bar in self.open.items():
                if code == event[2]:
                    bar.open, bar.high, bar.low, bar.close = (
                        price / 2 for price in (bar.open, bar.high, bar.low, bar.close)
                    )
                    bar.volume *= 2
        elif kind != "watermark":
            getattr(self, f"_{kind}")(*event[1:])

    def _close_due(self) -> None:
        due = []
        for (code, j), bar in self.open.items():
            if bar.end + (self.level[code] >= 0) <= self._known:
                due.append((bar.end, j, code))
        for _, j, code in sorted(due):
            self._close(code, j)

    def _uncovered(self, code: int, bar: Bar) -> bool:
        covered_from = max(self.covered_from[code], self.since.get(code, 0))
        return bar.start < covered_from < 2**62 and bar.first_ts > bar.start

    def _close(self, code: int, j: int) -> None:
        bar = self.open.pop((code, j))
        bar.partial |= self._uncovered(code, bar)
        kept = self.closed.setdefault((code, j), [])
        kept.append(bar)
        self._emit(code, j, bar)
        self._prune(kept)

    def _prune(self, kept: list[Bar]) -> None:
        kept.sort(key=lambda bar: bar.end)
        del kept[: max(0, len(kept) - self.depth)]

    def _emit(self, code: int, j: int, bar: Bar) -> None:
        universe = self.universe
        vwap = bar.close
        if bar.volume:
            ticks = float(bar.notional) / float(bar.volume)
            increment = universe.price_grids[code].increment
            places = 10 ** max(0, -int(increment.as_tuple().exponent))
            vwap = ticks * float(increment * places) / places
        volume = universe.quantity_grids[code].to_float(bar.volume)
        self.bars.append(
            (
                self.pos,
                bar.end,
                code,
                "bar",
                bar.end,
                bar.start,
                j,
                bar.open,
                bar.high,
                bar.low,
                bar.close,
                volume,
                vwap,
                bar.count,
                bar.partial,
                bar.revision,
            )
        )

    def _change_source(self, code: int, level: int) -> None:
        before = self.level.get(code, 99)
        if level >= before:
            return
        if before != 99:
            self.since[code] = self._known
            for key in [key for key in self.open if key[0] == code]:
                del self.open[key]
        self.level[code] = level

    def _trade(self, ts: int, code: int, price: float, size: float) -> None:
        if not (0 < price < math.inf and 0 <= size < math.inf):
            self._fault("INVALID", code, price if math.isfinite(price) else 0.0)
            return
        self._order("trade", ts, code)
        self._jump(code, price)
        self._mark(ts, code, price, is_bar=False)
        self._change_source(code, -1)
        ticks = self.universe.price_grids[code].to_unit(price)
        units = self.universe.quantity_grids[code].to_unit(size)
        late = []
        for j in self.intervals:
            found = bucket(self.universe, code, j, ts)
            if found is None:
                continue
            start, end = found
            bar = Bar(end, start, ts, ts, price, price, price, price, units, units * ticks, 1)
            if self._known >= end:
                late.append((end, j, bar))
            else:
                self._grow(code, j, bar)
        # An hour may end behind the day that it began in.
        for _, j, bar in sorted(late, key=lambda item: item[:2]):
            self._correct(code, j, bar)

    def _grow(self, code: int, j: int, bar: Bar) -> None:
        if (code, j) in self.open:
            assert self.open[code, j].end == bar.end
            self.open[code, j].add(bar)
        else:
            self.open[code, j] = bar

    def _correct(self, code: int, j: int, late: Bar) -> None:
        kept = self.closed.setdefault((code, j), [])
        match = [bar for bar in kept if bar.end == late.end]
        is_old = len(kept) == self.depth and late.end < min((b.end for b in kept), default=2**63)
        if late.end <= self.since.get(code, -(2**62)) or (is_old and not match) or not self.depth:
            self._fault("LATE", code, (self._known - late.first_ts) / 1e9)
        elif match:
            partial = match[0].partial
            match[0].add(late)
            match[0].partial = partial
            match[0].revision += 1
            self._emit(code, j, match[0])
        else:
            late.revision = 1
            late.partial = self._uncovered(code, late)
            kept.append(late)
            self._emit(code, j, late)
            self._prune(kept)

    def _quote(self, ts: int, code: int, bid: float, ask: float) -> None:
        if not (0 <= bid < math.inf and 0 <= ask < math.inf):
            self._fault("INVALID", code, bid if math.isfinite(bid) else 0.0)
            return
        self._order("quote", ts, code)
        if bid > ask > 0:
            self._fault("CROSSED", code, bid - ask)
        if bid > 0 and ask > 0:
            self._mark(ts, code, (bid + ask) / 2, is_bar=False)

    def _bar(self, ts: int, code: int, j: int, price: float, size: float, revision: int) -> None:
        if not (0 < price < math.inf and 0 <= size < math.inf):
            self._fault("INVALID", code, price if math.isfinite(price) else 0.0)
            return
        self._order("bar", ts, code)
        self._jump(code, price)
        self._mark(ts, code, price, is_bar=True)
        self._change_source(code, j)
        length = INTERVAL_NS[j]
        if not (j in self.intervals and j > self.level[code]):
            self.bars.append(
                (
                    self.pos,
                    ts,
                    code,
                    "file",
                    self.pos,
                    ts - length,
                    j,
                    price,
                    price + 1,
                    price - 0.01,
                    price,
                    size,
                    price,
                    3,
                    False,
                    revision,
                )
            )
        if j != self.level[code] or j >= max(self.intervals):
            return
        if revision or ts <= self.last_source.get(code, -(2**62)):
            self.last_source[code] = max(ts, self.last_source.get(code, ts))
            self._fault("LATE", code, (self._known - ts) / 1e9)
            return
        self.last_source[code] = ts
        ticks = self.universe.price_grids[code].to_unit(price)
        units = self.universe.quantity_grids[code].to_unit(size)
        for k in self.intervals:
            found = bucket(self.universe, code, k, ts - 1) if k > j else None
            if found is None:
                continue
            start, end = found
            made = Bar(
                end,
                start,
                ts - length,
                ts,
                price,
                price + 1,
                price - 0.01,
                price,
                units,
                units * ticks,
                3,
            )
            if self._known > end:
                self._fault("LATE", code, (self._known - ts) / 1e9)
                continue
            self._grow(code, k, made)
            if ts == end:
                self._close(code, k)

    def _order(self, kind: str, ts: int, code: int) -> None:
        highest = self.highest.get((kind, code), ts)
        if ts < highest:
            self._fault("OUT_OF_ORDER", code, (highest - ts) / 1e9)
        self.highest[kind, code] = max(ts, highest)

    def _jump(self, code: int, price: float) -> None:
        old, is_split = self.last_price.get(code, (price, False))
        if abs(price - old) > 0.25 * old and not is_split:
            self._fault("JUMP", code, abs(price / old - 1))
        self.last_price[code] = (price, False)

    def _mark(self, ts: int, code: int, price: float, *, is_bar: bool) -> None:
        interval = ts // self.interval_ns
        last = self.reference.get(code, -(2**62))
        if interval > last or (is_bar and interval == last):
            self.prices.append((self.pos, ts, code, price))
        self.reference[code] = max(interval, last)

    def _fault(self, kind: str, code: int, measured: float) -> None:
        minute = self._known // (60 * SECOND)
        state = self.reported.setdefault((kind, code), [-(2**62), 0])
        state[1] += 1
        if minute > state[0]:
            self.quality.append((self.pos, kind, code, measured, state[1]))
            state[:] = [minute, 0]

    def finish(self, clock: int) -> None:
        """End the run; what is left goes out at position 0."""
        self.pos = 0
        clock = max(clock, self.promised)
        for (code, j), bar in sorted(self.open.items(), key=lambda i: (i[1].end, i[0][1], i[0][0])):
            partial = bar.partial or self._uncovered(code, bar) or bar.end > clock
            self._emit(code, j, replace(bar, partial=partial))
        self.open.clear()
