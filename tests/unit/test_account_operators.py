"""What operators do to the account stage: breakers, the three acts of stopping, autonomy."""

from __future__ import annotations

from itertools import product

import pytest

from schemas.commands import CommandReceipt, VenueCancel, VenueSubmit
from schemas.control import DeadLetter
from schemas.enums import AutonomyMode, BreakerState, OrderStatus, OrderType
from schemas.envelope import Header
from schemas.identifiers import is_approval_timer
from schemas.order_events import (
    OrderCanceled,
    OrderDenied,
    OrderExpired,
    OrderPendingApproval,
    OrderSubmitted,
)
from schemas.risk import BreakerChanged, LimitSet, RiskDecision
from schemas.topics import STRATEGY_INPUTS, VENUE_COMMANDS
from tests.unit.account_records import (
    DAY_S,
    A,
    B,
    accepted,
    action,
    approve,
    at_ns,
    cancel,
    canceled,
    dec,
    fill,
    instrument,
    kill,
    price,
    rate,
    replace,
    replaced,
    set_autonomy,
    set_breaker,
    set_limits,
    submit,
    traded,
    with_tag,
)
from tests.unit.account_script import (
    Driver,
    account,
    of,
    only,
    stage_config,
)

SCOPES = (("GLOBAL", ""), ("ACCOUNT", "paper"), ("STRATEGY", "s"), ("INSTRUMENT", A))
STATES = ("ACTIVE", "REDUCING", "HALTED")


def playing(limits: LimitSet | None = None, mode: AutonomyMode = AutonomyMode.AUTOMATIC) -> Driver:
    """Return a driver of the accounts paper and other, with prices of 10 for A and B."""
    config = stage_config(account(), account("other"), limits=limits, autonomy=mode)
    driver = Driver(config)
    driver.play(price(10.0), price(10.0, name=B))
    return driver


def decide(driver: Driver, command: Header) -> RiskDecision:
    """Return the gate's word on an order."""
    return only(driver.play(command), RiskDecision)


# ---- the breaker of a scope


@pytest.mark.parametrize(("scope", "scope_id"), SCOPES)
def test_breaker_of_a_scope_holds_its_own_orders_alone(scope: str, scope_id: str) -> None:
    driver = playing()

    changed = only(driver.play(set_breaker("HALTED", scope, scope_id)), BreakerChanged)
    assert (changed.scope.value, changed.scope_id, changed.epoch) == (scope, scope_id, 1)

    own = decide(driver, submit("own"))
    assert (own.code, own.scope) == ("BREAKER_HALTED", f"{scope.lower()} {scope_id}".strip())
    others = {
        "ACCOUNT": submit("a", account_id="other"),
        "STRATEGY": submit("b", strategy_id="t"),
        "INSTRUMENT": submit("c", name=B),
    }
    for name, command in others.items():
        assert decide(driver, command).is_approved is (scope == name)


@pytest.mark.parametrize("states", list(product(STATES, repeat=2)))
def test_strictest_breaker_of_all_scopes_holds(states: tuple[str, str]) -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10"))
    driver.play(set_breaker(states[0], "ACCOUNT", "paper"), set_breaker(states[1], "STRATEGY", "s"))

    worst = max(states, key=STATES.index)

    assert decide(driver, submit("entry")).is_approved is (worst == "ACTIVE")
    assert decide(driver, submit("exit", "SELL", "10")).is_approved is (worst != "HALTED")


@pytest.mark.parametrize("state", ["REDUCING", "HALTED"])
def test_breaker_latches_until_somebody_resets_it_with_a_reason(state: str) -> None:
    driver = playing()
    driver.play(set_breaker(state))

    driver.restart()
    assert not decide(driver, submit("later", at=30 * DAY_S)).is_approved

    letter = only(driver.play(set_breaker("ACTIVE", reason=" ")), DeadLetter)
    assert letter.reason == "a breaker is not reset without a reason"
    assert not decide(driver, submit("still")).is_approved

    changed = only(driver.play(set_breaker("ACTIVE", at=1)), BreakerChanged)
    assert (changed.state, changed.epoch) == (BreakerState.ACTIVE, 2)
    assert decide(driver, submit("again")).is_approved


def test_milder_breaker_needs_a_reason_and_a_stricter_one_does_not() -> None:
    driver = playing()
    driver.play(set_breaker("HALTED", reason=""))
    assert decide(driver, submit("a")).code == "BREAKER_HALTED"

    only(driver.play(set_breaker("REDUCING", reason="")), DeadLetter)
    assert decide(driver, submit("b")).code == "BREAKER_HALTED"

    driver.play(set_breaker("REDUCING", at=1, reason="calmer"))
    assert decide(driver, submit("c")).code == "BREAKER_REDUCING"


@pytest.mark.parametrize("bound", ["nan", "inf"])
def test_limit_that_is_no_number_is_a_dead_letter_and_the_old_one_holds(bound: str) -> None:
    driver = playing(LimitSet(max_quantity=dec("5")))
    letter = only(driver.play(set_limits(max_quantity=dec(bound))), DeadLetter)
    assert "max_quantity" in letter.reason
    assert decide(driver, submit("a", quantity="6")).code == "QUANTITY_ABOVE_MAX"


def test_breaker_that_stands_already_publishes_nothing() -> None:
    driver = playing()
    driver.play(set_breaker("HALTED"))

    assert driver.play(set_breaker("HALTED", at=1)) == []


def test_decision_and_order_carry_the_epoch_they_were_made_in() -> None:
    driver = playing()
    driver.play(set_breaker("HALTED"), set_breaker("ACTIVE"))

    records = driver.play(submit())

    assert only(records, RiskDecision).breaker_epoch == 2
    assert only(records, VenueSubmit).breaker_epoch == 2


def test_replace_in_a_halted_breaker_is_refused_and_a_decrease_is_not_in_a_reducing_one() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10"), submit(side="SELL", quantity="10", limit="11"))
    driver.play(accepted(), set_breaker("REDUCING"))
    assert decide(driver, replace(quantity="9")).is_approved

    driver.play(replaced(quantity="9", limit="11"), set_breaker("HALTED"))
    assert decide(driver, with_tag(replace(quantity="8"), "2")).code == "BREAKER_HALTED"


# ---- the three acts of stopping


def test_stopping_entries_neither_cancels_nor_flattens() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10"), submit(limit="9"), accepted())

    records = driver.play(kill("STOP_ENTRIES"))

    assert only(records, BreakerChanged).state is BreakerState.REDUCING
    assert len(records) == 1
    assert decide(driver, submit("entry")).code == "BREAKER_REDUCING"
    assert decide(driver, submit("exit", "SELL", "10")).is_approved


def test_stopping_entries_does_not_soften_a_halt() -> None:
    driver = playing()
    driver.play(set_breaker("HALTED"))

    assert driver.play(kill("STOP_ENTRIES")) == []
    assert decide(driver, submit()).code == "BREAKER_HALTED"


@pytest.mark.parametrize(
    ("scope", "concerned"),
    [
        (("GLOBAL", ""), {"a", "b", "t", "o"}),
        (("ACCOUNT", "paper"), {"a", "b", "t"}),
        (("STRATEGY", "s"), {"a", "b", "o"}),
        (("INSTRUMENT", A), {"a", "t", "o"}),
    ],
)
def test_cancel_all_cancels_the_open_orders_of_its_scope(
    scope: tuple[str, str], concerned: set[str]
) -> None:
    driver = playing()
    driver.play(
        submit("a", limit="9"),
        submit("b", limit="9", name=B),
        submit("t", limit="9", strategy_id="t"),
        submit("o", limit="9", account_id="other"),
        *traded("done", "BUY", "1", "10"),
    )

    driver.play(set_autonomy("SEMI_AUTOMATIC"))
    waiting = {
        "a": submit("wa", limit="9"),
        "b": submit("wb", limit="9", name=B),
        "t": submit("wt", limit="9", strategy_id="t"),
        "o": submit("wo", limit="9", account_id="other"),
    }
    driver.play(*waiting.values())

    records = driver.play(kill("CANCEL_ALL", *scope))

    # What waits for approval ends as well, or it would go on once somebody approves it.
    denied = {d.client_order_id: d.code for d in of(records, RiskDecision)}
    assert denied == {f"w{name}": "CANCELED_BY_OWNER" for name in concerned}
    cancels = of(records, VenueCancel)
    assert {c.client_order_id for c in cancels} == concerned
    assert len({c.event_id for c in cancels}) == len(concerned)
    assert not of(records, VenueSubmit)
    assert not of(driver.play(kill("CANCEL_ALL", *scope, at=1)), VenueCancel)


@pytest.mark.parametrize(
    ("scope", "concerned"),
    [
        (("GLOBAL", ""), {("s", A), ("s", B), ("t", A), ("o", A)}),
        (("ACCOUNT", "paper"), {("s", A), ("s", B), ("t", A)}),
        (("STRATEGY", "t"), {("t", A)}),
        (("INSTRUMENT", A), {("s", A), ("t", A), ("o", A)}),
    ],
)
def test_flatten_closes_the_positions_of_its_scope_and_cancels_nothing(
    scope: tuple[str, str], concerned: set[tuple[str, str]]
) -> None:
    driver = playing()
    driver.play(
        *traded("1", "BUY", "10", "10"),
        *traded("2", "SELL", "5", "10", name=B),
        *traded("3", "BUY", "3", "10", strategy="t"),
        *traded("4", "BUY", "4", "10", strategy="o", to="other"),
        submit("rest", limit="9"),
    )

    records = driver.play(kill("FLATTEN", *scope))

    sent = of(records, VenueSubmit)
    assert {(s.strategy_id, s.instrument_id) for s in sent} == concerned
    assert all(s.is_reduce_only and s.order_type is OrderType.MARKET for s in sent)
    held = {("s", A): "10", ("s", B): "-5", ("t", A): "3", ("o", A): "4"}
    for order in sent:
        signed = order.quantity if order.side == "SELL" else -order.quantity
        assert signed == dec(held[order.strategy_id, order.instrument_id])
    assert not of(records, VenueCancel)


def test_flatten_passes_a_reducing_breaker() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10"), kill("STOP_ENTRIES"))

    assert only(driver.play(kill("FLATTEN")), RiskDecision).is_approved


def test_flatten_closes_a_position_that_a_stop_protects_behind_stopped_entries() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10"), submit("stop", "SELL", "10", stop="9"))
    driver.play(accepted("stop"), kill("STOP_ENTRIES"), kill("CANCEL_ALL"))

    assert only(driver.play(kill("FLATTEN")), RiskDecision).is_approved


def test_flatten_is_not_held_up_by_limits_on_the_size_of_orders() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10"))
    driver.play(set_limits(max_quantity=dec("5"), max_notional=dec("50"), max_open_orders=0))

    assert only(driver.play(kill("FLATTEN")), RiskDecision).is_approved


def test_flatten_that_is_read_twice_asks_for_the_same_orders() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10"), *traded("c", "BUY", "5", "10", strategy="t"))
    first, second = of(driver.play(kill("FLATTEN")), VenueSubmit)
    driver.play(fill(first.client_order_id, "SELL", "10"))

    records = driver.play(kill("FLATTEN"))

    answer = only(records, CommandReceipt)
    assert (answer.client_order_id, answer.outcome) == (second.client_order_id, "DUPLICATE")


def test_cancel_of_all_that_is_read_twice_concerns_new_orders_alone() -> None:
    driver = playing()
    driver.play(submit("a", limit="9"), submit("b", limit="9"))
    first = of(driver.play(kill("CANCEL_ALL")), VenueCancel)
    driver.play(canceled("a"), submit("c", limit="9"))

    second = of(driver.play(kill("CANCEL_ALL")), VenueCancel)

    assert [command.client_order_id for command in second] == ["c"]
    assert len({command.event_id for command in first + second}) == 3


# ---- autonomy


def waiting(timeout_s: float = 300.0) -> Driver:
    """Return a driver with one order that waits for a person."""
    driver = playing(mode=AutonomyMode.SEMI_AUTOMATIC)
    driver.play(set_autonomy("SEMI_AUTOMATIC", timeout_s=timeout_s), submit(quantity="10"))
    return driver


def test_order_waits_for_a_person_and_goes_when_approved() -> None:
    driver = waiting()
    pending = only([record for _, record in driver.out], OrderPendingApproval)
    assert pending.expires_at_ns == at_ns(300)
    assert driver.on_topic(VENUE_COMMANDS) == []

    records = driver.play(approve())

    assert only(records, RiskDecision).is_approved
    assert only(records, OrderSubmitted).status is OrderStatus.SUBMITTED
    assert only(records, VenueSubmit).causation_id == "approve-o1"


def test_order_that_a_person_refuses_is_denied() -> None:
    driver = waiting()

    records = driver.play(approve(is_approved=False, reason="too big"))

    decision = only(records, RiskDecision)
    assert (decision.code, decision.scope, decision.detail) == ("NOT_APPROVED", "ann", "too big")
    assert of(records, OrderDenied)[0].status is OrderStatus.DENIED
    assert driver.on_topic(VENUE_COMMANDS) == []


def test_owner_may_take_a_waiting_order_back() -> None:
    driver = waiting()

    records = driver.play(cancel(reason="changed my mind", wants_receipt=True))

    assert only(records, RiskDecision).code == "CANCELED_BY_OWNER"
    assert only(records, CommandReceipt).outcome == "ACCEPTED"
    only(driver.play(approve()), DeadLetter)
    assert driver.on_topic(VENUE_COMMANDS) == []


@pytest.mark.parametrize("is_restarted", [False, True])
def test_waiting_order_lapses_at_its_instant(is_restarted: bool) -> None:
    driver = waiting(timeout_s=10)
    if is_restarted:
        driver.restart()
    assert not of(driver.play(price(10.0, at=9.999)), OrderExpired)

    records = driver.play(approve(at=10))

    assert of(records, OrderExpired)[0].ts_event_ns == at_ns(10)
    assert is_approval_timer(of(records, OrderExpired)[0].causation_id)
    only(records, DeadLetter)
    assert driver.on_topic(VENUE_COMMANDS) == []
    assert len(of(driver.on_topic(STRATEGY_INPUTS), OrderExpired)) == 1


def test_order_approved_at_the_last_instant_goes() -> None:
    driver = waiting(timeout_s=10)

    only(driver.play(approve(at=9.999)), VenueSubmit)


def test_waiting_order_is_judged_again_when_it_is_approved() -> None:
    driver = waiting()
    driver.play(set_limits(max_quantity=dec("9")))

    records = driver.play(approve())

    assert only(records, RiskDecision).code == "QUANTITY_ABOVE_MAX"
    assert driver.on_topic(VENUE_COMMANDS) == []


def test_waiting_orders_do_not_count_until_they_are_approved() -> None:
    driver = playing(LimitSet(max_position=dec("10")), AutonomyMode.SEMI_AUTOMATIC)
    driver.play(submit("a", quantity="10"), submit("b", quantity="10"))

    assert only(driver.play(approve("a")), RiskDecision).is_approved
    assert only(driver.play(approve("b")), RiskDecision).code == "MAX_POSITION"


def test_order_beyond_a_limit_does_not_wait() -> None:
    driver = playing(LimitSet(max_quantity=dec("9")), AutonomyMode.SEMI_AUTOMATIC)

    assert decide(driver, submit(quantity="10")).code == "QUANTITY_ABOVE_MAX"


def test_waiting_order_still_waits_when_the_mode_becomes_automatic() -> None:
    driver = waiting()
    driver.play(set_autonomy("AUTOMATIC"))

    assert driver.on_topic(VENUE_COMMANDS) == []
    only(driver.play(submit("new")), VenueSubmit)
    only(driver.play(approve()), VenueSubmit)


def test_waiting_order_approved_in_observe_only_is_denied() -> None:
    driver = waiting()
    driver.play(set_autonomy("OBSERVE_ONLY"))

    assert only(driver.play(approve()), RiskDecision).code == "OBSERVE_ONLY"


def test_observe_only_lets_no_order_go_and_cancels_what_works() -> None:
    driver = playing()
    driver.play(submit("w", limit="9"), accepted("w"), set_autonomy("OBSERVE_ONLY"))

    assert decide(driver, submit()).code == "OBSERVE_ONLY"
    assert decide(driver, replace("w", "2")).code == "OBSERVE_ONLY"
    only(driver.play(cancel("w")), VenueCancel)
    assert of(driver.play(with_tag(accepted("w"), "2")), OrderCanceled) == []


def test_mode_and_its_time_limit_survive_a_restart() -> None:
    driver = waiting(timeout_s=10)
    driver.restart()

    pending = only(driver.play(submit("o2", at=5)), OrderPendingApproval)

    assert pending.expires_at_ns == at_ns(15)


@pytest.mark.parametrize("command", [approve("nobody"), approve(account_id="nobody"), approve()])
def test_approval_of_nothing_that_waits_is_dead_lettered(command: Header) -> None:
    driver = playing()
    driver.play(submit(), fill())

    only(driver.play(command), DeadLetter)
    assert driver.stage.dead_letters == 1


# ---- reference data that cannot be used


@pytest.mark.parametrize(
    "record",
    [
        rate("EUR", "USD", "0"),
        rate("USD", "EUR", "0"),
        rate("EUR", "USD", "-1"),
        rate("EUR", "USD", "NaN"),
        action("SPLIT", ratio=dec("0")),
        action("SPLIT", ratio=dec("-2")),
        action("SPLIT", ratio=dec("NaN")),
        action("SPLIT", ratio=dec("2"), name="ZZZ.XNYS"),
        action("SYMBOL_CHANGE", new_symbol="ZZZ"),
        instrument(A, price_increment=dec("0.05")),
        instrument("ZZZ.XNYS", price_increment=dec("0")),
    ],
    ids=lambda r: f"{type(r).__name__} {getattr(r, 'rate', '')}{getattr(r, 'ratio', '')}",
)
def test_reference_data_that_cannot_be_used_is_dead_lettered_and_the_stage_goes_on(
    record: Header,
) -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10"), submit(limit="9"), accepted())
    before = driver.account()

    letters = driver.play(record)

    assert [type(letter) for letter in letters] == [DeadLetter]
    assert driver.account() == before
    assert decide(driver, submit("next")).is_approved


def test_name_with_the_separator_of_the_stages_keys_does_no_harm() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10", strategy=f"s|{B}"))

    assert driver.account().missing_prices == []
    assert decide(driver, submit("next")).is_approved


def test_instrument_that_came_as_a_record_can_be_traded_and_survives_a_restart() -> None:
    driver = playing()
    driver.play(instrument("ZZZ.XNYS"), price(10.0, name="ZZZ.XNYS"))
    driver.play(*traded("z", "BUY", "10", "10", name="ZZZ.XNYS"))

    driver.restart()

    assert driver.account().net_exposure == dec("100")
    assert decide(driver, submit("next", name="ZZZ.XNYS")).is_approved
