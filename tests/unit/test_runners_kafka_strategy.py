"""The strategy stage over a partition: what reaches a strategy, and when it thinks it is."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
import pytest

from agents.runners.kafka.parts.part import partition_of
from agents.runners.kafka.parts.strategy import StrategyPart
from agents.strategy.api import Series, Strategy
from agents.strategy.config import StrategyConfig
from schemas.columns import Floats
from schemas.commands import SubmitOrder
from schemas.enums import LiquiditySide, OrderStatus, Side
from schemas.market_data import Trade
from schemas.order_events import Fill, OrderDenied, OrderRejected
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


def part_of(
    strategy: type[Strategy], on: str, parameters: dict[str, Any] | None = None
) -> StrategyPart:
    """Return the part that has a strategy on one share."""
    name = strategy.name
    config = StrategyConfig(
        strategy_id=name,
        name=name,
        account_id="mine",
        instrument_ids=(SHARE,),
        on=on,
        parameters=parameters or {},
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


class Flipper(Strategy):
    """Is long above ten, else short."""

    name = "flipper"

    def signals(self, series: Series) -> Floats:
        """Say one or minus one."""
        return np.where(series.price > 10.0, 1.0, -1.0)


_STATUS = {OrderDenied: OrderStatus.DENIED, OrderRejected: OrderStatus.REJECTED}


def denied(order: SubmitOrder, kind: type[OrderDenied | OrderRejected] = OrderDenied) -> Any:
    return kind(
        event_id=f"no-{order.client_order_id}",
        ts_event_ns=order.ts_event_ns,
        correlation_id=order.client_order_id,
        causation_id=order.event_id,
        account_id="mine",
        strategy_id="flipper",
        client_order_id=order.client_order_id,
        instrument_id=SHARE,
        status=_STATUS[kind],
        code="PRICE_STALE",
    )


def filled(order: SubmitOrder) -> Fill:
    return msgspec.structs.replace(
        fill(0),
        event_id=f"fill-{order.client_order_id}",
        strategy_id="flipper",
        client_order_id=order.client_order_id,
        side=order.side,
        quantity=order.quantity,
    )


class Flipping:
    """A strategy that is told what became of its orders when the test says so."""

    def __init__(self) -> None:
        self.part = part_of(Flipper, "trade", {"quantity": 100.0})
        self._market = self._inputs = 0

    def see(self, price: float) -> list[SubmitOrder]:
        """Return what is ordered at a price."""
        at, self._market = self._market, self._market + 1
        record = msgspec.structs.replace(trade(at), price=price)
        return self._orders(self.part.take(MARKET_EVENTS, PLACE, [(at, record)], at + 1))

    def hear(self, record: Any) -> list[SubmitOrder]:
        """Return what is ordered after an order's fill or end."""
        at, self._inputs = self._inputs, self._inputs + 1
        made = self.part.take(STRATEGY_INPUTS, self.part.partition, [(at, record)], at + 1)
        return self._orders(made)

    @property
    def open_orders(self) -> Any:
        """The orders that have not ended."""
        return strategy_of(self.part).view.open_orders

    @staticmethod
    def _orders(made: Any) -> list[SubmitOrder]:
        return [item.record for item in made if isinstance(item.record, SubmitOrder)]


@pytest.mark.parametrize("kind", [OrderDenied, OrderRejected])
def test_what_a_later_order_was_sized_on_is_ordered_again_once(kind: Any) -> None:
    session = Flipping()
    (first,) = session.see(9.0)
    assert session.hear(filled(first)) == []  # short 100
    (turn,) = session.see(11.0)
    (back,) = session.see(9.0)
    assert turn.quantity == back.quantity == Decimal(200)
    # Without the turn the way back would end at 300 short.
    (again,) = session.hear(denied(turn, kind))
    assert (again.side, int(again.quantity)) == (Side.BUY, 200)
    assert again.client_order_id == f"{turn.client_order_id}.again"
    assert session.hear(denied(again, kind)) == []  # not a third time
    assert session.hear(filled(back)) == []


def test_orders_that_are_all_denied_end() -> None:
    session = Flipping()
    waiting = [order for price in (9.0, 11.0, 9.0, 11.0) for order in session.see(price)]
    count = 0
    while waiting:
        waiting += session.hear(denied(waiting.pop(0)))
        count += 1
        assert count < 20
    assert not session.open_orders


def test_a_denied_order_that_nothing_was_sized_on_is_not_ordered_again() -> None:
    session = Flipping()
    (first,) = session.see(9.0)
    assert session.hear(denied(first)) == []
    (turn,) = session.see(11.0)
    session.hear(filled(turn))
    (back,) = session.see(9.0)
    # The position is closed instead: the old side is not kept.
    (close,) = session.hear(denied(back))
    assert (close.side, int(close.quantity)) == (Side.SELL, 100)
    assert session.hear(denied(close)) == []
