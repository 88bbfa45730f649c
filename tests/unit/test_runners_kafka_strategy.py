"""The strategy stage over a partition: what reaches a strategy, and when it thinks it is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from agents.runners.kafka.parts.part import partition_of
from agents.runners.kafka.parts.strategy import StrategyPart
from agents.strategy.api import Strategy
from agents.strategy.config import StrategyConfig
from schemas.enums import LiquiditySide, Side
from schemas.market_data import Trade
from schemas.order_events import Fill
from schemas.topics import CATALOGUE, MARKET_EVENTS, STRATEGY_INPUTS
from tests.generated import START_NS, universe

COUNTS = {topic.name: topic.partitions for topic in CATALOGUE}
SHARE = "AA.XXXX"
SECOND_NS = 1_000_000_000


class Diary(Strategy):
    """Writes down when it was told of a fill."""

    name = "diary"

    def on_fill(self, fill: Fill) -> None:
        """Note the time that the strategy is told."""
        self.seen = [*getattr(self, "seen", []), self.now_ns - START_NS]

    def on_trade(self, trade: Any) -> None:
        """Do nothing: the strategy works on trades."""


def diary_part() -> StrategyPart:
    config = StrategyConfig(
        strategy_id="diary", name="diary", account_id="mine", instrument_ids=(SHARE,), on="trade"
    )
    partition = partition_of("diary", COUNTS[STRATEGY_INPUTS])
    return StrategyPart(partition, universe(("AA",)), COUNTS, [config], {"diary": Diary})


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
    trade = Trade(
        event_id="t", ts_event_ns=START_NS + 2 * SECOND_NS, instrument_id=SHARE, price=10.0,
        size=1.0, source="s", source_seq=1,
    )  # fmt: skip
    place = partition_of(SHARE, COUNTS[MARKET_EVENTS])
    part.take(MARKET_EVENTS, place, [(0, trade)], 1)
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
