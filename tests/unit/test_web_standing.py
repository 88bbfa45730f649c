"""What an account may still buy and what its day has brought, between the stage's snapshots."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from schemas import topics as t
from schemas.control import RunManifest
from schemas.enums import Side
from schemas.envelope import Header
from tests.unit.web_run import (
    START_NS,
    Run,
    exact,
    instrument,
    mark,
    position,
    snapshot,
    submit,
    submitted,
    trade,
)

DAY = 86_400 * 10**9
NIGHT = 12 * 3600 * 10**9


def manifest(kind: str = "REG_T", calendar: str = "XNYS") -> tuple[str, Header]:
    """Return the manifest of a run with one account that begins with 10,000."""
    account = {"account_id": "paper", "cash": "10000", "calendar": calendar, "kind": kind}
    config: dict[str, object] = {"accounts": {"accounts": [account]}}
    return t.SYSTEM_RUNS, RunManifest(ts_event_ns=START_NS, run_id="run-1", config=config)


def working(order_id: str, **fields: Any) -> list[tuple[str, Header]]:
    """Return an order for 10 SPY that works."""
    order = msgspec.structs.replace(submit(order_id), **fields)
    return [(t.ACCOUNT_INPUTS, order), (t.ORDER_EVENTS, submitted(order))]


def account(*records: tuple[str, Header], kind: str = "REG_T", calendar: str = "XNYS") -> Any:
    """Return the account behind some records, numbers as texts."""
    run = Run()
    run.log.append([manifest(kind, calendar), (t.REFERENCE_INSTRUMENTS, instrument()), *records])
    with run.client() as client:
        return exact(client.get("/api/portfolio/account?account_id=paper"))


def held(quantity: str, price: float, at: int = 10) -> list[tuple[str, Header]]:
    """Return a position in SPY that cost 165.10 and 0.05 fees, and a later price."""
    known = msgspec.structs.replace(position(quantity), realized_pnl=Decimal(0))
    return [(t.PORTFOLIO_POSITIONS, known), (t.MARKET_EVENTS, trade(price, at=at))]


LIMIT = {"order_type": "LIMIT", "limit_price": Decimal("170.00")}


@pytest.mark.parametrize(
    ("kind", "orders", "power"),
    [
        # Equity is 10,000 - 10 * 165.10 - 0.05 + 10 * 166 = 10,008.95, of which half is margin.
        ("REG_T", [], "18357.90"),
        ("REG_T", working("b"), "16697.90"),
        ("REG_T", working("s", side=Side.SELL), "18357.90"),
        # Sells of 30 could leave 20 short, which is more than the 10 that are held.
        ("REG_T", [*working("s", side=Side.SELL, quantity=Decimal(30))], "16697.90"),
        ("CASH", [], "8348.95"),
        ("CASH", working("b"), "6688.95"),
        # At its limit a buy may cost more than the price says.
        ("CASH", working("b", **LIMIT), "6648.95"),
        ("CASH", working("s", side=Side.SELL), "8348.95"),
    ],
)
def test_buying_power_is_of_this_moment_not_of_the_last_snapshot(
    kind: str, orders: list[tuple[str, Header]], power: str
) -> None:
    records = [(t.PORTFOLIO_ACCOUNTS, snapshot()), *held("10", 166.0), *orders]

    found = account(*records, kind=kind)

    assert Decimal(found["buying_power"]) == Decimal(power)
    assert found["as_of"] > found["snapshot_at"]


def test_buying_power_is_that_of_the_snapshot_where_a_price_is_not_at_hand() -> None:
    records = held("10", 166.0)[:1]

    assert account((t.PORTFOLIO_ACCOUNTS, snapshot()), *records)["buying_power"] == "5000"
    assert account(*records)["buying_power"] is None


def of_day(equity: str, day_pnl: str, at: int) -> tuple[str, Header]:
    """Return a snapshot that says what its day has brought."""
    record = msgspec.structs.replace(
        snapshot(equity), ts_event_ns=START_NS + at, daily_pnl=Decimal(day_pnl)
    )
    return t.PORTFOLIO_ACCOUNTS, record


@pytest.mark.parametrize(
    ("records", "calendar", "gained"),
    [
        # Nothing is marked yet: the run began with 10,000.
        ([], "XNYS", "8.95"),
        # The snapshot is of this day, which began with 10,001.
        ([of_day("10005", "4", 5)], "XNYS", "7.95"),
        ([(t.PORTFOLIO_EQUITY, mark(10003.0, at=8)), of_day("10005", "4", 5)], "XNYS", "7.95"),
        # The last mark is of the day before: this day began with it.
        ([(t.PORTFOLIO_EQUITY, mark(10003.0, at=-1)), of_day("10005", "4", -5)], "XNYS", "5.95"),
        # By days of UTC the same instants are of one day.
        ([(t.PORTFOLIO_EQUITY, mark(10003.0, at=-1)), of_day("10005", "4", -5)], "", "7.95"),
        ([(t.PORTFOLIO_EQUITY, mark(10003.0, at=-2 * NIGHT))], "", "5.95"),
        # A mark of this day, and nothing that tells how the day began.
        ([(t.PORTFOLIO_EQUITY, mark(10003.0, at=8)), of_day("10005", "4", -DAY)], "XNYS", None),
    ],
)
def test_result_of_the_day_counts_from_the_last_mark_before_it(
    records: list[tuple[str, Header]], calendar: str, gained: str | None
) -> None:
    found = account(*records, *held("10", 166.0), calendar=calendar)["daily_pnl"]

    assert found == gained if gained is None else Decimal(found) == Decimal(gained)
