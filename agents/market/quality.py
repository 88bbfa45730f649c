"""What is wrong with market data, and how often.

    INVALID        a price that is not finite or not positive, a negative size, a bar that
                   contradicts itself, a number beyond the grid; the event is left out of bars and
                   reference prices
    OUT_OF_ORDER   an event earlier than one of the same kind and instrument before it
    CROSSED        a quote whose bid is above its ask
    JUMP           a price (trade, or close of a bar) that differs from the one before it by more
                   than the limit, without a split between them
    LATE           data that came too late for any bar

Bursts are counted: of one kind and instrument, the first in each minute of the clock is reported,
and its ``count`` is 1 plus the number of those that went unreported since the report before. What
is left at the end of the run is reported there.
"""

from __future__ import annotations

import numpy as np

from agents.market.grouping import Grouped, Order, grown
from agents.market.validity import Findings
from schemas.columns import (
    Columns,
    Floats,
    Ints,
    MarketBatch,
    PriceColumns,
    QuoteColumns,
)
from schemas.enums import CorporateActionKind, QualityKind
from schemas.identifiers import derived_id
from schemas.instruments import CorporateAction, Universe
from schemas.market_data import DataQuality

KINDS = (
    QualityKind.INVALID,
    QualityKind.OUT_OF_ORDER,
    QualityKind.CROSSED,
    QualityKind.JUMP,
    QualityKind.LATE,
)
_MINUTE_NS = 60_000_000_000
_NEVER = np.iinfo(np.int64).min


def _combined(parts: list[Findings]) -> Findings:
    """Return findings of one kind as one, by position."""
    columns = [np.concatenate(column) for column in list(zip(*parts, strict=True))[1:-1]]
    order = np.argsort(columns[0], kind="stable")
    origin = [(part, row) for part in parts for row in range(len(part.pos))]

    def detail(row: int) -> str:
        part, source = origin[order[row]]
        text: str = part.detail(source)
        return text

    pos, ts, instrument, measured, limit = (column[order] for column in columns)
    return Findings(parts[0].kind, pos, ts, instrument, measured, limit, detail)


class QualityMonitor:
    """Finds faults in valid data and reports them with a limit on the rate."""

    def __init__(
        self,
        universe: Universe,
        jump_limit: float,
        kinds: frozenset[QualityKind],
        actions: tuple[CorporateAction, ...],
    ) -> None:
        self._universe = universe
        self._jump_limit = jump_limit
        self._kinds = kinds
        self._known_splits: dict[str, list[int]] = {}
        for action in actions:
            if action.kind is CorporateActionKind.SPLIT:
                times = self._known_splits.setdefault(action.instrument_id, [])
                times.append(action.ts_event_ns)
        self.highest: dict[str, Ints] = {
            k: np.empty(0, np.int64) for k in ("trade", "quote", "bar")
        }
        self.last_price: Floats = np.empty(0, np.float64)
        self.last_ts: Ints = np.empty(0, np.int64)
        self.is_split = np.empty(0, np.bool_)
        self.minute: dict[str, Ints] = {kind: np.empty(0, np.int64) for kind in KINDS}
        self.pending: dict[str, Ints] = {kind: np.empty(0, np.int64) for kind in KINDS}

    def grow(self) -> None:
        """Make room for the instruments that the universe has now."""
        size = len(self._universe)
        if size == len(self.last_ts):
            return
        for kind in self.highest:
            self.highest[kind] = grown(self.highest[kind], size, _NEVER)
        self.last_price = grown(self.last_price, size, np.nan)
        self.last_ts = grown(self.last_ts, size, _NEVER)
        self.is_split = grown(self.is_split, size, False)
        for kind in KINDS:
            self.minute[kind] = grown(self.minute[kind], size, _NEVER)
            self.pending[kind] = grown(self.pending[kind], size, 0)

    def check_order(self, table: Columns, grouped: Grouped, found: list[Findings]) -> None:
        """Look for rows of one kind that are earlier than one before them."""
        if not len(table) or QualityKind.OUT_OF_ORDER not in self._kinds:
            return
        highest = self.highest[table.KIND]
        ts = grouped.sort(table.ts)
        if grouped.is_in_order(ts) and np.all(ts[grouped.heads] >= highest[grouped.codes]):
            highest[grouped.codes] = ts[grouped.tails()]
            return
        before = grouped.highest_before(ts, highest)
        tails = grouped.tails()
        highest[grouped.codes] = np.maximum(before[tails], ts[tails])
        rows = np.flatnonzero(ts < before)
        if not len(rows):
            return
        lag_s = (before[rows] - ts[rows]) / 1e9
        bad = table.take(rows if grouped.order is None else grouped.order[rows])

        def detail(row: int) -> str:
            return f"a {table.KIND} is {lag_s[row]} s earlier than the latest before it"

        limit = np.zeros(len(bad))
        found.append(
            Findings(
                QualityKind.OUT_OF_ORDER, bad.pos, bad.ts, bad.instrument, lag_s, limit, detail
            )
        )

    def check_crossed(self, quotes: QuoteColumns, found: list[Findings]) -> None:
        """Look for quotes of two sides whose bid is above the ask."""
        if not len(quotes) or QualityKind.CROSSED not in self._kinds:
            return
        is_crossed = (quotes.bid > quotes.ask) & (quotes.ask > 0)
        if not np.any(is_crossed):
            return
        bad = quotes.take(is_crossed)

        def detail(row: int) -> str:
            return f"the bid {bad.bid[row]} is above the ask {bad.ask[row]}"

        excess, limit = bad.bid - bad.ask, np.zeros(len(bad))
        found.append(
            Findings(QualityKind.CROSSED, bad.pos, bad.ts, bad.instrument, excess, limit, detail)
        )

    def check_jumps(
        self, batch: MarketBatch, shown: PriceColumns, grouped: Grouped, found: list[Findings]
    ) -> None:
        """Look for prices too far from the one before; ``shown`` are the prints of ``batch``."""
        if QualityKind.JUMP not in self._kinds or not (len(shown) or batch.records):
            return
        splits = self._splits_in(batch)
        price, pos = grouped.sort(shown.price), grouped.sort(shown.pos)
        rows = self._jump_rows(price, grouped)
        if len(rows):
            before = grouped.previous(price, self.last_price)
            table = shown if grouped.order is None else shown.take(grouped.order)
            place = np.full(len(self.last_ts), -1, np.int64)
            earlier_pos = grouped.previous(pos, place)
            earlier_ts = grouped.previous(table.ts, self.last_ts)
            kept = [
                not self._was_split(int(i), splits, (int(p), int(q)), (int(t), int(u)))
                for i, p, q, t, u in zip(
                    table.instrument[rows], earlier_pos[rows], pos[rows],
                    earlier_ts[rows], table.ts[rows], strict=True,
                )
            ]  # fmt: skip
            rows = rows[np.array(kept)]
            if len(rows):
                found.append(self._jumps(table.take(rows), before[rows]))
        tails = grouped.tails()
        last_pos = np.full(len(self.last_ts), -1, np.int64)
        last_pos[grouped.codes] = pos[tails]
        self.is_split[grouped.codes] = False
        for instrument, positions in splits.items():
            self.is_split[instrument] |= max(positions) > last_pos[instrument]
        self.last_price[grouped.codes] = price[tails]
        self.last_ts[grouped.codes] = grouped.sort(shown.ts)[tails]

    def _jump_rows(self, price: Floats, grouped: Grouped) -> Order:
        """Return the sorted rows whose price is further than the limit from the one before."""
        limit = self._jump_limit
        if len(grouped.codes) == 1:
            carried = self.last_price[grouped.codes[0]]
            low, high = np.fmin(price.min(), carried), np.fmax(price.max(), carried)
            if high - low <= limit * low:
                return grouped.heads[:0]  # The whole range is within the limit, so is every step.
        before = grouped.previous(price, self.last_price)
        return np.flatnonzero(np.abs(price - before) > limit * before)

    def _jumps(self, bad: PriceColumns, old: Floats) -> Findings:
        with np.errstate(over="ignore"):
            measured = np.minimum(np.abs(bad.price / old - 1), np.finfo(np.float64).max)
        limit = np.full(len(bad), self._jump_limit)

        def detail(row: int) -> str:
            return f"the price went from {old[row]} to {bad.price[row]} without a split"

        return Findings(QualityKind.JUMP, bad.pos, bad.ts, bad.instrument, measured, limit, detail)

    def _splits_in(self, batch: MarketBatch) -> dict[int, list[int]]:
        """Return the positions of splits in ``batch`` by instrument."""
        out: dict[int, list[int]] = {}
        for pos, _, record in batch.records:
            if isinstance(record, CorporateAction) and record.kind is CorporateActionKind.SPLIT:
                instrument = self._universe.index(record.instrument_id)
                if instrument is not None:
                    out.setdefault(instrument, []).append(pos)
        return out

    def _was_split(
        self,
        instrument: int,
        splits: dict[int, list[int]],
        pos: tuple[int, int],
        ts: tuple[int, int],
    ) -> bool:
        """Return whether a split came between two prints, given their positions and times.

        A position of -1 stands for an earlier batch.
        """
        if pos[0] < 0 and self.is_split[instrument]:
            return True
        if any(pos[0] < split < pos[1] for split in splits.get(instrument, ())):
            return True
        known = self._known_splits.get(self._universe.instruments[instrument].instrument_id, ())
        return any(ts[0] < split <= ts[1] for split in known)

    def report(
        self, batch: MarketBatch, known: Ints, found: list[Findings]
    ) -> list[tuple[int, DataQuality]]:
        """Return the records that ``found`` gives, by position; ``known`` is the clock."""
        out: list[tuple[int, int, DataQuality]] = []
        for kind in KINDS if found else ():
            parts = [findings for findings in found if findings.kind is kind]
            if parts:
                findings = parts[0] if len(parts) == 1 else _combined(parts)
                out += self._limited(batch, known[findings.pos] // _MINUTE_NS, findings)
        out.sort(key=lambda item: item[:2])
        return [(pos, record) for pos, _, record in out]

    def finish(self, clock_ns: int) -> list[tuple[int, DataQuality]]:
        """Return a record for each kind and instrument of which some went unreported."""
        out = []
        for kind in KINDS:
            for instrument in np.flatnonzero(self.pending[kind]).tolist():
                name = self._universe.instruments[instrument].instrument_id
                cause = f"end:{name}:{clock_ns}"
                record = DataQuality(
                    derived_id(f"quality:{kind}", cause, 0), clock_ns, cause, cause, name, kind,
                    "more of the same until the end of the run",
                    count=int(self.pending[kind][instrument]),
                )  # fmt: skip
                out.append((0, record))
            self.pending[kind][:] = 0
        return out

    def _limited(
        self, batch: MarketBatch, minute: Ints, findings: Findings
    ) -> list[tuple[int, int, DataQuality]]:
        """Return the first finding of each instrument and minute: (position, rank, record)."""
        kind = findings.kind
        grouped = Grouped(findings.instrument)
        minute = grouped.sort(minute)
        is_first = minute > grouped.highest_before(minute, self.minute[kind])
        pending = self.pending[kind]
        out = []
        for head, tail in zip(grouped.heads.tolist(), grouped.tails().tolist(), strict=True):
            code = int(findings.instrument[head if grouped.order is None else grouped.order[head]])
            reported = head - 1
            for row in (head + np.flatnonzero(is_first[head : tail + 1])).tolist():
                count = int(pending[code]) + row - reported
                pending[code] = 0
                reported = row
                source = row if grouped.order is None else int(grouped.order[row])
                record = self._record(batch, findings, source, count)
                out.append((int(findings.pos[source]), KINDS.index(kind), record))
            pending[code] += tail - reported
            self.minute[kind][code] = max(int(self.minute[kind][code]), int(minute[tail]))
        return out

    def _record(self, batch: MarketBatch, findings: Findings, row: int, count: int) -> DataQuality:
        cause = batch.event_id(int(findings.pos[row]))
        name = self._universe.instruments[findings.instrument[row]].instrument_id
        return DataQuality(
            derived_id(f"quality:{findings.kind}", cause, 0), int(findings.ts[row]), cause, cause,
            name, findings.kind, findings.detail(row), float(findings.measured[row]),
            float(findings.limit[row]), count,
        )  # fmt: skip
