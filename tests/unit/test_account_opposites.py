"""Two strategies of one account that hold the opposite of each other: each of them can get out.

Strategy s is 100 short and t 40 long, so the account is 60 short: what closes t adds to the net.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.commands import SubmitOrder, VenueCancel, VenueSubmit
from schemas.enums import AccountKind
from schemas.envelope import Header
from schemas.risk import LimitSet, RiskDecision
from tests.unit.account_records import (
    B,
    accepted,
    canceled,
    dec,
    fill,
    kill,
    price,
    set_breaker,
    set_limits,
    submit,
    traded,
    with_tag,
)
from tests.unit.account_script import Driver, account, of, only, stage_config


def opposed(long: str = "40", short: str = "100", limits: LimitSet | None = None) -> Driver:
    """Return a driver with the two positions, and prices of 10."""
    driver = Driver(stage_config(account(cash="100000"), limits=limits))
    driver.play(price(10.0), price(10.0, name=B))
    driver.play(*traded("long", "BUY", long, "10", strategy="t"))
    driver.play(*traded("short", "SELL", short, "10"))
    return driver


def decide(driver: Driver, command: SubmitOrder) -> RiskDecision:
    """Return the gate's word on an order."""
    return only(driver.play(command), RiskDecision)


def closing(quantity: str = "40", *, is_reduce_only: bool = True) -> SubmitOrder:
    """Return an order of strategy t that sells what it holds."""
    return submit("close", "SELL", quantity, strategy_id="t", is_reduce_only=is_reduce_only)


@pytest.mark.parametrize(
    "before",
    [[], [kill("STOP_ENTRIES")], [set_limits(allow_self_match=False)]],
    ids=["active", "stopped", "without self-match"],
)
def test_one_flatten_closes_both(before: list[SubmitOrder]) -> None:
    driver = opposed()
    driver.play(*before)

    records = driver.play(kill("FLATTEN"))

    assert all(decision.is_approved for decision in of(records, RiskDecision))
    sent = {(s.strategy_id, s.side.value, s.quantity) for s in of(records, VenueSubmit)}
    assert sent == {("s", "BUY", dec("100")), ("t", "SELL", dec("40"))}


@pytest.mark.parametrize("is_reduce_only", [True, False])
@pytest.mark.parametrize("quantity", ["20", "40"])
def test_closing_what_a_strategy_holds_passes_stopped_entries(
    quantity: str, is_reduce_only: bool
) -> None:
    driver = opposed()
    driver.play(kill("STOP_ENTRIES"))

    assert decide(driver, closing(quantity, is_reduce_only=is_reduce_only)).is_approved


def test_more_than_the_strategy_holds_is_no_closing() -> None:
    driver = opposed()
    driver.play(kill("STOP_ENTRIES"))

    assert decide(driver, closing("41", is_reduce_only=False)).code == "BREAKER_REDUCING"


def test_working_orders_of_the_strategy_count_as_closing_already() -> None:
    driver = opposed()
    driver.play(submit("rest", "SELL", "30", limit="11", strategy_id="t"), accepted("rest"))
    driver.play(submit("other", "SELL", "30", limit="11"), accepted("other"))
    driver.play(kill("STOP_ENTRIES"))

    assert decide(driver, closing("11", is_reduce_only=False)).code == "BREAKER_REDUCING"
    within = with_tag(submit("within", "SELL", "10", strategy_id="t"), "2")
    assert decide(driver, within).is_approved


def test_order_that_reduces_the_net_passes_unless_its_own_strategy_is_stopped() -> None:
    driver = opposed()
    entry = submit("entry", "BUY", "10", strategy_id="t")
    driver.play(kill("STOP_ENTRIES"))
    assert decide(driver, entry).is_approved

    driver = opposed()
    driver.play(set_breaker("REDUCING", "STRATEGY", "t"))
    decision = decide(driver, entry)
    assert (decision.code, decision.scope) == ("BREAKER_REDUCING", "strategy t")
    assert decision.detail == "the strategy holds 40"
    assert decide(driver, with_tag(closing(is_reduce_only=False), "2")).is_approved


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"max_position": dec("80")}, "MAX_POSITION"),
        ({"max_position_notional": dec("800")}, "MAX_POSITION_NOTIONAL"),
        ({"max_gross_exposure": dec("800")}, "GROSS_EXPOSURE"),
        ({"max_net_exposure": dec("800")}, "NET_EXPOSURE"),
    ],
)
@pytest.mark.parametrize("is_reduce_only", [True, False])
def test_limits_on_what_is_held_keep_nobody_from_closing(
    limits: dict[str, Any], code: str, is_reduce_only: bool
) -> None:
    driver = opposed()
    driver.play(set_limits(**limits))

    assert decide(driver, submit("entry", "SELL", "40")).code == code
    assert decide(driver, closing(is_reduce_only=is_reduce_only)).is_approved


@pytest.mark.parametrize("limits", [LimitSet(is_long_only=True), None])
def test_closing_does_not_make_an_account_short_that_must_not_be(limits: LimitSet | None) -> None:
    kind = AccountKind.REG_T if limits is not None else AccountKind.CASH
    driver = Driver(stage_config(account(cash="100000", kind=kind), limits=limits))
    driver.play(price(10.0), *traded("long", "BUY", "100", "10", strategy="t"))
    driver.play(*traded("short", "SELL", "40", "10"))

    code = "LONG_ONLY" if limits is not None else "NOT_SHORTABLE"
    assert decide(driver, closing("100")).code == code
    assert decide(driver, submit("part", "SELL", "60", strategy_id="t")).is_approved


def test_reduce_only_looks_at_the_strategy_that_the_venue_fills_for() -> None:
    driver = opposed()

    decision = decide(driver, submit("manual", "BUY", "60", strategy_id="u", is_reduce_only=True))

    assert decision.code == "REDUCE_ONLY"
    assert decision.limit == "a position of strategy u to reduce; held 0"


NAMES = ("r", "s", "t")
ACTS = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "ask", "fill", "fill", "part", "cancel", "flatten")),
        st.sampled_from(NAMES),
        st.sampled_from(("BUY", "SELL")),
        st.sampled_from((1, 20, 40, 60, 61, 100)),
        st.booleans(),
    ),
    max_size=30,
)


class Venue:
    """Fills the orders that the stage lets go, a reduce-only one as far as its strategy holds."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.held = dict.fromkeys(NAMES, 0)
        self.open: list[list[Any]] = []
        self.count = 0

    def do(self, act: str, name: str, side: str, quantity: int, is_reduce_only: bool) -> None:
        """Do one of the acts of a test."""
        if act == "ask":
            self.ask(name, side, quantity, is_reduce_only)
        elif act == "cancel":
            self.end(quantity)
        elif act == "flatten":
            self.count += 1
            self.take(with_tag(kill("FLATTEN", at=1), str(self.count)))
        else:
            self.trade(quantity, 1000 if act == "fill" else 1 + quantity // 3)

    def ask(self, name: str, side: str, quantity: int, is_reduce_only: bool) -> None:
        """Ask for an order."""
        self.count += 1
        name_of_order, asked = f"o{self.count}", str(quantity)
        fields: dict[str, Any] = {"strategy_id": name, "is_reduce_only": is_reduce_only}
        self.take(submit(name_of_order, side, asked, **fields))

    def take(self, command: Header) -> None:
        """Play a command, and take what it asks of the venue in that order.

        Every other order of which the venue is to take out the rest fills a part before.
        """
        for asked in self.driver.play(command):
            if isinstance(asked, VenueSubmit):
                self.open.append([asked, int(asked.quantity)])
            elif isinstance(asked, VenueCancel):
                number = self.ids().index(asked.client_order_id)
                if number % 2:
                    self.trade(number, 7)
                if asked.client_order_id in self.ids():
                    self.end(number)

    def ids(self) -> list[str]:
        """Return the ids of the open orders."""
        return [order.client_order_id for order, _ in self.open]

    def trade(self, number: int, part: int) -> None:
        """Fill a part of one of the open orders, or all that it may; end one that may not go on."""
        if not self.open:
            return
        entry = self.open[number % len(self.open)]
        order, left = entry
        sign = 1 if order.side == "BUY" else -1
        room = -sign * self.held[order.strategy_id] if order.is_reduce_only else left
        quantity = min(left, part, max(room, 0))
        whose: dict[str, Any] = {"strategy_id": order.strategy_id}
        if quantity:
            self.count += 1
            name, trade = order.client_order_id, str(self.count)
            self.driver.play(fill(name, order.side, str(quantity), trade=trade, **whose))
            self.held[order.strategy_id] += sign * quantity
            entry[1] -= quantity
        if not entry[1]:
            self.open.remove(entry)
        elif order.is_reduce_only and quantity == max(room, 0):
            self.end(number)

    def end(self, number: int) -> None:
        """Cancel one of the open orders."""
        if self.open:
            order, _ = self.open.pop(number % len(self.open))
            strategy = order.strategy_id
            self.driver.play(canceled(order.client_order_id, strategy_id=strategy))

    def largest_side(self) -> int:
        """Return the larger of what strategies hold long and what they hold short."""
        longs = sum(held for held in self.held.values() if held > 0)
        return max(longs, longs - sum(self.held.values()))


def begun(held: Sequence[int]) -> Venue:
    """Return a venue at which the strategies hold so much."""
    driver = Driver(stage_config(account(cash="100000")))
    driver.play(price(10.0))
    venue = Venue(driver)
    for name, quantity in zip(NAMES, held, strict=True):
        if quantity:
            venue.ask(name, "BUY" if quantity > 0 else "SELL", abs(quantity), False)
            venue.trade(0, abs(quantity))
    return venue


@given(st.tuples(*[st.sampled_from((-100, -60, 0, 40, 60, 100))] * 3), ACTS, st.booleans())
def test_stopped_entries_let_no_side_grow(
    begin: tuple[int, ...], acts: list[tuple[str, str, str, int, bool]], has_flatten: bool
) -> None:
    venue = begun(begin)
    most = venue.largest_side()
    venue.driver.play(kill("STOP_ENTRIES"))

    for act in acts:
        venue.do(*act)
        assert venue.largest_side() <= most
    if has_flatten:
        venue.take(kill("CANCEL_ALL", at=1))
        venue.take(kill("FLATTEN", at=1))
    while venue.open:
        venue.trade(0, 1000)
        assert venue.largest_side() <= most
    assert not has_flatten or not any(venue.held.values())


@given(ACTS)
def test_exits_leave_no_account_short_that_must_not_be(
    acts: list[tuple[str, str, str, int, bool]],
) -> None:
    driver = Driver(stage_config(account(cash="100000", kind=AccountKind.CASH)))
    driver.play(price(10.0))
    venue = Venue(driver)
    venue.ask("r", "BUY", 100, False)
    venue.trade(0, 100)

    for act in acts:
        venue.do(*act)
        assert sum(venue.held.values()) >= 0
    for number in range(4):
        venue.take(with_tag(kill("FLATTEN", at=1), f"last{number}"))
        while venue.open:
            venue.trade(0, 1000)
            assert sum(venue.held.values()) >= 0
    assert not any(venue.held.values())


@given(st.tuples(*[st.sampled_from((-100, -60, 0, 40, 60, 100))] * 3), ACTS)
def test_stopped_strategy_gets_out_alone(
    begin: tuple[int, ...], acts: list[tuple[str, str, str, int, bool]]
) -> None:
    venue = begun(begin)
    most = abs(venue.held["s"])
    venue.driver.play(set_breaker("REDUCING", "STRATEGY", "s"))

    for act in acts:
        venue.do(*act)
        assert abs(venue.held["s"]) <= most
        most = abs(venue.held["s"])
