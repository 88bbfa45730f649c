"""Account, paper venue and strategies agree on positions, orders and cash, whatever happens.

The engine hands corporate actions to all; each keeps what it knows of an instrument by itself.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.runners.config import EngineConfig
from agents.runners.engine import Engine
from agents.strategy.api import Strategy
from agents.strategy.config import StrategyConfig
from schemas.columns import MarketBatch
from schemas.enums import OrderType
from schemas.envelope import Header
from schemas.topics import ACCOUNT_INPUTS
from tests.unit.account_records import A, B, action, at_ns, kill, set_autonomy, submit, with_tag
from tests.unit.account_script import account, stage_config
from tests.unit.test_venue_actions import twins
from tests.unit.venue_script import Trade, make_batch

ORDERS = st.tuples(
    st.just("order"),
    st.sampled_from((A, B)),
    st.sampled_from(("BUY", "SELL")),
    st.sampled_from((10, 30, 70, 100)),
    st.sampled_from((None, "8", "9.99", "10.01", "12")),
    st.booleans(),
    st.sampled_from(("s", "t")),
)
STEPS = st.lists(
    st.one_of(
        ORDERS,
        ORDERS,
        st.tuples(
            st.just("trade"), st.sampled_from((A, B)), st.sampled_from((790, 990, 1000, 1010, 1210))
        ),
        st.tuples(
            st.just("split"),
            st.sampled_from((A, B)),
            st.sampled_from(("2", "10", "0.1", "1.5", "0.33333333333333333333")),
        ),
        st.tuples(st.just("rename"), st.sampled_from(((A, B), (B, A), (A, "ZZZ")))),
        st.tuples(st.just("kill"), st.sampled_from(("FLATTEN", "CANCEL_ALL", "STOP_ENTRIES"))),
        st.tuples(st.just("mode"), st.sampled_from(("AUTOMATIC", "SEMI_AUTOMATIC"))),
    ),
    max_size=25,
)


CAPITAL = Decimal(100_000)


class Nibbler(Strategy):
    """Ask for a little at and around the price of every third trade."""

    name = "nibbler"

    def on_start(self) -> None:
        """Begin to count."""
        self.seen = 0

    def on_trade(self, trade: Any) -> None:
        """Ask for a part at the market, and for one that rests."""
        self.seen += 1
        if self.seen % 3 == 0:
            self.buy(trade.instrument_id, Decimal(7))
            self.sell(trade.instrument_id, 5, order_type=OrderType.LIMIT, limit_price=Decimal(11))


class Session:
    """An engine that takes one event or record after the other."""

    def __init__(self, grids: tuple[str, str], multiplier: str) -> None:
        self.universe = twins(*grids, multiplier)
        self.rounded = Decimal("1e-9")  # of money: what the price of a split may be off in all
        accounts = stage_config(account(cash="1000000"))
        nibbler = StrategyConfig(
            strategy_id="n",
            name="nibbler",
            account_id="paper",
            instrument_ids=(A, B),
            on="trade",
            capital=CAPITAL,
        )
        config = EngineConfig(accounts=accounts, strategies=(nibbler,))
        self.engine = Engine(config, self.universe, {}, {"nibbler": Nibbler})
        self.count = 0

    def now_ns(self) -> int:
        """Return the instant of the next step."""
        return at_ns(self.count)

    def record(self, record: Any) -> None:
        """Let the engine take a record, with an id and at a time of its own."""
        self.take([], with_tag(record, str(self.count)))

    def take(self, events: list[Trade], *records: Header) -> None:
        """Let the engine take a trade or a record."""
        self.count += 1
        if events:
            batch = make_batch(self.universe, events, self.count)
        else:
            clock = np.array([self.now_ns()], np.int64)
            found = [(0, ACCOUNT_INPUTS, record) for record in records]
            batch = MarketBatch(self.universe, clock, records=found)
        self.engine.process(batch)

    def step(self, kind: str, *how: Any) -> None:
        """Do one of the things that a test lists."""
        if kind == "order":
            name, side, quantity, limit, is_reduce_only, strategy = how
            order = submit(
                f"o{self.count}",
                side,
                str(quantity),
                limit,
                name=name,
                is_reduce_only=is_reduce_only,
                strategy_id=strategy,
            )
            self.record(order)
        elif kind == "trade":
            self.take([Trade(self.now_ns(), how[1], 9999, how[0])])
        elif kind == "split":
            self.count_rounding(how[0], Decimal(how[1]))
            self.record(action("SPLIT", ratio=Decimal(how[1]), name=how[0]))
        elif kind == "rename":
            old, new = how[0]
            self.record(action("SYMBOL_CHANGE", new_symbol=new, name=old))
        elif kind == "kill":
            self.record(kill(how[0]))
        else:
            self.record(set_autonomy(how[0]))

    def count_rounding(self, name: str, ratio: Decimal) -> None:
        """Count what cash in lieu may differ by: the account sells at a price of the grid.

        Where there is no such price it sells at cost.
        """
        stage = self.engine.account
        index = self.universe.index(name)
        assert index is not None
        instrument = self.universe.instruments[index]
        off = instrument.price_increment
        if Decimal(stage.book.prices[name]) / ratio < off:
            for position in stage.accounts["paper"].positions.values():
                off = max(off, position.average_price() / ratio)
        self.rounded += off * instrument.quantity_increment * instrument.multiplier

    def check(self) -> None:
        """Hold the two stages to each other."""
        state = json.loads(self.engine.snapshot())
        lots = {i.instrument_id: i.quantity_increment for i in self.universe.instruments}
        (known,) = state["account"]["accounts"]
        positions = {
            key: Decimal(position["quantity"])
            for key, position in known["positions"].items()
            if Decimal(position["quantity"])
        }
        at_venue = {
            key.removeprefix("paper|"): units * lots[key.rpartition("|")[2]]
            for key, units in state["venue"]["positions"].items()
            if units
        }
        assert at_venue == positions
        resting = {
            order["client_order_id"]: (
                order["instrument_id"],
                (order["quantity"] - order["filled"]) * lots[order["instrument_id"]],
            )
            for order in state["venue"]["orders"]
        }
        orders = known["orders"]
        working = {
            name: (
                orders[name]["command"]["instrument_id"],
                Decimal(orders[name]["quantity"]) - Decimal(orders[name].get("filled", 0)),
            )
            for name in known["open_orders"]
        }
        assert resting == working
        self.check_strategy(positions, working, orders)
        for name, holding in known["holdings"].items():
            for side, field in (("BUY", "working_buy"), ("SELL", "working_sell")):
                wanted = sum(
                    left
                    for order, (owner, left) in working.items()
                    if owner == name and orders[order]["command"]["side"] == side
                )
                assert Decimal(holding.get(field, 0)) == wanted

    def check_strategy(
        self,
        positions: dict[str, Decimal],
        working: dict[str, tuple[str, Decimal]],
        orders: dict[str, Any],
    ) -> None:
        """Hold what the strategy believes to what the account knows."""
        held: dict[str, Decimal] = {}
        for instance in self.engine.strategies.instances:
            view = instance.view
            held |= {f"n|{name}": units for name, units in view.positions.items() if units}
            believed = {key: (name, abs(left)) for key, (name, left) in view.open_orders.items()}
            waiting = {
                key: (order["command"]["instrument_id"], Decimal(order["quantity"]))
                for key, order in orders.items()
                if order["status"] == "PENDING_APPROVAL"
            }
            own = {k: v for k, v in {**working, **waiting}.items() if k in view.open_orders}
            assert believed == own
            for name, units in view.working.items():
                assert units == sum(
                    left for theirs, left in view.open_orders.values() if theirs == name
                )
        assert held == {key: units for key, units in positions.items() if key.startswith("n|")}
        (nibbler,) = self.engine.strategies.instances
        paid = sum(
            position.cost + position.fees - position.realized - position.dividends
            for key, position in self.engine.account.accounts["paper"].positions.items()
            if key.startswith("n|")
        )
        assert abs(CAPITAL - nibbler.view.cash - paid) <= self.rounded


@settings(max_examples=300)
@given(
    STEPS,
    st.sampled_from((("0.01", "1"), ("0.25", "1"), ("0.01", "0.1"), ("0.01", "10"))),
    st.sampled_from(("1", "50")),
)
def test_account_and_venue_agree(
    steps: list[tuple[Any, ...]], grids: tuple[str, str], multiplier: str
) -> None:
    session = Session(grids, multiplier)
    session.step("trade", A, 1000)
    session.step("trade", B, 1000)
    for name, side, strategy in ((A, "BUY", "s"), (B, "BUY", "s"), (B, "SELL", "t")):
        session.step("order", name, side, 100, None, False, strategy)
        session.step("trade", name, 1000)

    for step in steps:
        session.step(*step)
        session.check()
