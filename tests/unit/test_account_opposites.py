"""Two strategies of one account that hold the opposite of each other: each of them can get out.

Strategy s is 100 short and t 40 long, so the account is 60 short: what closes t adds to the net.
"""

from __future__ import annotations

from typing import Any

import pytest

from schemas.commands import SubmitOrder, VenueSubmit
from schemas.enums import AccountKind
from schemas.risk import LimitSet, RiskDecision
from tests.unit.account_records import (
    B,
    accepted,
    dec,
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
