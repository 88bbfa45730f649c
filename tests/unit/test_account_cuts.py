"""The account stage gives the same bytes for every cut of its input and over every restart."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.enums import OrderStatus
from schemas.order_events import OrderEvent
from schemas.topics import ORDER_EVENTS
from tests.unit.account_records import (
    EURO,
    B,
    Price,
    Step,
    accepted,
    action,
    cancel,
    canceled,
    dec,
    fill,
    kill,
    price,
    rate,
    replace,
    replaced,
    set_breaker,
    submit,
    traded,
)
from tests.unit.account_script import (
    Driver,
    account,
    of,
    same,
    stage_config,
)

CONFIG = stage_config(account(), account("other"), snapshot_interval_s=300.0)


def session() -> list[Step]:
    """Return a session in which everything happens that the stage knows."""
    steps: list[Step] = [price(10.0), rate("EUR", "USD", "1.25"), Price(1, 10.0), Price(2, 20.0, B)]
    for number in range(6):
        at = 10 + 50 * number
        order_id = f"w{number}"
        steps += [
            *traded(f"a{number}", "BUY", "7", "10", fee="0.35", at=at),
            *traded(f"b{number}", "SELL", "3", "20", name=B, strategy="t", at=at),
            *traded(f"c{number}", "BUY", "2", "10", name=EURO, to="other", at=at + 1),
            submit(order_id, "SELL", "4", "10.5", at=at + 2),
            accepted(order_id, at=at + 3),
            Price(at + 5, 10 + number / 8),
            Price(at + 40, 20 - number / 4, B),
            replace(order_id, "6", "10.4", at=at + 41),
            replaced(order_id, "6", "10.4", at=at + 42),
            fill(order_id, "SELL", "1", "10.4", at=at + 43),
            Price(at + 44, 10.0, EURO),
            cancel(order_id, at=at + 45),
            canceled(order_id, at=at + 46),
            accepted(order_id, at=at + 46, event_id=f"late-{number}"),
            action("DIVIDEND", at=at + 47, amount=dec("0.1")),
        ]
    steps[40:40] = [action("SPLIT", at=150, ratio=dec("3")), rate("EUR", "USD", "1.3", at=150)]
    return [*steps, set_breaker("REDUCING", at=400), kill("FLATTEN", at=401), Price(500, 9.0)]


SESSION = session()
LENGTH = len(SESSION)


def played(steps: list[Step], cuts: Iterable[int], restarts: Iterable[int]) -> Driver:
    """Play steps in batches that end at ``cuts``, and begin anew behind some of them."""
    driver = Driver(CONFIG)
    again = set(restarts)
    edges = sorted({0, *cuts, *again, len(steps)})
    for first, last in pairwise(edges):
        driver.play(*steps[first:last])
        if last in again:
            driver.restart()
    return driver


def test_session_is_what_the_cuts_are_tried_on() -> None:
    driver = played(SESSION, [], [])

    kinds = {type(record).__name__ for _, record in driver.out}
    assert kinds >= {"OrderReplaced", "OrderCanceled", "DeadLetter", "AccountSnapshot"}
    assert {mark.strategy_id for mark in driver.marks} == {"", "s", "t"}
    assert OrderStatus.FILLED in {e.status for e in of(driver.on_topic(ORDER_EVENTS), OrderEvent)}


@settings(max_examples=40)
@given(
    cuts=st.sets(st.integers(1, LENGTH - 1), max_size=12),
    restarts=st.sets(st.integers(1, LENGTH - 1), max_size=4),
)
def test_no_cut_and_no_restart_shows_in_what_comes_out(cuts: set[int], restarts: set[int]) -> None:
    assert same(played(SESSION, cuts, restarts), played(SESSION, [], []))


def test_restart_behind_every_single_step_changes_nothing() -> None:
    every = range(1, LENGTH)

    assert same(played(SESSION, every, every), played(SESSION, [], []))
