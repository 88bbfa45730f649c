"""The strategy stage over one partition of ``strategy.inputs``: the strategies whose key it has.

A strategy is whole in one part, whatever instruments it trades; its part reads the market
partitions of those instruments, and of these only what its strategies look at: one that decides on
bars alone has no use for the trades behind them. All inputs meet in the order in which the worker
consumed them, which the order log keeps; what is decided on one instrument's bars alone does not
depend on it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from agents.market.validity import Validity
from agents.processor import Outbox
from agents.runners.kafka.parts.part import Part, partition_of
from agents.strategy.api import Strategy
from agents.strategy.config import StrategyConfig
from agents.strategy.stage import StrategyStage
from schemas.columns import BarColumns, MarketBatch
from schemas.instruments import CorporateAction, Universe
from schemas.market_data import Bar
from schemas.rows import table_from_records
from schemas.topics import MARKET_BARS, MARKET_EVENTS, STRATEGY_INPUTS


class StrategyPart(Part):
    """The strategies of one partition; ``looked_at`` are the market partitions that they need."""

    STAGE = "strategy"
    VERSION = "strategy-kafka-1"

    def __init__(
        self,
        partition: int,
        universe: Universe,
        counts: Mapping[str, int],
        configs: Sequence[StrategyConfig],
        classes: Mapping[str, type[Strategy]],
    ) -> None:
        super().__init__(partition, universe, counts)
        count = counts[STRATEGY_INPUTS]
        mine = [c for c in configs if partition_of(c.strategy_id, count) == partition]
        self._stage = StrategyStage(mine, classes, universe)
        self._validity = Validity(universe)
        self.looked_at = frozenset(
            (topic, partition_of(instrument, counts[topic]))
            for config in mine
            for topic in self._topics(config.strategy_id)
            for instrument in config.instrument_ids
        )
        self._at_first = frozenset(
            (MARKET_EVENTS, partition_of(instrument, counts[MARKET_EVENTS]))
            for config in mine
            for instrument in config.instrument_ids
        )

    @property
    def follows(self) -> frozenset[tuple[str, int]]:
        """Return the market partitions it reads now; until it has begun, also those of events.

        States are to be told when data comes, not when the first bar of a day closes.
        """
        return self.looked_at if self._is_started else self.looked_at | self._at_first

    def _topics(self, strategy_id: str) -> Sequence[str]:
        looks_at_events, looks_at_bars = self._stage.looks_at(strategy_id)
        return [MARKET_EVENTS] * looks_at_events + [MARKET_BARS] * looks_at_bars

    def _start(self, now_ns: int, out: Outbox) -> None:
        self._stage.start(now_ns, out)

    def _process(self, topic: str, batch: MarketBatch, out: Outbox) -> None:
        stage = self._stage
        if topic == STRATEGY_INPUTS:
            # The batch has moved the clock of its own partition already, up to its last record.
            mine = f"{topic}/{self.partition}"
            others_ns = max((ns for s, ns in self._clocks.items() if s != mine), default=0)
            for pos, _, record in batch.records:
                stage.on_record(record, max(others_ns, int(batch.clock[pos])), out)
            return
        bars = self._bars(batch)
        # Time closed these bars: what is decided on one stands before the next.
        stage.load(self._validity.usable(batch), bars, bars.pos - 1)
        self._fire(0, out)
        for pos, _, record in batch.records:
            if isinstance(record, CorporateAction):
                # It stands on both topics; a strategy takes it where its prices are.
                is_of_bars = topic == MARKET_BARS
                stage.on_action(record, int(batch.clock[pos]), out, is_of_bars=is_of_bars)
        self._fire(len(batch), out)
        stage.end()

    def _fire(self, stop: int, out: Outbox) -> None:
        while (pos := self._stage.next()) < stop:
            self._stage.fire(pos, out)

    def _bars(self, batch: MarketBatch) -> BarColumns:
        """Return the bars of a batch as columns, but for instruments defined just now.

        No strategy trades those; their definition comes on another topic.
        """
        known = self.universe
        found = [
            (pos, r)
            for pos, _, r in batch.records
            if isinstance(r, Bar) and known.index(r.instrument_id) is not None
        ]
        if not found:
            return BarColumns.empty()
        table = table_from_records(self.universe, BarColumns.KIND, [r for _, r in found])
        assert isinstance(table, BarColumns)
        table.pos = np.array([pos for pos, _ in found], np.int64)
        return table

    def _snapshot_stage(self) -> bytes:
        return self._stage.snapshot()

    def _restore_stage(self, state: bytes) -> None:
        self._stage.restore(state)
