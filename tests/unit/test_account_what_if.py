"""What the gate would say to an order: the same answer as to an order, and no trace of it."""

from __future__ import annotations

import pytest

from schemas.commands import CheckOrder, OrderChecked, SubmitOrder
from schemas.enums import AutonomyMode
from schemas.risk import LimitSet, RiskDecision
from tests.unit.account_records import A, B, dec, price, set_breaker, submit, traded
from tests.unit.account_script import Driver, account, only, stage_config


def question(order: SubmitOrder) -> CheckOrder:
    """Return the question what would become of an order."""
    return CheckOrder(
        f"ask-{order.client_order_id}",
        order.ts_event_ns,
        order.client_order_id,
        "",
        order.account_id,
        order,
    )


def playing(limits: LimitSet | None = None, mode: AutonomyMode = AutonomyMode.AUTOMATIC) -> Driver:
    """Return a driver of the account paper with prices of 10 for A and B."""
    driver = Driver(stage_config(account(), limits=limits, autonomy=mode))
    driver.play(price(10.0), price(10.0, name=B))
    return driver


LIMITS = LimitSet(
    max_position=dec("100"),
    max_notional=dec("5000"),
    max_gross_exposure=dec("6000"),
    max_open_orders=2,
    is_long_only=True,
    max_daily_loss=dec("100"),
)

ORDERS = [
    submit("small"),
    submit("large", quantity="101"),
    submit("dear", quantity="90", limit="60"),
    submit("short", side="SELL", quantity="5"),
    submit("off-grid", quantity="1.5"),
    submit("unknown", name="NOPE.XXXX"),
    submit("other", name=B, strategy_id="fresh", quantity="50"),
]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.client_order_id)
def test_answer_is_what_the_gate_says_to_the_order(order: SubmitOrder) -> None:
    driver = playing(LIMITS)
    driver.play(*traded("held", "BUY", "20", "10"))

    checked = only(driver.play(question(order)), OrderChecked)
    decided = only(driver.play(order), RiskDecision)

    named = ("is_approved", "code", "measured", "limit", "scope", "breaker_epoch")
    assert [getattr(checked, n) for n in named] == [getattr(decided, n) for n in named]


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.client_order_id)
def test_question_leaves_no_trace_in_the_state(order: SubmitOrder) -> None:
    driver = playing(LIMITS)
    driver.play(*traded("held", "BUY", "20", "10"))
    before = driver.stage.snapshot()

    driver.play(question(order))

    assert driver.stage.snapshot() == before


def test_question_for_a_new_strategy_does_not_hide_the_next_one_from_the_marks() -> None:
    asked, plain = playing(LIMITS), playing(LIMITS)

    asked.play(question(ORDERS[-1]))

    steps = (*traded("x", "BUY", "10", "10", strategy="second"), price(12.0, at=120))
    assert asked.play(*steps) == plain.play(*steps)


def test_breaker_and_mode_hold_for_questions_too() -> None:
    driver = playing(mode=AutonomyMode.SEMI_AUTOMATIC)
    free = only(driver.play(question(submit("a"))), OrderChecked)
    driver.play(set_breaker("HALTED"))
    halted = only(driver.play(question(submit("b"))), OrderChecked)

    assert (free.is_approved, free.autonomy) == (True, "SEMI_AUTOMATIC")
    assert (halted.is_approved, halted.code, halted.breaker_epoch) == (False, "BREAKER_HALTED", 1)


def test_unknown_account_and_used_id_are_said() -> None:
    driver = playing()
    driver.play(submit("used"))
    nobody = only(driver.play(question(submit("n", account_id="nobody"))), OrderChecked)
    used = only(driver.play(question(submit("used"))), OrderChecked)

    assert (nobody.code, used.code) == ("ACCOUNT_UNKNOWN", "ORDER_ID_USED")
    assert used.instrument_id == A
