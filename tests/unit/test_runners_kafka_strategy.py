"""The strategy stage over a partition: what reaches a strategy, and when it thinks it is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest

from agents.runners.kafka.parts.part import partition_of
from agents.runners.kafka.parts.strategy import StrategyPart
from agents.strategy.api import Series, Strategy
from agents.strategy.config import StrategyConfig
from schemas.columns import Floats
from schemas.enums import LiquiditySide, Side
from schemas.market_data import Trade
from schemas.order_events import Fill
from schemas.topics import CATALOGUE, MARKET_BARS, MARKET_EVENTS, STRATEGY_INPUTS, STRATEGY_STATES
from tests.generated import START_NS, universe

COUNTS = {topic.name: topic.partitions for topic in CATALOGUE}
SHARE = "AA.XXXX"
PLACE = partition_of(SHARE, COUNTS[MARKET_EVENTS])
SECOND_NS = 1_000_000_000


class Diary(Strategy):
    """Writes down when it was told of a fill."""

    name = "diary"

    def on_fill(self, fill: Fill) -> None:
        """Note the time that the strategy is told."""
        self.seen = [*getattr(self, "seen", []), self.now_ns - START_NS]

    def on_trade(self, trade: Any) -> None:
        """Do nothing: the strategy works on trades."""


class Follower(Strategy):
    """Wants to hold what has risen."""

    name = "follower"

    def signals(self, series: Series) -> Floats:
        """Say one after a rise, else nothing."""
        return np.where(np.diff(series.price, prepend=series.price[:1]) > 0, 1.0, 0.0)


def part_of(strategy: type[Strategy], on: str) -> StrategyPart:
    """Return the part that has a strategy on one share."""
    name = strategy.name
    config = StrategyConfig(
        strategy_id=name, name=name, account_id="mine", instrument_ids=(SHARE,), on=on
    )
    partition = partition_of(name, COUNTS[STRATEGY_INPUTS])
    return StrategyPart(partition, universe(("AA",)), COUNTS, [config], {name: strategy})


def diary_part() -> StrategyPart:
    return part_of(Diary, "trade")


def trade(second: int) -> Trade:
    return Trade(
        event_id=f"trade-{second}",
        ts_event_ns=START_NS + second * SECOND_NS,
        instrument_id=SHARE,
        price=10.0,
        size=1.0,
        source="s",
        source_seq=second + 1,
    )


def fill(second: int, account_id: str = "mine") -> Fill:
    return Fill(
        event_id=f"fill-{account_id}-{second}",
        ts_event_ns=START_NS + second * SECOND_NS,
        correlation_id="",
        causation_id="",
        account_id=account_id,
        strategy_id="diary",
        instrument_id=SHARE,
        client_order_id=f"order-{second}",
        venue_order_id="v",
        trade_id=f"trade-{second}",
        side=Side.BUY,
        quantity=Decimal(1),
        price=Decimal(10),
        fee=Decimal(0),
        currency="USD",
        liquidity_side=LiquiditySide.TAKER,
        reference_price=Decimal(10),
        leaves_quantity=Decimal(0),
    )


def strategy_of(part: StrategyPart) -> Any:
    (instance,) = part._stage.instances
    return instance


def told(cuts: list[int]) -> list[int]:
    """Return when a strategy thought it was at each of six fills that come in these batches."""
    part = diary_part()
    part.take(MARKET_EVENTS, PLACE, [(0, trade(2))], 1)
    fills = [(offset, fill(second)) for offset, second in enumerate((0, 1, 5, 4, 6, 9))]
    start = 0
    for stop in (*cuts, len(fills)):
        part.take(STRATEGY_INPUTS, part.partition, fills[start:stop], stop)
        start = stop
    seen: list[int] = strategy_of(part).strategy.seen
    return [at // SECOND_NS for at in seen]


@pytest.mark.parametrize("cuts", [[], [1], [3], [1, 2, 3, 4, 5], [2, 4]])
def test_the_time_of_a_fill_does_not_depend_on_the_batch_it_came_in(cuts: list[int]) -> None:
    assert told(cuts) == [2, 2, 5, 5, 6, 9]


def test_a_fill_of_another_account_that_names_the_strategy_does_not_reach_it() -> None:
    part = diary_part()
    part.take(STRATEGY_INPUTS, part.partition, [(0, fill(1, "other")), (1, fill(2))], 2)
    assert strategy_of(part).view.positions == {SHARE: 1}
    assert len(strategy_of(part).strategy.seen) == 1


@pytest.mark.parametrize(
    ("strategy", "on", "topics"),
    [
        (Follower, "1m", {MARKET_BARS}),
        (Follower, "trade", {MARKET_EVENTS}),
        (Diary, "1m", {MARKET_EVENTS, MARKET_BARS}),
    ],
)
def test_a_part_reads_the_market_data_that_its_strategies_look_at(
    strategy: type[Strategy], on: str, topics: set[str]
) -> None:
    part = part_of(strategy, on)
    assert part.follows == {(topic, PLACE) for topic in {*topics, MARKET_EVENTS}}

    made = part.take(MARKET_EVENTS, PLACE, [(0, trade(0))], 1)
    assert made[0].topic == STRATEGY_STATES
    assert part.follows == {(topic, PLACE) for topic in topics}

    again = part_of(strategy, on)
    again.restore(part.snapshot())
    assert again.follows == part.follows
