"""Orders over HTTP beyond entry: waiting, replace, cancel all, approvals, causes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.commands import ApproveOrder, ReplaceOrder, SubmitOrder
from schemas.enums import OrderStatus, ReceiptOutcome
from schemas.envelope import Header
from schemas.order_events import OrderEvent, OrderPartiallyFilled, OrderReplaced
from schemas.risk import Kill
from streams.log import Published
from streams.stored_orders import folded
from tests.unit.web_run import (
    START_NS,
    Run,
    body,
    fill,
    filled,
    filled_run,
    instrument,
    problem,
    quote,
    snapshot,
    strategy_records,
    submit,
    submitted,
    trade,
)
from tests.unit.web_stage import pending, receipt, venue_accepted


@pytest.fixture
def run() -> Run:
    """Return a run with a little session, its stage answering."""
    run = Run()
    run.log.append(filled_run())
    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """Give a client of ``run``."""
    with run.client() as client:
        yield client


def last_command(run: Run, kind: type[Any]) -> Any:
    """Return the newest command of a type."""
    found = [
        i.record for i in run.log.read(t.ACCOUNT_INPUTS, 0, 1000) if isinstance(i.record, kind)
    ]
    return found[-1]


def test_action_changes_name_and_quantities_of_an_order(run: Run, client: TestClient) -> None:
    order = submit("o-4")
    quantity, half = order.quantity, order.quantity / 2
    head, part = ("paper", "momentum", "o-4", "SPY.ARCX"), OrderStatus.PARTIALLY_FILLED
    events: list[OrderEvent] = [
        submitted(order),
        OrderPartiallyFilled(
            *("part", START_NS, "o-4", "fill", *head, part, "trade-4"),
            *(half, Decimal(10), half, half, Decimal(10)),
        ),
        OrderReplaced(
            *("split", START_NS, "o-4", "action", *head[:-1], "SPYX.ARCX", part),
            *(2 * quantity, None, None, quantity, Decimal(5)),
        ),
    ]
    run.append(client, [(t.ACCOUNT_INPUTS, order), *[(t.ORDER_EVENTS, e) for e in events]])

    shown = client.get("/api/orders/o-4").json()

    wanted = (2 * quantity, quantity, Decimal(5))
    assert shown["instrument_id"] == "SPYX.ARCX"
    assert (shown["quantity"], shown["filled_quantity"], shown["average_price"]) == wanted
    stored = folded(order, events, [])
    assert (stored.quantity, stored.filled_quantity, stored.average_price) == wanted
    assert stored.instrument_id == "SPYX.ARCX"


# ---- waiting


class Venue:
    """A venue that accepts, and fills market orders at once."""

    def __init__(self, run: Run) -> None:
        self._log = run.log
        run.log.listen(self)

    def __call__(self, published: Sequence[Published]) -> None:
        """Answer every order that was submitted over the API."""
        for item in published:
            order = item.record
            if isinstance(order, SubmitOrder) and order.wants_receipt:
                records: list[tuple[str, Header]] = [(t.ORDER_EVENTS, venue_accepted(order))]
                if order.order_type == "MARKET":
                    records.append((t.ORDER_EVENTS, filled(order)))
                self._log.append(records)


@pytest.mark.parametrize(
    ("wait", "fields", "status"),
    [
        ("accepted", {"order_type": "LIMIT", "limit_price": 1}, "ACCEPTED"),
        ("filled", {}, "FILLED"),
        ("filled", {"order_type": "LIMIT", "limit_price": 1}, "ACCEPTED"),
    ],
)
def test_answer_waits_for_what_is_asked_and_not_for_ever(
    run: Run, client: TestClient, wait: str, fields: dict[str, Any], status: str
) -> None:
    Venue(run)

    response = client.post(f"/api/orders?wait={wait}&timeout_s=0.2", json=body(**fields))

    assert (response.status_code, response.json()["status"]) == (200, status)


def test_wait_that_is_not_known_or_too_long_is_refused(client: TestClient) -> None:
    for query, name in (("wait=forever", "/wait"), ("timeout_s=31", "/timeout_s")):
        content = problem(client.post(f"/api/orders?{query}", json=body()), 422)
        assert content["errors"][0]["pointer"] == name


def test_ambiguous_symbol_is_refused_with_its_candidates_as_a_list(
    run: Run, client: TestClient
) -> None:
    run.append(client, [(t.REFERENCE_INSTRUMENTS, instrument("SPY", "XNYS"))])

    content = problem(client.post("/api/orders", json=body()), 422)

    assert content["candidates"] == ["SPY.ARCX", "SPY.XNYS"]


@pytest.mark.parametrize(
    "path",
    [
        "/api/orders",
        "/api/trades",
        "/api/fills",
        "/api/risk/decisions",
        "/api/positions",
        "/api/strategies/momentum/signals",
    ],
)
def test_symbol_of_a_filter_stands_for_one_instrument(
    run: Run, client: TestClient, path: str
) -> None:
    unknown = problem(client.get(f"{path}?symbol=NOPE"), 422)
    one = client.get(f"{path}?symbol=SPY").json()
    run.append(client, [(t.REFERENCE_INSTRUMENTS, instrument("SPY", "XNYS"))])

    several = problem(client.get(f"{path}?symbol=SPY"), 422)

    assert unknown["code"] == "symbol_unknown"
    assert several["candidates"] == ["SPY.ARCX", "SPY.XNYS"]
    assert client.get(f"{path}?symbol=SPY.ARCX").json() == one
    assert client.get("/api/instruments?symbol=SPY").json()["count"] == 2


def test_order_whose_id_is_repeated_is_answered_as_the_one_that_stands(client: TestClient) -> None:
    first = client.post("/api/orders", json=body(client_order_id="twice"))
    second = client.post("/api/orders", json=body(client_order_id="twice"))

    assert first.json() == second.json()


# ---- replace


def test_replace_is_a_command_and_answers_with_the_order_as_it_stands(
    run: Run, client: TestClient
) -> None:
    response = client.patch("/api/orders/o-2?wait=accepted", json={"quantity": "12"})

    assert response.status_code == 200
    assert response.json()["quantity"] == 12
    command = last_command(run, ReplaceOrder)
    assert (command.client_order_id, command.quantity) == ("o-2", Decimal(12))
    assert (command.account_id, command.strategy_id) == ("paper", "momentum")


def test_replace_that_the_gate_denies_is_refused_with_its_code(client: TestClient) -> None:
    content = problem(client.patch("/api/orders/o-2", json={"quantity": 2000}), 422)

    assert content["code"] == "max_position"
    assert "2000 against 1000 (global)" in content["detail"]
    # The order stands as before, and nothing is wrong with it.
    order = client.get("/api/orders/o-2").json()
    assert (order["code"], order["detail"]) == ("", "")


def test_replace_that_the_venue_refuses_is_a_conflict_for_who_waits(
    run: Run, client: TestClient
) -> None:
    order = msgspec.structs.replace(
        submit("rest"), order_type="LIMIT", limit_price=Decimal(160), event_id="s-rest"
    )
    run.append(client, [(t.ACCOUNT_INPUTS, order), (t.ORDER_EVENTS, submitted(order))])

    response = client.patch("/api/orders/rest?wait=accepted", json={"limit_price": 13})

    assert problem(response, 409)["code"] == "bad_luck"


def test_replace_that_the_gate_does_not_judge_in_time_is_pending() -> None:
    run = Run(has_stage=False)
    run.log.append(filled_run())

    def take(published: Sequence[Published]) -> None:
        for item in published:
            if isinstance(item.record, ReplaceOrder):
                taken = receipt(item.record, ReceiptOutcome.ACCEPTED)
                run.log.append([(t.ORDER_RECEIPTS, taken)])

    run.log.listen(take)
    with run.client() as client:
        response = client.patch("/api/orders/o-2", json={"quantity": 12})

    location = "/api/orders/o-2?account_id=paper"
    assert (response.status_code, response.headers["location"]) == (202, location)


def test_place_to_ask_is_that_of_the_account_which_was_meant() -> None:
    run = Run(has_stage=False)
    for account_id in ("first&1", "second"):
        order = submit("same", account_id=account_id)
        run.log.append([(t.ACCOUNT_INPUTS, order), (t.ORDER_EVENTS, submitted(order))])
    with run.client() as client:
        response = client.delete("/api/orders/same", params={"account_id": "first&1"})

        assert response.status_code == 202
        found = client.get(response.headers["location"]).json()
        assert (found["client_order_id"], found["account_id"]) == ("same", "first&1")


def test_order_of_an_id_that_two_accounts_have_is_asked_for_by_its_account() -> None:
    run = Run(has_stage=False)
    for account_id in ("first", "second"):
        order = submit("same", account_id=account_id)
        run.log.append([(t.ACCOUNT_INPUTS, order), (t.ORDER_EVENTS, submitted(order))])
        at = msgspec.structs.replace(snapshot(), account_id=account_id)
        run.log.append([(t.PORTFOLIO_ACCOUNTS, at)])
    with run.client() as client:
        for answer in (
            client.delete("/api/orders/same"),
            client.patch("/api/orders/same", json={"quantity": 5}),
        ):
            found = problem(answer, 422)
            assert found["code"] == "order_ambiguous"
            assert found["candidates"] == ["first", "second"]


@pytest.mark.parametrize("order_id", [".", "..", "a/b", "a b", ""])
def test_id_that_cannot_stand_in_a_path_is_refused(client: TestClient, order_id: str) -> None:
    answer = client.post("/api/orders", json=body(client_order_id=order_id))
    assert problem(answer, 422)["errors"][0]["pointer"] == "/client_order_id"


@pytest.mark.parametrize("quantity", ["1E-999999999", "1E+999999999", "0E-999999999", "1" * 39])
def test_number_that_would_fill_the_memory_is_refused(client: TestClient, quantity: str) -> None:
    for path, values in (
        ("/api/orders", body(quantity=quantity)),
        ("/api/risk/check", body(quantity=quantity)),
    ):
        found = problem(client.post(path, json=values), 422)["errors"]
        assert [error["pointer"] for error in found] == ["/quantity"]
        assert "digits" in found[0]["detail"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({}, ""),
        ({"quantity": 0}, "/quantity"),
        ({"limit_price": 160}, "/limit_price"),
        ({"stop_price": 160}, "/stop_price"),
        ({"side": "SELL"}, "/side"),
    ],
)
def test_replace_that_makes_no_sense_is_refused(
    client: TestClient, fields: dict[str, Any], pointer: str
) -> None:
    errors = problem(client.patch("/api/orders/o-2", json=fields), 422)["errors"]

    assert [error["pointer"] for error in errors] == [pointer]


def test_replace_of_a_closed_or_unknown_order_is_refused(client: TestClient) -> None:
    assert problem(client.patch("/api/orders/o-1", json={"quantity": 3}), 409)["code"] == (
        "not_replaceable"
    )
    problem(client.patch("/api/orders/nope", json={"quantity": 3}), 404)


# ---- cancel all


def test_all_open_orders_are_canceled_by_one_command(run: Run, client: TestClient) -> None:
    response = client.delete("/api/orders")

    assert response.status_code == 200
    assert {o["client_order_id"]: o["status"] for o in response.json()["orders"]} == {
        "o-3": "PENDING_CANCEL",
        "o-2": "PENDING_CANCEL",
    }
    command = last_command(run, Kill)
    assert (command.action, command.scope, command.scope_id) == ("CANCEL_ALL", "GLOBAL", "")


@pytest.mark.parametrize(
    ("query", "scope", "scope_id", "count"),
    [
        ("strategy_id=manual", "STRATEGY", "manual", 1),
        ("account_id=paper", "ACCOUNT", "paper", 2),
        ("symbol=SPY", "INSTRUMENT", "SPY.ARCX", 2),
    ],
)
def test_cancel_of_all_has_the_scope_of_its_filter(
    run: Run, client: TestClient, query: str, scope: str, scope_id: str, count: int
) -> None:
    answer = client.delete(f"/api/orders?{query}").json()

    command = last_command(run, Kill)
    assert (command.scope, command.scope_id, answer["count"]) == (scope, scope_id, count)


def test_cancel_of_all_refuses_an_account_that_is_none_and_doubts_a_strategy(
    run: Run, client: TestClient
) -> None:
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    content = problem(client.delete("/api/orders?account_id=papr"), 422)
    assert (content["code"], content["candidates"]) == ("account_unknown", ["paper"])
    assert content["errors"][0]["pointer"] == "/account_id"
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == before
    assert "'manul'" in client.delete("/api/orders?strategy_id=manul").json()["warning"]
    assert client.delete("/api/orders?strategy_id=manual").json()["warning"] == ""


def test_cancel_of_all_takes_one_filter(client: TestClient) -> None:
    problem(client.delete("/api/orders?strategy_id=manual&symbol=SPY"), 422)
    problem(client.delete("/api/orders?symbol=QQQ"), 422)


def test_cancel_of_all_that_nobody_carries_out_is_pending() -> None:
    run = Run(has_stage=False)
    run.log.append(filled_run())
    with run.client() as client:
        assert client.delete("/api/orders").status_code == 202


# ---- lists


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("side=BUY", ["o-3", "o-2", "o-1"]),
        ("side=SELL", []),
        ("order_type=LIMIT", []),
        ("client_order_id=o-2", ["o-2"]),
        ("after=2013-10-07T13:30:00.000000010Z", ["o-3"]),
        ("until=2013-10-07T13:30:00Z", ["o-1"]),
        ("until=2013-10-07", ["o-3", "o-2", "o-1"]),
    ],
)
def test_orders_are_filtered_by_what_was_asked(
    client: TestClient, query: str, ids: list[str]
) -> None:
    answer = client.get(f"/api/orders?{query}").json()

    assert [order["client_order_id"] for order in answer["orders"]] == ids


def test_time_that_is_none_is_refused(client: TestClient) -> None:
    assert problem(client.get("/api/orders?after=noon"), 422)["errors"][0]["pointer"] == "/after"


def test_order_is_found_by_client_id(client: TestClient) -> None:
    path = "/api/orders:by_client_order_id"

    assert client.get(f"{path}?client_order_id=o-1").json()["status"] == "FILLED"
    problem(client.get(f"{path}?client_order_id=nope"), 404)
    problem(client.get(path), 422)


def test_fills_are_listed_without_the_book(client: TestClient) -> None:
    answer = client.get("/api/fills?client_order_id=o-1").json()

    assert [item["trade_id"] for item in answer["fills"]] == ["trade-o-1"]
    assert "order_book" not in answer


# ---- causes


def caused_run() -> list[tuple[str, Header]]:
    """Return a run in which a print moves a strategy, and a quote fills its order."""
    event, book = trade(165.1, at=1), quote(165.0, 165.2, at=2)
    order = msgspec.structs.replace(submit("why", at=1), causation_id=event.event_id)
    _, (_, signal) = strategy_records()
    signal = msgspec.structs.replace(
        signal, causation_id=event.event_id, ts_event_ns=event.ts_event_ns
    )
    execution = msgspec.structs.replace(fill("why"), market_event_id=book.event_id)
    return [
        (t.MARKET_EVENTS, event),
        (t.STRATEGY_SIGNALS, signal),
        (t.ACCOUNT_INPUTS, order),
        (t.ORDER_EVENTS, submitted(order)),
        (t.MARKET_EVENTS, book),
        (t.ACCOUNT_INPUTS, execution),
        (t.ORDER_FILLS, execution),
        (t.ORDER_EVENTS, filled(order)),
    ]


def test_causes_lead_from_the_market_event_to_the_fill(run: Run, client: TestClient) -> None:
    run.append(client, caused_run())
    # Market data that nothing named does not push the cause out of memory.
    run.append(client, [(t.MARKET_EVENTS, trade(160.0, at=n)) for n in range(10, 20)])

    links = client.get("/api/orders/why/causes").json()["links"]

    assert [link["type"] for link in links] == [
        "trade",
        "strategy_signal",
        "submit_order",
        "order_submitted",
        "quote",
        "fill",
        "order_filled",
    ]
    known = {link["event_id"] for link in links}
    assert links[2]["causation_id"] == links[0]["event_id"]
    assert links[5]["record"]["market_event_id"] in known
    assert links[0]["record"]["price"] == 165.1


def test_cause_that_is_no_longer_kept_is_named(run: Run, client: TestClient) -> None:
    order = msgspec.structs.replace(submit("lost"), causation_id="gone-1")
    run.append(client, [(t.ACCOUNT_INPUTS, order)])

    links = client.get("/api/orders/lost/causes").json()["links"]

    assert links[0] == {**dict.fromkeys(links[0]), "event_id": "gone-1", "causation_id": ""}
    problem(client.get("/api/orders/nope/causes"), 404)


# ---- approvals


@pytest.fixture
def waiting(run: Run, client: TestClient) -> TestClient:
    """Give a client of a run in which two orders wait for a person."""
    for name in ("wait-1", "wait-2"):
        order = submit(name)
        run.append(
            client,
            [(t.ACCOUNT_INPUTS, order), (t.ORDER_EVENTS, pending(order, START_NS + 300))],
        )
    return client


def test_orders_that_wait_are_listed_with_their_end(waiting: TestClient) -> None:
    answer = waiting.get("/api/approvals").json()

    assert [a["order"]["client_order_id"] for a in answer["approvals"]] == ["wait-2", "wait-1"]
    assert answer["approvals"][0]["expires_ns"] == START_NS + 300


@pytest.mark.parametrize(("action", "status"), [("approve", "SUBMITTED"), ("reject", "DENIED")])
def test_person_lets_an_order_go_or_ends_it(
    run: Run, waiting: TestClient, action: str, status: str
) -> None:
    response = waiting.post(f"/api/approvals/wait-1/{action}", json={"reason": "so it is"})

    assert (response.status_code, response.json()["status"]) == (200, status)
    command = last_command(run, ApproveOrder)
    assert (command.is_approved, command.reason) == (action == "approve", "so it is")
    assert waiting.get("/api/approvals").json()["count"] == 1


def test_order_that_does_not_wait_cannot_be_approved(client: TestClient) -> None:
    assert problem(client.post("/api/approvals/o-1/approve", json={}), 409)["code"] == "not_waiting"
    problem(client.post("/api/approvals/nope/approve", json={}), 404)
