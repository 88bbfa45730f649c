"""What is answered about one order: which order is meant, and what was asked for."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.commands import SubmitOrder
from schemas.enums import OrderStatus, Side
from schemas.envelope import Header
from schemas.order_events import OrderCanceled, OrderExpired, OrderInitialized
from streams.memory_log import MemoryLog
from tests.unit.test_web_older import Stored
from tests.unit.web_run import START_NS, Run, about, filled, problem, snapshot, submit, submitted

BY_ID = (
    "/api/orders/same",
    "/api/orders/same/events",
    "/api/orders/same/causes",
    "/api/orders:by_client_order_id?client_order_id=same",
)


def in_two_accounts() -> list[tuple[str, Header]]:
    """Return an order of one id in two accounts: the first works, the second and newer is done."""
    older = submit("same", account_id="first")
    newer = submit("same", account_id="second", at=1)
    records: list[tuple[str, Header]] = []
    for order in (older, newer):
        at = msgspec.structs.replace(snapshot(), account_id=order.account_id)
        records += [
            (t.PORTFOLIO_ACCOUNTS, at),
            (t.ACCOUNT_INPUTS, order),
            (t.ORDER_EVENTS, submitted(order)),
        ]
    return [*records, (t.ORDER_EVENTS, filled(newer))]


def forgetful_run(kept: list[tuple[str, Header]]) -> Run:
    """Return a run whose memory knows of no order but those of ``kept``, beside a database."""
    log = MemoryLog("run-1", lambda: START_NS + 3_600_000_000_000, history_max=2)
    run = Run(log=log)
    other = [submit(f"other-{number}", at=number) for number in range(4)]
    log.append([(t.ACCOUNT_INPUTS, order) for order in other])
    log.append([(t.ORDER_EVENTS, submitted(order)) for order in other])
    log.append([pair for pair in in_two_accounts() if pair[0] == t.PORTFOLIO_ACCOUNTS])
    log.append(kept)
    run.context.history = Stored(
        [pair for pair in in_two_accounts() if pair[0] != t.PORTFOLIO_ACCOUNTS]
    )
    return run


def check_is_ambiguous(client: TestClient, path: str) -> None:
    """Check that an order is not chosen, but asked for by its account."""
    found = problem(client.get(path), 422)
    assert found["code"] == "order_ambiguous"
    assert found["candidates"] == ["first", "second"]
    assert found["errors"][0]["pointer"] == "/account_id"
    named = client.get(f"{path}{'&' if '?' in path else '?'}account_id=first")
    assert named.status_code == 200, named.text


@pytest.mark.parametrize("path", BY_ID)
def test_order_of_an_id_that_two_accounts_have_is_not_chosen(path: str) -> None:
    run = Run()
    run.log.append(in_two_accounts())
    with run.client() as client:
        check_is_ambiguous(client, path)
        named = client.get("/api/orders/same?account_id=first").json()

    assert (named["account_id"], named["is_open"]) == ("first", True)


@pytest.mark.parametrize("memory", ["none", "newer"])
def test_stored_orders_of_an_id_are_not_chosen_from_either(memory: str) -> None:
    newer = [
        (topic, record)
        for topic, record in in_two_accounts()
        if topic != t.PORTFOLIO_ACCOUNTS and getattr(record, "account_id", "") == "second"
    ]
    run = forgetful_run(newer if memory == "newer" else [])
    with run.client() as client:
        check_is_ambiguous(client, "/api/orders/same")
        run.context.history.is_away = True
        alone = client.get("/api/orders/same")

    # What memory knows is told while the database is away.
    assert alone.status_code == (200 if memory == "newer" else 503)


def test_order_says_whether_it_reduces_only_or_posts_only() -> None:
    run = Run(has_stage=False)
    asked: dict[str, Any] = {"is_post_only": True, "is_reduce_only": False}
    first = msgspec.structs.replace(submit("o-1"), **asked)
    exit_order = OrderInitialized(
        "i-1",
        START_NS,
        "exit",
        "kill-1",
        "paper",
        "momentum",
        "exit",
        "SPY.ARCX",
        OrderStatus.INITIALIZED,
        Side.SELL,
        first.quantity,
        is_reduce_only=True,
    )
    run.log.append(
        [
            (t.ACCOUNT_INPUTS, first),
            (t.ORDER_EVENTS, exit_order),
            (t.ORDER_EVENTS, submitted(submit("o-2"))),
        ]
    )
    with run.client() as client:
        found = [client.get(f"/api/orders/{name}").json() for name in ("o-1", "exit", "o-2")]

    told = [(order["is_post_only"], order["is_reduce_only"]) for order in found]
    assert told == [(True, False), (False, True), (None, None)]


def test_stored_order_says_whether_it_reduces_only_or_posts_only() -> None:
    run = forgetful_run([])
    old = msgspec.structs.replace(submit("old"), is_post_only=True, is_reduce_only=True)
    run.context.history = Stored([(t.ACCOUNT_INPUTS, old), (t.ORDER_EVENTS, submitted(old))])
    with run.client() as client:
        found = client.get("/api/orders/old").json()

    assert (found["is_post_only"], found["is_reduce_only"]) == (True, True)


def ended(order: SubmitOrder, reason: str) -> OrderCanceled:
    """Return the event that the venue took an order out."""
    return OrderCanceled(*about(order, "end", 1), OrderStatus.CANCELED, reason)


@pytest.mark.parametrize("reason", ["IOC", "FOK", "REDUCE_ONLY", "REQUESTED", "SPLIT"])
@pytest.mark.parametrize("is_stored", [False, True])
def test_canceled_order_says_why(reason: str, is_stored: bool) -> None:
    order = submit("old")
    records: list[tuple[str, Header]] = [
        (t.ACCOUNT_INPUTS, order),
        (t.ORDER_EVENTS, submitted(order)),
        (t.ORDER_EVENTS, ended(order, reason)),
    ]
    run = forgetful_run([] if is_stored else records)
    run.context.history = Stored(records) if is_stored else None
    with run.client() as client:
        found = client.get("/api/orders/old").json()

    assert (found["status"], found["code"], found["detail"]) == ("CANCELED", reason, "")


@pytest.mark.parametrize(
    ("cause", "code"), [(f"timer:approval:old:{START_NS}", "APPROVAL_LAPSED"), ("venue:1", "")]
)
@pytest.mark.parametrize("is_stored", [False, True])
def test_expired_order_says_whether_nobody_approved_it(
    cause: str, code: str, is_stored: bool
) -> None:
    order = submit("old")
    event = OrderExpired(*about(order, "end", 1), OrderStatus.EXPIRED)
    records: list[tuple[str, Header]] = [
        (t.ACCOUNT_INPUTS, order),
        (t.ORDER_EVENTS, submitted(order)),
        (t.ORDER_EVENTS, msgspec.structs.replace(event, causation_id=cause)),
    ]
    run = forgetful_run([] if is_stored else records)
    run.context.history = Stored(records) if is_stored else None
    with run.client() as client:
        found = client.get("/api/orders/old").json()

    assert (found["status"], found["code"], found["detail"]) == ("EXPIRED", code, "")
