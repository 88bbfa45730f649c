"""All stages of the pipeline in one process, over merged batches.

What only flows forward (bars, reference prices, data quality, equity marks) is made for a whole
batch at once. What can come back to its own producer (orders and fills) is driven by position: the
engine asks venue and strategies for the next position at which they act, takes the smallest, routes
what was emitted until nothing is left, and goes on. At one position the order is: the event itself,
fills, the account, strategies, their commands. The outputs are the same for every way of cutting
the input into batches.
"""

from __future__ import annotations

import decimal
from collections.abc import Mapping
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np

from agents.account.stage import AccountStage
from agents.market.stage import MarketOutput, MarketStage
from agents.market.validity import Validity
from agents.processor import Outbox
from agents.runners.config import EngineConfig, EngineState, nested
from agents.strategy.api import Strategy
from agents.strategy.stage import StrategyStage
from agents.venue.paper_venue import PaperVenue
from schemas.columns import BarColumns, Columns, Ints, MarketBatch
from schemas.control import StrategyCommand
from schemas.envelope import Header
from schemas.instruments import CorporateAction, ExchangeRate, Instrument, Universe
from schemas.market_data import InstrumentStatus
from schemas.sessions import SessionTable
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_INDICATORS,
    MARKET_QUALITY,
    PORTFOLIO_EQUITY,
    STRATEGY_INPUTS,
    VENUE_COMMANDS,
)
from schemas.values import MONEY_CONTEXT

__all__ = ["Engine", "EngineConfig", "Outputs"]

_BARRIERS = (CorporateAction, StrategyCommand, Instrument)
"""Records after which signals computed beforehand would be wrong.

A batch is cut in front of them and behind them: what time brought before (a bar of the old share
count, a timer) is decided on first. The account stage holds runners to it (``AccountStage.load``).
"""


class Outputs(NamedTuple):
    """What a batch brought about: records in the order they were made, and tables by topic."""

    records: Outbox
    tables: list[tuple[str, Columns]]


class Engine:
    """The pipeline in one process; it does not know where batches come from or outputs go."""

    def __init__(
        self,
        config: EngineConfig,
        universe: Universe,
        sessions: Mapping[str, SessionTable],
        classes: Mapping[str, type[Strategy]],
    ) -> None:
        self.config = config
        self.universe = universe
        self.market = MarketStage(universe, config.market, sessions)
        self._validity = Validity(universe)
        self.venue = PaperVenue(config.venue, universe, sessions)
        self.account = AccountStage(config.accounts, universe, sessions)
        self.strategies = StrategyStage(list(config.strategies), classes, universe)
        self.events = 0
        self.clock_ns = 0
        self._is_started = False
        self._context = MONEY_CONTEXT.copy()

    def process(self, batch: MarketBatch) -> Outputs:
        """Run one batch through all stages."""
        outputs = Outputs([], [])
        if not len(batch):
            return outputs
        decimal.setcontext(self._context)
        if not self._is_started:
            self._is_started = True
            self.account.start(int(batch.clock[0]), outputs.records)
            self.strategies.start(int(batch.clock[0]), outputs.records)
            self._route(outputs.records, 0, -1, int(batch.clock[0]))
        for piece in _pieces(batch):
            self._process(piece, outputs)
        return outputs

    def finish(self) -> Outputs:
        """End the run: open bars leave as partial, accounts are valued."""
        outputs = Outputs([], [])
        decimal.setcontext(self._context)
        last = self.market.finish(self.clock_ns)
        if len(last.bars):
            outputs.tables.append((MARKET_BARS, last.bars))
        outputs.records.extend((MARKET_QUALITY, record) for _, record in last.quality)
        outputs.records.extend((MARKET_INDICATORS, value) for _, value in last.indicators)
        done = len(outputs.records)
        self.strategies.finish(self.clock_ns, outputs.records)
        self._route(outputs.records, done, -1, self.clock_ns)
        equity = self.account.finish(self.clock_ns, outputs.records)
        if len(equity):
            outputs.tables.append((PORTFOLIO_EQUITY, equity))
        return outputs

    def _process(self, batch: MarketBatch, outputs: Outputs) -> None:
        out = outputs.records
        n = len(batch)
        clock = batch.clock
        records = batch.records
        cursor = 0
        if records and records[0][0] == 0 and isinstance(records[0][2], Instrument):
            # What follows may be of this instrument: every stage has to know it first.
            done = len(out)
            self._on_input(records[0][2], -1, int(clock[0]), out)
            self._route(out, done, -1, int(clock[0]))
            cursor = 1
        made = self.market.process(batch)
        self._publish_market(made, outputs)
        venue, strategies, account = self.venue, self.strategies, self.account
        usable = self._validity.usable(batch)
        account.load(usable, made.prices)
        venue.load(usable)
        strategies.load(usable, made.bars, _decision_positions(made.bars, usable))
        record_at = records[cursor][0] if cursor < len(records) else n
        while True:
            venue_at, strategy_at = venue.next(), strategies.next()
            pos = min(strategy_at, venue_at)
            if record_at < pos:
                pos = record_at
            if pos >= n:
                break
            now_ns = int(clock[pos]) if pos >= 0 else self.clock_ns
            done = len(out)
            if record_at == pos:
                self._on_input(records[cursor][2], pos, now_ns, out)
                self._route(out, done, pos, now_ns)
                done = len(out)
                cursor += 1
                record_at = records[cursor][0] if cursor < len(records) else n
            if venue_at == pos:
                venue.fire(pos, out)
                self._route(out, done, pos, now_ns)
                done = len(out)
            if strategy_at == pos:
                strategies.fire(pos, out)
                self._route(out, done, pos, now_ns)
        self.clock_ns = int(clock[-1])
        self.events += n
        equity = account.end(out, self.clock_ns)
        if len(equity):
            outputs.tables.append((PORTFOLIO_EQUITY, equity))
        venue.end()
        strategies.end()

    def _publish_market(self, made: MarketOutput, outputs: Outputs) -> None:
        if len(made.bars):
            outputs.tables.append((MARKET_BARS, made.bars))
        if len(made.prices):
            outputs.tables.append((ACCOUNT_INPUTS, made.prices))
        outputs.records.extend((MARKET_QUALITY, record) for _, record in made.quality)
        outputs.records.extend((MARKET_INDICATORS, value) for _, value in made.indicators)

    def _on_input(self, record: Header, pos: int, now_ns: int, out: Outbox) -> None:
        """Hand a record of the input to the stages that read it."""
        if isinstance(record, CorporateAction):
            self.venue.on_corporate_action(record, pos, now_ns, out)
            self.account.on_record(record, pos, now_ns, out)
            self.strategies.on_record(record, now_ns, out)
        elif isinstance(record, (Instrument, ExchangeRate, InstrumentStatus)):
            self.account.on_record(record, pos, now_ns, out)
        elif isinstance(record, StrategyCommand):
            self.strategies.on_record(record, now_ns, out)
        elif (
            getattr(record, "account_id", None) is not None
            or type(record).__name__ in _ACCOUNT_COMMANDS
        ):
            self.account.on_record(record, pos, now_ns, out)

    def _route(self, out: Outbox, start: int, pos: int, now_ns: int) -> None:
        """Hand every emitted record to the stage that reads its topic, in order."""
        account, venue, strategies = self.account, self.venue, self.strategies
        waiting = out[start:]
        while waiting:
            end = len(out)
            for topic, record in waiting:
                if topic is ACCOUNT_INPUTS:
                    account.on_record(record, pos, _time_of(record, now_ns), out)
                elif topic is VENUE_COMMANDS:
                    at_ns = _time_of(record, now_ns)
                    venue.on_command(record, pos, at_ns, out)  # type: ignore[arg-type]
                elif topic is STRATEGY_INPUTS:
                    strategies.on_record(record, _time_of(record, now_ns), out)
            waiting = out[end:]

    def snapshot(self) -> bytes:
        """Return the state of all stages; equal states give equal bytes."""
        return msgspec.json.encode(
            EngineState(
                msgspec.Raw(self.market.snapshot()),
                msgspec.Raw(self.venue.snapshot()),
                msgspec.Raw(self.account.snapshot()),
                msgspec.Raw(self.strategies.snapshot()),
                self.events,
                self.clock_ns,
                self._is_started,
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave."""
        decimal.setcontext(self._context)
        known = msgspec.json.decode(state, type=EngineState)
        self.market.restore(nested(known.market))
        self.venue.restore(nested(known.venue))
        self.account.restore(nested(known.account))
        self.strategies.restore(nested(known.strategy))
        self.events, self.clock_ns, self._is_started = (
            known.events,
            known.clock_ns,
            known.is_started,
        )


_ACCOUNT_COMMANDS = frozenset({"SetLimits", "SetBreaker", "Kill", "SetAutonomy"})


def _time_of(record: Header, now_ns: int) -> int:
    """Return when a record is handled that was made behind the event at ``now_ns``.

    A bar that time closed ends behind that event, and what is decided on it stands at its end.
    """
    ts: int = record.ts_event_ns  # type: ignore[attr-defined]
    return max(now_ns, ts)


def _pieces(batch: MarketBatch) -> list[MarketBatch]:
    """Cut a batch in front of every barrier record and behind it."""
    barriers = [pos for pos, _, record in batch.records if isinstance(record, _BARRIERS)]
    if not barriers:
        return [batch]
    edges = sorted({0, len(batch), *barriers, *(pos + 1 for pos in barriers)})
    return [batch.slice(a, b) for a, b in pairwise(edges)]


def _decision_positions(bars: BarColumns, batch: MarketBatch) -> Ints:
    """Return after which position each bar is decided on.

    A bar that time closed stands before the event at its position; one that an input bar makes or
    completes, and a correction, stands at it.
    """
    inputs = batch.bars
    is_made_by_event = bars.revision > 0
    if len(inputs) and len(bars):
        row = np.minimum(inputs.pos.searchsorted(bars.pos), len(inputs) - 1)
        is_made_by_event |= (
            (inputs.pos[row] == bars.pos)
            & (inputs.instrument[row] == bars.instrument)
            & (inputs.ts[row] == bars.ts)
        )
    return np.where(is_made_by_event, bars.pos, bars.pos - 1)
