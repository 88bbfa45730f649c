"""Exits beside plain orders of their strategy, such as a stop: the position is not turned.

A plain order that closes may fill after an exit has closed the position already. Where the account
must not have that, an exit of everything takes its place, and any other exit is denied.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from schemas.commands import SubmitOrder, VenueCancel, VenueReplace, VenueSubmit
from schemas.enums import AccountKind, OrderStatus, TimeInForce
from schemas.envelope import Header
from schemas.order_events import OrderDenied, OrderPendingCancel
from schemas.risk import RiskDecision
from tests.unit.account_records import (
    accepted,
    approve,
    cancel,
    dec,
    instruments,
    kill,
    price,
    rejected,
    replace,
    set_autonomy,
    set_limits,
    submit,
    traded,
)
from tests.unit.account_script import Driver, account, of, only, stage_config


def protected(*, kind: AccountKind = AccountKind.CASH, stop: str = "100", **limits: Any) -> Driver:
    """Return a driver whose strategy holds 100 and has a plain stop below the price."""
    driver = Driver(stage_config(account(kind=kind)))
    driver.play(price(10.0), *traded("entry", "BUY", "100", "10"))
    driver.play(submit("stop", "SELL", stop, stop="9"), accepted("stop"))
    driver.play(set_limits(**limits))
    return driver


def sent(records: list[Header]) -> list[str]:
    """Return what goes to the venue, in order."""
    kinds = {VenueSubmit: "submit", VenueCancel: "cancel", VenueReplace: "replace"}
    return [
        f"{kinds[type(r)]} {r.client_order_id.split('-')[0]}"
        for r in records
        if isinstance(r, (VenueSubmit, VenueCancel, VenueReplace))
    ]


def exit_of(quantity: str, order_id: str = "exit", **fields: Any) -> SubmitOrder:
    """Return a reduce-only order that sells."""
    return submit(order_id, "SELL", quantity, is_reduce_only=True, **fields)


@pytest.mark.parametrize(
    ("limits", "kind"),
    [
        ({}, AccountKind.CASH),
        ({"is_long_only": True}, AccountKind.REG_T),
        ({"max_position": dec("50")}, AccountKind.REG_T),
    ],
)
@pytest.mark.parametrize("act", [kill("FLATTEN"), exit_of("100")], ids=["flatten", "order"])
def test_exit_of_everything_takes_the_place_of_a_stop(
    limits: dict[str, Any], kind: AccountKind, act: Header
) -> None:
    driver = protected(kind=kind, **limits)

    records = driver.play(act)

    assert [text.split()[0] for text in sent(records)] == ["cancel", "submit"]
    asked = only(records, OrderPendingCancel)
    assert asked.client_order_id == "stop"
    assert asked.causation_id == only(records, VenueSubmit).causation_id


def test_stopped_entries_let_an_exit_take_the_place_of_a_plain_order() -> None:
    driver = protected(kind=AccountKind.REG_T)
    driver.play(kill("STOP_ENTRIES"))

    assert sent(driver.play(kill("FLATTEN"))) == ["cancel stop", "submit flatten"]


@pytest.mark.parametrize("act", [kill("FLATTEN"), exit_of("100")], ids=["flatten", "order"])
def test_exit_of_everything_takes_the_place_of_a_stop_where_shorts_are_allowed(act: Header) -> None:
    driver = protected(kind=AccountKind.REG_T)

    assert [text.split()[0] for text in sent(driver.play(act))] == ["cancel", "submit"]


@pytest.mark.parametrize("time_in_force", list(TimeInForce))
def test_exit_that_may_die_unfilled_leaves_the_stop(time_in_force: TimeInForce) -> None:
    driver = protected(kind=AccountKind.REG_T)

    words = sent(driver.play(exit_of("100", time_in_force=time_in_force)))

    is_lasting = time_in_force is TimeInForce.GTC
    assert words == ["cancel stop"] * is_lasting + ["submit exit"]


@pytest.mark.parametrize("quantity", ["1", "20", "100"])
@pytest.mark.parametrize("limits", [{}, {"is_long_only": True}])
def test_resting_exits_keep_no_other_exit_back(quantity: str, limits: dict[str, Any]) -> None:
    kind = AccountKind.REG_T if limits else AccountKind.CASH
    driver = Driver(stage_config(account(kind=kind)))
    driver.play(price(10.0), *traded("entry", "BUY", "100", "10"), set_limits(**limits))
    driver.play(exit_of("100", "stop", stop="9"), accepted("stop"))
    driver.play(exit_of("100", "target", limit="11"), accepted("target"))

    assert sent(driver.play(exit_of(quantity))) == ["submit exit"]


def test_flatten_closes_all_beside_the_bracket_of_another_strategy() -> None:
    driver = Driver(stage_config(account(kind=AccountKind.CASH)))
    driver.play(price(10.0))
    for name in ("s", "r"):
        driver.play(*traded(f"b{name}", "BUY", "100", "10", strategy=name))
    driver.play(submit("stop", "SELL", "100", stop="9", strategy_id="r"), accepted("stop"))
    driver.play(exit_of("100", "target", limit="11", strategy_id="r"), accepted("target"))

    records = driver.play(kill("FLATTEN"))

    assert sent(records) == ["cancel stop", "submit flatten", "submit flatten"]


@pytest.mark.parametrize(
    "exit_", [exit_of("50"), exit_of("100", limit="11")], ids=["part", "limit"]
)
def test_other_exits_are_denied_and_told_what_is_in_their_way(exit_: SubmitOrder) -> None:
    driver = protected()

    denied = of(driver.play(exit_), OrderDenied)[0]

    assert denied.code == "NOT_SHORTABLE"
    assert "stop may fill after it and turn the position: cancel first" in denied.detail


def test_part_that_a_plain_order_leaves_passes() -> None:
    driver = protected(stop="40")

    assert sent(driver.play(exit_of("60"))) == ["submit exit"]


@pytest.mark.parametrize(
    "exit_", [exit_of("50"), exit_of("100", limit="11")], ids=["part", "limit"]
)
def test_exit_passes_as_soon_as_the_cancel_of_the_stop_is_sent(exit_: SubmitOrder) -> None:
    driver = protected()
    driver.play(cancel("stop"))

    assert sent(driver.play(exit_)) == ["submit exit"]


def test_exit_counts_a_stop_again_whose_cancel_was_refused() -> None:
    driver = protected()
    driver.play(cancel("stop"), rejected("stop", "cancel"))

    assert only(driver.play(exit_of("50")), RiskDecision).code == "NOT_SHORTABLE"


def test_stop_stays_while_a_flatten_waits_for_approval() -> None:
    driver = protected()
    driver.play(set_autonomy("SEMI_AUTOMATIC"))
    assert sent(driver.play(kill("FLATTEN"))) == []
    held = driver.stage.accounts["paper"]
    (waiting,) = held.pending_approval
    assert held.orders["stop"].status is OrderStatus.ACCEPTED

    records = driver.play(approve(waiting))

    assert sent(records) == ["cancel stop", "submit flatten"]


def test_stop_stays_where_an_exit_is_denied_for_another_reason() -> None:
    driver = protected()
    driver.play(set_limits(allow=[]))

    records = driver.play(kill("FLATTEN"))

    assert only(records, RiskDecision).code == "NOT_ALLOWED"
    assert sent(records) == []


def test_order_of_unknown_outcome_cannot_make_way() -> None:
    driver = protected()
    state = driver.stage.snapshot()
    driver.resume(state.replace(b'"ACCEPTED"', b'"UNKNOWN"'))

    records = driver.play(kill("FLATTEN"))

    assert sent(records) == []
    assert "stop may fill after it" in of(records, OrderDenied)[0].detail


def test_replace_that_makes_an_exit_whole_leaves_the_stop() -> None:
    # What the exit was may have filled by then: the venue rejects the replace, and the stop is all
    # that protects the rest.
    driver = protected(stop="40")
    driver.play(exit_of("60"), accepted("exit"))

    records = driver.play(replace("exit", "100"))

    assert sent(records) == []
    assert "stop may fill after it" in only(records, RiskDecision).detail


@pytest.mark.parametrize(("quantity", "passes"), [("3", True), ("2", False)])
def test_rest_of_a_position_can_be_closed_though_an_order_must_be_larger(
    quantity: str, passes: bool
) -> None:
    listed = [msgspec.structs.replace(item, min_quantity=dec("5")) for item in instruments()]
    driver = Driver(stage_config(account()), listed)
    driver.play(price(10.0), *traded("entry", "BUY", "8", "10"), *traded("part", "SELL", "5", "10"))

    decision = only(driver.play(exit_of(quantity)), RiskDecision)

    assert decision.code == ("" if passes else "QUANTITY_BELOW_MIN")


def test_least_quantity_is_one_increment_where_nothing_else_is_said() -> None:
    listed = [
        msgspec.structs.replace(item, quantity_increment=dec("0.001")) for item in instruments()
    ]
    driver = Driver(stage_config(account()), listed)
    driver.play(price(10.0))

    codes = [
        only(driver.play(submit(f"o{n}", quantity=text)), RiskDecision).code
        for n, text in enumerate(("0.5", "0.001", "0", "-1"))
    ]
    assert codes[:2] == ["", ""]
    assert "" not in codes[2:]
