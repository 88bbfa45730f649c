"""Marks: reference prices consumed in order, and the equity of every account at the mark instants.

A mark stands behind each reference price, at the next boundary of ``mark_interval_s`` in event time
(or at the price itself, if it stands on one), as soon as a later price has passed that boundary. It
values positions and cash as they are at that place of the stage's input, at the last prices up to
the boundary: a bar that closes on it counts. Where a day ends before that, at midnight UTC or at
an open of any account's calendar, the mark stands a nanosecond before its end and belongs to it, so
that a day begins with what the last price before it left. Marks are made lazily, before anything
else at a later place is handled, so the order of effects is the order of the input.

Marks feed the peak and the day's starting equity, which the loss checks need, and the equity curve,
which is published as float64 columns. Each mark is one expression over the current cash and prices,
never a running sum, so no cut of the input shows in it. Between two fills only a span of marks is
noted; ``settle`` computes all noted spans at once, when somebody asks for the peak or the batch
ends.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from decimal import Decimal
from math import isnan

import numpy as np

from agents.account.config import AccountStageConfig
from agents.account.lines import Line, Part, Span, Weight
from agents.account.mark_prices import PricesAtMarks
from agents.account.mark_rows import MarkRows, in_order, instants, periods
from agents.account.slots import Book
from agents.account.state import Account, Holding
from agents.domain.position import Position
from agents.processor import Outbox
from schemas.columns import EquityColumns, Floats, Ints, MarketBatch, PriceColumns
from schemas.errors import InvariantError
from schemas.sessions import SessionTable, days_of

NS = 1_000_000_000
_SCALAR_MARKS = 16  # Fewer marks than this are quicker in plain Python than in numpy.
_NOTHING: Weight = (0, 0.0, 0.0, "")


class Marks:
    """Reference prices of the loaded batch and the equity marks they bring about.

    ``open_ns``: opens of the sessions of all accounts, ascending (``opens_of``).
    """

    def __init__(
        self,
        config: AccountStageConfig,
        book: Book,
        sessions: Mapping[str, SessionTable],
        open_ns: Ints,
        accounts: Mapping[str, Account],
        on_snapshot: Callable[[int, Outbox], None],
    ) -> None:
        self._interval_ns = int(config.mark_interval_s * NS)
        self._book = book
        self._sessions = sessions
        self.open_ns = open_ns
        self._accounts = accounts
        self._lines: dict[str, list[Line]] = {}
        self._shapes: dict[str, tuple[int, int]] = {}
        self._rates: dict[str, dict[str, Decimal]] = {}
        self._snapshot_ns = int(config.snapshot_interval_s * NS)
        self._on_snapshot = on_snapshot
        # The instant of the last price, and whether the mark behind it was made.
        self.price_ns = 0
        self.is_marked = False
        self.period = 0
        self._rows: list[MarkRows] = []
        self._points: list[tuple[int, int, float, float, float, float, float]] = []
        self._unload()

    def _unload(self) -> None:
        self._prices = PriceColumns.empty()
        self._n_rows = self._row = self._bound = 0
        self._pos = -2
        self._bounds: list[int] = []
        self._times: Ints = np.empty(0, np.int64)
        self._clock: Ints = np.empty(0, np.int64)
        self._seen_ns = self.price_ns
        self._days: dict[str, list[int]] = {}
        self._snapshot_bounds: list[int] = []
        nowhere = np.empty(0, np.int64)
        self._at = PricesAtMarks(self._book.universe, self._prices, {}, nowhere)

    def _take_bounds(self) -> None:
        """Look at prices anew: there are other boundaries, or prices."""
        bound_rows = np.array(self._bounds, np.int64)
        self._at = PricesAtMarks(self._book.universe, self._prices, self._book.prices, bound_rows)

    def resume(self, price_ns: int, is_marked: bool, period: int) -> None:
        """Go on behind the last price, mark and snapshot of a run."""
        self.price_ns = self._seen_ns = price_ns
        self.is_marked, self.period = is_marked, period

    def load(self, batch: MarketBatch, prices: PriceColumns) -> None:
        """Take the reference prices of a batch; ``pos`` counts in that batch."""
        self._unload()
        self._prices = prices
        self._n_rows = len(prices)
        self._seen_ns = self.price_ns
        if not self._n_rows:
            return
        self._clock = clock = batch.clock[prices.pos]
        previous = np.empty_like(clock)
        previous[0] = self.price_ns or clock[0]
        previous[1:] = clock[:-1]
        times = instants(previous, self._interval_ns, self.open_ns)
        is_passed = times < clock
        is_passed[0] &= not self.is_marked
        bound_rows = np.flatnonzero(is_passed)
        self._bounds = bound_rows.tolist()
        self._times = times[bound_rows]
        self._take_bounds()
        self.price_ns, self.is_marked = int(clock[-1]), False
        self._snapshot_bounds = self._bounds_of_snapshots()

    def _bounds_of_snapshots(self) -> list[int]:
        """Return the first boundary of each snapshot interval and day of this batch."""
        if not len(self._times):
            return []
        numbers = periods(self._times, self._snapshot_ns, self.open_ns)
        previous = np.concatenate(([self.period], numbers[:-1]))
        self.period = int(numbers[-1])
        found: list[int] = np.flatnonzero(numbers > previous).tolist()
        return found

    def close(self, now_ns: int, out: Outbox) -> None:
        """Make the mark behind the last price if it stands before ``now_ns``, prices or not.

        For what happens between two prices and must not show in that mark, such as a dividend of
        the next day. Such a thing stands in a batch without prices, see ``AccountStage.load``.
        """
        if self._n_rows:
            raise InvariantError(
                "prices stand in one batch with a corporate action",
                field="prices",
                value=self._n_rows,
                remedy="cut batches in front of each corporate action and behind it",
            )
        if self.price_ns and not self.is_marked:
            time_ns = self._next_mark_ns()
            if time_ns < now_ns:
                self.is_marked = True
                self._mark_behind(time_ns, out)

    def end(self, now_ns: int, out: Outbox) -> None:
        """Make the mark behind the last price of the run, which is over at ``now_ns``."""
        if self.price_ns and not self.is_marked:
            time_ns = self._next_mark_ns()
            self.is_marked = time_ns <= now_ns
            self._mark_behind(min(time_ns, max(now_ns, self.price_ns)), out)
        self.finish(out)

    def _next_mark_ns(self) -> int:
        """Return the instant of the mark behind the last price."""
        return int(instants(np.array([self.price_ns]), self._interval_ns, self.open_ns)[0])

    def _mark_behind(self, time_ns: int, out: Outbox) -> None:
        """Make a mark behind the last price; no batch is loaded, or one without prices."""
        self._bounds.append(self._n_rows)
        self._times = np.append(self._times, time_ns)
        self._days.clear()
        self._take_bounds()
        bound = len(self._bounds) - 1
        period = int(periods(self._times[-1:], self._snapshot_ns, self.open_ns)[0])
        if period > self.period:
            self.period = period
            self._snapshot_bounds.append(bound)
        self._pass(bound + 1, out)

    def split(self, instrument_id: str, ratio: float) -> None:
        """Bring the last price of an instrument onto its new share count, from this batch on."""
        if instrument_id in self._book.prices:
            for account in self._accounts.values():
                self.settle(account)
            self._book.prices[instrument_id] /= ratio

    def set_price(self, instrument_id: str, price: float, ts_ns: int) -> None:
        """Take over one price that came as a record."""
        for account in self._accounts.values():
            self.settle(account)
        index = self._book.universe.index(instrument_id)
        if index is not None:
            self._at.set(index, self._row, price)
        self._book.prices[instrument_id] = price
        self._book.price_times[instrument_id] = ts_ns

    def touch(self, account_id: str, strategy_id: str, instrument_id: str) -> None:
        """Note that an account's cash and a strategy's position changed."""
        for line in self._lines.get(account_id, ()):
            if not line.strategy_id or line.strategy_id == strategy_id:
                line.changed[instrument_id] = None

    def rebuild(self) -> None:
        """Forget what was derived: exchange rates, instruments or positions' shapes changed."""
        for account in self._accounts.values():
            self.settle(account)
        self._shapes.clear()

    def advance(self, pos: int, out: Outbox) -> None:
        """Consume all reference prices up to ``pos``: note marks, take due snapshots."""
        if pos == self._pos or self._row >= self._n_rows:
            return
        self._pos = pos
        row = int(self._prices.pos.searchsorted(pos, side="right"))
        if row > self._row:
            self._consume(row, out)

    def finish(self, out: Outbox) -> None:
        """Consume what is left of the batch and compute all marks."""
        if self._row < self._n_rows:
            self._consume(self._n_rows, out)
        for account in self._accounts.values():
            self.settle(account)
        self._flush_points()
        self._unload()

    def _consume(self, row: int, out: Outbox) -> None:
        self._pass(bisect_left(self._bounds, row, self._bound), out)
        self._take_prices(row)

    def _pass(self, last: int, out: Outbox) -> None:
        """Note the marks up to ``last``, and take the snapshots that are due at them."""
        while self._snapshot_bounds and self._snapshot_bounds[0] < last:
            bound = self._snapshot_bounds.pop(0)
            self._note(bound + 1)
            self._take_prices(self._bounds[bound])
            for account in self._accounts.values():
                self.settle(account)
            self._on_snapshot(int(self._times[bound]), out)
        self._note(last)

    def _note(self, last: int) -> None:
        """Note the marks from the current boundary up to ``last`` as one span of each line."""
        first = self._bound
        if last <= first:
            return
        for account in self._accounts.values():
            for line in self._lines_of(account):
                if line.changed:
                    line.refresh(self._rates[account.config.account_id], self._book)
                line.spans.append((first, last, line.cash, line.weights))
        self._bound = last

    def _take_prices(self, row: int) -> None:
        """Make the rows before ``row`` the last prices."""
        if row <= self._row:
            return
        first, self._row = self._row, row
        universe, book, prices = self._book.universe, self._book, self._prices
        if len(universe) == 1:
            instrument_id = universe.instruments[0].instrument_id
            book.prices[instrument_id] = float(prices.price[row - 1])
            book.price_times[instrument_id] = int(prices.ts[row - 1])
            return
        # What was set at an earlier place stands until a row behind that place: this one.
        codes = prices.instrument[first:row]
        if row - first > len(universe):
            _, latest = np.unique(codes[::-1], return_index=True)
            rows = row - 1 - latest
        else:
            rows = np.arange(first, row)
        for code, price, ts in zip(
            prices.instrument[rows].tolist(),
            prices.price[rows].tolist(),
            prices.ts[rows].tolist(),
            strict=True,
        ):
            instrument_id = universe.instruments[code].instrument_id
            book.prices[instrument_id] = price
            book.price_times[instrument_id] = ts

    def _lines_of(self, account: Account) -> list[Line]:
        """Return the lines of an account, made anew when what it holds has new parts."""
        account_id = account.config.account_id
        shape = (len(account.positions), len(account.cash))
        if self._shapes.get(account_id) == shape:
            return self._lines[account_id]
        self.settle(account)
        self._shapes[account_id] = shape
        universe, book, base = self._book.universe, self._book, account.config.base_currency
        rates = {c: book.rate(c, base) or Decimal(0) for c in account.cash}
        self._rates[account_id] = rates
        lines = []
        for strategy_id in ("", *account.strategies):
            name = f"{account_id}/{strategy_id}" if strategy_id else account_id
            line = Line(account, strategy_id, universe.source_index(name))
            held: dict[str, Holding] | dict[str, Position] = account.holdings
            prefix = ""
            if strategy_id:
                held, prefix = account.positions, f"{strategy_id}|"
            for key, item in held.items():
                if not key.startswith(prefix):
                    continue
                index = universe.index(key[len(prefix) :])
                assert index is not None  # a holding exists only for a known instrument
                instrument = universe.instruments[index]
                rate = book.rate(instrument.currency, base) or Decimal(0)
                factor = float(instrument.multiplier * rate)
                line.add(instrument.instrument_id, Part(index, item, factor, rate))
            lines.append(line)
        self._lines[account_id] = lines
        return lines

    def settle(self, account: Account) -> None:
        """Compute the noted marks of an account and of its strategies."""
        for line in self._lines.get(account.config.account_id, ()):
            if line.spans:
                self._settle_line(line)

    def settle_account(self, account: Account) -> None:
        """Compute the noted marks of the account as a whole, which the loss checks look at."""
        lines = self._lines.get(account.config.account_id)
        if lines and lines[0].spans:
            self._settle_line(lines[0])

    def equity(self, account: Account) -> float:
        """Return the account's equity at this place of the input, as a mark would have it."""
        line = self._lines_of(account)[0]
        if line.changed:
            line.refresh(self._rates[account.config.account_id], self._book)
        equity, prices = line.cash, self._book.prices
        for _, weight, cost, instrument_id in line.weights:
            equity += weight * prices.get(instrument_id, cost)
        return equity

    def _settle_line(self, line: Line) -> None:
        spans, line.spans = line.spans, []
        count = 0
        for span in spans:
            count += span[1] - span[0]
        if count <= _SCALAR_MARKS:
            for first, last, cash, weights in spans:
                self._mark_points(line, first, last, cash, weights)
        else:
            self._mark_rows(line, spans)

    def _mark_points(
        self, line: Line, first: int, last: int, cash: float, weights: list[Weight]
    ) -> None:
        account = line.account
        prices = [(self._at.listed(index), weight, cost) for index, weight, cost, _ in weights]
        days = None if line.strategy_id else self._bound_days(account)
        points, source = self._points, line.source
        for bound in range(first, last):
            equity, gross, net = cash, 0.0, 0.0
            for column, weight, cost in prices:
                price = column[bound]
                value = (cost if isnan(price) else price) * weight
                equity += value
                net += value
                gross += value if value >= 0 else -value
            if days is None:
                peak = max(account.strategy_peaks.get(line.strategy_id, 0.0), equity)
                account.strategy_peaks[line.strategy_id] = peak
                drawdown = equity - peak
            else:
                if equity > account.peak_equity:
                    account.peak_equity = equity
                peak = account.peak_equity
                drawdown = (equity - peak) / peak if peak > 0 else 0.0
                if days[bound] != account.day:
                    account.day = days[bound]
                    account.day_start_equity = account.marked_equity
                account.marked_equity = equity
            points.append((bound, source, equity, cash, gross, net, drawdown))

    def _flush_points(self) -> None:
        """Turn the marks that were made one by one into columns."""
        points, self._points = self._points, []
        if points:
            bounds, sources, *values = zip(*points, strict=True)
            columns = [np.array(column) for column in values]
            self._rows.append((self._times[list(bounds)], np.array(sources, np.int32), *columns))  # type: ignore[arg-type]

    def _mark_rows(self, line: Line, spans: list[Span]) -> None:
        account = line.account
        lengths = [last - first for first, last, _, _ in spans]
        first, last = spans[0][0], spans[-1][1]
        cash = np.repeat([span[2] for span in spans], lengths)
        equity, gross, net = cash.copy(), np.zeros(len(cash)), np.zeros(len(cash))
        weights = [{weight[0]: weight for weight in span[3]} for span in spans]
        for index in sorted({index for held in weights for index in held}):
            parts = [held.get(index, _NOTHING) for held in weights]
            weight = np.repeat([part[1] for part in parts], lengths)
            price = self._at.column(index)[first:last]
            is_missing = np.isnan(price)
            if is_missing.any():
                price = np.where(is_missing, np.repeat([p[2] for p in parts], lengths), price)
            value = price * weight
            equity += value
            net += value
            gross += np.abs(value)
        known = (
            account.strategy_peaks.get(line.strategy_id, 0.0)
            if line.strategy_id
            else account.peak_equity
        )
        peaks = np.maximum.accumulate(np.concatenate(([known], equity)))
        tops = peaks[1:]
        if line.strategy_id:
            account.strategy_peaks[line.strategy_id] = float(peaks[-1])
            drawdown = equity - tops
        else:
            account.peak_equity = float(peaks[-1])
            drawdown = np.divide(equity - tops, tops, out=np.zeros(len(cash)), where=tops > 0)
            self._roll_days(account, first, equity)
        source = np.full(len(cash), line.source, np.int32)
        self._rows.append((self._times[first:last], source, equity, cash, gross, net, drawdown))

    def _roll_days(self, account: Account, first: int, equity: Floats) -> None:
        days = self._bound_days(account)
        before, account.marked_equity = account.marked_equity, float(equity[-1])
        if days[first] == account.day == days[first + len(equity) - 1]:
            return
        for offset, value in enumerate(equity.tolist()):
            if days[first + offset] != account.day:
                account.day = days[first + offset]
                account.day_start_equity = before
            before = value

    def _bound_days(self, account: Account) -> list[int]:
        """Return the trading day of each boundary of the batch, by the account's calendar."""
        calendar = account.config.calendar
        days = self._days.get(calendar)
        if days is None:
            days = self._days[calendar] = days_of(
                self._sessions.get(calendar), self._times
            ).tolist()
        return days

    def day_start(self, account: Account, now_ns: int) -> float:
        """Return the equity with which the day of ``now_ns`` began: that of the mark before it.

        Before the first mark of a day nothing in the account says so yet.
        """
        price_ns = int(self._clock[self._row - 1]) if self._row else self._seen_ns
        table = self._sessions.get(account.config.calendar)
        day, day_of_price = days_of(table, np.array([now_ns, price_ns])).tolist()
        if day == account.day or not account.day:
            return account.day_start_equity
        return account.marked_equity if day == day_of_price else self.equity(account)

    def take_rows(self) -> EquityColumns:
        """Return the marks made since the last call, in the order they were made."""
        if not self._rows:
            return EquityColumns.empty()
        rows, self._rows = self._rows, []
        return in_order(rows, self._book.universe.sources)
