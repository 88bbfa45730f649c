"""Strategies of tests at work: an engine without limits over generated ticks."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TypeVar

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.engine import Engine, EngineConfig, Outputs
from agents.strategy.api import Strategy
from agents.strategy.config import StrategyConfig
from schemas.codec import encode
from schemas.columns import MarketBatch
from schemas.commands import SubmitOrder
from schemas.envelope import Header
from schemas.order_events import Fill
from schemas.topics import ORDER_FILLS, STRATEGY_INPUTS, STRATEGY_SIGNALS, STRATEGY_STATES

R = TypeVar("R", bound=Header)


def config_of(
    cls: type[Strategy], instruments: Sequence[str] = ("GEN.XXXX",), **terms: Any
) -> StrategyConfig:
    """Return the configuration of one strategy; ``terms`` are other fields of it."""
    return StrategyConfig(
        strategy_id=terms.pop("strategy_id", cls.name),
        name=cls.name,
        account_id="paper",
        instrument_ids=tuple(instruments),
        **terms,
    )


class StrategyRun:
    """An engine with strategies, and every record that it emitted."""

    def __init__(
        self,
        market: MarketBatch,
        classes: Sequence[type[Strategy]],
        configs: Sequence[StrategyConfig],
    ) -> None:
        account = AccountConfig(account_id="paper", cash=Decimal(10_000_000))
        self._market = market
        self._classes = {cls.name: cls for cls in classes}
        self._config = EngineConfig(
            accounts=AccountStageConfig(accounts=(account,)),
            strategies=tuple(configs),
            market=MarketConfig(intervals=("1m", "5m")),
        )
        self.engine = self._make()
        self.records: list[tuple[str, Header]] = []

    def _make(self) -> Engine:
        return Engine(self._config, self._market.universe, {}, self._classes)

    def play(
        self, sizes: Sequence[int] = (1_000_000,), *, is_restarting: bool = False
    ) -> StrategyRun:
        """Play the market in pieces of ``sizes``, over and over, to its end.

        If it ``is_restarting``, a new engine goes on from a snapshot after each piece.
        """
        at = number = 0
        while at < len(self._market):
            end = min(at + sizes[number % len(sizes)], len(self._market))
            self._add(self.engine.process(self._market.slice(at, end)))
            at, number = end, number + 1
            if is_restarting:
                state = self.engine.snapshot()
                self.engine = self._make()
                self.engine.restore(state)
        self._add(self.engine.finish())
        return self

    def _add(self, outputs: Outputs) -> None:
        self.records += outputs.records

    def of(self, kind: type[R]) -> list[R]:
        """Return the records of one type, in order, each on the first topic it goes to."""
        return [
            record
            for topic, record in self.records
            if isinstance(record, kind) and topic != STRATEGY_INPUTS and topic != ORDER_FILLS
        ]

    @property
    def strategy(self) -> Any:
        """The first strategy's own object."""
        return self.engine.strategies.instances[0].strategy

    def orders(self) -> list[tuple[Any, ...]]:
        """Return what every order says, but for its names."""
        return [
            (
                o.ts_event_ns,
                o.instrument_id,
                o.side,
                o.quantity,
                o.order_type,
                o.limit_price,
                o.decision_price,
                o.decision_ts_ns,
            )
            for o in self.of(SubmitOrder)
        ]

    def fills(self) -> list[tuple[Any, ...]]:
        """Return what every fill says, but for its names."""
        return [
            (f.ts_event_ns, f.instrument_id, f.side, f.quantity, f.price) for f in self.of(Fill)
        ]

    def said(self) -> list[bytes]:
        """Return the bytes of everything that the strategy stage emitted, and its last state."""
        ours = [
            encode(record)
            for topic, record in self.records
            if topic in (STRATEGY_SIGNALS, STRATEGY_STATES) or isinstance(record, SubmitOrder)
        ]
        return [*ours, self.engine.strategies.snapshot()]
