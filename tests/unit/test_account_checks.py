"""Every check of the risk gate on both sides of its limit, and whose limit holds."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.commands import SubmitOrder, VenueSubmit
from schemas.enums import AccountKind, BreakerState, OrderType, Scope
from schemas.envelope import Header
from schemas.order_events import OrderDenied, OrderSubmitted
from schemas.risk import BreakerChanged, LimitSet, RiskDecision, SetLimits
from schemas.topics import RISK_LIMITS
from tests.source_tree import modules
from tests.unit.account_cases import BY_DEFINITION, BY_MODE, BY_PRICE, Case, resting
from tests.unit.account_cases_limits import BY_ACCOUNT, BY_FLOW, BY_ORDER
from tests.unit.account_records import (
    A,
    B,
    accepted,
    action,
    canceled,
    dec,
    fill,
    price,
    rejected,
    replace,
    set_limits,
    submit,
    traded,
    triggered,
)
from tests.unit.account_script import (
    Driver,
    account,
    of,
    only,
    stage_config,
)

CODE = re.compile(r"[A-Z]+(_[A-Z]+)*")

OUTSIDE_THE_CHECKS = {"CANCELED_BY_OWNER", "NOT_APPROVED"}
"""Codes of orders that a person ended while they waited."""

CASES = [*BY_DEFINITION, *BY_MODE, *BY_PRICE, *BY_ORDER, *BY_FLOW, *BY_ACCOUNT]
each_case = pytest.mark.parametrize(
    "case", CASES, ids=[f"{case.code} {case.name}".strip() for case in CASES]
)


def decided(records: list[Header]) -> RiskDecision:
    """Return the one decision and hold the records around it to it."""
    decision = only(records, RiskDecision)
    sent = of(records, VenueSubmit)
    if decision.is_approved:
        assert [s.decision_id for s in sent] == [decision.event_id]
        assert not of(records, OrderDenied)
    else:
        assert not sent
        assert not of(records, OrderSubmitted)
        assert {event.code for event in of(records, OrderDenied)} == {decision.code}
    return decision


def playing(limits: LimitSet | None = None, **fields: Any) -> Driver:
    """Return a driver with one account, with prices of 10 for A and B."""
    driver = Driver(stage_config(account(**fields), limits=limits))
    driver.play(price(10.0), price(10.0, name=B))
    return driver


# ---- each code, on both sides


@each_case
def test_order_beyond_a_bound_is_denied_with_value_and_limit(case: Case) -> None:
    decision = decided(case.play(case.denied))

    assert not decision.is_approved
    found = (decision.code, decision.measured, decision.limit, decision.scope)
    assert found == (case.code, case.measured, case.limit, case.scope)


@each_case
def test_order_just_within_a_bound_passes(case: Case) -> None:
    decision = decided(case.play(case.passed))

    assert decision.is_approved
    assert (decision.code, decision.measured, decision.limit) == ("", "", "")


def codes() -> Iterator[str]:
    """Yield every reason code that the account stage can give."""
    for module in modules():
        if not module.is_in("agents.account"):
            continue
        for node in ast.walk(module.tree):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            first = node.args[0]
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                code = first.value
                if CODE.fullmatch(code) and not isinstance(node.func, ast.Attribute):
                    yield code


def test_every_reason_code_has_a_case() -> None:
    assert {case.code for case in CASES} == set(codes()) - OUTSIDE_THE_CHECKS


def test_denied_order_is_published_to_its_strategy_and_closed() -> None:
    driver = playing(LimitSet(max_quantity=dec("5")))

    records = driver.play(submit(quantity="6"))

    events = of(records, OrderDenied)
    assert len(events) == 2
    assert events[0] == events[1]
    assert "6 against 5 (global)" in events[0].detail
    assert not of(driver.play(accepted()), OrderSubmitted)
    assert driver.stage.dead_letters == 1


# ---- what always passes


@pytest.mark.parametrize(
    "limits",
    [
        LimitSet(max_position=dec("5")),
        LimitSet(max_position_notional=dec("50")),
        LimitSet(max_daily_loss=dec("1")),
        LimitSet(max_drawdown=dec("0.00001")),
        LimitSet(max_gross_exposure=dec("50")),
        LimitSet(max_net_exposure=dec("50")),
    ],
)
def test_reducing_order_passes_where_an_entry_is_denied(limits: LimitSet) -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "100", "10"), price(9.0))
    driver.play(SetLimits("set", 0, "", "", Scope.GLOBAL, "", limits, "ann"))

    assert not decided(driver.play(submit("more", "BUY", "1"))).is_approved
    assert decided(driver.play(submit("less", "SELL", "60"))).is_approved


def test_sells_together_beyond_the_position_do_not_count_as_reducing() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "100", "10"))
    driver.play(set_limits(max_position=dec("30")))

    assert decided(driver.play(submit("less", "SELL", "60"))).is_approved
    decision = decided(driver.play(submit("turn", "SELL", "71")))

    assert (decision.code, decision.measured) == ("MAX_POSITION", "31")


def test_cash_account_may_sell_what_it_holds_without_cash() -> None:
    driver = playing(cash="1000", kind=AccountKind.CASH)
    driver.play(*traded("b", "BUY", "100", "10"))

    assert decided(driver.play(submit("s", "SELL", "100"))).is_approved


def test_margin_account_may_close_without_buying_power() -> None:
    driver = playing(cash="1000")
    driver.play(*traded("b", "BUY", "200", "10"), price(6.0))

    assert decided(driver.play(submit("b2", "BUY", "1"))).code == "BUYING_POWER"
    assert decided(driver.play(submit("s", "SELL", "200"))).is_approved


def test_buying_power_comes_back_when_an_order_is_canceled_rejected_or_filled_elsewhere() -> None:
    driver = playing(cash="1000", kind=AccountKind.CASH)
    driver.play(*resting("a", "BUY", "60", "10"), *resting("b", "BUY", "40", "10"))
    assert decided(driver.play(submit("c", limit="10"))).code == "BUYING_POWER"

    driver.play(canceled("a"))
    assert decided(driver.play(submit("d", "BUY", "60", "10"))).is_approved
    driver.play(rejected("d"))
    assert decided(driver.play(submit("e", "BUY", "60", "10"))).is_approved


def test_breach_of_a_loss_limit_trips_the_breaker_of_the_account_once() -> None:
    driver = playing(LimitSet(max_daily_loss=dec("100")))
    driver.play(*traded("b", "BUY", "100", "10"), price(8.0))

    changed = only(driver.play(submit("c")), BreakerChanged)
    assert (changed.scope.value, changed.scope_id) == ("ACCOUNT", "paper")
    assert changed.state is BreakerState.REDUCING
    assert changed.reason == "DAILY_LOSS: 200.00 against 100"

    records = driver.play(price(20.0), submit("d"))
    assert decided(records).code == "BREAKER_REDUCING"
    assert not of(records, BreakerChanged)


def test_breach_of_a_loss_limit_only_denies_where_it_shall_not_trip() -> None:
    limits = LimitSet(max_daily_loss=dec("100"))
    driver = Driver(stage_config(limits=limits, does_breach_trip=False))
    driver.play(price(10.0), *traded("b", "BUY", "100", "10"), price(8.0))

    assert decided(driver.play(submit("c"))).code == "DAILY_LOSS"
    assert decided(driver.play(price(9.5), submit("d"))).is_approved


# ---- scopes


SCOPES = (("GLOBAL", ""), ("ACCOUNT", "paper"), ("STRATEGY", "s"), ("INSTRUMENT", A))


@pytest.mark.parametrize(("scope", "scope_id"), SCOPES)
def test_limit_of_a_scope_concerns_its_own_orders_alone(scope: str, scope_id: str) -> None:
    config = stage_config(account(), account("other"))
    driver = Driver(config)
    driver.play(price(10.0), price(10.0, name=B))
    driver.play(set_limits(scope, scope_id, max_quantity=dec("5")))

    own = submit("own", quantity="6")
    decision = decided(driver.play(own))
    assert decision.code == "QUANTITY_ABOVE_MAX"
    assert decision.scope == f"{scope.lower()} {scope_id}".strip()

    passed = {
        "account": submit("x", quantity="6", account_id="other"),
        "strategy": submit("y", quantity="6", strategy_id="t"),
        "instrument": submit("z", quantity="6", name=B),
    }
    for name, command in passed.items():
        is_concerned = scope == "GLOBAL" or name != scope.lower()
        assert decided(driver.play(command)).is_approved is not is_concerned


@given(
    bounds=st.lists(st.none() | st.integers(1, 9), min_size=4, max_size=4),
    order=st.permutations(range(4)),
    field=st.sampled_from(("max_quantity", "min_quantity")),
)
def test_strictest_of_all_scopes_holds_in_whatever_order_they_were_set(
    bounds: list[int | None], order: list[int], field: str
) -> None:
    driver = playing()
    for number in order:
        scope, scope_id = SCOPES[number]
        bound = bounds[number]
        bounds_set: dict[str, Any] = {field: None if bound is None else Decimal(bound)}
        driver.play(set_limits(scope, scope_id, **bounds_set))

    known = [bound for bound in bounds if bound is not None]
    strictest = (min if field == "max_quantity" else max)(known, default=None)
    for quantity in range(1, 11):
        decision = decided(driver.play(submit(f"q{quantity}", quantity=str(quantity))))
        if strictest is None:
            assert decision.is_approved
            continue
        is_within = quantity <= strictest if field == "max_quantity" else quantity >= strictest
        assert decision.is_approved is is_within
        if not is_within:
            widest = bounds.index(strictest)
            assert (
                decision.scope
                == " ".join(SCOPES[widest])
                .replace(SCOPES[widest][0], SCOPES[widest][0].lower())
                .strip()
            )


def test_allow_lists_intersect_and_deny_lists_unite() -> None:
    driver = playing()
    driver.play(set_limits(allow=[A, B]), set_limits("ACCOUNT", "paper", allow=[B]))
    assert decided(driver.play(submit("a"))).code == "NOT_ALLOWED"
    assert decided(driver.play(submit("b", name=B))).is_approved

    driver.play(set_limits(deny=[B], tag="2"), set_limits("ACCOUNT", "paper", deny=[A], tag="2"))
    assert decided(driver.play(submit("c"))).code == "DENY_LISTED"
    assert decided(driver.play(submit("d", name=B))).code == "DENY_LISTED"


def test_self_match_is_forbidden_if_any_scope_forbids_it() -> None:
    driver = playing()
    driver.play(*resting("w", "SELL", "1", "10.05"))
    driver.play(
        set_limits(allow_self_match=False), set_limits("STRATEGY", "s", allow_self_match=True)
    )

    assert decided(driver.play(submit(limit="10.05"))).code == "SELF_MATCH"


def test_limits_set_by_a_record_replace_those_of_the_scope_and_are_published() -> None:
    driver = playing(LimitSet(max_quantity=dec("5"), max_open_orders=9))

    command = set_limits(max_notional=dec("100"))
    driver.play(command)

    assert driver.on_topic(RISK_LIMITS) == [command]
    assert decided(driver.play(submit("a", quantity="10"))).is_approved
    assert decided(driver.play(submit("b", quantity="11"))).code == "NOTIONAL_ABOVE_MAX"


def test_configured_limits_are_published_at_the_start() -> None:
    limits = LimitSet(max_quantity=dec("5"))
    driver = Driver(stage_config(limits=limits))

    driver.stage.start(driver.clock_ns, driver.out)

    published = only(driver.on_topic(RISK_LIMITS), SetLimits)
    assert (published.scope.value, published.limits) == ("GLOBAL", limits)


def test_limits_survive_a_restart() -> None:
    driver = playing(LimitSet(max_quantity=dec("50")))
    driver.play(set_limits("STRATEGY", "s", max_quantity=dec("5")))

    driver.restart()

    assert decided(driver.play(submit(quantity="6"))).scope == "strategy s"


# ---- what a working order counts for


def test_increase_on_its_way_to_the_venue_counts_against_the_position() -> None:
    driver = playing(LimitSet(max_position=dec("30")))
    driver.play(*resting("w", "BUY", "10", "9"), replace("w", "20"))

    decision = decided(driver.play(submit("x", quantity="11")))
    assert (decision.code, decision.measured) == ("MAX_POSITION", "31")

    driver.play(rejected("w", "replace"))
    assert decided(driver.play(submit("y", quantity="20"))).is_approved


def test_increase_on_its_way_counts_on_the_new_share_count_after_a_split() -> None:
    driver = playing(LimitSet(max_position=dec("100")))
    driver.play(*resting("w", "BUY", "10", "9"), replace("w", "20"))

    driver.play(action("SPLIT", ratio=Decimal(2)), rejected("w", "replace"))

    decision = decided(driver.play(submit("x", quantity="81")))
    assert (decision.code, decision.measured) == ("MAX_POSITION", "101")


@pytest.mark.parametrize(("kind", "power"), [("CASH", "100"), ("REG_T", "200")])
def test_working_order_takes_up_buying_power_where_there_is_no_reference_price_yet(
    kind: str, power: str
) -> None:
    driver = Driver(stage_config(account(cash="1000", kind=AccountKind(kind))))

    assert decided(driver.play(submit("a", quantity=power, decision_price=10.0))).is_approved
    decision = decided(driver.play(submit("b", quantity="1", decision_price=10.0)))

    assert (decision.code, decision.limit) == ("BUYING_POWER", "0.00")


def test_working_limit_order_reserves_what_it_may_cost() -> None:
    driver = playing(cash="1000", kind=AccountKind.CASH)

    assert decided(driver.play(submit("a", quantity="50", limit="20"))).is_approved
    decision = decided(driver.play(submit("b", quantity="50", limit="10")))

    assert (decision.code, decision.limit) == ("BUYING_POWER", "0.00")


def test_triggered_stop_limit_rests_and_is_not_matched_with() -> None:
    driver = playing(LimitSet(allow_self_match=False))
    driver.play(submit("w", "SELL", "1", "9.90", "9.95"), accepted("w"))
    assert decided(driver.play(submit("a", limit="9.90"))).is_approved

    driver.play(canceled("a"), triggered("w"))

    assert decided(driver.play(submit("b", limit="9.90"))).code == "SELF_MATCH"


def test_filled_part_frees_the_working_quantity_it_took() -> None:
    driver = playing(LimitSet(max_position=dec("20")))
    driver.play(*resting("w", "BUY", "10", "10"), fill("w", quantity="4"))
    assert decided(driver.play(submit("x", quantity="11"))).measured == "21"

    driver.play(canceled("w"))

    assert decided(driver.play(submit("y", quantity="16"))).is_approved


# ---- commands that nobody should send


@pytest.mark.parametrize(
    "command",
    [
        submit(quantity="-1"),
        submit(quantity="0"),
        submit(quantity="NaN"),
        submit(side="SELL", quantity="NaN"),
        submit(quantity="Infinity"),
        submit(quantity="1E+30"),
        submit(limit="NaN"),
        submit(limit="Infinity"),
        submit(stop="-Infinity"),
        submit(limit="-1"),
        submit(limit="1E+30"),
        submit(order_type=OrderType.STOP),
    ],
    ids=lambda c: f"{c.side} {c.quantity} limit {c.limit_price} stop {c.stop_price}",
)
def test_order_of_impossible_numbers_is_denied_and_the_stage_goes_on(command: SubmitOrder) -> None:
    driver = playing(LimitSet(price_collar=dec("0.5"), max_position=dec("50")))
    driver.play(*traded("held", "BUY", "10", "10"))

    assert not decided(driver.play(command)).is_approved
    assert decided(driver.play(submit("next"))).is_approved


@pytest.mark.parametrize("value", [1e300, 0.001, -10.0])
def test_order_decided_on_an_impossible_price_never_stops_the_stage(value: float) -> None:
    driver = playing(LimitSet(price_collar=dec("0.5")))

    records = driver.play(submit(limit="10", decision_price=value))

    # A price that is not above 0 is none; the reference price stands in for it.
    assert decided(records).is_approved is (value < 0)
    assert decided(driver.play(submit("next"))).is_approved
