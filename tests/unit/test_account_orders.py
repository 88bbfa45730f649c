"""The order manager: every step of an order's life, receipts, and client order ids used twice."""

from __future__ import annotations

import re
from typing import Any

import pytest

from schemas.commands import (
    CommandReceipt,
    VenueCancel,
    VenueReplace,
    VenueSubmit,
)
from schemas.control import DeadLetter
from schemas.enums import OrderStatus, TimeInForce
from schemas.envelope import Header
from schemas.order_events import (
    Fill,
    OrderAccepted,
    OrderCanceled,
    OrderCancelRejected,
    OrderEvent,
    OrderExpired,
    OrderFilled,
    OrderPartiallyFilled,
    OrderPendingCancel,
    OrderRejected,
    OrderReplaced,
    OrderReplaceRejected,
    OrderSubmitted,
    OrderTriggered,
)
from schemas.risk import LimitSet, RiskDecision
from schemas.topics import ORDER_EVENTS, ORDER_FILLS, STRATEGY_INPUTS, VENUE_COMMANDS
from tests.unit.account_records import (
    DAY_S,
    A,
    accepted,
    action,
    approve,
    cancel,
    canceled,
    dec,
    expired,
    fill,
    price,
    rejected,
    replace,
    replaced,
    set_limits,
    status,
    submit,
    traded,
    triggered,
    with_tag,
)
from tests.unit.account_script import (
    Driver,
    of,
    only,
    stage_config,
)

S = OrderStatus


def playing(limits: LimitSet | None = None, **fields: Any) -> Driver:
    """Return a driver of one account, with a price of 10 for A."""
    driver = Driver(stage_config(limits=limits, **fields))
    driver.play(price(10.0))
    return driver


def working(quantity: str = "10", limit: str = "10", limits: LimitSet | None = None) -> Driver:
    """Return a driver with one order o1 that the venue works."""
    driver = playing(limits)
    driver.play(submit(quantity=quantity, limit=limit), accepted())
    return driver


def statuses(driver: Driver, order_id: str = "o1") -> list[OrderStatus]:
    """Return the states that an order went through, as published."""
    events = of(driver.on_topic(ORDER_EVENTS), OrderEvent)
    return [event.status for event in events if event.client_order_id == order_id]


def is_unused(driver: Driver, *records: Header) -> bool:
    """Return whether records change nothing but the count of dead letters, one for each."""
    before, state = driver.stage.dead_letters, driver.account()
    letters = driver.play(*records)
    assert len(of(letters, DeadLetter)) == len(letters) == len(records)
    assert driver.stage.dead_letters == before + len(records)
    return driver.account() == state


# ---- the way of an order


def test_approved_order_goes_to_the_venue_as_it_was_asked_for() -> None:
    driver = playing()
    command = submit(
        quantity="7",
        limit="9.50",
        stop="9.60",
        time_in_force=TimeInForce.DAY,
        is_post_only=True,
        is_reduce_only=False,
    )

    records = driver.play(command)

    sent, decision = only(records, VenueSubmit), only(records, RiskDecision)
    names = [f for f in VenueSubmit.__struct_fields__ if hasattr(command, f)]
    names = [f for f in names if f not in ("event_id", "causation_id")]
    assert [getattr(sent, f) for f in names] == [getattr(command, f) for f in names]
    assert (sent.decision_id, sent.causation_id) == (decision.event_id, command.event_id)
    assert only(records, OrderSubmitted).time_in_force is TimeInForce.DAY
    assert len({record.event_id for record in of(records, OrderSubmitted)}) == 1


def test_word_on_an_order_that_does_not_wait_is_told_to_its_sender_alone() -> None:
    driver = working()

    told = driver.play(approve(wants_receipt=True))
    untold = driver.play(approve(event_id="again"))

    assert only(told, CommandReceipt).code == "NOT_WAITING"
    assert (of(told, DeadLetter), driver.stage.dead_letters) == ([], 1)
    assert "does not wait for approval" in only(untold, DeadLetter).reason
    assert of(untold, CommandReceipt) == []


def test_order_filled_in_parts_reports_leaves_and_average_price() -> None:
    driver = working("10")

    first = only(driver.play(fill(quantity="4", price="10")), OrderPartiallyFilled)
    last = only(driver.play(fill(quantity="6", price="9.5", trade="2")), OrderFilled)

    assert (first.cumulative_quantity, first.leaves_quantity) == (dec("4"), dec("6"))
    assert (last.cumulative_quantity, last.leaves_quantity) == (dec("10"), dec("0"))
    assert (first.average_price, last.average_price) == (dec("10"), dec("9.7"))
    assert statuses(driver) == [S.SUBMITTED, S.ACCEPTED, S.PARTIALLY_FILLED, S.FILLED]


def test_fill_is_published_once_and_sent_to_its_strategy() -> None:
    driver = working("1")
    execution = fill()

    driver.play(execution)

    assert driver.on_topic(ORDER_FILLS) == [execution]
    assert of(driver.on_topic(STRATEGY_INPUTS), Fill) == [execution]


def test_fill_that_overtakes_the_acceptance_counts() -> None:
    driver = playing()
    driver.play(submit(quantity="2"), fill(quantity="1"), fill(trade="2"))

    assert statuses(driver) == [S.SUBMITTED, S.PARTIALLY_FILLED, S.FILLED]
    assert is_unused(driver, accepted())


def test_stop_order_is_triggered_and_filled() -> None:
    driver = playing()
    driver.play(submit(stop="11"), accepted())

    only(driver.play(triggered()), OrderTriggered)
    driver.play(fill())

    assert statuses(driver) == [S.SUBMITTED, S.ACCEPTED, S.TRIGGERED, S.FILLED]


def test_order_rejected_by_the_venue_says_why_and_is_over() -> None:
    driver = playing()
    driver.play(submit())

    event = of(driver.play(rejected()), OrderRejected)[0]

    assert (event.code, event.detail, event.status) == ("NO", "not today", S.REJECTED)
    assert is_unused(driver, fill())


@pytest.mark.parametrize(("end", "kind"), [(canceled(), OrderCanceled), (expired(), OrderExpired)])
def test_order_ends_at_the_venues_word_and_tells_its_strategy(
    end: Header, kind: type[OrderEvent]
) -> None:
    driver = working()

    driver.play(end)

    assert len(of(driver.on_topic(ORDER_EVENTS), kind)) == 1
    assert len(of(driver.on_topic(STRATEGY_INPUTS), kind)) == 1
    assert is_unused(driver, with_tag(fill(), "late"), with_tag(accepted(), "late"))


# ---- cancels


def test_cancel_goes_to_the_venue_and_ends_the_order_at_its_word() -> None:
    driver = working()

    records = driver.play(cancel())
    assert only(records, VenueCancel).instrument_id == A
    only(records, OrderPendingCancel)

    driver.play(canceled())
    assert statuses(driver)[-2:] == [S.PENDING_CANCEL, S.CANCELED]


def test_refused_cancel_goes_back_to_what_stood_before() -> None:
    driver = working()
    driver.play(cancel())

    event = of(driver.play(rejected(command="cancel")), OrderCancelRejected)[0]

    assert event.status is S.ACCEPTED


def test_refused_cancel_of_an_order_filled_in_part_meanwhile_is_partially_filled() -> None:
    driver = working("10")
    driver.play(cancel(), fill(quantity="4"))

    event = of(driver.play(rejected(command="cancel")), OrderCancelRejected)[0]

    assert event.status is S.PARTIALLY_FILLED


def test_refused_cancel_of_an_order_accepted_meanwhile_is_accepted() -> None:
    driver = playing()
    driver.play(submit(stop="11"), cancel(), accepted())
    assert of(driver.play(rejected(command="cancel")), OrderCancelRejected)[0].status is S.ACCEPTED

    driver.play(with_tag(cancel(), "2"), triggered())
    refused = driver.play(with_tag(rejected(command="cancel"), "2"))
    assert of(refused, OrderCancelRejected)[0].status is S.TRIGGERED


def test_order_fills_while_its_cancel_is_on_its_way() -> None:
    driver = working("10")

    driver.play(cancel(), fill(quantity="4"), fill(quantity="6", trade="2"))

    assert statuses(driver)[-3:] == [S.PENDING_CANCEL, S.PENDING_CANCEL, S.FILLED]


def test_second_cancel_is_refused_and_not_sent() -> None:
    driver = working()
    driver.play(cancel())

    receipt = only(driver.play(with_tag(cancel(), "2")), CommandReceipt)

    assert (receipt.outcome, receipt.code) == ("REFUSED", "NOT_CANCELABLE")
    assert len(of(driver.on_topic(VENUE_COMMANDS), VenueCancel)) == 1


def test_cancel_passes_a_halted_breaker_and_a_halted_instrument() -> None:
    driver = working(limits=LimitSet(max_open_orders=1, require_session=True))
    driver.play(set_limits(deny=[A]), status("HALTED"))

    only(driver.play(cancel(at=DAY_S - 1)), VenueCancel)


@pytest.mark.parametrize("command", [cancel("nobody"), replace("nobody", "2")])
def test_command_for_an_unknown_order_is_refused(command: Header) -> None:
    driver = playing()

    receipt = only(driver.play(command), CommandReceipt)

    assert (receipt.outcome, receipt.code) == ("REFUSED", "ORDER_UNKNOWN")


# ---- replaces


def test_replace_stands_once_the_venue_says_so() -> None:
    driver = working("10", "10")

    sent = only(driver.play(replace(quantity="20", limit="9.5")), VenueReplace)
    assert (sent.quantity, sent.limit_price, sent.stop_price) == (dec("20"), dec("9.5"), None)

    event = of(driver.play(replaced(quantity="20", limit="9.5")), OrderReplaced)[0]
    assert (event.quantity, event.limit_price) == (dec("20"), dec("9.5"))
    assert event.status is S.ACCEPTED
    driver.play(fill(quantity="20", price="9.5"))
    assert statuses(driver)[-1] is S.FILLED


def test_replace_leaves_what_it_does_not_name() -> None:
    driver = playing()
    driver.play(submit(quantity="10", limit="9", stop="9.5"), accepted())

    sent = only(driver.play(replace(stop="9.6")), VenueReplace)

    assert (sent.quantity, sent.limit_price, sent.stop_price) == (dec("10"), dec("9"), dec("9.6"))


def test_replace_beyond_a_limit_is_refused_and_the_order_stands() -> None:
    driver = working("10", limits=LimitSet(max_position=dec("19")))

    records = driver.play(replace(quantity="20"))

    assert only(records, RiskDecision).code == "MAX_POSITION"
    assert of(records, OrderReplaceRejected)[0].status is S.ACCEPTED
    assert not of(records, VenueReplace)
    only(driver.play(with_tag(replace(quantity="19"), "2")), VenueReplace)


def test_replace_is_judged_as_if_the_old_order_were_gone() -> None:
    limits = LimitSet(max_open_orders=1, max_position=dec("10"), allow_self_match=False)
    driver = working("10", limits=limits)

    assert only(driver.play(replace(limit="9.5")), RiskDecision).is_approved


def test_replace_refused_by_the_venue_leaves_the_order_as_it_was() -> None:
    driver = working("10")
    driver.play(replace(quantity="20"))

    event = of(driver.play(rejected(command="replace")), OrderReplaceRejected)[0]

    assert event.status is S.ACCEPTED
    driver.play(fill(quantity="10"))
    assert statuses(driver)[-1] is S.FILLED


@pytest.mark.parametrize("quantity", ["4", "3"])
def test_replace_to_no_more_than_what_is_filled_is_refused(quantity: str) -> None:
    driver = working("10")
    driver.play(fill(quantity="4"))

    receipt = only(driver.play(replace(quantity=quantity)), CommandReceipt)

    assert (receipt.outcome, receipt.code) == ("REFUSED", "NOT_REPLACEABLE")


def test_second_replace_waits_until_an_increase_is_answered() -> None:
    driver = working("10")
    driver.play(replace(quantity="20"))
    assert only(driver.play(with_tag(replace(quantity="30"), "2")), CommandReceipt).code == (
        "NOT_REPLACEABLE"
    )

    driver.play(replaced(quantity="20", limit="10"))

    only(driver.play(with_tag(replace(quantity="30"), "3")), VenueReplace)


@pytest.mark.parametrize(
    "before",
    [[submit("x")], [submit("x"), accepted("x"), cancel("x")], [*traded("x", "BUY", "1", "10")]],
)
def test_order_that_is_not_open_at_the_venue_is_not_replaced(before: list[Any]) -> None:
    driver = playing()
    driver.play(*before)

    records = driver.play(replace("x", "2"))

    assert only(records, CommandReceipt).code == "NOT_REPLACEABLE"
    assert not of(records, VenueReplace)


def test_fill_behind_a_replace_uses_the_new_quantity() -> None:
    driver = working("10")
    driver.play(fill(quantity="4"), replace(quantity="6"), replaced(quantity="6", limit="10"))

    event = only(driver.play(fill(quantity="2", trade="2")), OrderFilled)

    assert (event.cumulative_quantity, event.leaves_quantity) == (dec("6"), dec("0"))


def test_second_replace_waits_for_the_answer_to_the_first() -> None:
    driver = working("10", "10")
    assert of(driver.play(replace(quantity="5")), VenueReplace)

    again = with_tag(replace(quantity="10"), "again")
    refused = only(driver.play(again), CommandReceipt)
    assert (refused.outcome, refused.code) == ("REFUSED", "NOT_REPLACEABLE")
    assert "another replace is on its way" in refused.detail

    driver.play(rejected(command="replace"))
    assert of(driver.play(with_tag(again, "2")), VenueReplace)
    driver.play(replaced(quantity="10", limit="10"))
    assert of(driver.play(with_tag(again, "3")), VenueReplace)


def test_open_order_is_scaled_by_a_split() -> None:
    driver = working("10", "10")
    driver.play(fill(quantity="4"), action("SPLIT", ratio=dec("2")))

    sent = only(driver.play(replace(limit="4.5")), VenueReplace)
    assert (sent.quantity, sent.limit_price) == (dec("20"), dec("4.5"))

    event = only(driver.play(fill(quantity="12", price="5", trade="2")), OrderFilled)
    assert (event.cumulative_quantity, event.average_price) == (dec("20"), dec("5"))


# ---- unknown outcomes


def lost(driver: Driver) -> None:
    """Make the submitted orders of the driver's stage ones of unknown outcome."""
    state = driver.stage.snapshot()
    changed = re.sub(rb'"SUBMITTED"', b'"UNKNOWN"', state)
    assert changed != state
    driver.resume(changed)


def test_order_without_an_answer_is_never_sent_again() -> None:
    driver = playing()
    driver.play(submit())

    driver.restart()
    driver.play(price(11.0, at=DAY_S), submit("other", at=2 * DAY_S, limit="11"))
    driver.play(with_tag(submit(), "again"))
    driver.restart()
    driver.play(with_tag(submit(), "once more"))

    sent = of(driver.on_topic(VENUE_COMMANDS), VenueSubmit)
    assert [s.client_order_id for s in sent] == ["o1", "other"]


def test_unknown_order_stays_unknown_and_counts_against_the_limits() -> None:
    driver = playing(LimitSet(max_position=dec("10"), max_open_orders=2))
    driver.play(submit(quantity="10", limit="10"))
    lost(driver)

    records = driver.play(with_tag(submit(quantity="10", limit="10"), "again"), price(11.0, at=9))
    assert only(records, CommandReceipt).outcome == "DUPLICATE"
    assert only(driver.play(cancel()), CommandReceipt).detail == "order is UNKNOWN"
    assert only(driver.play(replace(quantity="5")), CommandReceipt).code == "NOT_REPLACEABLE"
    assert only(driver.play(submit("more", limit="10")), RiskDecision).code == "MAX_POSITION"
    assert len(of(driver.on_topic(VENUE_COMMANDS), VenueSubmit)) == 1


@pytest.mark.parametrize(
    ("evidence", "kind", "after"),
    [
        (accepted(), OrderAccepted, S.ACCEPTED),
        (rejected(), OrderRejected, S.REJECTED),
        (fill(quantity="4"), OrderPartiallyFilled, S.PARTIALLY_FILLED),
        (fill(quantity="10"), OrderFilled, S.FILLED),
        (canceled(), OrderCanceled, S.CANCELED),
        (expired(), OrderExpired, S.EXPIRED),
        (triggered(), OrderTriggered, S.TRIGGERED),
    ],
)
def test_unknown_order_is_resolved_on_the_venues_evidence(
    evidence: Header, kind: type[OrderEvent], after: OrderStatus
) -> None:
    driver = playing()
    driver.play(submit(quantity="10"))
    lost(driver)

    assert of(driver.play(evidence), kind)[0].status is after
