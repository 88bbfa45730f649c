"""Times of orders: none is older than what made its strategy ask for it."""

from __future__ import annotations

from decimal import Decimal

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.engine import Engine, EngineConfig
from agents.strategy.builtin import BUILTIN
from agents.strategy.config import StrategyConfig
from agents.venue.config import Latency, VenueConfig
from schemas.commands import SubmitOrder
from schemas.order_events import Fill, OrderDenied
from schemas.risk import LimitSet
from tests.generated import cut, trades, universe

SECOND_NS = 10**9


def test_order_that_follows_a_denial_is_not_before_it_and_takes_its_latency() -> None:
    """A bar that time closes ends behind the last trade, so what is decided on it does too."""
    instruments = universe(("GEN",))
    config = EngineConfig(
        accounts=AccountStageConfig(
            accounts=(AccountConfig(account_id="paper", cash=Decimal(10**7)),),
            limits=LimitSet(max_quantity=Decimal(200)),
        ),
        strategies=(
            StrategyConfig(
                strategy_id="cross",
                name="momentum_crossover",
                account_id="paper",
                instrument_ids=("GEN.XXXX",),
                on="1m",
                capital=Decimal(10**6),
                parameters={"fast": 2, "slow": 5, "quantity": 150.0},
            ),
        ),
        market=MarketConfig(intervals=("1m",)),
        venue=VenueConfig(latency=Latency(submit_ns=SECOND_NS)),
    )
    engine = Engine(config, instruments, {}, BUILTIN)

    denied_ns = made_up = 0
    asked: dict[str, int] = {}
    for batch in cut(trades(instruments, 3000), 500):
        for _, record in engine.process(batch).records:
            if isinstance(record, OrderDenied):
                denied_ns = record.ts_event_ns
            elif isinstance(record, SubmitOrder):
                assert record.ts_event_ns >= denied_ns
                made_up += record.ts_event_ns == denied_ns
                asked[record.client_order_id] = record.ts_event_ns
            elif isinstance(record, Fill):
                assert record.ts_event_ns >= asked[record.client_order_id] + SECOND_NS
    assert made_up > 10
