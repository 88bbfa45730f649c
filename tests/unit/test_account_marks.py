"""Equity marks, drawdown, days and snapshots of an account."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.enums import AccountKind
from schemas.envelope import Header
from schemas.errors import InvariantError
from schemas.portfolio import AccountSnapshot, EquityMark, PositionChanged
from schemas.risk import LimitSet, RiskDecision
from tests.unit.account_records import (
    DAY_S,
    SESSION_S,
    B,
    Price,
    Step,
    accepted,
    action,
    at_ns,
    dec,
    price,
    submit,
    traded,
)
from tests.unit.account_script import (
    Driver,
    account,
    of,
    only,
    stage_config,
    time_of,
)


def playing(cash: str = "100000", calendar: str = "", **fields: Any) -> Driver:
    """Return a driver of the account paper, with a price of 10 for A."""
    driver = Driver(stage_config(account(cash=cash, calendar=calendar), **fields))
    driver.play(price(10.0))
    return driver


def trade(driver: Driver, *trades: tuple[str, str, str]) -> PositionChanged:
    """Trade A as (side, quantity, price); return the position after the last one."""
    records: list[Header] = []
    for side, quantity, at in trades:
        records = driver.play(*traded(f"o{driver.played}", side, quantity, at))
    return only(records, PositionChanged)


# ---- equity marks


def marks_of(driver: Driver, strategy_id: str = "", account_id: str = "paper") -> list[EquityMark]:
    """Return the equity marks of an account or of a strategy of it."""
    return [
        mark
        for mark in driver.marks
        if (mark.account_id, mark.strategy_id) == (account_id, strategy_id)
    ]


def test_mark_stands_at_the_boundary_behind_a_price_and_counts_those_on_it() -> None:
    driver = playing()

    driver.play(
        *traded("b", "BUY", "100", "10", at=20),
        Price(50, 11.0),
        Price(60, 12.0),
        Price(119.999, 13.0),
        Price(250, 9.0),
        Price(300, 9.5),
        Price(300.001, 9.6),
    )

    found = marks_of(driver)
    assert [mark.ts_event_ns for mark in found] == [at_ns(60), at_ns(120), at_ns(300)]
    assert [mark.equity for mark in found] == [100200.0, 100300.0, 99950.0]
    assert {mark.cash for mark in found} == {99000.0}
    assert [mark.net_exposure for mark in found] == [1200.0, 1300.0, 950.0]
    assert [mark.drawdown for mark in found] == [0.0, 0.0, (99950.0 - 100300.0) / 100300.0]


def test_mark_counts_what_was_traded_before_it_in_the_input() -> None:
    driver = playing()

    driver.play(Price(30, 11.0), *traded("b", "BUY", "100", "10", at=59), Price(61, 12.0))
    driver.play(*traded("c", "BUY", "100", "10", at=61), Price(121, 12.0))

    assert [mark.equity for mark in marks_of(driver)] == [100100.0, 100400.0]


def test_short_position_counts_positive_in_gross_and_negative_in_net_exposure() -> None:
    driver = playing()

    driver.play(
        Price(1, 10.0, B),
        *traded("a", "BUY", "10", "10", at=1),
        *traded("b", "SELL", "30", "10", name=B, at=2),
        Price(61, 10.0),
    )

    mark = marks_of(driver)[0]
    assert (mark.gross_exposure, mark.net_exposure) == (400.0, -200.0)
    snapshot = driver.account()
    assert (snapshot.gross_exposure, snapshot.net_exposure) == (dec("400"), dec("-200"))


def test_equity_of_the_strategies_sums_to_the_gain_of_the_account() -> None:
    driver = playing()
    driver.play(
        Price(1, 10.0, B),
        *traded("a", "BUY", "10", "10", fee="0.25", at=1),
        *traded("b", "SELL", "30", "9", name=B, strategy="t", fee="0.5", at=2),
        *traded("c", "SELL", "4", "11", strategy="u", at=2),
    )
    for minute in range(1, 30):
        driver.play(Price(60 * minute, 10 + minute / 4), Price(60 * minute, 10 - minute / 8, B))
    driver.play(action("DIVIDEND", amount=dec("0.25"), at=1801))
    driver.play(Price(1860, 10.0), Price(1861, 10.0))

    lines = {name: marks_of(driver, name) for name in ("", "s", "t", "u")}
    assert {len(line) for line in lines.values()} == {30}
    for whole, *parts in zip(*lines.values(), strict=True):
        assert whole.equity - 100000.0 == sum(part.equity for part in parts)
        assert whole.net_exposure == sum(part.net_exposure for part in parts)


def test_drawdown_is_measured_from_the_peak_over_batches_and_restarts() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "1000", "10"), Price(30, 20.0), Price(61, 15.0))
    driver.restart()
    driver.play(Price(121, 15.0))

    assert marks_of(driver)[-1].drawdown == -5000.0 / 110000.0
    snapshot = driver.account()
    assert (snapshot.peak_equity, snapshot.drawdown) == (dec("110000"), -5000.0 / 110000.0)


def test_holding_without_a_price_is_marked_at_its_average_cost_and_named() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "20", name=B))

    snapshot = driver.account()

    assert snapshot.missing_prices == [B]
    assert (snapshot.equity, snapshot.unrealized_pnl) == (dec("100000"), dec("0"))


def test_opposite_positions_without_a_price_are_marked_at_the_mean_of_their_prices() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "20", "9", name=B, strategy="t"))
    driver.play(*traded("s", "SELL", "10", "18", name=B))

    snapshot = driver.account()

    # Their net cost by the net quantity would be 0.
    assert (snapshot.equity, snapshot.gross_exposure) == (dec("100120"), dec("120"))


@pytest.mark.parametrize("is_cut", [False, True])
def test_mark_of_a_holding_without_a_price_is_at_the_average_cost_of_its_instant(
    is_cut: bool,
) -> None:
    driver = playing()
    bought = traded("b", "BUY", "10", "20", name=B, at=1)
    first = [Price(1, 10.0), *bought, Price(61, 10.0)]
    second = [*traded("c", "BUY", "10", "40", name=B, at=61), Price(121, 10.0)]

    if is_cut:
        driver.play(*first)
        driver.play(*second)
    else:
        driver.play(*first, *second)

    assert [mark.equity for mark in marks_of(driver)] == [100000.0, 100000.0]


def test_mark_of_a_holding_without_a_price_is_at_the_accounts_own_cost() -> None:
    driver = Driver(stage_config(account(), account("other")))

    driver.play(
        price(10.0),
        Price(1, 10.0),
        *traded("b", "BUY", "10", "20", name=B, at=1),
        *traded("c", "BUY", "10", "40", name=B, to="other", at=1),
        Price(61, 10.0),
    )

    assert [mark.equity for mark in driver.marks if not mark.strategy_id] == [100000.0, 100000.0]


@pytest.mark.parametrize("is_cut", [False, True])
def test_price_that_comes_as_a_record_stands_until_the_next_of_its_instrument(
    is_cut: bool,
) -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "100", "10"))
    steps: list[Step] = [Price(1, 11.0), price(12.0, at=2), Price(61, 5.0, B), Price(121, 13.0)]

    batches: list[list[Step]] = [[step] for step in steps] if is_cut else [steps]
    for batch in batches:
        driver.play(*batch)

    assert [mark.equity for mark in marks_of(driver)] == [100200.0, 100200.0]


def test_marks_come_in_one_order_whether_the_stage_was_restarted_or_not() -> None:
    orders = []
    for is_restarted in (False, True):
        driver = Driver(stage_config(account(), account("other")))
        driver.play(Price(1, 10.0), *traded("1", "BUY", "1", "10", at=1), Price(61, 10.0))
        driver.play(*traded("2", "BUY", "1", "10", strategy="t", at=61))
        if is_restarted:
            driver.restart()
        driver.play(Price(121, 10.0))
        assert len(driver.marks) == 7
        orders.append([(mark.account_id, mark.strategy_id) for mark in driver.marks])

    assert orders[0] == orders[1]


def daily(driver: Driver, *closes: float) -> None:
    """Play bars that close with their session, one after the other."""
    for day, close in enumerate(closes):
        driver.play(Price(DAY_S * day + SESSION_S, close))


def test_bar_that_closes_on_a_boundary_counts_in_the_mark_of_its_own_instant() -> None:
    driver = Driver(stage_config(account(calendar="XNYS")))
    driver.play(price(10.0), *traded("b", "BUY", "100", "10"))
    daily(driver, 11.0, 9.0)

    marks = driver.stage.finish(driver.clock_ns, driver.out)

    found = [(mark.ts_event_ns, mark.equity) for mark in marks_of(driver)]
    assert found == [(at_ns(SESSION_S), 100100.0)]
    account_row = marks.equity.tolist()[0]
    assert (int(marks.ts[0]), account_row) == (at_ns(DAY_S + SESSION_S), 99900.0)


@pytest.mark.parametrize("before_s", [0.001, 30])
def test_mark_at_midnight_belongs_to_the_day_that_it_ends(before_s: float) -> None:
    driver = playing()
    midnight_s = 37_800
    driver.play(*traded("b", "BUY", "100", "10"), Price(midnight_s - before_s, 11.0))

    driver.play(Price(midnight_s, 9.0), Price(midnight_s + 61, 9.0))

    found = [(mark.ts_event_ns, mark.equity) for mark in marks_of(driver)]
    assert found == [(at_ns(midnight_s) - 1, 100100.0), (at_ns(midnight_s), 99900.0)]


@pytest.mark.parametrize("interval_s", [60.0, 3600.0, 7000.0])
def test_mark_before_an_open_belongs_to_the_day_that_it_ends(interval_s: float) -> None:
    driver = playing(mark_interval_s=interval_s, calendar="XNYS")
    driver.play(*traded("b", "BUY", "100", "10"), Price(DAY_S - 30, 11.0))

    driver.play(Price(DAY_S, 9.0), Price(DAY_S + 20_000, 9.0))

    times = [mark.ts_event_ns for mark in marks_of(driver) if mark.equity == 100100.0]
    assert times == [at_ns(DAY_S) - 1]
    assert driver.account().daily_pnl == dec("-200")


@pytest.mark.parametrize("interval_s", [60.0, 3600.0, 7000.0])
@pytest.mark.parametrize("before_s", [1, 30, 5000])
def test_loss_of_the_day_begins_at_the_last_price_before_the_open(
    before_s: float, interval_s: float
) -> None:
    limits = LimitSet(max_daily_loss=dec("150"))
    driver = playing(mark_interval_s=interval_s, limits=limits, calendar="XNYS")
    driver.play(*traded("b", "BUY", "100", "10"), Price(DAY_S - before_s - 60, 9.0))
    driver.play(Price(DAY_S - before_s, 11.0))

    codes = []
    for at, value in ((1, 10.0), (61, 10.0), (3700, 10.0), (7300, 10.0), (7400, 9.0)):
        records = driver.play(submit(f"before-{at}", at=DAY_S + at), Price(DAY_S + at, value))
        codes.append(only(records, RiskDecision).code)

    assert codes == [""] * 5
    last = driver.play(submit("last", at=DAY_S + 7400))
    assert only(last, RiskDecision).code == "DAILY_LOSS"


@pytest.mark.parametrize("is_cut", [False, True])
@pytest.mark.parametrize("has_next", [False, True])
def test_dividend_of_the_next_day_is_not_in_the_mark_of_the_last(
    is_cut: bool, has_next: bool
) -> None:
    driver = Driver(stage_config(account(calendar="XNYS")))
    steps: list[Step] = [
        price(10.0),
        *traded("b", "BUY", "100", "10"),
        Price(SESSION_S, 11.0),
        action("DIVIDEND", amount=dec("1"), at=DAY_S - 600),
        *[Price(DAY_S + SESSION_S, 10.0)] * has_next,
    ]

    for batch in [[step] for step in steps] if is_cut else [steps]:
        driver.play(*batch)
    driver.restart()
    driver.play(Price(2 * DAY_S, 10.0), Price(2 * DAY_S + 100, 10.0))

    equities = [mark.equity for mark in marks_of(driver)]
    assert equities == [100100.0, *[100100.0] * has_next, 100100.0]


@pytest.mark.parametrize(
    "found", [action("SPLIT", ratio=dec("2"), at=20), action("SYMBOL_CHANGE", new_symbol=B, at=20)]
)
@pytest.mark.parametrize("at", [10, 30])
def test_price_beside_a_corporate_action_in_a_batch_breaks_a_promise(found: Step, at: int) -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "100", "10"))

    with pytest.raises(InvariantError, match="cut batches in front of each corporate action"):
        driver.play_whole(*sorted([Price(at, 10.0), found], key=time_of))


@pytest.mark.parametrize("is_cut", [False, True])
def test_split_changes_a_price_once_whatever_follows_it_in_the_batch(is_cut: bool) -> None:
    driver = playing()
    driver.play(Price(0, 10.0), *traded("b", "BUY", "100", "10"), Price(30, 12.0))
    steps = [action("SPLIT", ratio=dec("2"), at=40), action("DIVIDEND", amount=dec("1"), at=100)]

    for batch in [[step] for step in steps] if is_cut else [steps]:
        driver.play_whole(*batch)
    driver.play(Price(200, 6.0), Price(300, 6.0))

    found = [(mark.ts_event_ns, mark.equity) for mark in marks_of(driver)]
    assert found[-2:] == [(at_ns(60), 100200.0), (at_ns(240), 100400.0)]


def test_end_of_a_run_marks_what_the_last_price_left() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "100", "10"), Price(61, 11.0), Price(90, 12.0))

    marks = driver.stage.finish(at_ns(100), driver.out)

    assert marks.ts.tolist() == [at_ns(100)] * 2
    assert sorted(marks.equity.tolist()) == [200.0, 100200.0]
    assert len(driver.stage.finish(at_ns(100), driver.out)) == 2


# ---- days and snapshots


def test_loss_of_the_day_is_counted_from_the_first_mark_of_the_session() -> None:
    driver = Driver(stage_config(account(calendar="XNYS")))
    driver.play(price(10.0), *traded("b", "BUY", "100", "10"), Price(60, 10.0))
    driver.play(Price(3000, 9.0), Price(3060, 9.0))
    assert driver.account().daily_pnl == dec("-100")

    driver.play(Price(DAY_S + 60, 9.5), Price(DAY_S + 120, 9.5))

    assert driver.account().daily_pnl == dec("50")


def test_loss_of_the_day_still_counts_after_the_close() -> None:
    config = stage_config(account(calendar="XNYS"), limits=LimitSet(max_daily_loss=dec("100")))
    driver = Driver(config)
    driver.play(price(10.0), *traded("b", "BUY", "100", "10"), Price(60, 10.0), Price(3000, 8.0))

    driver.play(Price(SESSION_S + 60, 8.0), Price(SESSION_S + 120, 8.0))

    assert only(driver.play(submit("c")), RiskDecision).code == "DAILY_LOSS"


def test_day_without_a_calendar_is_that_of_utc() -> None:
    driver = playing()
    midnight_s = 37_800
    driver.play(*traded("b", "BUY", "100", "10"), Price(60, 10.0), Price(midnight_s - 60, 9.0))
    driver.play(Price(midnight_s - 30, 9.0))
    assert driver.account().daily_pnl == dec("-100")

    driver.play(Price(midnight_s, 8.0))

    assert driver.account().daily_pnl == dec("-100")


def test_snapshot_is_published_once_in_each_interval() -> None:
    driver = playing(snapshot_interval_s=600.0)

    prices = [Price(60 * minute, 10.0) for minute in range(31)]
    prices.append(Price(1801, 10.0))
    found = of(driver.play(*prices), AccountSnapshot)

    instants = [snapshot.ts_event_ns for snapshot in found]
    assert instants == [at_ns(0), at_ns(600), at_ns(1200), at_ns(1800)]
    assert len({snapshot.event_id for snapshot in found}) == 4


@pytest.mark.parametrize("calendar", ["", "XNYS"])
def test_snapshot_follows_at_the_first_mark_of_a_day(calendar: str) -> None:
    driver = playing(calendar=calendar, snapshot_interval_s=10 * DAY_S)
    begin_s = DAY_S if calendar else 37_800
    driver.play(*traded("b", "BUY", "100", "10"), Price(100, 10.0), Price(begin_s - 61, 11.0))

    records = driver.play(Price(begin_s + 1, 12.0), Price(begin_s + 61, 12.0))

    found = [s for s in of(records, AccountSnapshot) if s.ts_event_ns > at_ns(begin_s)]
    assert [(s.ts_event_ns, s.daily_pnl) for s in found] == [(at_ns(begin_s + 60), dec("100"))]


def test_snapshot_holds_the_account_as_it_stood_at_its_instant() -> None:
    driver = playing(snapshot_interval_s=600.0)

    records = driver.play(
        Price(60, 10.0),
        *traded("b", "BUY", "100", "10", at=100),
        Price(599, 11.0),
        Price(601, 20.0),
        *traded("c", "BUY", "100", "20", at=602),
    )

    snapshot = of(records, AccountSnapshot)[-1]
    assert (snapshot.ts_event_ns, snapshot.equity) == (at_ns(600), dec("100100"))
    assert snapshot.cash == {"USD": dec("99000")}


@pytest.mark.parametrize(("kind", "power"), [("CASH", "98500"), ("REG_T", "198500")])
def test_buying_power_is_what_the_gate_lets_pass(kind: str, power: str) -> None:
    driver = Driver(stage_config(account(kind=AccountKind(kind))))
    driver.play(price(10.0), *traded("b", "BUY", "100", "10"))
    driver.play(submit("w", quantity="50", limit="10"), accepted("w"))

    found = driver.account().buying_power
    assert found == dec(power)
    over = driver.play(submit("over", quantity=str(found / 10 + 1), limit="10"))
    assert only(over, RiskDecision).code == "BUYING_POWER"
    within = driver.play(submit("within", quantity=str(found / 10), limit="10"))
    assert only(within, RiskDecision).is_approved
