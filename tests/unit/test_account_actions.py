"""Corporate actions on orders, and on what stands by the name of an instrument."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.commands import CommandReceipt, SubmitOrder, VenueSubmit
from schemas.enums import BreakerState, Scope
from schemas.order_events import (
    Fill,
    OrderDenied,
    OrderFilled,
    OrderPendingApproval,
    OrderReplaced,
)
from schemas.portfolio import PositionChanged
from schemas.risk import BreakerChanged, LimitSet, RiskDecision, SetLimits
from tests.unit.account_records import (
    A,
    B,
    accepted,
    action,
    approve,
    canceled,
    dec,
    fill,
    kill,
    price,
    set_autonomy,
    set_breaker,
    set_limits,
    status,
    submit,
    traded,
    with_tag,
)
from tests.unit.account_script import Driver, account, of, only, stage_config


def playing(*, waits: bool = False) -> Driver:
    """Return a driver with prices of 10 for both shares; orders wait for approval if they shall."""
    driver = Driver(stage_config(account(cash="100000")))
    driver.play(price(10.0), price(10.0, name=B))
    if waits:
        driver.play(set_autonomy("SEMI_AUTOMATIC"))
    return driver


# ---- splits of orders


@pytest.mark.parametrize(
    ("ratio", "quantity", "price_"), [("10", "10000", "1"), ("0.1", "100", "100")]
)
def test_order_that_waits_for_approval_is_scaled_by_a_split(
    ratio: str, quantity: str, price_: str
) -> None:
    driver = playing(waits=True)
    driver.play(submit("w", "BUY", "1000", limit="10"))

    told = of(driver.play(action("SPLIT", ratio=dec(ratio))), OrderReplaced)[0]
    sent = only(driver.play(approve("w")), VenueSubmit)

    assert (told.status, told.quantity, told.limit_price) == (
        "PENDING_APPROVAL",
        dec(quantity),
        dec(price_),
    )
    assert (sent.quantity, sent.limit_price) == (dec(quantity), dec(price_))
    assert "E" not in str(sent.limit_price)


def test_flatten_that_waits_through_a_split_closes_all_of_the_position() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "100", "10"), set_autonomy("SEMI_AUTOMATIC"))
    (begun,) = of(driver.play(kill("FLATTEN")), OrderPendingApproval)
    driver.play(action("SPLIT", ratio=dec("10")))

    assert only(driver.play(approve(begun.client_order_id)), VenueSubmit).quantity == dec("1000")


def test_order_that_waits_ends_if_a_split_leaves_nothing_of_it() -> None:
    driver = playing(waits=True)
    driver.play(submit("w", "BUY", "5", limit="10"))

    denied = of(driver.play(action("SPLIT", ratio=dec("0.1"))), OrderDenied)[0]

    assert (denied.code, denied.client_order_id) == ("QUANTITY_BELOW_MIN", "w")
    assert "a split left nothing" in denied.detail
    assert not driver.stage.accounts["paper"].pending_approval


def test_working_order_tells_how_a_split_leaves_it() -> None:
    driver = playing()
    driver.play(submit("o1", quantity="10", limit="10", stop="0.01"), accepted())
    driver.play(fill(quantity="4", price="10"))

    told, to_the_strategy = of(driver.play(action("SPLIT", ratio=dec("2"))), OrderReplaced)

    assert told == to_the_strategy

    assert (told.status, told.quantity, told.limit_price) == (
        "PARTIALLY_FILLED",
        dec("20"),
        dec("5"),
    )
    assert (told.cumulative_quantity, told.average_price) == (dec("8"), dec("5"))
    # The venue keeps a price at one increment at least.
    assert told.stop_price == dec("0.01")
    assert told.causation_id == "split-AAA.XNYS-0"


@pytest.mark.parametrize(
    ("ratio", "filled", "average"), [("0.5", "1", "20"), ("0.1", "0", None), ("0.25", "0", None)]
)
def test_average_price_of_a_part_is_that_of_its_shares(
    ratio: str, filled: str, average: str | None
) -> None:
    driver = playing()
    driver.play(submit("o1", quantity="40", limit="10"), accepted())
    driver.play(fill(quantity="3", price="10"))

    told = of(driver.play(action("SPLIT", ratio=dec(ratio))), OrderReplaced)[0]

    assert told.cumulative_quantity == dec(filled)
    assert told.average_price == (None if average is None else dec(average))
    left = told.quantity - dec(filled)
    price_ = str(10 / dec(ratio))
    done = only(driver.play(fill(quantity=str(left), price=price_, trade="2")), OrderFilled)
    assert done.average_price == dec(price_)


def test_third_of_a_share_leaves_whole_shares() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "300", "10"))
    driver.play(submit("stop", "SELL", "300", stop="9"), accepted("stop"))

    told = of(driver.play(action("SPLIT", ratio=1 / dec("3"))), OrderReplaced)[0]

    assert told.quantity == driver.stage.accounts["paper"].holdings[A].quantity == dec("100")


def test_repeated_request_is_known_after_a_split() -> None:
    driver = playing(waits=True)
    first = submit("w", "BUY", "1000", limit="10", wants_receipt=True)
    driver.play(first, action("SPLIT", ratio=dec("10")))

    answer = only(driver.play(with_tag(first, "again")), CommandReceipt)
    assert answer.outcome == "DUPLICATE"


# ---- what stands by a name


def renamed(driver: Driver) -> list[Any]:
    """Let A become B; return what comes out."""
    return driver.play(action("SYMBOL_CHANGE", new_symbol=B))


def entry(**fields: Any) -> SubmitOrder:
    """Return an order for the new name."""
    return submit("entry", "BUY", "10", name=B, **fields)


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("HALTED", None, "BREAKER_HALTED"),
        ("REDUCING", None, "BREAKER_REDUCING"),
        ("HALTED", "REDUCING", "BREAKER_HALTED"),
        ("REDUCING", "HALTED", "BREAKER_HALTED"),
    ],
)
def test_breaker_of_an_instrument_holds_under_its_new_name(
    old: str, new: str | None, code: str
) -> None:
    driver = playing()
    driver.play(set_breaker(old, "INSTRUMENT", A))
    if new is not None:
        driver.play(set_breaker(new, "INSTRUMENT", B))

    changes = of(renamed(driver), BreakerChanged)

    assert [(c.scope_id, c.state) for c in changes] == [(B, old)] * (code != f"BREAKER_{new}")
    assert only(driver.play(entry()), RiskDecision).code == code
    assert driver.stage.breakers.of(Scope.INSTRUMENT, A) == BreakerState(old)


def test_limits_of_an_instrument_hold_under_its_new_name() -> None:
    driver = playing()
    driver.play(set_limits("INSTRUMENT", A, max_position=dec("5"), max_quantity=dec("50")))
    driver.play(set_limits("INSTRUMENT", B, max_quantity=dec("7")))

    applied = only(renamed(driver), SetLimits)

    assert (applied.scope, applied.scope_id) == ("INSTRUMENT", B)
    assert applied.limits == LimitSet(max_position=dec("5"), max_quantity=dec("7"))
    assert only(driver.play(entry()), RiskDecision).code == "QUANTITY_ABOVE_MAX"


@pytest.mark.parametrize(("name", "code"), [("deny", "DENY_LISTED"), ("allow", "")])
def test_lists_name_an_instrument_by_its_new_name_too(name: str, code: str) -> None:
    driver = playing()
    listed: dict[str, Any] = {name: [A]}
    driver.play(set_limits("STRATEGY", "s", **listed))

    applied = only(renamed(driver), SetLimits)

    assert (applied.scope, applied.scope_id) == ("STRATEGY", "s")
    assert getattr(applied.limits, name) == [A, B]
    assert only(driver.play(entry()), RiskDecision).code == code


@pytest.mark.parametrize(("told", "code"), [(None, "INSTRUMENT_HALTED"), ("OPEN", "")])
def test_halt_holds_under_the_new_name_unless_that_has_a_state_of_its_own(
    told: str | None, code: str
) -> None:
    driver = playing()
    driver.play(status("HALTED"))
    if told is not None:
        driver.play(status(told, name=B))

    renamed(driver)

    assert only(driver.play(entry()), RiskDecision).code == code


def test_change_of_a_name_that_nothing_stands_by_publishes_nothing() -> None:
    driver = playing()

    assert renamed(driver) == []


def test_orders_tell_their_new_name() -> None:
    driver = playing()
    driver.play(submit("rest", quantity="10", limit="9"), accepted("rest"))
    driver.play(set_autonomy("SEMI_AUTOMATIC"), submit("w", quantity="10", limit="9"))

    told = {
        o.client_order_id: (o.instrument_id, o.status) for o in of(renamed(driver), OrderReplaced)
    }

    assert told == {"rest": (B, "ACCEPTED"), "w": (B, "PENDING_APPROVAL")}
    assert only(driver.play(approve("w")), VenueSubmit).instrument_id == B


# ---- reports that a symbol change overtakes


@pytest.mark.parametrize("report", [canceled("rest"), fill("rest", quantity="10", price="9")])
def test_report_under_the_old_name_belongs_to_the_new_one(report: Any) -> None:
    driver = playing()
    driver.play(submit("rest", quantity="10", limit="9"), accepted("rest"))
    renamed(driver)

    records = driver.play(report)

    holdings = driver.stage.accounts["paper"].holdings
    assert all(not h.working_buy and not h.working_sell for h in holdings.values())
    assert {told.instrument_id for told in of(records, Fill)} <= {B}
    assert {told.instrument_id for told in of(records, PositionChanged)} <= {B}
    assert A not in holdings
