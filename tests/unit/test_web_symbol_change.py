"""A position under a new symbol counts once: what the account stage says, as the API tells it."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from schemas import topics as t
from schemas.commands import SubmitOrder
from schemas.enums import CorporateActionKind
from schemas.envelope import Header
from schemas.instruments import CorporateAction
from schemas.portfolio import PositionChanged
from streams.log import Published
from tests.unit.account_records import A, B, action, price, traded
from tests.unit.account_script import Driver
from tests.unit.web_run import Run, exact
from web.views.models import Views

CHANGE = action("SYMBOL_CHANGE", new_symbol=B, at=7)
SPLIT = action("SPLIT", ratio=Decimal(2), at=5)


def told(*steps: Any) -> list[tuple[str, Header]]:
    """Return all that a run's log holds after ``steps``, definitions and actions among it."""
    driver = Driver()
    records: list[tuple[str, Header]] = [(t.REFERENCE_INSTRUMENTS, item) for item in driver.listed]
    for step in (price(10.0), price(10.0, name=B), *steps):
        first = len(driver.out)
        driver.play(step)
        if isinstance(step, CorporateAction | SubmitOrder):
            records.append((t.ACCOUNT_INPUTS, step))
        records += driver.out[first:]
    return [*records, (t.PORTFOLIO_ACCOUNTS, driver.account())]


def answer(records: list[tuple[str, Header]], path: str) -> Any:
    """Return the answer of a run with ``records``."""
    run = Run()
    run.log.append(records)
    with run.client() as client:
        return exact(client.get(path))


def quantities(records: list[tuple[str, Header]]) -> dict[str, str]:
    """Return the quantity of each open position by instrument."""
    found = answer(records, "/api/positions")["positions"]
    return {row["instrument_id"]: row["quantity"] for row in found}


BOUGHT = traded("a", "BUY", "10", "10", fee="1")
SOLD = traded("b", "SELL", "4", "12", fee="1", name=B)


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ((*BOUGHT, CHANGE), {B: "10"}),
        ((*BOUGHT, CHANGE, *SOLD), {B: "6"}),
        ((*traded("n", "BUY", "5", "10", name=B), *BOUGHT, CHANGE), {B: "15"}),
        ((*traded("n", "SELL", "4", "10", name=B), *BOUGHT, CHANGE), {B: "6"}),
        ((*BOUGHT, CHANGE, *traded("c", "BUY", "3", "10")), {A: "3", B: "10"}),
    ],
)
def test_position_counts_once(steps: tuple[Any, ...], expected: dict[str, str]) -> None:
    records = told(*steps)

    assert quantities(records) == expected
    net = answer(records, "/api/portfolio/paper")["net_positions"]
    assert {name: quantity for name, quantity in net.items() if Decimal(quantity)} == expected


def test_results_count_once_and_stay_with_the_name_under_which_they_were_made() -> None:
    gained = traded("g", "SELL", "4", "13", fee="1")
    records = told(*BOUGHT, *gained, CHANGE, *SOLD)

    by = {
        group: {
            row["key"]: (Decimal(row["realized_pnl"]), Decimal(row["fees"]), row["fills"])
            for row in answer(records, f"/api/portfolio/pnl?group_by={group}")["groups"]
        }
        for group in ("strategy", "instrument")
    }
    assert by["strategy"] == {"s": (Decimal(20), Decimal(3), "3")}
    assert by["instrument"] == {
        A: (Decimal(12), Decimal(2), "2"),
        B: (Decimal(8), Decimal(1), "1"),
    }
    account = answer(records, "/api/portfolio/account")
    assert (account["realized_pnl"], account["fees"]) == ("20.00", "3.00")


def test_results_of_a_position_that_was_closed_go_along_once() -> None:
    closed = traded("g", "SELL", "10", "13", fee="1")
    records = told(*BOUGHT, *closed, CHANGE, *traded("n", "BUY", "5", "10", name=B))

    account = answer(records, "/api/portfolio/account")
    assert (account["realized_pnl"], account["fees"]) == ("30.00", "2.00")


def open_lots(records: list[tuple[str, Header]], name: str) -> tuple[list[Any], bool]:
    """Return the lots of the one position in an instrument, and whether they are complete."""
    (row,) = answer(records, f"/api/positions/{name}/lots")["positions"]
    lots = [(Decimal(lot["quantity"]), Decimal(lot["price"])) for lot in row["lots"]]
    return lots, row["is_complete"]


def test_lots_go_along() -> None:
    records = told(*BOUGHT, SPLIT, CHANGE, *traded("b", "SELL", "5", "6", name=B, at=8))

    assert open_lots(records, B) == ([(15, 5)], True)


def viewed(records: list[tuple[str, Header]]) -> Views:
    """Return the read models that heard ``records``."""
    views = Views()
    offsets: Counter[str] = Counter()
    for topic, record in records:
        views.apply([Published(topic, 0, offsets[topic], record)])
        offsets[topic] += 1
    return views


def as_one_record(records: list[tuple[str, Header]]) -> list[tuple[str, Header]]:
    """Return ``records`` as older runs hold them: a change is told under the old name alone."""
    found: list[tuple[str, Header]] = []
    for topic, record in records:
        if not isinstance(record, PositionChanged) or record.reason != "symbol_change":
            found.append((topic, record))
        elif record.quantity:
            found.append((topic, msgspec.structs.replace(record, instrument_id=A)))
    return found


TEN = (Decimal(10), Decimal(10))
FORMS = pytest.mark.parametrize("form", [list, as_one_record])


@FORMS
@pytest.mark.parametrize("new_symbol", [B, B.split(".")[0]])
def test_lots_and_trade_go_on_in_both_forms_of_a_change(form: Any, new_symbol: str) -> None:
    change = msgspec.structs.replace(CHANGE, new_symbol=new_symbol)
    part = traded("b", "SELL", "4", "12", fee="1", name=B)
    held = told(*BOUGHT, change, *part)
    views = viewed(form(held))
    assert views.lots.of(("paper", "s", B)) == [(Decimal(6), Decimal(10))]
    assert views.lots.of(("paper", "s", A)) == []
    assert open_lots(form(held), B) == ([(6, 10)], True)
    assert all(views.lots.agrees(p) for p in views.portfolio.positions.values())

    rest = traded("c", "SELL", "6", "13", fee="1", name=B)
    trades = viewed(form(told(*BOUGHT, change, *part, *rest))).lots.trades_of("paper", "s")
    assert (trades.count, trades.wins, trades.won) == (1, 1, Decimal(8 + 18 - 3))


@FORMS
@pytest.mark.parametrize(
    ("side", "left"),
    [("BUY", [TEN, (Decimal(4), Decimal(9))]), ("SELL", [(Decimal(6), Decimal(10))])],
)
def test_lots_join_those_of_the_new_name_in_both_forms(
    form: Any, side: str, left: list[tuple[Decimal, Decimal]]
) -> None:
    known = traded("n", side, "4", "9", name=B)
    views = viewed(form(told(*known, *BOUGHT, CHANGE)))

    assert views.lots.of(("paper", "s", B)) == left
    assert all(views.lots.agrees(p) for p in views.portfolio.positions.values())
    bought = viewed(form(told(*known, *BOUGHT, CHANGE, *traded("m", "BUY", "1", "8", name=B))))
    assert bought.lots.of(("paper", "s", B)) == [*left, (Decimal(1), Decimal(8))]
    assert all(bought.lots.agrees(p) for p in bought.portfolio.positions.values())


def test_older_run_has_the_lots_under_the_name_that_it_lists_until_the_next_fill() -> None:
    records = as_one_record(told(*BOUGHT, CHANGE))

    assert quantities(records) == {A: "10"}
    assert open_lots(records, A) == ([TEN], True)
    assert viewed(records).lots.of(("paper", "s", B)) == [TEN]


def test_older_run_whose_action_is_not_known_keeps_the_lots_under_the_old_name() -> None:
    records = [
        item
        for item in as_one_record(told(*BOUGHT, CHANGE))
        if not isinstance(item[1], CorporateAction)
    ]
    views = viewed(records)

    assert views.lots.of(("paper", "s", A)) == [TEN]
    assert views.lots.of(("paper", "s", B)) == []
    assert all(views.lots.agrees(p) for p in views.portfolio.positions.values())


def test_older_run_that_lost_fills_does_not_agree() -> None:
    records = [item for item in as_one_record(told(*BOUGHT, CHANGE)) if item[0] != t.ORDER_FILLS]
    views = viewed(records)

    assert not any(views.lots.agrees(p) for p in views.portfolio.positions.values())


@pytest.mark.parametrize("place", [0, None])
def test_split_takes_place_where_the_position_says(place: int | None) -> None:
    # A journal tells of an action with its whole batch, before the fills of the old share count;
    # where topics are read side by side, what an action is may be learned last.
    records = told(*BOUGHT, SPLIT, *traded("b", "SELL", "5", "6", at=6))
    split = next(item for item in records if isinstance(item[1], CorporateAction))
    records.remove(split)
    records.insert(len(records) if place is None else place, split)

    assert viewed(records).lots.of(("paper", "s", A)) == [(Decimal(15), Decimal(5))]


def test_records_of_a_change_name_the_old_instrument_and_then_the_new_one() -> None:
    records = told(*BOUGHT, CHANGE)
    changes = [
        record
        for _, record in records
        if isinstance(record, PositionChanged) and record.reason == "symbol_change"
    ]

    assert [(c.instrument_id, c.quantity, c.fees) for c in changes] == [
        (A, Decimal(0), Decimal(0)),
        (B, Decimal(10), Decimal(1)),
    ]
    assert {c.causation_id for c in changes} == {CHANGE.event_id}
    assert len({c.event_id for c in changes}) == 2
    assert CHANGE.kind is CorporateActionKind.SYMBOL_CHANGE
