"""The account stage held to a naive one: random records, batch cuts and restarts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from schemas.control import DeadLetter
from schemas.enums import BreakerState, OrderStatus
from schemas.order_events import OrderEvent, VenueReport
from schemas.portfolio import EquityMark, PositionChanged
from schemas.risk import LimitSet, RiskDecision
from schemas.topics import ORDER_EVENTS
from tests.unit.account_records import (
    EURO,
    FUTURE,
    A,
    B,
    Price,
    Step,
    accepted,
    action,
    at_ns,
    cancel,
    canceled,
    dec,
    expired,
    fill,
    instruments,
    kill,
    price,
    rate,
    rejected,
    replace,
    replaced,
    set_breaker,
    submit,
    triggered,
    with_tag,
)
from tests.unit.account_reference import NaiveLedger, NaiveOrder, NaiveStage, is_near
from tests.unit.account_script import (
    Driver,
    account,
    of,
    same,
    sessions,
    stage_config,
)

POSITION_MAX, OPEN_ORDERS_MAX = 100, 6
CASH = 10**9
MINUTE_NS = 60_000_000_000
DAY_NS = 1440 * MINUTE_NS
OPENS = sessions()["XNYS"].open_ns.tolist()
CONFIG = stage_config(
    account("paper", str(CASH)),
    account("other", str(CASH), calendar="XNYS"),
    limits=LimitSet(max_position=dec(str(POSITION_MAX)), max_open_orders=OPEN_ORDERS_MAX),
    snapshot_interval_s=300.0,
    closed_order_retention_s=1e7,  # longer than any run of the machine
)
REPORTS: dict[str, Callable[..., VenueReport]] = {
    "accepted": accepted,
    "triggered": triggered,
    "canceled": canceled,
    "expired": expired,
    "rejected": rejected,
}

names = st.sampled_from((A, A, A, B, EURO, FUTURE))
accounts = st.sampled_from(("paper", "paper", "other"))
strategies = st.sampled_from(("s", "s", "t"))
sides = st.sampled_from(("BUY", "SELL"))
ticks = st.integers(-3, 3)
pauses = st.sampled_from((0, 0, 0, 1, 1, 20, 20, 45, 200, 200, 86_370))
picks = st.integers(0, 7)


def text_of(name: str, number: int) -> str:
    """Return a price of an instrument, on a whole dozen of ticks so that splits keep it on grid."""
    grid = {EURO: "0.05", FUTURE: "0.25"}.get(name, "0.01")
    middle = {EURO: "10.2", FUTURE: "12"}.get(name, "10.08")
    return str(number * 12 * dec(grid) + dec(middle))


class AccountMachine(RuleBasedStateMachine):
    """Show the same records to the stage and to the naive one; cut batches and restart."""

    @initialize()
    def start(self) -> None:
        """Begin with two accounts that hold cash alone, and a rate for the euro."""
        self.driver = Driver(CONFIG)
        cash = {name: Fraction(CASH) for name in ("paper", "other")}
        self.naive = NaiveStage(NaiveLedger(cash, instruments()), POSITION_MAX, OPEN_ORDERS_MAX)
        self.script: list[Step] = []
        self.waiting: list[Step] = []
        self.seen = self.number = self.price_ns = 0
        self.is_marked = False
        self.at = 0.0
        self.codes: list[str] = []
        self.letters = 0
        self.peaks = {name: Fraction(CASH) for name in cash}
        self.marks: list[tuple[str, int, Fraction, Fraction]] = []
        self.currencies("1.25")

    # ---- what happens

    def show(self, step: Step) -> None:
        """Let the stage see a step."""
        self.waiting.append(step)

    def tagged(self, record: Any) -> Any:
        """Return a record with an id of its own."""
        self.number += 1
        return with_tag(record, str(self.number))

    @rule(
        name=names,
        side=sides,
        quantity=st.integers(1, 40),
        whose=accounts,
        strategy=strategies,
        number=ticks,
        is_limit=st.booleans(),
        is_decided=st.sampled_from((True, True, True, False)),
        is_reduce_only=st.booleans(),
    )
    def submit(self, **wish: Any) -> None:
        """Ask for an order."""
        self.ask(**wish)

    @rule(
        name=names,
        side=sides,
        quantity=st.integers(1, 40),
        whose=accounts,
        strategy=strategies,
        number=ticks,
        then=st.sampled_from(("accepted", "fill", "fill", "fill", "both", "both")),
        part=st.sampled_from((0.3, 0.5, 1, 1)),
        cents=st.integers(-9, 99),
    )
    def work(self, then: str, part: float, cents: int, **wish: Any) -> None:
        """Ask for an order that the venue accepts, executes, or both."""
        order = self.ask(is_limit=then != "fill", is_decided=True, **wish)
        if order.status is OrderStatus.SUBMITTED:
            if then != "fill":
                self.report(order, self.tagged(accepted(**self.of_order(order))))
            if then != "accepted":
                self.execute(order, part, wish["number"], cents)

    def ask(
        self,
        name: str,
        side: str,
        quantity: int,
        whose: str,
        strategy: str,
        number: int,
        is_limit: bool,
        is_decided: bool,
        is_reduce_only: bool = False,
    ) -> NaiveOrder:
        """Give a new order."""
        text = text_of(name, number)
        command = submit(
            f"o{len(self.naive.orders)}",
            side,
            str(quantity),
            text if is_limit else None,
            name=name,
            account_id=whose,
            strategy_id=strategy,
            decision_price=float(text) if is_decided else 0.0,
            is_reduce_only=is_reduce_only,
            at=self.at,
        )
        code = self.naive.submit(command)
        assert code is not None
        self.codes.append(code)
        self.show(command)
        return self.naive.orders[whose, command.client_order_id]

    @rule(pick=picks, is_same=st.booleans())
    def submit_again(self, pick: int, is_same: bool) -> None:
        """Use the id of an order for the second time."""
        order = self.pick(pick)
        if order is not None:
            quantity = order.command.quantity + (0 if is_same else 1)
            again = submit(
                order.command.client_order_id,
                order.command.side,
                str(quantity),
                name=order.command.instrument_id,
                account_id=order.command.account_id,
            )
            assert self.naive.submit(again) is None
            self.show(self.tagged(again))

    def pick(self, number: int) -> NaiveOrder | None:
        """Return one of the last orders, open ones first."""
        last = list(self.naive.orders.values())[-12:]
        last.sort(key=lambda order: not order.may_trade())
        return last[number] if number < len(last) else None

    def about(self, order: NaiveOrder) -> dict[str, Any]:
        """Return the fields by which a record names an order."""
        return {
            "order_id": order.command.client_order_id,
            "account_id": order.command.account_id,
            "at": self.at,
        }

    @rule(pick=picks, quantity=st.integers(1, 50), number=ticks)
    def replace(self, pick: int, quantity: int, number: int) -> None:
        """Ask for a change of an order."""
        order = self.pick(pick)
        if order is not None:
            text = text_of(order.command.instrument_id, number)
            command = self.tagged(replace(quantity=str(quantity), limit=text, **self.about(order)))
            code = self.naive.replace(order, command)
            if code is not None:
                self.codes.append(code)
            self.show(command)

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        """Ask for an order to be taken out."""
        order = self.pick(pick)
        if order is not None:
            self.naive.cancel(order)
            self.show(self.tagged(cancel(**self.about(order))))

    def report(self, order: NaiveOrder, record: VenueReport) -> None:
        """Let the venue speak."""
        self.letters += not self.naive.report(order, record)
        self.show(record)

    def of_order(self, order: NaiveOrder) -> dict[str, Any]:
        """Return the fields by which a report names an order."""
        command = order.command
        return {
            **self.about(order),
            "strategy_id": command.strategy_id,
            "instrument_id": command.instrument_id,
        }

    @rule(pick=picks, kind=st.sampled_from(("accepted", "accepted", *REPORTS)))
    def venue(self, pick: int, kind: str) -> None:
        """Let the venue say what became of an order."""
        order = self.pick(pick)
        if order is not None:
            self.report(order, self.tagged(REPORTS[kind](**self.of_order(order))))

    @rule(pick=picks, command=st.sampled_from(("replace", "cancel")))
    def refuse(self, pick: int, command: str) -> None:
        """Let the venue refuse a replace or a cancel."""
        order = self.pick(pick)
        if order is not None:
            self.report(order, self.tagged(rejected(command=command, **self.of_order(order))))

    @rule(pick=picks, more=st.integers(1, 30), number=ticks)
    def replaced(self, pick: int, more: int, number: int) -> None:
        """Let the venue work an order with new values."""
        order = self.pick(pick)
        if order is not None:
            text = text_of(order.command.instrument_id, number)
            quantity = str(int(order.filled) + more)
            self.report(
                order, self.tagged(replaced(quantity=quantity, limit=text, **self.of_order(order)))
            )

    @rule(
        pick=picks,
        part=st.sampled_from((0.3, 0.5, 1, 1, 2)),
        number=ticks,
        cents=st.integers(-9, 99),
    )
    def fill(self, pick: int, part: float, number: int, cents: int) -> None:
        """Let the venue execute a part of an order, all of it, or too much."""
        order = self.pick(pick)
        if order is not None:
            self.execute(order, part, number, cents)

    def execute(self, order: NaiveOrder, part: float, number: int, cents: int) -> None:
        """Let the venue execute a part of what is left of an order."""
        name = order.command.instrument_id
        quantity = max(1, int((order.quantity - order.filled) * Fraction(part)))
        self.number += 1
        execution = fill(
            side=order.command.side,
            quantity=str(quantity),
            price=text_of(name, number),
            fee=str(cents * dec("0.01")),
            trade=str(self.number),
            currency="EUR" if name == EURO else "USD",
            **self.of_order(order),
        )
        self.report(order, execution)

    @rule(pick=picks)
    def fill_twice(self, pick: int) -> None:
        """Let the venue repeat its last execution."""
        fills = [step for step in (*self.script, *self.waiting) if type(step).__name__ == "Fill"]
        if pick < len(fills):
            again: Any = fills[-1 - pick]
            order = self.naive.orders[again.account_id, again.client_order_id]
            is_known = again.trade_id in order.trades
            if is_known:
                self.report(order, self.tagged(again))

    @rule(name=names, number=ticks, pause=pauses)
    def price(self, name: str, number: int, pause: float) -> None:
        """Let a reference price come as a row."""
        self.at += pause
        value = float(text_of(name, number))
        self.mark()
        self.price_ns, self.is_marked = at_ns(self.at), False
        self.naive.prices[name] = value
        self.show(Price(self.at, value, name))

    @rule(prices=st.lists(st.tuples(names, ticks), min_size=20, max_size=40))
    def run_of_prices(self, prices: list[tuple[str, int]]) -> None:
        """Let many reference prices come, a minute apart."""
        for name, number in prices:
            self.price(name, number, 60)

    @rule(name=names, number=ticks)
    def price_record(self, name: str, number: int) -> None:
        """Let a reference price come as a record."""
        value = float(text_of(name, number))
        self.naive.prices[name] = value
        self.show(self.tagged(price(value, name=name, at=self.at)))

    @rule(name=names, ratio=st.sampled_from(("2", "3", "0.5")))
    def split(self, name: str, ratio: str) -> None:
        """Split an instrument whose price stays on the grid: off it, marks are not rounded."""
        last = self.naive.prices.get(name)
        grid = self.naive.ledger.listed[name].price_grid()
        if last is not None and not is_near(
            grid.nearest(last / float(ratio)), Fraction(last) / Fraction(ratio), 10**6
        ):
            return
        self.mark()
        record = self.tagged(action("SPLIT", name=name, ratio=dec(ratio), at=self.at))
        self.naive.act(record)
        self.show(record)

    @rule(name=names, cents=st.integers(1, 50))
    def dividend(self, name: str, cents: int) -> None:
        """Pay a dividend in the instrument's currency."""
        currency = "EUR" if name == EURO else "USD"
        amount = cents * dec("0.01")
        record = action("DIVIDEND", name=name, amount=amount, currency=currency, at=self.at)
        record = self.tagged(record)
        self.mark()
        self.naive.act(record)
        self.show(record)

    @rule(value=st.sampled_from(("1.25", "1.1", "0.97")))
    def currencies(self, value: str) -> None:
        """Change what a euro is worth."""
        self.naive.euro = Fraction(value)
        self.show(self.tagged(rate("EUR", "USD", value, at=self.at)))

    @rule(state=st.sampled_from(("ACTIVE", "ACTIVE", "REDUCING", "HALTED")))
    def breaker(self, state: str) -> None:
        """Trip or reset the breaker."""
        self.naive.breaker = BreakerState(state)
        self.show(self.tagged(set_breaker(state, at=self.at)))

    @rule()
    def cancel_all(self) -> None:
        """Ask for all orders to be taken out."""
        for order in self.naive.orders.values():
            self.naive.cancel(order)
        self.show(self.tagged(kill("CANCEL_ALL", at=self.at)))

    # ---- comparing

    def mark(self) -> None:
        """Note the mark behind the last price if its boundary is passed."""
        if not self.price_ns or self.is_marked:
            return
        instant = self.price_ns + -self.price_ns % MINUTE_NS
        midnight = self.price_ns + DAY_NS - self.price_ns % DAY_NS
        ends = [midnight, *(ns for ns in OPENS if ns > self.price_ns)]
        instant = min(instant, min(ends) - 1)
        if instant < at_ns(self.at):
            self.is_marked = True
            for name in self.peaks:
                self.marks.append((name, instant, *self.naive.equity(name)))

    @rule()
    def cut(self) -> None:
        """End a batch."""
        self.flush()

    @rule()
    def restart(self) -> None:
        """End a batch and go on with a restored stage."""
        self.flush()
        self.driver.restart()

    def flush(self) -> None:
        """Play what waits as one batch and compare everything."""
        records = self.driver.play(*self.waiting)
        self.script += self.waiting
        self.waiting = []
        assert [decision.code for decision in of(records, RiskDecision)] == self.codes
        assert len(of(records, DeadLetter)) == self.letters
        self.codes, self.letters = [], 0
        self.compare_orders()
        self.compare_positions()
        self.compare_marks()

    def compare_orders(self) -> None:
        """Hold the state of every order to the naive one."""
        found = {
            (event.account_id, event.client_order_id): event.status
            for event in of(self.driver.on_topic(ORDER_EVENTS), OrderEvent)
        }
        assert found == {key: order.status for key, order in self.naive.orders.items()}

    def compare_positions(self) -> None:
        """Hold positions, cash and equity to the naive ones."""
        ledger = self.naive.ledger
        everything = [record for _, record in self.driver.out]
        last = {
            (p.account_id, p.strategy_id, p.instrument_id): p
            for p in of(everything, PositionChanged)
        }
        for key, position in ledger.positions.items():
            assert Fraction(last[key].quantity) == position.quantity
            for value, exact in (
                (last[key].realized_pnl, position.realized),
                (last[key].realized_pnl_fifo, position.realized_fifo),
                (last[key].fees, position.fees),
            ):
                assert abs(Fraction(value) - exact) < Fraction(1, 10**9)
        for name, cash in ledger.cash.items():
            snapshot = self.driver.account(name)
            for currency, amount in cash.items():
                assert is_near(snapshot.cash.get(currency, dec("0")), amount, 10**12)
            equity, gross = self.naive.equity(name)
            assert is_near(snapshot.equity, equity, 100)
            assert is_near(snapshot.gross_exposure, gross, 100)
            parts = snapshot.realized_pnl + snapshot.unrealized_pnl - snapshot.fees
            assert is_near(snapshot.equity - CASH, Fraction(parts), 10**6)

    def compare_marks(self) -> None:
        """Hold the equity curve of every account to the naive one."""
        whole = [mark for mark in self.driver.marks if not mark.strategy_id]
        expected, self.marks = self.marks, []
        found, self.seen = whole[self.seen :], len(whole)
        by_instant = sorted((m.ts_event_ns, m.account_id) for m in found)
        assert by_instant == sorted((ts, name) for name, ts, _, _ in expected)
        exact = {(name, ts): (equity, gross) for name, ts, equity, gross in expected}
        for mark in found:
            equity, gross = exact[mark.account_id, mark.ts_event_ns]
            assert is_near(mark.equity, equity, 100)
            assert is_near(mark.gross_exposure, gross, 100)
            peak = self.peaks[mark.account_id] = max(self.peaks[mark.account_id], equity)
            assert is_near(mark.drawdown, (equity - peak) / peak, 10**9)

    def teardown(self) -> None:
        """Compare what is left; play all of it in one batch, and step by step."""
        if not hasattr(self, "naive"):
            return
        self.flush()
        whole, single = Driver(CONFIG), Driver(CONFIG)
        whole.play(*self.script)
        for step in self.script:
            single.play(step)
        assert same(self.driver, whole)
        assert same(self.driver, single)
        check_marks_of_strategies(self.driver.marks)
        ids = [
            getattr(record, "event_id", "")
            for topic, record in self.driver.out
            if "orders.events" in topic
        ]
        assert len(ids) == len(set(ids))


def check_marks_of_strategies(marks: Iterable[EquityMark]) -> None:
    """Check that exposures of an account are those of its strategies."""
    instants: dict[tuple[str, int], list[EquityMark]] = {}
    for mark in marks:
        instants.setdefault((mark.account_id, mark.ts_event_ns), []).append(mark)
    for found in instants.values():
        whole = [mark for mark in found if not mark.strategy_id]
        assert len(whole) == 1
        parts = [mark for mark in found if mark.strategy_id]
        assert whole[0].gross_exposure <= sum(mark.gross_exposure for mark in parts) + 0.01


TestAccountMachine = AccountMachine.TestCase
TestAccountMachine.settings = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
