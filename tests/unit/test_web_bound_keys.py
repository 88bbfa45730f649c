"""Keys that are bound to accounts: every route, every topic, and what they may write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.control import RunManifest, StrategySignal
from schemas.enums import KillAction, Scope
from schemas.envelope import Header
from schemas.risk import Kill
from schemas.topics import CATALOGUE
from streams.history import NOW, Filters, Moment, Page, StoredOrder, Window
from streams.log import Published
from tests.unit.web_examples import example_run
from tests.unit.web_gate import Gate, bearer
from tests.unit.web_run import (
    START_NS,
    Run,
    body,
    decision,
    fill,
    mark,
    position,
    problem,
    snapshot,
    strategy_state,
    submit,
    submitted,
)
from web.own_history import OwnHistory
from web.problems import ProblemError
from web.route_table import Route
from web.routes import TABLE
from web.scopes import SCOPES
from web.security.accounts import is_of_own, is_shared, may_read

FOREIGN = ('"paper"', '"o-0"', '"o-1"', '"o-2"', '"o-3"', '"wait-1"', '"momentum"', "trade-o-1")
"""What stands in the records of the account ``paper``."""

COMMANDS = (t.ACCOUNT_INPUTS, t.STRATEGY_INPUTS)
WITH_EXAMPLE = [route for route in TABLE if route.tag != "session"]


def names(route: Route) -> str:
    return f"{route.method} {route.path}"


def send(client: TestClient, route: Route, key: str) -> Any:
    path = route.example or route.path
    return client.request(route.method, path, json=route.example_body, headers=bearer(key))


def written(run: Run) -> list[Header]:
    """Return the commands on the log."""
    return [
        item.record
        for topic in COMMANDS
        for item in run.log.read(topic, 0, 10_000)
        if item.record.event_id.startswith("web:")  # type: ignore[attr-defined]
    ]


# ---- routes


def test_routes_are_closed_until_somebody_says_otherwise() -> None:
    closed = {
        names(route)
        for route in TABLE
        if not is_shared(route.path, route.tag) and not is_of_own(route.path, route.tag)
    }
    tags = {"risk", "backtests", "system"}
    assert closed == {
        names(route)
        for route in TABLE
        if route.tag in tags
        and route.path
        not in {
            "/api/risk/check", "/api/risk/decisions", "/healthz", "/readyz",
            "/api/system/version", "/api/system/topics", "/api/system/lag",
        }
    }  # fmt: skip


@pytest.mark.parametrize("route", WITH_EXAMPLE, ids=names)
def test_key_for_one_account_gets_nothing_of_another_and_changes_nothing_there(
    route: Route, tmp_path: Path
) -> None:
    gate = Gate(tmp_path)
    key = gate.key(*SCOPES, accounts=("desk",))
    run = example_run(gate.keeper)
    with run.client() as client:
        response = send(client, route, key)

        assert response.status_code not in (401, 500), response.text
        if not is_shared(route.path, route.tag) and not is_of_own(route.path, route.tag):
            assert problem(response, 403)["code"] == "account_not_allowed"
        elif response.status_code < 400:
            assert [mark for mark in FOREIGN if mark in response.text] == []
        else:
            assert "candidates" not in problem(response, response.status_code)
        assert {getattr(command, "account_id", "") for command in written(run)} <= {"desk"}


@pytest.mark.parametrize(
    "route",
    [r for r in WITH_EXAMPLE if is_shared(r.path, r.tag) or is_of_own(r.path, r.tag)],
    ids=names,
)
def test_key_for_the_account_gets_what_a_key_for_all_gets(route: Route, tmp_path: Path) -> None:
    answers = []
    for folder, accounts in (("all", ()), ("one", ("paper", "another"))):
        gate = Gate(tmp_path / folder)
        key = gate.key(*SCOPES, accounts=accounts)
        path = route.example or route.path
        if route.method == "DELETE" and route.path == "/api/orders":
            path = "/api/orders?account_id=paper"
        with example_run(gate.keeper).client() as client:
            response = client.request(
                route.method, path, json=route.example_body, headers=bearer(key)
            )
        answers.append((response.status_code, response.json()))

    assert answers[0][0] < 300
    assert answers[0] == answers[1]


# ---- two accounts with the same ids


def two_accounts(gate: Gate) -> Run:
    """Return a run in which ``paper`` and ``desk`` have an order of the same id, and more."""
    run = example_run(gate.keeper)
    order = submit("o-1", account_id="desk", strategy_id="manual", at=5)
    ours: Sequence[Any] = (
        (t.ACCOUNT_INPUTS, order),
        (t.ORDER_EVENTS, submitted(order)),
        (t.ORDER_FILLS, fill("d-1", strategy_id="manual")),
        (t.PORTFOLIO_POSITIONS, position("7", strategy_id="manual")),
        (t.PORTFOLIO_ACCOUNTS, snapshot()),
        (t.PORTFOLIO_EQUITY, mark(500.0)),
        (t.RISK_DECISIONS, msgspec.structs.replace(decision("d-1"), strategy_id="manual")),
    )
    own = [(topic, msgspec.structs.replace(record, account_id="desk")) for topic, record in ours]
    run.log.append(own)
    return run


def test_one_sees_ones_own_of_two_accounts(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    headers = bearer(gate.key("read", accounts=("desk",)))
    with two_accounts(gate).client() as client:

        def get(path: str) -> Any:
            response = client.get(path, headers=headers)
            assert response.status_code == 200, response.text
            return response.json()

        assert [a["account"]["account_id"] for a in get("/api/portfolio")["accounts"]] == ["desk"]
        assert get("/api/portfolio/account")["account_id"] == "desk"  # the one that is meant
        assert {p["account_id"] for p in get("/api/positions")["positions"]} == {"desk"}
        assert get("/api/positions/SPY")["net_quantity"] == {"desk": 7}
        (order,) = get("/api/orders")["orders"]
        assert (order["account_id"], order["client_order_id"]) == ("desk", "o-1")
        assert get("/api/orders/o-1")["account_id"] == "desk"
        assert get("/api/orders/o-1/causes")["account_id"] == "desk"
        assert [f["client_order_id"] for f in get("/api/fills")["fills"]] == ["d-1"]
        decisions = get("/api/risk/decisions")["decisions"]
        assert [d["client_order_id"] for d in decisions] == ["d-1"]
        assert [g["key"] for g in get("/api/portfolio/pnl")["groups"]] == ["manual"]
        assert get("/api/strategies")["strategies"] == []
        assert get("/api/approvals")["approvals"] == []
        assert client.get("/api/portfolio/paper", headers=headers).status_code == 404
        assert client.get("/api/orders/o-2", headers=headers).status_code == 404
        found = client.get("/api/orders/o-1?account_id=paper", headers=headers)
        assert found.status_code == 404
        # Another place of the run is no way around.
        past = get("/api/portfolio?as_of=market.events.v1:9")
        assert all(a["account"]["account_id"] == "desk" for a in past["accounts"])


def test_one_writes_to_ones_own_of_two_accounts(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    headers = bearer(gate.key("trade", "read", accounts=("desk",)))
    run = two_accounts(gate)
    with run.client() as client:

        def code(method: str, path: str, content: Any = None) -> str:
            response = client.request(method, path, json=content, headers=headers)
            return str(problem(response, response.status_code)["code"])

        assert code("POST", "/api/orders", body(account_id="paper")) == "account_not_allowed"
        assert code("POST", "/api/risk/check", body(account_id="paper")) == "account_not_allowed"
        assert code("DELETE", "/api/orders/o-1?account_id=paper") == "not_found"
        assert code("DELETE", "/api/orders/o-2") == "not_found"
        assert code("DELETE", "/api/orders") == "account_not_allowed"
        assert code("DELETE", "/api/orders?account_id=paper") == "account_not_allowed"
        assert code("DELETE", "/api/orders?account_id=papr") == "account_not_allowed"
        assert code("DELETE", "/api/orders?strategy_id=momentum") == "account_not_allowed"
        assert code("DELETE", "/api/orders?symbol=SPY") == "account_not_allowed"
        assert code("DELETE", "/api/positions/SPY?account_id=paper") == "not_found"
        reason = {"reason": "x"}
        assert code("POST", "/api/strategies/momentum/stop", reason) == "not_found"
        assert code("POST", "/api/approvals/wait-1/approve", reason) == "not_found"
        assert written(run) == []

        answer = client.post("/api/orders", json=body(), headers=headers)
        assert (answer.status_code, answer.json()["account_id"]) == (200, "desk")
        answer = client.delete("/api/positions/SPY?percentage=100", headers=headers)
        assert (answer.status_code, answer.json()["account_id"]) == (200, "desk")
        answer = client.delete("/api/orders?account_id=desk", headers=headers)
        assert answer.status_code in (200, 202)
        assert client.delete("/api/orders/o-1", headers=headers).status_code == 200
        accounts = [getattr(c, "account_id", None) or c.scope_id for c in written(run)]  # type: ignore[attr-defined]
        assert accounts == ["desk"] * 4


@pytest.mark.parametrize("is_configured", [True, False], ids=["settings", "state alone"])
def test_an_order_in_ones_own_account_does_not_reach_the_strategy_of_another(
    is_configured: bool, tmp_path: Path
) -> None:
    """Fills go to the strategy that an order names."""
    gate = Gate(tmp_path)
    headers = bearer(gate.key("trade", "read", accounts=("desk",)))
    run = two_accounts(gate)
    if is_configured:
        strategies = [{"strategy_id": "quiet", "account_id": "paper"}]
        manifest = RunManifest(
            ts_event_ns=START_NS, run_id="run-1", config={"strategies": strategies}
        )
        run.log.append([(t.SYSTEM_RUNS, manifest)])
    else:
        state = msgspec.structs.replace(strategy_state(), strategy_id="quiet")
        run.log.append([(t.STRATEGY_STATES, state)])
    foreign = body(strategy_id="quiet")
    with run.client() as client:
        for path in ("/api/orders", "/api/risk/check"):
            refused = problem(client.post(path, json=foreign, headers=headers), 403)
            assert refused["code"] == "account_not_allowed"
            assert "leave strategy_id out" in refused["detail"]
        assert written(run) == []

        label = body(strategy_id="label-only")
        assert client.post("/api/orders", json=label, headers=headers).status_code == 200


def test_cancel_all_by_strategy_is_for_keys_of_all_accounts(tmp_path: Path) -> None:
    """The account stage cancels by the label, and ``desk`` and ``paper`` both may use it."""
    gate = Gate(tmp_path)
    headers = bearer(gate.key("trade", "read", accounts=("desk",)))
    run = two_accounts(gate)
    own = msgspec.structs.replace(strategy_state(), strategy_id="ours", account_id="desk")
    run.log.append([(t.STRATEGY_STATES, own)])
    with run.client() as client:
        assert client.get("/api/strategies/ours", headers=headers).status_code == 200
        refused = problem(client.delete("/api/orders?strategy_id=ours", headers=headers), 403)

    assert refused["code"] == "account_not_allowed"
    assert "give account_id instead of strategy_id, or cancel order by order" in refused["detail"]
    assert written(run) == []


def test_a_session_has_the_accounts_of_its_key(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key("read", accounts=("desk",))
    with two_accounts(gate).client() as client:
        ticket = client.post("/api/session/ticket", headers=bearer(key)).json()["ticket"]
        assert client.post("/api/session", json={"ticket": ticket}).json()["accounts"] == ["desk"]
        assert client.get("/api/portfolio/paper").status_code == 404
        assert client.get("/api/portfolio/desk").status_code == 200


# ---- WebSocket


@pytest.mark.parametrize("origin", ["earliest", "latest"])
def test_frames_of_another_account_are_not_sent(origin: str, tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    headers = bearer(gate.key(*SCOPES, accounts=("desk",)))
    run = two_accounts(gate)
    topics = [topic.name for topic in CATALOGUE if may_read(topic.name)]
    with (
        run.client() as client,
        client.websocket_connect("ws://localhost/ws", headers=headers) as socket,
    ):
        socket.receive_json()
        request = {"op": "subscribe", "topics": topics, "from": origin, "snapshot": True}
        socket.send_json({**request, "mode": "all"})
        orders = [
            submit("new", account_id="paper", at=90),
            submit("new", account_id="desk", strategy_id="manual", at=90),
        ]
        socket.send_json({"op": "ping", "id": "subscribed"})
        frames: list[Any] = []
        while not frames or frames[-1].get("id") != "subscribed" or frames[-1]["op"] != "pong":
            frames.append(socket.receive_json())
        run.append(client, [(t.ORDER_EVENTS, submitted(order)) for order in orders])
        while "new" not in str(frames[-1]):
            frames.append(socket.receive_json())

    records = [held["data"] for f in frames if f["op"] == "snapshot" for held in f["records"]]
    records += [frame["data"] for frame in frames if frame["op"] == "data"]
    accounts = {r["account_id"] for r in records if "account_id" in r}
    assert accounts == {"desk"}
    assert {r["type"] for r in records if "account_id" not in r} <= {
        "instrument", "trade", "quote", "bar",
    }  # fmt: skip
    assert [mark for mark in FOREIGN if mark in str(records).replace("'", '"')] == ['"o-1"']


def test_topics_of_all_accounts_are_for_keys_of_all_accounts(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(*SCOPES, accounts=("desk",))
    closed = [topic.name for topic in CATALOGUE if not may_read(topic.name)]
    assert t.SYSTEM_RUNS in closed
    with (
        Run(gate=gate.keeper).client() as client,
        client.websocket_connect("ws://localhost/ws", headers=bearer(key)) as socket,
    ):
        socket.receive_json()
        for topic in closed:
            socket.send_json({"op": "subscribe", "topics": [topic]})
            assert socket.receive_json()["code"] == "forbidden", topic


# ---- database


class Told:
    """A history that notes which accounts it is asked about."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def orders(
        self, window: Window, filters: Filters, statuses: Any, as_of: Moment
    ) -> Page[Any]:
        """Note the filters."""
        self.asked.append(filters.account_ids)
        return Page([], "")

    async def fills(self, window: Window, filters: Filters) -> Page[Any]:
        """Note the filters."""
        return await self.orders(window, filters, (), NOW)

    async def pnl(self, window: Window, group_by: str, filters: Filters) -> Page[Any]:
        """Note the filters."""
        return await self.orders(window, filters, (), NOW)

    async def risk_decisions(self, window: Window, filters: Filters, is_approved: Any) -> Page[Any]:
        """Note the filters."""
        return await self.orders(window, filters, (), NOW)

    async def order(
        self, run_id: str, client_order_id: str, account_id: str, as_of: Moment
    ) -> StoredOrder | None:
        """Note the account."""
        self.asked.append(account_id)
        return None

    async def order_causes(
        self, run_id: str, client_order_id: str, account_id: str
    ) -> list[Published]:
        """Return records of two accounts and of none."""
        kill = Kill("k", 0, "", "", KillAction.FLATTEN, Scope.GLOBAL, "", "ops", "fire")
        signal = StrategySignal("s", 0, "", "", "cross", "AA.XXXX", 1.0, 10.0)
        orders = [submit("o-1", account_id=name) for name in ("desk", "paper")]
        records: list[Header] = [kill, signal, *orders]
        return [Published(t.ACCOUNT_INPUTS, 0, n, record) for n, record in enumerate(records)]


async def test_causes_out_of_the_database_are_of_ones_own_accounts() -> None:
    own = OwnHistory(Told(), frozenset({"desk", "bench"}))  # type: ignore[arg-type]
    found = await own.order_causes("run-1", "o-1", "desk")
    assert [item.offset for item in found] == [1, 2]


async def test_the_database_is_asked_about_ones_own_accounts_alone() -> None:
    told = Told()
    own = OwnHistory(told, frozenset({"desk", "bench"}))  # type: ignore[arg-type]
    window, both = Window("run-1"), ("bench", "desk")

    await own.orders(window)
    await own.fills(window, Filters(account_id="paper"))
    await own.pnl(window, "day")
    await own.risk_decisions(window)
    await own.order("run-1", "o-1")
    await own.order("run-1", "o-1", "paper")

    assert told.asked == [both, both, both, both, "bench", "desk"]
    for question in (
        own.equity(window, "paper"),
        own.order_events("run-1", "o-1", "paper"),
        own.order_causes("run-1", "o-1"),
    ):
        with pytest.raises(ProblemError, match="bench, desk"):
            await question
    assert len(told.asked) == 6
