"""The event form at work: callbacks in event order, with control handed back after each step.

A step is an event, or what lies between two events: bars that the second one closes, and timers.
Only callbacks that the author overrode cost anything. ``on_bars`` is called once for all bars that
end at one instant, when the data has passed it: bars of the input wait for the first event after
their instant, derived bars are complete when they close.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np

from agents.processor import Outbox
from agents.strategy.api import Strategy
from agents.strategy.instance import Instance
from agents.strategy.plan import Feed, cause_of, feed_of, steps_of
from schemas.columns import BarColumns, Ints, MarketBatch
from schemas.identifiers import timer_id
from schemas.instruments import Universe
from schemas.market_data import Bar, Quote, Trade
from schemas.rows import records_from_table

_TRADE, _QUOTE, _BAR, _BARS = range(4)
_NEVER = 1 << 62


class EventPlan:
    """The events of a batch that one strategy of the event form wants."""

    def __init__(self, instance: Instance, universe: Universe) -> None:
        self.instance = instance
        self._universe = universe
        cls = type(instance.strategy)
        self._wants_trades = cls.on_trade is not Strategy.on_trade
        self._wants_quotes = cls.on_quote is not Strategy.on_quote
        self._wants_bar = cls.on_bar is not Strategy.on_bar
        self._wants_bars = cls.on_bars is not Strategy.on_bars
        self._held: list[tuple[int, Bar]] = []
        self._clear()

    def _clear(self) -> None:
        self._steps: list[int] = []
        self._kinds: list[int] = []
        self._rows: list[int] = []
        self._cursor = 0
        self._feeds: dict[int, Feed] = {}
        self._groups: list[tuple[int, int, list[Bar]]] = []
        self._batch: MarketBatch | None = None
        self._clock_ns = 0

    def load(self, batch: MarketBatch, bars: BarColumns, bar_at: Ints) -> None:
        """Find the events of the strategy's instruments in a batch."""
        self._clear()
        self._batch = batch
        self._clock_ns = int(batch.clock[-1])
        pieces: list[tuple[Ints, int]] = []
        on = self.instance.config.on
        bar_on = on if on not in ("trade", "quote") else "1m"
        wanted = (
            (_TRADE, self._wants_trades, "trade"),
            (_QUOTE, self._wants_quotes, "quote"),
            (_BAR, self._wants_bar, bar_on),
        )
        for kind, is_wanted, name in wanted:
            if is_wanted:
                feed = self._mine(feed_of(name, batch, bars, bar_at))
                self._feeds[kind] = feed
                pieces.append((steps_of(feed), kind))
        if self._wants_bars:
            self._group(self._mine(feed_of(bar_on, batch, bars, bar_at)), batch)
            ends = np.array([group[0] for group in self._groups], np.int64)
            pieces.append((2 * ends + 1, _BARS))
        if not pieces:
            return
        steps = np.concatenate([piece[0] for piece in pieces])
        kinds = np.repeat([piece[1] for piece in pieces], [len(piece[0]) for piece in pieces])
        rows = np.concatenate([np.arange(len(piece[0])) for piece in pieces])
        order = np.lexsort((rows, kinds, steps))
        self._steps, self._kinds, self._rows = (
            steps[order].tolist(),
            kinds[order].tolist(),
            rows[order].tolist(),
        )

    def _mine(self, feed: Feed) -> Feed:
        """Return the rows of the strategy's instruments, in the feed's order."""
        rows = np.flatnonzero(np.isin(feed.table.instrument, self.instance.indexes))
        if len(rows) == len(feed.at):
            return feed
        return Feed(feed.kind, feed.table.take(rows), feed.at[rows], feed.now[rows])

    def _group(self, feed: Feed, batch: MarketBatch) -> None:
        """Make the groups of bars with one end.

        A group waits until the clock has passed its end.
        """
        bars = self._held + [
            (int(at), bar)
            for at, bar in zip(
                feed.at.tolist(), self._records(feed, np.arange(len(feed.at))), strict=True
            )
            if isinstance(bar, Bar)
        ]
        self._held = []
        by_end: dict[int, list[tuple[int, Bar]]] = {}
        for at, bar in bars:
            by_end.setdefault(bar.ts_event_ns, []).append((at, bar))
        for end in sorted(by_end):
            items = by_end[end]
            passed = int(batch.clock.searchsorted(end, side="right"))
            is_derived = all(
                bar.event_id.startswith("bar:") and bar.source_seq == end for _, bar in items
            )
            if is_derived:
                self._groups.append((max(at for at, _ in items), end, [bar for _, bar in items]))
            elif passed < len(batch):
                self._groups.append((passed - 1, end, [bar for _, bar in items]))
            else:
                self._held += [(-1, bar) for _, bar in items]

    def _records(self, feed: Feed, rows: Ints) -> list[Any]:
        return records_from_table(self._universe, feed.table, rows)

    # ---- driving

    def next(self) -> int:
        """Return the step of the next event or due timer, or twice the batch's length."""
        size = 0 if self._batch is None else len(self._batch)
        step = self._steps[self._cursor] if self._cursor < len(self._steps) else 2 * size
        return min(step, self._timer_step())

    def _timer_step(self) -> int:
        """Return the step of the first timer: before the first event at or after its instant."""
        timers = self.instance.timers
        if self._batch is None or not timers or timers[0] > self._clock_ns:
            return _NEVER
        return 2 * int(self._batch.clock.searchsorted(timers[0])) - 1

    def run(self, step: int, out: Outbox) -> None:
        """Handle the events and timers of one step; by time between two events, timers last."""
        timers = self.instance.timers
        while self.next() == step:
            is_timer = self._timer_step() == step
            if is_timer and self._cursor < len(self._steps) and self._steps[self._cursor] == step:
                is_timer = timers[0] < self._instant()
            if is_timer:
                self._on_timer(timers.pop(0), out)
            else:
                self._step(out)

    def _instant(self) -> int:
        """Return the time of the next bar or group."""
        kind, row = self._kinds[self._cursor], self._rows[self._cursor]
        return self._groups[row][1] if kind == _BARS else int(self._feeds[kind].now[row])

    def _on_timer(self, due_ns: int, out: Outbox) -> None:
        view = self.instance.view
        view.now_ns = max(due_ns, view.now_ns)
        self.instance.call(self.instance.strategy.on_timer, due_ns)
        if view.wishes:
            cause = timer_id(self.instance.producer, due_ns)
            self.instance.carry_out(view.now_ns, due_ns, cause, out)

    def _step(self, out: Outbox) -> None:
        kind, row = self._kinds[self._cursor], self._rows[self._cursor]
        self._cursor += 1
        if kind == _BARS:
            _, end, bars = self._groups[row]
            self._hand_out(end, bars, out)
            return
        feed = self._feeds[kind]
        now_ns = int(feed.now[row])
        record = self._records(feed, np.array([row]))[0]
        instance = self.instance
        instance.view.now_ns = now_ns
        instrument_id = record.instrument_id
        if isinstance(record, Trade):
            instance.see_price(instrument_id, record.price)
            instance.call(instance.strategy.on_trade, record)
        elif isinstance(record, Quote):
            instance.see_price(instrument_id, (record.bid_price + record.ask_price) / 2)
            instance.call(instance.strategy.on_quote, record)
        elif isinstance(record, Bar):
            instance.see_price(instrument_id, record.close)
            instance.call(instance.strategy.on_bar, record)
        if instance.view.wishes:
            assert self._batch is not None
            cause = cause_of(feed, row, self._batch, self._universe)
            instance.carry_out(now_ns, record.ts_event_ns, cause, out)

    def _hand_out(self, end_ns: int, bars: list[Bar], out: Outbox) -> None:
        instance = self.instance
        instance.view.now_ns = max(end_ns, instance.view.now_ns)
        by_id = {bar.instrument_id: bar for bar in bars}
        for bar in bars:
            instance.see_price(bar.instrument_id, bar.close)
        instance.call(instance.strategy.on_bars, end_ns, by_id)
        if instance.view.wishes:
            cause = timer_id(f"bars:{instance.producer}", end_ns)
            instance.carry_out(instance.view.now_ns, end_ns, cause, out)

    def end(self) -> None:
        """The batch is finished."""
        self._clear()

    def finish(self, now_ns: int, out: Outbox) -> None:
        """Hand out groups that still wait for later data: none will come."""
        by_end: dict[int, list[Bar]] = {}
        for _, bar in self._held:
            by_end.setdefault(bar.ts_event_ns, []).append(bar)
        self._held = []
        for end in sorted(by_end):
            self._hand_out(end, by_end[end], out)

    # ---- snapshots

    def state(self) -> list[Bar]:
        """Return the bars that wait for their group to be complete."""
        return [bar for _, bar in self._held]

    def take(self, state: list[dict[str, Any]]) -> None:
        """Take over waiting bars."""
        self._held = [(-1, bar) for bar in msgspec.convert(state, list[Bar])]
