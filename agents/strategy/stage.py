"""The strategy stage: all strategies of a run, driven by position.

Where the array form acts depends on market data alone, so for each batch it is known beforehand:
signals are computed once, changes of target become a sorted list of decisions, and the driver walks
that list. The event form acts wherever it has an event, and hands back control when an order was
placed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from agents.processor import Outbox
from agents.strategy.api import Strategy
from agents.strategy.config import StrategyConfig
from agents.strategy.events import EventPlan
from agents.strategy.failures import told
from agents.strategy.instance import Instance
from agents.strategy.parameters import resolve
from agents.strategy.plan import Feed, by_instrument, cause_of, feed_of, series_of, steps_of
from agents.strategy.renaming import rename
from agents.strategy.saved import StageState
from schemas.columns import BarColumns, Ints, MarketBatch
from schemas.control import StrategyCommand, StrategySignal, StrategyStateChanged
from schemas.enums import StrategyAction, StrategyStatus
from schemas.envelope import Header
from schemas.errors import ConfigError, InputError, NotFoundError, RecordError
from schemas.identifiers import derived_base, derived_id
from schemas.instruments import CorporateAction, Universe
from schemas.topics import STRATEGY_SIGNALS, STRATEGY_STATES

PROCESSOR_VERSION = "strategy-2"


class _Decisions:
    """The decisions of the array form in one batch, by step, then instance."""

    __slots__ = ("cursor", "instances", "rows", "steps", "targets")

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.instances: list[int] = []
        self.rows: list[int] = []
        self.targets: list[float] = []
        self.cursor = 0


class StrategyStage:
    """Runs strategies over market data, bars, and what comes back of their orders."""

    def __init__(
        self,
        configs: list[StrategyConfig],
        classes: Mapping[str, type[Strategy]],
        universe: Universe,
    ) -> None:
        self.universe = universe
        self.configs = configs
        self.instances: list[Instance] = []
        self._by_strategy: dict[str, list[Instance]] = {}
        self._arrays: list[tuple[int, Instance]] = []
        self._events: list[EventPlan] = []
        for config in configs:
            cls = classes.get(config.name)
            if cls is None:
                raise NotFoundError(
                    f"strategy {config.name} not found",
                    field="strategy",
                    value=config.name,
                    remedy=f"choose one of {', '.join(sorted(classes))}, or path/to/file.py:Class",
                )
            self._add(config, cls)
        self._batch: MarketBatch | None = None
        self._feeds: list[tuple[Instance, Feed]] = []
        self._decisions = _Decisions()
        self._size = 0
        self._failed: list[Instance] = []
        self.failures: list[Instance] = []
        for instance in self.instances:
            instance.on_failure = self._failed_now

    def _failed_now(self, instance: Instance) -> None:
        self._failed.append(instance)

    def _add(self, config: StrategyConfig, cls: type[Strategy]) -> None:
        if config.strategy_id in self._by_strategy:
            raise ConfigError(
                "two strategies have one id",
                field="strategy_id",
                value=config.strategy_id,
                remedy="give each strategy an id of its own",
            )
        values = resolve(cls.parameters, dict(config.parameters), config.short_name)
        instruments = []
        for instrument_id in config.instrument_ids:
            index = self.universe.index(instrument_id)
            if index is None:
                raise NotFoundError(
                    f"instrument {instrument_id} not found",
                    field="instrument_id",
                    value=instrument_id,
                    remedy="the data set does not have it",
                )
            instruments.append(self.universe.instruments[index])
        instances = self._by_strategy[config.strategy_id] = []
        if cls.signals is not Strategy.signals:
            for instrument in instruments:
                instance = Instance(
                    cls(values), config, [instrument], self.universe, instrument.symbol
                )
                self._arrays.append((len(self.instances), instance))
                self.instances.append(instance)
                instances.append(instance)
        else:
            instance = Instance(cls(values), config, instruments, self.universe, "all")
            self._events.append(EventPlan(instance, self.universe))
            self.instances.append(instance)
            instances.append(instance)

    def looks_at(self, strategy_id: str) -> tuple[bool, bool]:
        """Return whether a strategy looks at market events, and at derived bars.

        The array form decides on one kind of data; the event form has timers, which follow events.
        """
        instances = self._by_strategy[strategy_id]
        if any(plan.instance in instances for plan in self._events):
            return True, True
        is_on_bars = instances[0].is_on_bars
        return not is_on_bars, is_on_bars

    # ---- driving

    def start(self, now_ns: int, out: Outbox) -> None:
        """Publish the state of every strategy: the run begins."""
        for config in self.configs:
            self._publish_state(config.strategy_id, f"start:{config.strategy_id}", now_ns, out)
            for instance in self._by_strategy[config.strategy_id]:
                if instance.view.wishes:
                    instance.carry_out(now_ns, now_ns, f"start:{instance.producer}", out)

    def load(self, batch: MarketBatch, bars: BarColumns, bar_at: Ints) -> None:
        """Take a batch with the bars of the market stage.

        ``bar_at`` are the bars' decision positions.
        """
        self._batch = batch
        self._size = len(batch)
        feeds: dict[str, Feed] = {}
        self._plan_arrays(feeds, batch, bars, bar_at)
        for plan in self._events:
            plan.load(batch, bars, bar_at)

    def _plan_arrays(
        self, feeds: dict[str, Feed], batch: MarketBatch, bars: BarColumns, bar_at: Ints
    ) -> None:
        groups: dict[str, list[Instance]] = {}
        for _, instance in self._arrays:
            groups.setdefault(instance.config.on, []).append(instance)
        self._feeds = []
        pieces: list[tuple[Ints, int, Ints, np.ndarray[Any, Any]]] = []
        for on, instances in groups.items():
            feed = feeds.setdefault(on, feed_of(on, batch, bars, bar_at))
            indexes = sorted({instance.indexes[0] for instance in instances})
            parts = by_instrument(feed, indexes)
            series = {
                i: series_of(part, self.universe, i) for i, part in parts.items() if len(part.at)
            }
            for instance in instances:
                index = instance.indexes[0]
                if index not in series:
                    continue
                targets = instance.signals(series[index])
                if targets is None:
                    continue
                rows = _changes(targets, instance, parts[index].now)
                if len(rows):
                    steps = steps_of(parts[index])[rows]
                    pieces.append((steps, len(self._feeds), rows, targets[rows]))
                    self._feeds.append((instance, parts[index]))
        self._decisions = _sorted(pieces)

    def next(self) -> int:
        """Return the position of the next decision (may be -1), or the batch's length."""
        return self._next_step() >> 1

    def _next_step(self) -> int:
        decisions = self._decisions
        if self._failed:
            return -1  # what failed over the batch as a whole is told before anything else
        step = 2 * self._size
        if decisions.cursor < len(decisions.steps):
            step = decisions.steps[decisions.cursor]
        for plan in self._events:
            following = plan.next()
            if following < step:
                step = following
        return step

    def fire(self, pos: int, out: Outbox) -> None:
        """Make the decisions of the next step at ``pos``; ``next`` says whether there is another.

        An order must be routed at the position it was placed at, or the venue would fill it by the
        very event that it was decided on: so no step runs ahead of ``pos``.
        """
        if self._failed and self._batch is not None:
            self._publish_failures(int(self._batch.clock[0]), out)
            return
        step = self._next_step()
        decisions = self._decisions
        while decisions.cursor < len(decisions.steps) and decisions.steps[decisions.cursor] == step:
            k = decisions.cursor
            decisions.cursor = k + 1
            self._decide(decisions.instances[k], decisions.rows[k], decisions.targets[k], out)
        for plan in self._events:
            plan.run(step, out)
        if self._failed:
            self._publish_failures(self._failed[0].view.now_ns, out)

    def _publish_failures(self, now_ns: int, out: Outbox) -> None:
        """Publish the state of the strategies that have just failed."""
        failed, self._failed = self._failed, []
        for instance in failed:
            self.failures.append(instance)
            cause = f"failed:{instance.producer}:{now_ns}"
            detail = str(instance.failure)
            self._publish_state(instance.strategy_id, cause, now_ns, out, detail)

    def _decide(self, feed_index: int, row: int, target: float, out: Outbox) -> None:
        instance, feed = self._feeds[feed_index]
        now_ns = int(feed.now[row])
        table: Any = feed.table
        if feed.kind == "trade":
            price = float(table.price[row])
        elif feed.kind == "quote":
            price = float((table.bid[row] + table.ask[row]) / 2)
        else:
            price = float(table.close[row])
        assert self._batch is not None
        cause = cause_of(feed, row, self._batch, self.universe)
        instrument_id = self.universe.instruments[instance.indexes[0]].instrument_id
        base = derived_base(instance.producer, cause)
        out.append(
            (
                STRATEGY_SIGNALS,
                StrategySignal(
                    f"{base}-s",
                    now_ns,
                    cause,
                    cause,
                    instance.strategy_id,
                    instrument_id,
                    target,
                    price,
                ),
            )
        )
        if instance.is_trading(now_ns):
            instance.trade_to(
                instrument_id, target, price, now_ns, int(table.ts[row]), base, cause, out
            )

    def end(self) -> None:
        """The batch is finished."""
        for plan in self._events:
            plan.end()
        self._batch = None

    def finish(self, now_ns: int, out: Outbox) -> None:
        """The run is over: groups of bars that wait for later data are handed out."""
        for plan in self._events:
            plan.finish(now_ns, out)
        if self._failed:
            self._publish_failures(now_ns, out)

    # ---- records

    def on_record(self, record: Header, now_ns: int, out: Outbox) -> None:
        """Handle a fill, an order event, a command or a corporate action."""
        if isinstance(record, StrategyCommand):
            self._on_command(record, now_ns, out)
            return
        if isinstance(record, CorporateAction):
            self.on_action(record, now_ns, out)
            return
        strategy_id = getattr(record, "strategy_id", "")
        instances = self._by_strategy.get(strategy_id)
        if instances is None:
            return
        instrument_id = getattr(record, "instrument_id", "")
        for instance in instances:
            # Whoever places an order names a strategy with it; in another account it is a name.
            account_id = instance.config.account_id
            if getattr(record, "account_id", account_id) != account_id:
                continue
            if instrument_id in instance.view.positions:
                instance.on_feedback(record, now_ns, out)
        if self._failed:
            self._publish_failures(now_ns, out)

    def on_action(
        self, action: CorporateAction, now_ns: int, out: Outbox, *, is_of_bars: bool | None = None
    ) -> None:
        """Tell instances of a corporate action; all, or only those that decide (not) on bars."""
        concerned = [i for i in self.instances if is_of_bars is None or is_of_bars is i.is_on_bars]
        if action.kind == "SYMBOL_CHANGE":
            new_id = self.universe.new_id(action)
            if new_id is not None and new_id != action.instrument_id:
                rename(concerned, action.instrument_id, new_id)
        for instance in concerned:
            if action.kind == "SPLIT":
                instance.on_split(action.instrument_id, action.ratio)
            elif action.kind == "DIVIDEND":
                instance.on_dividend(action.instrument_id, action.amount)
        self._publish_failures(now_ns, out)

    def _on_command(self, command: StrategyCommand, now_ns: int, out: Outbox) -> None:
        instances = self._by_strategy.get(command.strategy_id)
        if instances is None:
            return
        detail = command.reason
        try:
            for instance in instances:
                _apply(command, instance)
        except InputError as error:
            detail = str(error)
        self._publish_state(command.strategy_id, command.event_id, now_ns, out, detail)

    def _publish_state(
        self, strategy_id: str, cause: str, now_ns: int, out: Outbox, detail: str = ""
    ) -> None:
        instances = self._by_strategy[strategy_id]
        first = instances[0]
        ids = [i for instance in instances for i in instance.view.instruments]
        out.append(
            (
                STRATEGY_STATES,
                StrategyStateChanged(
                    derived_id(f"strategy:{strategy_id}", cause, 0),
                    now_ns,
                    cause,
                    cause,
                    strategy_id,
                    first.config.name,
                    first.config.account_id,
                    first.status,
                    first.parameters(),
                    ids,
                    detail,
                ),
            )
        )

    # ---- snapshots

    def snapshot(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        return msgspec.json.encode(
            StageState(
                PROCESSOR_VERSION,
                {instance.producer: instance.state() for instance in self.instances},
                {plan.instance.producer: plan.state() for plan in self._events},
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave.

        Raises RecordError for another processor version.
        """
        known = msgspec.json.decode(state, type=StageState)
        if known.version != PROCESSOR_VERSION:
            raise RecordError(
                "a snapshot of the strategy stage is of another version",
                field="version",
                value=known.version,
                remedy="rebuild the state from the journal",
            )
        for instance in self.instances:
            instance.take(known.instances[instance.producer])
        for plan in self._events:
            plan.take(known.plans[plan.instance.producer])


def _apply(command: StrategyCommand, instance: Instance) -> None:
    action = command.action
    if action is StrategyAction.SET_PARAMETERS:
        declared = type(instance.strategy).parameters
        values = resolve(
            declared, {**instance.parameters(), **command.parameters}, instance.config.short_name
        )
        attributes = vars(instance.strategy)
        before = dict(attributes)
        try:
            attributes.update(values)
            instance.strategy.on_start()
        except (Exception, SystemExit) as error:
            attributes.clear()
            attributes.update(before)
            instance.view.wishes.clear()
            raise told(instance.strategy, instance.config, error) from error
        instance.last_target = None
    elif action in (StrategyAction.START, StrategyAction.RESUME):
        instance.start_anew()
    elif action is StrategyAction.PAUSE:
        instance.status = StrategyStatus.PAUSED
    else:
        instance.status = StrategyStatus.STOPPED


def _changes(targets: np.ndarray[Any, Any], instance: Instance, now: Ints) -> Ints:
    """Return the rows at which the target differs from the last opinion before it."""
    rows = np.flatnonzero(~np.isnan(targets))
    if not len(rows):
        return rows
    values = targets[rows]
    previous = np.empty_like(values)
    previous[0] = np.nan if instance.last_target is None else instance.last_target
    previous[1:] = values[:-1]
    is_change = values != previous
    start = instance.config.trade_from_ns
    if start and instance.status is StrategyStatus.WARMING_UP:
        # The first opinion after the warm-up counts as new, whatever the warm-up ended with.
        first = int(now[rows].searchsorted(start))
        if first < len(rows):
            is_change[first] = True
    instance.last_target = float(values[-1])
    changes: Ints = rows[is_change]
    return changes


def _sorted(pieces: list[tuple[Ints, int, Ints, np.ndarray[Any, Any]]]) -> _Decisions:
    decisions = _Decisions()
    if not pieces:
        return decisions
    steps = np.concatenate([piece[0] for piece in pieces])
    owner = np.repeat([piece[1] for piece in pieces], [len(piece[0]) for piece in pieces])
    rows = np.concatenate([piece[2] for piece in pieces])
    targets = np.concatenate([piece[3] for piece in pieces])
    order = np.lexsort((owner, steps)) if len(pieces) > 1 else slice(None)
    decisions.steps = steps[order].tolist()
    decisions.instances = owner[order].tolist()
    decisions.rows = rows[order].tolist()
    decisions.targets = targets[order].tolist()
    return decisions
