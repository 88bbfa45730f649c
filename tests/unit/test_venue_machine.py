"""The paper venue held to a naive one: random markets, orders, batch cuts and restarts."""

from __future__ import annotations

from decimal import Decimal
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from agents.venue.config import (
    BasisPointFee,
    BasisPointSlippage,
    Latency,
    MakerTakerFee,
    NoFee,
    NoSlippage,
    PerShareFee,
    SpreadSlippage,
    TickSlippage,
    VenueConfig,
)
from schemas.codec import encode
from schemas.enums import InstrumentState
from schemas.order_events import (
    Fill,
    VenueAccepted,
    VenueCanceled,
    VenueExpired,
    VenueRejected,
    VenueReplaced,
    VenueReport,
)
from tests.unit.venue_reference import NaiveVenue, Order, line
from tests.unit.venue_script import (
    HOUR,
    A,
    B,
    Bar,
    Command,
    Event,
    Mark,
    Player,
    Quote,
    Status,
    Trade,
    cancel,
    make_universe,
    replace,
    submit,
)

TICKS = {A: Decimal("0.01"), B: Decimal("0.25")}
LOTS = {A: Decimal(1), B: Decimal("0.1")}

names = st.sampled_from((A, A, A, B))
prices = st.integers(998, 1002)
sizes = st.integers(0, 30)


class Move(NamedTuple):
    """A random event: ``tier`` says of what kind, empty is the instrument's own."""

    name: str
    tier: str
    step: int
    four: tuple[int, int, int, int]
    sizes: tuple[int, int]
    length: int
    is_revised: bool
    is_one_sided: bool

    def event(self, ts: int, tier: str) -> Event:
        """Return the event, ``step`` after ``ts``."""
        ts += self.step
        first, second, *_ = self.four
        if tier == "trade":
            return Trade(ts, first, self.sizes[0], self.name)
        if tier == "quote":
            bid, ask = (0, second) if self.is_one_sided else (first, second)
            if self.sizes[0] % 2:
                bid, ask = ask, bid
            return Quote(ts, bid, ask, *self.sizes, self.name)
        high, low = max(self.four), min(self.four)
        volume = sum(self.sizes)
        return Bar(
            ts, ts - self.length, first, high, low, second, volume, self.name, self.is_revised
        )


moves = st.builds(
    Move,
    names,
    st.sampled_from(("", "", "", "", "", "trade", "quote", "bar")),
    st.one_of(st.integers(0, 4), st.integers(-2, 6), st.sampled_from((4 * HOUR, 8 * HOUR))),
    st.tuples(prices, prices, prices, prices),
    st.tuples(sizes, sizes),
    st.sampled_from((0, 1, 1, 2, 3, 5)),
    st.sampled_from((False,) * 9 + (True,)),
    st.sampled_from((False,) * 7 + (True,)),
)
picks = st.integers(0, 5)
configs = st.builds(
    VenueConfig,
    execution_data=st.sampled_from(("trade", "quote", "bar")),
    execution_by_instrument=st.sampled_from(({}, {B: "trade"}, {B: "quote"})),
    limit_fill=st.sampled_from(("touch", "through")),
    participation=st.sampled_from((None, Decimal("0.5"), Decimal(1))),
    slippage=st.sampled_from(
        (
            NoSlippage(),
            TickSlippage(2),
            BasisPointSlippage(Decimal(7)),
            SpreadSlippage(Decimal("0.3")),
        )
    ),
    fee=st.sampled_from(
        (
            NoFee(),
            PerShareFee(Decimal("0.005"), Decimal(1)),
            BasisPointFee(Decimal("1.5")),
            MakerTakerFee(Decimal("-0.2"), Decimal("0.4")),
        )
    ),
    latency=st.sampled_from((Latency(), Latency(), Latency(3, 2, 4), Latency(0, 5, 1))),
)


class VenueMachine(RuleBasedStateMachine):
    """Show the same steps to both venues; cut batches and restart at random."""

    @initialize(config=configs)
    def start(self, config: VenueConfig) -> None:
        """Begin with a random configuration."""
        self.config = config
        self.player = Player(config)
        self.naive = NaiveVenue(config, make_universe())
        self.script: list[Event | Command] = []
        self.waiting: list[Event | Command] = []
        self.compared = 0
        self.number = self.orders = 0
        self.ts = HOUR

    def see(self, event: Event) -> None:
        """Show an event."""
        self.ts = max(self.ts, event.ts)
        self.naive.event(event)
        self.waiting.append(event)

    def say(self, command: Command) -> None:
        """Give a command."""
        self.naive.command(command)
        self.waiting.append(command)

    def tag(self) -> str:
        """Return a new id for a command."""
        self.number += 1
        return f"c{self.number}"

    @rule(moves=st.lists(moves, min_size=3, max_size=12))
    def market(self, moves: list[Move]) -> None:
        """Show some events."""
        for move in moves:
            tier = move.tier or self.config.tier(move.name)
            self.see(move.event(self.ts, tier))

    @rule(step=st.integers(0, 3), state=st.sampled_from(list(InstrumentState)), name=names)
    def status(self, step: int, state: InstrumentState, name: str) -> None:
        """Open, halt or close an instrument."""
        self.see(Status(self.ts + step, state, name))

    @rule(name=names)
    def reopen(self, name: str) -> None:
        """Open an instrument."""
        self.see(Status(self.ts, InstrumentState.OPEN, name))

    @rule(step=st.sampled_from((0, 1, 4, 8 * HOUR)))
    def watermark(self, step: int) -> None:
        """Let time pass."""
        self.see(Mark(self.ts + step))

    @rule(bad=st.sampled_from((float("nan"), -5.0)), name=names)
    def broken_data(self, bad: float, name: str) -> None:
        """Show data that cannot be used."""
        self.see(Trade(self.ts, bad, 10, name))
        self.see(Quote(self.ts, bad, 1000, 10, 10, name))

    @rule(
        side=st.sampled_from(("BUY", "SELL")),
        units=st.integers(1, 40),
        kind=st.sampled_from(("MARKET", "LIMIT", "LIMIT", "STOP", "STOP_LIMIT")),
        limit=prices,
        stop=prices,
        name=names,
        tif=st.sampled_from(("GTC", "GTC", "DAY", "IOC", "FOK")),
        is_post_only=st.sampled_from((False, False, False, True)),
        is_reduce_only=st.sampled_from((False, False, False, True)),
    )
    def submit(self, **values: Any) -> None:
        """Give a new order of any kind."""
        self.order(**values)

    @rule(
        side=st.sampled_from(("BUY", "SELL")),
        units=st.integers(1, 40),
        kind=st.sampled_from(("MARKET", "LIMIT", "STOP")),
        limit=prices,
        stop=prices,
        is_reduce_only=st.booleans(),
    )
    def submit_plain(self, **values: Any) -> None:
        """Give a new order that lives long."""
        self.order(name=A, tif="GTC", is_post_only=False, **values)

    def order(
        self,
        side: str,
        units: int,
        kind: str,
        limit: int,
        stop: int,
        name: str,
        tif: str,
        is_post_only: bool,
        is_reduce_only: bool,
    ) -> None:
        """Give a new order."""
        self.orders += 1
        order_id = f"o{self.orders}"
        self.say(
            submit(
                order_id,
                side,
                str(units * LOTS[name]),
                str(limit * TICKS[name]) if "LIMIT" in kind else None,
                str(stop * TICKS[name]) if "STOP" in kind else None,
                name=name,
                tif=tif,
                is_post_only=is_post_only,
                is_reduce_only=is_reduce_only,
                event_id=self.tag(),
            )
        )

    @rule(quantity=st.sampled_from(("10", "0.5")), limit=st.sampled_from((None, "10.001")))
    def submit_bad(self, quantity: str, limit: str | None) -> None:
        """Give an order that is refused."""
        self.say(submit("o1", quantity=quantity, limit=limit, event_id=self.tag()))

    @rule(pick=picks, units=st.integers(1, 40), limit=prices, stop=prices, same=st.booleans())
    def replace(self, pick: int, units: int, limit: int, stop: int, same: bool) -> None:
        """Change an order."""
        order_id, order = self.pick(pick)
        name = order.command.instrument_id if order else A
        has_limit = order is not None and order.limit is not None and not same
        has_stop = order is not None and order.stop is not None and not same
        self.say(
            replace(
                order_id,
                str(units * LOTS[name]),
                str(limit * TICKS[name]) if has_limit else None,
                str(stop * TICKS[name]) if has_stop else None,
                name=name,
                event_id=self.tag(),
            )
        )

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        """Cancel an order."""
        order_id, order = self.pick(pick)
        name = order.command.instrument_id if order else A
        self.say(cancel(order_id, name=name, event_id=self.tag()))

    def pick(self, number: int) -> tuple[str, Order | None]:
        """Return a working order, or one that is over."""
        working = list(self.naive.orders.items())
        return working[number] if number < len(working) else ("o1", None)

    @rule()
    def cut(self) -> None:
        """End a batch."""
        self.flush()

    @rule()
    def restart(self) -> None:
        """End a batch and go on with a restored venue."""
        self.flush()
        self.player.restart()

    def flush(self) -> None:
        """Play what waits as one batch and compare."""
        self.player.play(self.waiting)
        self.script += self.waiting
        self.waiting = []
        reports = [record for _, record in self.player.out]
        lines = [line(r) for r in reports[self.compared :] if isinstance(r, VenueReport)]
        assert lines == self.naive.lines[self.compared :]
        self.compared = len(reports)

    @invariant()
    def fills_never_exceed_the_order(self) -> None:
        """Check that nothing is overfilled."""
        if hasattr(self, "naive"):
            assert all(o.filled < o.quantity for o in self.naive.orders.values())

    def teardown(self) -> None:
        """Compare what is left; play all of it in one batch, and event by event."""
        if not hasattr(self, "naive"):
            return
        self.flush()
        whole, single = Player(self.config), Player(self.config)
        whole.play(self.script)
        batch: list[Event | Command] = []
        for step in self.script:
            if isinstance(step, Event) and batch:
                single.play(batch)
                batch = []
            batch.append(step)
        single.play(batch)
        outputs = [b"\n".join(encode(r) for _, r in p.out) for p in (self.player, whole, single)]
        assert outputs[0] == outputs[1] == outputs[2]
        states = [p.venue.snapshot() for p in (self.player, whole, single)]
        assert states[0] == states[1] == states[2]
        check_lives([r for _, r in self.player.out if isinstance(r, VenueReport)])


def check_lives(reports: list[VenueReport]) -> None:
    """Check what holds of every order whatever the rules of a fill are."""
    ids = [report.event_id for report in reports]
    assert len(ids) == len(set(ids))
    lives: dict[str, list[VenueReport]] = {}
    for report in reports:
        is_refused = isinstance(report, VenueRejected)
        if not is_refused:
            lives.setdefault(report.client_order_id, []).append(report)
    for life in lives.values():
        assert isinstance(life[0], VenueAccepted)
        fills = [report for report in life if isinstance(report, Fill)]
        ends = [
            report
            for report in life
            if isinstance(report, VenueCanceled | VenueExpired)
            or (isinstance(report, Fill) and not report.leaves_quantity)
        ]
        assert ends in ([], life[-1:])
        for before, after in pairwise(fills):
            is_replaced = any(isinstance(report, VenueReplaced) for report in life)
            assert is_replaced or after.leaves_quantity == before.leaves_quantity - after.quantity


TestVenueMachine = VenueMachine.TestCase
TestVenueMachine.settings = settings(
    max_examples=150,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
