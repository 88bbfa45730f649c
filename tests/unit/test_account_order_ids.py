"""Records the order manager cannot use, receipts, and client order ids used twice."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from agents.domain.order_state import CLOSED, OPEN, TRANSITIONS, Step, next_status
from schemas.commands import (
    CommandReceipt,
    SubmitOrder,
    VenueCancel,
    VenueReplace,
    VenueSubmit,
)
from schemas.control import DeadLetter
from schemas.enums import AutonomyMode, OrderStatus, TimeInForce
from schemas.envelope import Header
from schemas.order_events import (
    OrderDenied,
    OrderEvent,
    OrderReplaceRejected,
)
from schemas.portfolio import PositionChanged
from schemas.retries import written_again
from schemas.risk import LimitSet
from schemas.topics import ORDER_EVENTS, VENUE_COMMANDS
from tests.unit.account_records import (
    DAY_S,
    B,
    accepted,
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
    submit,
    traded,
    triggered,
    with_tag,
)
from tests.unit.account_script import (
    Driver,
    account,
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


# ---- what the table does not allow


def test_table_never_leaves_a_closed_state_and_ends_in_states_it_knows() -> None:
    reached = {after for steps in TRANSITIONS.values() for after in steps.values()}
    left = {before for steps in TRANSITIONS.values() for before in steps}

    assert not left & CLOSED
    assert reached | {S.INITIALIZED} == set(OrderStatus)
    assert {S.INITIALIZED, S.PENDING_APPROVAL} | OPEN == left
    assert set(TRANSITIONS) == set(Step)


def test_every_open_state_can_be_filled_canceled_expired_and_lost() -> None:
    for state in OPEN:
        assert next_status(state, Step.FILL) is S.FILLED
        assert next_status(state, Step.CANCEL) is S.CANCELED
        assert next_status(state, Step.EXPIRE) is S.EXPIRED
        assert next_status(state, Step.LOSE) is S.UNKNOWN


@pytest.mark.parametrize(
    "report",
    [
        accepted("nobody"),
        triggered("nobody"),
        canceled("nobody"),
        expired("nobody"),
        rejected("nobody"),
        rejected("nobody", "cancel"),
        replaced("nobody"),
        fill("nobody"),
        fill(account_id="nobody"),
        canceled(account_id="nobody"),
    ],
    ids=lambda r: f"{type(r).__name__} {r.account_id} {r.client_order_id}",
)
def test_report_on_an_order_nobody_knows_is_dead_lettered(report: Header) -> None:
    driver = working()

    assert is_unused(driver, report)


REPORTS = {
    "accepted": accepted(event_id="late"),
    "rejected": rejected(event_id="late"),
    "triggered": triggered(event_id="late"),
    "canceled": canceled(event_id="late"),
    "expired": expired(event_id="late"),
    "replaced": replaced(quantity="9", limit="10", event_id="late"),
    "fill": fill(trade="late"),
}
WAYS: dict[OrderStatus, list[Header]] = {
    S.DENIED: [submit(quantity="999999999")],
    S.SUBMITTED: [submit(quantity="10")],
    S.ACCEPTED: [submit(quantity="10"), accepted()],
    S.TRIGGERED: [submit(quantity="10"), accepted(), triggered()],
    S.PARTIALLY_FILLED: [submit(quantity="10"), accepted(), fill()],
    S.PENDING_CANCEL: [submit(quantity="10"), accepted(), cancel()],
    S.FILLED: [submit(quantity="1"), fill()],
    S.CANCELED: [submit(quantity="10"), canceled()],
    S.EXPIRED: [submit(quantity="10"), expired()],
    S.REJECTED: [submit(quantity="10"), rejected()],
}
LEGAL = {
    S.SUBMITTED: {"accepted", "rejected", "fill", "canceled", "expired"},
    S.ACCEPTED: {"triggered", "fill", "canceled", "expired", "replaced"},
    S.TRIGGERED: {"fill", "canceled", "expired", "replaced"},
    S.PARTIALLY_FILLED: {"triggered", "fill", "canceled", "expired", "replaced"},
    S.PENDING_CANCEL: set(REPORTS),
}


@pytest.mark.parametrize("state", WAYS, ids=str)
@pytest.mark.parametrize("name", REPORTS)
def test_report_is_applied_where_it_is_legal_and_dead_lettered_elsewhere(
    state: OrderStatus, name: str
) -> None:
    driver = playing()
    driver.play(*WAYS[state])
    assert statuses(driver)[-1] is state

    if name not in LEGAL.get(state, set()):
        assert is_unused(driver, REPORTS[name])
        assert statuses(driver)[-1] is state
    else:
        assert of(driver.play(REPORTS[name]), OrderEvent)
        assert driver.stage.dead_letters == 0


def test_dead_letter_carries_the_record_and_the_reason() -> None:
    driver = working()
    report = with_tag(accepted(), "2")

    letter = only(driver.play(report), DeadLetter)

    assert msgspec.json.decode(letter.value, type=type(report)) == report
    assert letter.causation_id == report.event_id
    assert letter.reason == "VenueAccepted is illegal for an order that is ACCEPTED"


def test_letters_of_a_record_that_is_written_again_have_ids_of_their_own() -> None:
    driver = working()
    first = only(driver.play(with_tag(accepted(), "2")), DeadLetter)

    record = msgspec.json.decode(first.value, type=type(accepted()))
    second = only(driver.play(written_again(first.event_id, record)), DeadLetter)
    record = msgspec.json.decode(second.value, type=type(record))
    third = only(driver.play(written_again(second.event_id, record)), DeadLetter)

    letters = [first, second, third]
    assert len({letter.reason for letter in letters}) == 1
    assert len({letter.event_id for letter in letters}) == 3
    assert len({len(letter.event_id) for letter in letters}) == 1


def test_fill_with_a_trade_id_that_was_seen_is_applied_once() -> None:
    driver = working("10")
    driver.play(fill(quantity="4"))

    assert is_unused(driver, fill(quantity="4", event_id="again"))


def test_fill_beyond_what_is_left_is_dead_lettered() -> None:
    driver = working("10")
    driver.play(fill(quantity="4"))

    assert is_unused(driver, fill(quantity="7", trade="2"))
    assert not of(driver.play(price(10.0)), PositionChanged)


@pytest.mark.parametrize(
    "report",
    [
        fill(quantity="0", trade="2"),
        fill(quantity="-1", trade="2"),
        fill(quantity="NaN", trade="2"),
        fill(price="NaN", trade="2"),
        fill(fee="NaN", trade="2"),
        replaced(quantity="3"),
        replaced(quantity="NaN"),
    ],
    ids=lambda r: f"{type(r).__name__} {r.quantity} {getattr(r, 'price', '')}",
)
def test_report_of_impossible_numbers_is_dead_lettered(report: Header) -> None:
    driver = working("10")
    driver.play(fill(quantity="4"))

    assert is_unused(driver, report)


def test_fill_of_nothing_before_any_other_is_dead_lettered() -> None:
    driver = working("10")

    assert is_unused(driver, fill(quantity="0"))


@pytest.mark.parametrize("command", [replace(quantity="NaN"), replace(limit="NaN")])
def test_replace_by_impossible_numbers_is_refused(command: Header) -> None:
    driver = working("10")

    records = driver.play(command)

    assert {type(record) for record in records} & {CommandReceipt, OrderReplaceRejected}
    assert not of(records, VenueReplace)


def test_record_that_does_not_belong_to_the_input_is_dead_lettered() -> None:
    driver = playing()
    published = only(driver.play(*traded("o1", "BUY", "1", "10")), PositionChanged)

    assert is_unused(driver, published)


# ---- client order ids


def test_same_body_with_the_same_id_is_the_same_order() -> None:
    driver = playing()
    driver.play(submit(quantity="10", limit="10"))

    again = submit(quantity="10.0", limit="10.00", at=5, decision_price=11.0, event_id="again")
    receipt = only(driver.play(again), CommandReceipt)

    assert (receipt.outcome, receipt.code) == ("DUPLICATE", "ORDER_ID_USED")
    assert len(of(driver.on_topic(VENUE_COMMANDS), VenueSubmit)) == 1


@pytest.mark.parametrize(
    "other",
    [
        submit(quantity="11", limit="10"),
        submit(quantity="10", limit="10.01"),
        submit(quantity="10", side="SELL", limit="10"),
        submit(quantity="10"),
        submit(quantity="10", limit="10", name=B),
        submit(quantity="10", limit="10", strategy_id="t"),
        submit(quantity="10", limit="10", time_in_force=TimeInForce.IOC),
        submit(quantity="10", limit="10", is_post_only=True),
        submit(quantity="10", limit="10", is_reduce_only=True),
        submit(quantity="10", limit="10", stop="9"),
    ],
)
def test_other_body_with_the_same_id_is_a_conflict(other: SubmitOrder) -> None:
    driver = playing()
    driver.play(submit(quantity="10", limit="10"))

    records = driver.play(with_tag(other, "2"))

    assert only(records, CommandReceipt).outcome == "CONFLICT"
    assert len(records) == 1


def test_id_of_a_denied_order_stays_used() -> None:
    driver = playing(LimitSet(max_quantity=dec("5")))
    driver.play(submit(quantity="6"))

    assert only(driver.play(with_tag(submit(quantity="6"), "2")), CommandReceipt).outcome == (
        "DUPLICATE"
    )


def test_id_is_known_for_each_account_by_itself() -> None:
    driver = Driver(stage_config(account(), account("other")))
    driver.play(price(10.0), submit())

    assert only(driver.play(submit(account_id="other")), VenueSubmit).account_id == "other"


def test_id_of_a_closed_order_is_remembered_for_the_retention_and_over_a_restart() -> None:
    driver = playing(closed_order_retention_s=60.0)
    driver.play(submit(), fill(at=1), *traded("o2", "BUY", "1", "10", at=61))
    driver.restart()
    assert only(driver.play(with_tag(submit(), "2")), CommandReceipt).outcome == "DUPLICATE"

    driver.play(*traded("o3", "BUY", "1", "10", at=61.001))

    assert only(driver.play(with_tag(submit(), "3")), VenueSubmit).client_order_id == "o1"


def test_open_order_is_remembered_however_long_it_works() -> None:
    driver = playing(closed_order_retention_s=60.0)
    driver.play(submit(limit="9"), accepted(), *traded("o2", "BUY", "1", "10", at=DAY_S))

    assert only(driver.play(cancel(at=2 * DAY_S)), VenueCancel).client_order_id == "o1"


# ---- receipts


def test_receipt_comes_only_where_it_was_asked_for() -> None:
    driver = playing()
    quiet = driver.play(submit("q", limit="9"), accepted("q"), replace("q", "2"), cancel("q"))
    assert not of(quiet, CommandReceipt)

    asked = driver.play(
        submit(limit="9", wants_receipt=True),
        accepted(),
        replace(quantity="2", wants_receipt=True),
        replaced(quantity="2", limit="9"),
        cancel(wants_receipt=True),
    )

    receipts = of(asked, CommandReceipt)
    assert [receipt.outcome for receipt in receipts] == ["ACCEPTED"] * 3
    assert [receipt.causation_id for receipt in receipts] == [
        "submit-o1",
        "replace-o1",
        "cancel-o1",
    ]
    assert len({receipt.event_id for receipt in receipts}) == 3


def test_denied_order_is_accepted_for_processing_first() -> None:
    driver = playing(LimitSet(max_quantity=dec("5")))

    records = driver.play(submit(quantity="6", wants_receipt=True))

    assert only(records, CommandReceipt).outcome == "ACCEPTED"
    assert len(of(records, OrderDenied)) == 2


def test_order_for_an_unknown_account_is_refused_and_dead_lettered() -> None:
    driver = playing()

    records = driver.play(submit(account_id="nobody"))

    receipt = only(records, CommandReceipt)
    assert (receipt.outcome, receipt.code) == ("REFUSED", "ACCOUNT_UNKNOWN")
    assert driver.stage.dead_letters == 1


def test_approval_that_asks_for_a_receipt_gets_one() -> None:
    driver = playing(autonomy=AutonomyMode.SEMI_AUTOMATIC)
    driver.play(submit())

    records = driver.play(approve(wants_receipt=True))

    assert only(records, CommandReceipt).outcome == "ACCEPTED"
