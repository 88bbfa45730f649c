"""The portfolio: cost methods, currencies, corporate actions, equity marks, drawdown, sums."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.envelope import Header
from schemas.portfolio import AccountSnapshot, PositionChanged
from schemas.risk import RiskDecision
from tests.unit.account_records import (
    EURO,
    FUTURE,
    A,
    B,
    Price,
    accepted,
    action,
    dec,
    fill,
    instruments,
    price,
    rate,
    set_limits,
    submit,
    traded,
)
from tests.unit.account_reference import NaiveLedger
from tests.unit.account_script import (
    Driver,
    account,
    of,
    only,
    stage_config,
)


def playing(cash: str = "100000", **fields: Any) -> Driver:
    """Return a driver of the account paper, with a price of 10 for A."""
    driver = Driver(stage_config(account(cash=cash), **fields))
    driver.play(price(10.0))
    return driver


def trade(driver: Driver, *trades: tuple[str, str, str]) -> PositionChanged:
    """Trade A as (side, quantity, price); return the position after the last one."""
    records: list[Header] = []
    for side, quantity, at in trades:
        records = driver.play(*traded(f"o{driver.played}", side, quantity, at))
    return only(records, PositionChanged)


# ---- cost and results


def test_result_is_realized_by_average_cost_and_by_first_in_first_out() -> None:
    driver = playing()

    position = trade(driver, ("BUY", "10", "10"), ("BUY", "10", "12"), ("SELL", "15", "13"))
    assert (position.quantity, position.average_price) == (dec("5"), dec("11"))
    assert (position.realized_pnl, position.realized_pnl_fifo) == (dec("30"), dec("35"))

    flat = trade(driver, ("SELL", "5", "9"))
    assert (flat.quantity, flat.average_price) == (dec("0"), dec("0"))
    assert flat.realized_pnl == flat.realized_pnl_fifo == dec("20")


def test_short_position_gains_when_the_price_falls() -> None:
    driver = playing()

    position = trade(driver, ("SELL", "10", "10"), ("SELL", "10", "12"), ("BUY", "5", "9"))

    assert (position.quantity, position.average_price) == (dec("-15"), dec("11"))
    assert (position.realized_pnl, position.realized_pnl_fifo) == (dec("10"), dec("5"))


@pytest.mark.parametrize(("first", "second"), [("BUY", "SELL"), ("SELL", "BUY")])
def test_position_that_turns_closes_the_old_one_and_opens_a_new_one(
    first: str, second: str
) -> None:
    driver = playing()

    position = trade(driver, (first, "10", "10"), (second, "15", "12"))

    sign = 1 if first == "BUY" else -1
    assert position.quantity == -5 * sign
    assert position.average_price == dec("12")
    assert position.realized_pnl == position.realized_pnl_fifo == 20 * sign


def test_average_price_stays_when_a_part_is_closed() -> None:
    driver = playing()

    position = trade(driver, ("BUY", "3", "10"), ("BUY", "4", "11"), ("SELL", "2", "20"))

    assert abs(position.average_price - dec("74") / 7) < dec("1E-20")


def test_fees_are_paid_from_cash_and_kept_out_of_the_result() -> None:
    driver = playing()
    driver.play(*traded("b", "BUY", "10", "10", fee="1.25"))

    position = only(driver.play(*traded("s", "SELL", "10", "11", fee="-0.25")), PositionChanged)

    assert (position.fees, position.realized_pnl) == (dec("1"), dec("10"))
    snapshot = driver.account()
    assert snapshot.cash == {"USD": dec("100009")}
    assert (snapshot.fees, snapshot.realized_pnl) == (dec("1"), dec("10"))


def test_multiplier_scales_results_cash_and_exposure() -> None:
    driver = playing()
    driver.play(price(12.0, name=FUTURE), *traded("b", "BUY", "2", "10", name=FUTURE))

    position = only(driver.play(*traded("s", "SELL", "1", "11", name=FUTURE)), PositionChanged)

    assert (position.average_price, position.realized_pnl) == (dec("10"), dec("50"))
    snapshot = driver.account()
    assert snapshot.cash == {"USD": dec("99550")}
    assert (snapshot.unrealized_pnl, snapshot.gross_exposure) == (dec("100"), dec("600"))


trades = st.tuples(
    st.sampled_from(("BUY", "SELL")),
    st.integers(1, 40),
    st.integers(900, 1100),
    st.integers(-50, 200),
)


@given(st.lists(trades, min_size=1, max_size=12), st.sampled_from((A, FUTURE)))
def test_positions_and_cash_equal_a_ledger_kept_in_fractions(
    sequence: list[tuple[str, int, int, int]], name: str
) -> None:
    driver = playing(cash="100000000")
    ledger = NaiveLedger({"paper": Fraction(100_000_000)}, instruments())
    for number, (side, quantity, ticks, fee) in enumerate(sequence):
        grid = dec("0.01") if name == A else dec("0.25")
        order_id, text = f"o{number}", str(ticks * grid)
        whole = fill(order_id, side, str(quantity), text, fee=str(fee * dec("0.01")), name=name)
        asked = submit(order_id, side, str(quantity), name=name, decision_price=float(text))

        found = only(driver.play(asked, whole), PositionChanged)

        position = ledger.fill(whole)
        assert Fraction(found.quantity) == position.quantity
        assert Fraction(found.fees) == position.fees
        for value, exact in (
            (found.average_price, position.average),
            (found.realized_pnl, position.realized),
            (found.realized_pnl_fifo, position.realized_fifo),
        ):
            assert abs(Fraction(value) - exact) < Fraction(1, 10**20)
    assert Fraction(driver.account().cash["USD"]) == ledger.cash["paper"]["USD"]


# ---- currencies


def abroad(value: str = "1.5") -> Driver:
    """Return a driver that bought 100 at 10 euros, now at 12, with 3 euros of fees."""
    driver = Driver()
    driver.play(rate("EUR", "USD", value), price(12.0, name=EURO))
    driver.play(*traded("b", "BUY", "100", "10", fee="3", name=EURO))
    return driver


def test_cash_is_kept_in_the_currency_it_was_paid_in() -> None:
    assert abroad().account().cash == {"USD": dec("100000"), "EUR": dec("-1003")}


def test_account_is_valued_in_its_base_currency() -> None:
    snapshot = abroad().account()

    assert snapshot.equity == dec("100000") - dec("1003") * dec("1.5") + dec("1800")
    assert (snapshot.gross_exposure, snapshot.net_exposure) == (dec("1800"), dec("1800"))
    assert snapshot.fees == dec("4.5")
    assert snapshot.missing_prices == []


def test_unrealized_result_converts_cost_as_well_as_worth() -> None:
    assert abroad().account().unrealized_pnl == dec("300")


def test_realized_result_is_converted() -> None:
    driver = abroad()
    driver.play(*traded("s", "SELL", "50", "12", name=EURO))

    snapshot = driver.account()

    assert (snapshot.realized_pnl, snapshot.unrealized_pnl) == (dec("150"), dec("150"))


def test_new_rate_revalues_cash_and_positions() -> None:
    driver = abroad()
    driver.play(rate("EUR", "USD", "2", at=1))

    snapshot = driver.account()

    assert snapshot.equity == dec("100000") + 2 * (dec("1200") - dec("1003"))
    assert snapshot.unrealized_pnl == dec("400")


def test_rate_serves_in_the_other_direction_too() -> None:
    driver = Driver()
    driver.play(rate("USD", "EUR", "0.8"), price(12.0, name=EURO))
    driver.play(*traded("b", "BUY", "100", "10", name=EURO))

    assert driver.account().unrealized_pnl == dec("250")


@pytest.mark.parametrize("is_restarted", [False, True])
def test_gain_is_the_sum_of_its_parts_in_every_currency(is_restarted: bool) -> None:
    driver = abroad()
    driver.play(price(10.0), *traded("a", "BUY", "70", "11", fee="0.7"))
    driver.play(*traded("s", "SELL", "30", "13", fee="1", name=EURO))
    driver.play(rate("EUR", "USD", "1.37", at=5), action("DIVIDEND", amount=dec("0.3")))
    if is_restarted:
        driver.restart()

    found = driver.account()

    parts = found.realized_pnl + found.unrealized_pnl - found.fees
    assert found.equity - dec("100000") == parts


def test_equity_mark_values_other_currencies_as_the_snapshot_does() -> None:
    driver = abroad()
    driver.play(Price(59, 12.0, EURO), Price(61, 12.0, EURO))

    mark = next(m for m in driver.marks if not m.strategy_id)

    snapshot = driver.account()
    assert mark.equity == float(snapshot.equity)
    assert (mark.gross_exposure, mark.net_exposure) == (1800.0, 1800.0)
    assert mark.cash == float(dec("100000") - dec("1003") * dec("1.5"))


def test_dividend_is_paid_in_its_own_currency_and_the_parts_still_sum() -> None:
    driver = abroad()
    driver.play(action("DIVIDEND", name=EURO, amount=dec("1"), currency="USD"))

    found = driver.account()

    assert found.cash["USD"] == dec("100100")
    assert found.realized_pnl == dec("100")
    parts = found.realized_pnl + found.unrealized_pnl - found.fees
    assert found.equity - dec("100000") == parts


# ---- splits, dividends, names


def test_split_leaves_what_the_position_is_worth() -> None:
    driver = playing()
    trade(driver, ("BUY", "10", "10"), ("BUY", "10", "12"))
    before = driver.account()

    changed = only(driver.play(action("SPLIT", ratio=dec("2"))), PositionChanged)

    assert (changed.quantity, changed.average_price, changed.reason) == (
        dec("40"),
        dec("5.5"),
        "split",
    )
    after = driver.account()
    assert (after.equity, after.unrealized_pnl) == (before.equity, before.unrealized_pnl)
    assert after.cash == before.cash
    closed = trade(driver, ("SELL", "20", "6"))
    assert (closed.realized_pnl, closed.realized_pnl_fifo) == (dec("10"), dec("20"))


@pytest.mark.parametrize(
    ("side", "quantity", "ratio", "held", "in_lieu"),
    [
        ("BUY", "15", "0.1", "1", "50"),
        ("SELL", "15", "0.1", "-1", "-50"),
        ("BUY", "5", "1.5", "7", "3.335"),
        ("BUY", "7", "0.1", "0", "70"),
    ],
)
def test_fraction_that_a_split_leaves_is_paid_out(
    side: str, quantity: str, ratio: str, held: str, in_lieu: str
) -> None:
    driver = playing()
    trade(driver, (side, quantity, "10"))
    cash = driver.account().cash["USD"]

    changed = only(driver.play(action("SPLIT", ratio=dec(ratio))), PositionChanged)

    assert changed.quantity == dec(held)
    assert driver.account().cash["USD"] - cash == dec(in_lieu)


def test_split_concerns_every_strategy_and_account_that_holds() -> None:
    config = stage_config(account(), account("other"))
    driver = Driver(config)
    driver.play(
        price(10.0),
        *traded("1", "BUY", "10", "10"),
        *traded("2", "SELL", "4", "10", strategy="t"),
        *traded("3", "BUY", "5", "10", to="other"),
        *traded("4", "BUY", "5", "10", name=B),
    )

    records = driver.play(action("SPLIT", ratio=dec("3")))

    found = {(r.account_id, r.strategy_id): r.quantity for r in of(records, PositionChanged)}
    assert found == {
        ("paper", "s"): dec("30"),
        ("paper", "t"): dec("-12"),
        ("other", "s"): dec("15"),
    }
    assert len({r.event_id for r in of(records, PositionChanged)}) == 3


def test_price_from_before_a_split_stands_on_the_new_share_count() -> None:
    driver = playing()
    trade(driver, ("BUY", "100", "10"))

    driver.play(Price(30, 12.0), action("SPLIT", ratio=dec("2"), at=40), Price(61, 6.5))

    equity = {mark.strategy_id: mark.equity for mark in driver.marks}
    assert equity == {"": 100200.0, "s": 200.0}
    assert driver.account().equity == dec("100300")


def test_dividend_is_paid_to_who_is_long_and_by_who_is_short() -> None:
    driver = playing()
    driver.play(
        *traded("1", "BUY", "10", "10"),
        *traded("2", "SELL", "4", "10", strategy="t"),
    )
    cash = driver.account().cash["USD"]

    records = driver.play(action("DIVIDEND", amount=dec("0.5")))

    assert [r.reason for r in of(records, PositionChanged)] == ["dividend", "dividend"]
    snapshot = driver.account()
    assert snapshot.cash["USD"] == cash + dec("3")
    assert snapshot.realized_pnl == dec("3")


def test_dividend_on_nothing_held_changes_nothing() -> None:
    driver = playing()
    trade(driver, ("BUY", "10", "10"), ("SELL", "10", "10"))
    before = driver.account()

    assert driver.play(action("DIVIDEND", amount=dec("0.5"))) == []
    assert driver.account() == before


@pytest.mark.parametrize("new_symbol", [B, "BBB"])
def test_position_goes_on_under_its_new_symbol(new_symbol: str) -> None:
    driver = playing()
    trade(driver, ("BUY", "10", "10"))
    driver.play(price(12.0))
    before = driver.account()

    driver.play(action("SYMBOL_CHANGE", new_symbol=new_symbol))

    after = driver.account()
    assert (after.equity, after.missing_prices) == (before.equity, [])
    sold = only(driver.play(*traded("s", "SELL", "10", "12", name=B)), PositionChanged)
    assert (sold.instrument_id, sold.quantity, sold.realized_pnl) == (B, dec("0"), dec("20"))


def test_open_order_goes_on_under_its_new_symbol() -> None:
    driver = playing()
    driver.play(submit(quantity="10", limit="9"), accepted())

    driver.play(action("SYMBOL_CHANGE", new_symbol=B), fill(quantity="10", price="9", name=B))

    assert driver.stage.dead_letters == 0
    driver.play(set_limits(max_position=dec("30")))
    more = driver.play(submit("o2", quantity="20", name=B, decision_price=9.0))
    assert only(more, RiskDecision).is_approved


def test_symbol_change_onto_an_instrument_that_is_held_adds_the_positions() -> None:
    driver = playing()
    driver.play(price(10.0, name=B), *traded("b", "BUY", "5", "10", name=B))
    trade(driver, ("BUY", "10", "10"))

    driver.play(action("SYMBOL_CHANGE", new_symbol=B))

    assert driver.account().net_exposure == dec("150")


def test_symbol_change_to_the_name_that_there_is_already_is_no_change() -> None:
    driver = playing()
    trade(driver, ("BUY", "10", "10"))

    driver.play(action("SYMBOL_CHANGE", new_symbol=A))

    assert driver.stage.dead_letters == 1
    assert driver.account().net_exposure == dec("100")


def test_snapshot_at_the_end_has_a_name_of_its_own_beside_one_that_is_due_then() -> None:
    driver = playing(snapshot_interval_s=60.0)
    driver.play(Price(60, 10.0), Price(61, 10.0), Price(120, 10.0))
    driver.stage.finish(driver.clock_ns, driver.out)

    found = of((record for _, record in driver.out), AccountSnapshot)
    ends = [snapshot for snapshot in found if snapshot.ts_event_ns == driver.clock_ns]
    assert len(ends) == 2
    assert len({snapshot.event_id for snapshot in found}) == len(found)
