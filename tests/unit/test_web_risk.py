"""Risk over HTTP: effective limits, decisions, the acts of stopping, what-if."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.commands import CheckOrder, SubmitOrder
from schemas.control import RunManifest
from schemas.enums import BreakerState, Scope
from schemas.risk import Kill, LimitSet, SetLimits
from tests.unit.web_run import (
    START_NS,
    Run,
    body,
    breaker,
    decision,
    exact,
    filled_run,
    position,
    problem,
    snapshot,
)


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


def rule(scope: Scope, scope_id: str, **bounds: Any) -> SetLimits:
    """Return limits of a scope as applied."""
    limits = msgspec.convert(bounds, LimitSet)
    return SetLimits(f"l-{scope}", START_NS, "c", "c", scope, scope_id, limits, "ada")


def commands(run: Run, kind: type[Any]) -> list[Any]:
    """Return the commands of a type."""
    records = [item.record for item in run.log.read(t.ACCOUNT_INPUTS, 0, 1000)]
    return [record for record in records if isinstance(record, kind)]


# ---- limits


def test_effective_limit_is_the_strictest_and_says_whose_it_is(
    run: Run, client: TestClient
) -> None:
    run.append(
        client,
        [
            (t.RISK_LIMITS, rule(Scope.GLOBAL, "", max_position="100", max_notional="9000")),
            (t.RISK_LIMITS, rule(Scope.STRATEGY, "momentum", max_position="50.25")),
            (t.RISK_LIMITS, rule(Scope.INSTRUMENT, "SPY.ARCX", max_position="7")),
            (t.RISK_LIMITS, rule(Scope.INSTRUMENT, "IBM.XNYS", max_position="1")),
        ],
    )

    both = exact(client.get("/api/risk/limits?strategy_id=momentum&symbol=SPY"))
    account = exact(client.get("/api/risk/limits"))

    assert both["limits"]["max_position"] == "7"
    assert both["limits"]["max_notional"] == "9000"
    assert both["scopes"]["max_position"] == "instrument SPY.ARCX"
    assert both["scopes"]["max_notional"] == "global"
    assert [item["scope"] for item in both["rules"]] == [
        "GLOBAL",
        "ACCOUNT",
        "STRATEGY",
        "INSTRUMENT",
    ]
    assert account["limits"]["max_position"] == "10.50"
    assert account["scopes"]["max_position"] == "account paper"


def test_limits_are_replaced_by_a_command_and_answered_as_applied(
    run: Run, client: TestClient
) -> None:
    response = client.put(
        "/api/risk/limits",
        json={
            "scope": "INSTRUMENT",
            "scope_id": "SPY",
            "limits": {"max_position": "500.10", "price_collar": 0.05, "max_order_rate": 3},
            "reason": "earnings",
        },
    )

    answer = exact(response)
    assert (answer["scope_id"], answer["limits"]["max_position"]) == ("SPY.ARCX", "500.10")
    (command,) = commands(run, SetLimits)
    assert (command.operator, command.reason) == ("api", "earnings")
    assert command.limits.price_collar == Decimal("0.05")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"limits": {"max_position": -1}}, "/limits/max_position"),
        ({"limits": {"max_position": "NaN"}}, "/limits/max_position"),
        ({"limits": {"max_drawdown": "20"}}, "/limits/max_drawdown"),
        ({"limits": {"max_order_rate": -1}}, "/limits/max_order_rate"),
        ({"limits": {"max_leverage": 1}}, "/limits/max_leverage"),
        ({"limits": {}, "reason": ""}, "/reason"),
        ({"limits": {}, "scope": "ACCOUNT"}, "/scope_id"),
        ({"limits": {}, "scope": "INSTRUMENT", "scope_id": "QQQ"}, "/scope_id"),
    ],
)
def test_wrong_limits_are_refused(
    run: Run, client: TestClient, fields: dict[str, Any], pointer: str
) -> None:
    content = problem(client.put("/api/risk/limits", json={"reason": "x", **fields}), 422)

    assert [error["pointer"] for error in content["errors"]] == [pointer]
    assert commands(run, SetLimits) == []


def test_lists_of_limits_name_instruments_by_symbol_or_id(run: Run, client: TestClient) -> None:
    lists = {"deny": ["SPY"], "allow": ["SPY.ARCX", "IBM"]}
    response = client.put("/api/risk/limits", json={"limits": lists, "reason": "x"})

    answer = exact(response)["limits"]
    assert (answer["deny"], answer["allow"]) == (["SPY.ARCX"], ["SPY.ARCX", "IBM.XNYS"])
    (command,) = commands(run, SetLimits)
    assert command.limits.deny == ["SPY.ARCX"]


@pytest.mark.parametrize("name", ["QQQ", "QQQ.XNAS"])
def test_list_of_limits_with_an_unknown_instrument_is_refused(
    run: Run, client: TestClient, name: str
) -> None:
    body = {"limits": {"deny": ["SPY", name]}, "reason": "x"}
    content = problem(client.put("/api/risk/limits", json=body), 422)

    assert (content["code"], content["errors"][0]["pointer"]) == (
        "symbol_unknown",
        "/limits/deny/1",
    )
    assert commands(run, SetLimits) == []


def test_limits_name_the_breaker_that_they_do_not_reset(run: Run, client: TestClient) -> None:
    def warning() -> str:
        answer = client.put("/api/risk/limits", json={"limits": {}, "reason": "x"}).json()
        return str(answer["warning"])

    assert warning() == ""
    run.append(client, [(t.RISK_BREAKER, breaker(BreakerState.REDUCING))])
    assert "these stay tripped: global (REDUCING)" in warning()
    run.append(client, [(t.RISK_BREAKER, breaker(BreakerState.ACTIVE, epoch=2))])
    assert warning() == ""


def test_limits_name_the_bounds_that_they_take_away(run: Run, client: TestClient) -> None:
    def put(**limits: Any) -> str:
        body = {"scope": "STRATEGY", "scope_id": "momentum", "limits": limits, "reason": "x"}
        return str(client.put("/api/risk/limits", json=body).json()["warning"])

    assert put(max_daily_loss=500, price_collar=0.05, max_position=10) == ""
    assert put(max_position=20) == (
        "this replaces the whole set: price_collar, max_daily_loss no longer hold"
    )
    run.append(client, [(t.RISK_BREAKER, breaker(BreakerState.REDUCING))])
    both = put(max_order_rate=1)
    assert both.startswith("limits reset no breaker")
    assert both.endswith("; this replaces the whole set: max_position no longer holds")


def test_limits_say_why_they_were_set(client: TestClient) -> None:
    body = {"limits": {"max_position": 5}, "reason": "earnings tonight"}
    assert client.put("/api/risk/limits", json=body).json()["reason"] == "earnings tonight"

    stands = client.get("/api/risk").json()["limits"]
    rules = client.get("/api/risk/limits").json()["rules"]
    for found in (stands, rules):
        reasons = [limits["reason"] for limits in found if limits["scope"] == "GLOBAL"]
        assert reasons == ["earnings tonight"]


def test_limits_that_nobody_applies_are_pending() -> None:
    run = Run(has_stage=False)
    with run.client() as client:
        response = client.put("/api/risk/limits", json={"limits": {}, "reason": "x"})

    assert (response.status_code, response.headers["location"]) == (202, "/api/risk/limits")


# ---- decisions


def test_decisions_are_filtered_and_paged(run: Run, client: TestClient) -> None:
    run.append(client, [(t.RISK_DECISIONS, decision("o-10", "PRICE_STALE"))])

    first = client.get("/api/risk/decisions?is_approved=false&limit=1").json()
    second = client.get(
        f"/api/risk/decisions?is_approved=false&limit=1&cursor={first['next_cursor']}"
    ).json()

    assert [item["code"] for item in first["decisions"]] == ["PRICE_STALE"]
    assert [item["code"] for item in second["decisions"]] == ["MAX_POSITION"]
    assert second["next_cursor"] is None
    assert client.get("/api/risk/decisions?code=MAX_POSITION").json()["count"] == 1
    assert client.get("/api/risk/decisions?client_order_id=o-1").json()["count"] == 1
    problem(client.get("/api/risk/decisions?cursor=x"), 422)


def test_decisions_of_one_account_are_shown_and_counted_alone() -> None:
    of_two = msgspec.structs.replace(decision("x", "PRICE"), account_id="two")
    run = Run()
    run.log.append([(t.PORTFOLIO_ACCOUNTS, snapshot()), (t.RISK_DECISIONS, decision("a"))])
    run.log.append([(t.RISK_DECISIONS, of_two), (t.RISK_DECISIONS, decision("b", "PRICE"))])
    with run.client() as client:
        everything = client.get("/api/risk").json()
        own = client.get("/api/risk?account_id=paper").json()

    assert (everything["approved_count"], everything["denied_by_code"]) == (1, {"PRICE": 2})
    assert (own["approved_count"], own["denied_count"]) == (1, 1)
    assert own["denied_by_code"] == {"PRICE": 1}
    assert [item["client_order_id"] for item in own["decisions"]] == ["b", "a"]


def test_breaker_is_shown_alone(run: Run, client: TestClient) -> None:
    run.append(client, [(t.RISK_BREAKER, breaker(BreakerState.REDUCING))])

    assert client.get("/api/risk/breaker").json()["state"] == "REDUCING"


# ---- the three acts


@pytest.mark.parametrize("action", ["stop_entries", "STOP_ENTRIES"])
def test_stop_of_entries_is_done_when_the_breaker_reduces(
    run: Run, client: TestClient, action: str
) -> None:
    response = client.post("/api/risk/kill", json={"action": action, "reason": "enough"})

    assert response.status_code == 200
    assert response.json()["circuit_breaker"]["state"] == "REDUCING"
    assert [c.action for c in commands(run, Kill)] == ["STOP_ENTRIES"]


def test_cancel_of_all_is_done_when_every_order_is_on_its_way_out(client: TestClient) -> None:
    response = client.post("/api/risk/kill", json={"action": "cancel_all", "reason": "enough"})

    assert response.status_code == 200
    assert response.json()["open_orders"] == ["o-3", "o-2"]


def test_flatten_is_pending_until_the_positions_are_flat(run: Run, client: TestClient) -> None:
    pending = client.post("/api/risk/kill", json={"action": "flatten", "reason": "enough"})
    run.append(
        client,
        [
            (t.PORTFOLIO_POSITIONS, position("0")),
            (t.PORTFOLIO_POSITIONS, position("0", strategy_id="manual")),
        ],
    )
    done = client.post("/api/risk/kill", json={"action": "flatten", "reason": "enough"})

    assert pending.status_code == 202
    assert pending.json()["open_positions"] == ["paper/momentum/SPY.ARCX", "paper/manual/SPY.ARCX"]
    assert (done.status_code, done.json()["open_positions"]) == (200, [])


def test_flatten_names_the_orders_that_may_trade_after_it(client: TestClient) -> None:
    request = {"action": "flatten", "reason": "enough"}
    first = client.post("/api/risk/kill", json=request).json()
    client.delete("/api/orders/o-2")
    second = client.post("/api/risk/kill", json=request).json()

    assert first["warning"] == (
        "2 other orders stay and may trade after it, cancel_all ends them: o-2, o-3"
    )
    assert second["warning"] == (
        "1 other order stays and may trade after it, cancel_all ends it: o-3"
    )


def test_flatten_whose_orders_wait_for_a_person_says_so(client: TestClient) -> None:
    response = client.post("/api/risk/kill", json={"action": "flatten", "reason": "ask"})
    (waiting,) = client.get("/api/approvals").json()["approvals"]

    assert "1 of its orders waits for approval" in response.json()["warning"]
    order = waiting["order"]
    assert (order["client_order_id"], order["side"], order["quantity"]) == ("f-1", "SELL", 10)


def test_flatten_that_is_denied_says_so_and_lists_its_order_whole(client: TestClient) -> None:
    response = client.post("/api/risk/kill", json={"action": "flatten", "reason": "halted"})
    order = client.get("/api/orders/f-1").json()

    assert response.status_code == 202
    assert response.json()["warning"] == (
        "1 of its orders denied, this position stands: "
        "momentum/SPY.ARCX: BREAKER_HALTED no new orders; "
        "2 other orders stay and may trade after it, cancel_all ends them: o-2, o-3"
    )
    assert (order["side"], order["quantity"], order["order_type"]) == ("SELL", 10, "MARKET")
    assert (order["status"], order["code"]) == ("DENIED", "BREAKER_HALTED")


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"action": "panic", "reason": "x"}, "/action"),
        ({"action": "flatten"}, "/reason"),
        ({"action": "flatten", "reason": " "}, "/reason"),
        ({"action": "flatten", "reason": "x", "scope": "STRATEGY"}, "/scope_id"),
    ],
)
def test_wrong_act_is_refused(client: TestClient, fields: dict[str, Any], pointer: str) -> None:
    content = problem(client.post("/api/risk/kill", json=fields), 422)

    assert [error["pointer"] for error in content["errors"]] == [pointer]


# ---- names of scopes

ACTS = [
    ("POST", "/api/risk/kill", {"action": "cancel_all"}),
    ("POST", "/api/risk/breaker/trip", {}),
    ("POST", "/api/risk/breaker/reset", {}),
    ("PUT", "/api/risk/limits", {"limits": {}}),
]


@pytest.mark.parametrize(("method", "path", "fields"), ACTS)
def test_account_that_the_run_does_not_have_is_refused_with_the_candidates(
    run: Run, client: TestClient, method: str, path: str, fields: dict[str, Any]
) -> None:
    before = run.log.end_offset(t.ACCOUNT_INPUTS)
    scope = {"scope": "ACCOUNT", "scope_id": "papr", "reason": "enough"}

    content = problem(client.request(method, path, json={**fields, **scope}), 422)

    assert (content["code"], content["candidates"]) == ("account_unknown", ["paper"])
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == before


@pytest.mark.parametrize(("method", "path", "fields"), ACTS)
def test_strategy_that_nothing_bears_is_taken_and_doubted(
    client: TestClient, method: str, path: str, fields: dict[str, Any]
) -> None:
    def warning(name: str) -> Any:
        scope = {"scope": "STRATEGY", "scope_id": name, "reason": "enough"}
        return client.request(method, path, json={**fields, **scope}).json()["warning"]

    assert "'momentm'" in warning("momentm")
    assert warning("momentum") == warning("manual") == ""


def test_account_of_the_settings_is_known_before_anything_was_heard_of_it() -> None:
    run = Run()
    config: dict[str, object] = {"accounts": {"accounts": [{"account_id": "desk", "cash": "1"}]}}
    manifest = RunManifest(ts_event_ns=START_NS, run_id="run-1", config=config)
    act = {"action": "stop_entries", "reason": "enough", "scope": "ACCOUNT"}
    with run.client() as client:
        # Nothing is known of accounts yet, and stopping must be possible.
        assert client.post("/api/risk/kill", json={**act, "scope_id": "dsk"}).status_code == 200
        run.append(client, [(t.SYSTEM_RUNS, manifest)])
        assert client.post("/api/risk/kill", json={**act, "scope_id": "desk"}).status_code == 200
        problem(client.post("/api/risk/kill", json={**act, "scope_id": "dsk"}), 422)


def test_breaker_of_an_unknown_account_that_was_tripped_elsewhere_is_reset(
    run: Run, client: TestClient
) -> None:
    tripped = msgspec.structs.replace(
        breaker(BreakerState.HALTED), scope=Scope.ACCOUNT, scope_id="papr"
    )
    run.append(client, [(t.RISK_BREAKER, tripped)])

    body = {"scope": "ACCOUNT", "scope_id": "papr", "reason": "was a mistake"}
    response = client.post("/api/risk/breaker/reset", json=body)

    assert response.status_code == 200


# ---- what if


def test_what_if_is_a_question_on_the_log_and_sends_nothing(run: Run, client: TestClient) -> None:
    before = len(commands(run, SubmitOrder))

    answer = client.post("/api/risk/check", json=body(quantity=2000)).json()

    assert (answer["is_approved"], answer["code"]) == (False, "MAX_POSITION")
    assert (answer["measured"], answer["limit"], answer["breaker_epoch"]) == ("2000", "1000", 3)
    assert (answer["topic"], answer["offset"]) == (t.ORDER_RECEIPTS, 0)
    (question,) = commands(run, CheckOrder)
    assert question.order.quantity == 2000
    assert len(commands(run, SubmitOrder)) == before


def test_what_if_of_a_wrong_order_is_refused_and_without_a_stage_unavailable(
    client: TestClient,
) -> None:
    problem(client.post("/api/risk/check", json=body(quantity=0)), 422)

    lonely = Run(has_stage=False)
    lonely.log.append(filled_run())
    with lonely.client() as other:
        response = other.post("/api/risk/check", json=body())
    assert problem(response, 503)["code"] == "no_answer"


def test_what_if_about_a_known_order_changes_nothing_of_it(client: TestClient) -> None:
    before = client.get("/api/orders/o-2").json()

    client.post("/api/risk/check", json=body(client_order_id="o-2", quantity=2000))

    assert client.get("/api/orders/o-2").json() == before
