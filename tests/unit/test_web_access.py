"""Who may use which route: every route with every scope, keys, sessions, rates, and the audit."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from tests.unit.web_gate import Gate, bearer
from tests.unit.web_run import Run, problem
from web.problems import ProblemError
from web.route_table import Route
from web.routes import TABLE
from web.scopes import ADMIN, BREAKER_TRIP, PUBLIC, READ, SCOPES, TRADE
from web.security.gatekeeper import COOKIE, CSRF_HEADER, Limits
from web.settings import WebSettings

_IN_PATH = re.compile(r"{\w+}")


def ask(client: TestClient, route: Route, headers: dict[str, str]) -> int:
    path = _IN_PATH.sub("nothing", route.path)
    status: int = client.request(route.method, path, headers=headers).status_code
    return status


def test_every_route_takes_its_own_scope_and_no_other(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    keys = {scope: gate.key(scope) for scope in SCOPES}
    settings = WebSettings(receipt_timeout_s=0.0, backtest_timeout_s=0.0)
    with Run(settings, gate=gate.keeper).client() as client:
        for route in TABLE:
            if route.scope == PUBLIC:
                continue
            assert route.scope in SCOPES
            name = f"{route.method} {route.path}"
            assert ask(client, route, {}) == 401, name
            for scope, key in keys.items():
                status = ask(client, route, bearer(key))
                assert (status == 403) is (scope != route.scope), (name, scope, status)
                assert status not in (401, 500), (name, scope, status)


def test_writing_routes_never_take_the_scope_of_readers() -> None:
    unsafe = [r for r in TABLE if r.method != "GET" and r.scope in (READ, PUBLIC)]
    # Questions with a body, and the caller's own session.
    assert {r.path for r in unsafe} <= {
        "/api/risk/check",
        "/api/session",
        "/api/session/ticket",
        "/api/backtest/compare",
    }


@pytest.mark.parametrize(
    "wrong",
    ["", "mr_", "mr_id1_wrong", "mr_nobody_a_b-1", "xx_id1_a_b-1", "id1_a_b-1", "\x00", "ä" * 500],
)
def test_a_wrong_key_is_nobodys(tmp_path: Path, wrong: str) -> None:
    gate = Gate(tmp_path)
    assert gate.key(READ) == "mr_id1_a_b-1"
    with Run(gate=gate.keeper).client() as client:
        good = client.get("/api/portfolio", headers=bearer("mr_id1_a_b-1"))
        answer = client.get(
            "/api/portfolio", headers=[(b"authorization", b"Bearer " + wrong.encode())]
        )
    assert good.status_code != 401
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.json()["code"] in ("key_missing", "key_refused")


def test_keys_end_by_time_and_by_revocation(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    short = gate.key(READ, expires_ns=gate.clock.time_ns() + 10)
    gone = gate.key(READ, name="gone")
    with Run(gate=gate.keeper).client() as client:
        assert client.get("/api/strategies", headers=bearer(short)).status_code == 200
        assert client.get("/api/strategies", headers=bearer(gone)).status_code == 200
        gate.keys.revoke("gone")
        gate.clock.now_s += 2.0
        assert client.get("/api/strategies", headers=bearer(short)).status_code == 401
        assert client.get("/api/strategies", headers=bearer(gone)).status_code == 401


def test_a_broken_file_of_keys_lets_nobody_in(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(READ)
    gate.keys.path.write_text("{")
    gate.clock.now_s += 2.0
    with Run(gate=gate.keeper).client() as client:
        answer = client.get("/api/strategies", headers=bearer(key))
    assert (answer.status_code, answer.json()["code"]) == (503, "keys_unavailable")


def test_a_key_has_its_rate_and_an_address_its_wrong_keys(tmp_path: Path) -> None:
    limits = Limits(requests_per_s=1.0, requests_burst=3, failures_per_s=0.1, failures_burst=2)
    gate = Gate(tmp_path, limits=limits)
    key, other = gate.key(READ), gate.key(READ)

    def get(text: str) -> int:
        status: int = client.get("/api/strategies", headers=bearer(text)).status_code
        return status

    with Run(gate=gate.keeper).client() as client:
        assert [get(key) for _ in range(4)] == [200, 200, 200, 429]
        assert get(other) == 200
        answer = client.get("/api/strategies", headers=bearer(key))
        assert answer.headers["retry-after"] == "1"
        gate.clock.now_s += 1.0
        assert get(key) == 200
        assert [get("mr_no_no") for _ in range(3)] == [401, 401, 429]
        assert get(other) == 200  # a good key is not held up by others' wrong ones


async def test_an_address_has_its_wrong_keys_on_the_websocket_too(tmp_path: Path) -> None:
    gate = Gate(tmp_path, limits=Limits(failures_per_s=0.1, failures_burst=2))
    key = gate.key(READ)
    keeper = gate.keeper
    assert [await keeper.by_secret("mr_no_no", "1.2.3.4") for _ in range(2)] == [None, None]
    with pytest.raises(ProblemError) as caught:
        await keeper.by_secret("mr_no_no", "1.2.3.4")
    assert caught.value.status == 429
    assert await keeper.by_secret("mr_no_no", "5.6.7.8") is None  # another's are its own
    assert await keeper.by_secret(key, "1.2.3.4") is not None


def sign_in(client: TestClient, key: str) -> str:
    """Open a session as the page does and return the token for writes."""
    ticket = client.post("/api/session/ticket", headers=bearer(key)).json()["ticket"]
    answer = client.post("/api/session", json={"ticket": ticket})
    assert answer.status_code == 200
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]
    token: str = answer.json()["csrf_token"]
    assert client.post("/api/session", json={"ticket": ticket}).status_code == 401  # used up
    return token


def test_a_session_writes_with_its_token_alone(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(READ, BREAKER_TRIP, name="ada")
    with Run(gate=gate.keeper).client() as client:
        token = sign_in(client, key)
        assert client.get("/api/session").json()["name"] == "ada"
        assert client.get("/api/strategies").status_code == 200
        body = {"reason": "test"}
        answer = client.post("/api/risk/breaker/trip", json=body)
        assert (answer.status_code, answer.json()["code"]) == (403, "csrf_token_missing")
        headers = {CSRF_HEADER: token}
        assert client.post("/api/risk/breaker/trip", json=body, headers=headers).status_code < 300
        other = client.post("/api/risk/breaker/reset", json=body, headers=headers)
        assert other.json()["code"] == "scope_missing"
        assert client.delete("/api/session", headers=headers).status_code == 200
        assert client.get("/api/strategies").status_code == 401


def test_sessions_and_tickets_grow_old_and_end_with_their_key(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(READ, name="ada")
    with Run(gate=gate.keeper).client() as client:
        ticket = client.post("/api/session/ticket", headers=bearer(key)).json()["ticket"]
        gate.clock.now_s += 61.0
        assert client.post("/api/session", json={"ticket": ticket}).status_code == 401
        sign_in(client, key)
        gate.clock.now_s += 3000.0
        assert client.get("/api/strategies").status_code == 200
        gate.clock.now_s += 3700.0
        assert client.get("/api/strategies").status_code == 401
        client.cookies.delete(COOKIE)
        sign_in(client, key)
        gate.keys.revoke("ada")
        gate.clock.now_s += 2.0
        assert client.get("/api/strategies").json()["code"] == "session_ended"


def test_every_write_of_somebody_known_is_in_the_audit(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(BREAKER_TRIP, name="ada")
    run = Run(gate=gate.keeper)
    with run.client() as client:
        client.get("/api/risk", headers=bearer(key))
        client.post("/api/risk/breaker/trip", json={"reason": "x"}, headers=bearer(key))
        client.post("/api/risk/breaker/trip", content=b"{", headers=bearer(key))
        client.delete("/api/orders", headers=bearer(key))
        client.post("/api/orders", json={})  # nobody: not in the audit
        client.post("/api/orders", json={}, headers=bearer("mr_no_no"))
    said = [(w.operator, w.method, w.path, w.status, w.code) for w in run.audit]
    assert said == [
        ("ada", "POST", "/api/risk/breaker/trip", 200, ""),
        ("ada", "POST", "/api/risk/breaker/trip", 400, "malformed_json"),
        ("ada", "DELETE", "/api/orders", 403, "scope_missing"),
        ("", "POST", "/api/orders", 401, "key_refused"),
    ]
    assert run.audit[0].body_hash
    assert key.rpartition("_")[2] not in repr(run.audit)


def test_audit_has_what_reached_a_route_and_nothing_else(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    headers = bearer(gate.key(TRADE, name="ada"))
    run = Run(gate=gate.keeper)
    with run.client() as client:
        assert client.put("/api/orders", json={}, headers=headers).status_code == 405
        assert client.post("/api/nope", json={}, headers=headers).status_code == 404
        foreign = {"origin": "http://evil.example"}
        assert client.post("/api/orders", json={}, headers=headers | foreign).status_code == 403
        assert run.audit == []
        assert client.delete("/api/orders/no-such-order", headers=headers).status_code == 404
    assert [(w.method, w.status) for w in run.audit] == [("DELETE", 404)]


def test_key_in_a_path_is_not_written_down(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(TRADE, name="ada")
    run = Run(gate=gate.keeper)
    with run.client() as client:
        client.delete(f"/api/orders/{key}", headers=bearer(key))
        client.delete(f"/api/orders/a-{key.replace('_', '%5F')}-b", headers=bearer(key))
        client.delete("/api/orders/mr_smith-1", headers=bearer(key))
    assert [w.path for w in run.audit] == [
        "/api/orders/mr_***",
        "/api/orders/a-mr_***",
        "/api/orders/mr_smith-1",
    ]


@pytest.mark.parametrize("name", ["authorization", "x-api-key"])
def test_two_keys_in_one_request_are_refused(tmp_path: Path, name: str) -> None:
    gate = Gate(tmp_path)
    key = gate.key(READ, TRADE)
    value = f"Bearer {key}" if name == "authorization" else key
    with Run(gate=gate.keeper).client() as client:
        assert client.get("/api/strategies", headers=[(name, value)]).status_code == 200
        twice = [(name, value), (name, "Bearer mr_no_no")]
        answer = problem(client.get("/api/strategies", headers=twice), 400)
    assert answer["code"] == "header_repeated"


def test_with_a_key_nobody_acts_under_another_name(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(BREAKER_TRIP, name="ada")
    body = {"reason": "x", "operator": "eve"}
    run = Run(gate=gate.keeper)
    with run.client() as client:
        client.post("/api/risk/breaker/trip", json=body, headers=bearer(key))
    (command,) = [item.record for item in run.log.read("account.inputs.v1", 0, 10)]
    assert command.operator == "ada"  # type: ignore[attr-defined]


def test_on_loopback_nobody_is_asked_but_a_shown_key_counts(tmp_path: Path) -> None:
    gate = Gate(tmp_path, is_open=True)
    key = gate.key(READ)
    with Run(gate=gate.keeper).client() as client:
        assert client.get("/api/strategies").status_code == 200
        assert client.get("/api/session").json() == {"name": "api", "scopes": list(SCOPES)}
        assert client.delete("/api/orders", headers=bearer(key)).status_code == 403
        assert client.get("/api/strategies", headers=bearer("mr_no_no")).status_code == 401


def test_a_websocket_signs_in_by_header_or_ticket(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(READ)
    with Run(gate=gate.keeper).client() as client:
        with client.websocket_connect("ws://localhost/ws", headers=bearer(key)) as socket:
            assert socket.receive_json()["op"] == "hello"
            socket.send_json({"op": "subscribe", "topics": ["market.bars.v1"]})
            assert socket.receive_json()["op"] == "subscribed"
            socket.send_json({"op": "subscribe", "topics": ["system.audit.v1"]})
            assert socket.receive_json()["op"] == "error"
        ticket = client.post("/api/session/ticket", headers=bearer(key)).json()["ticket"]
        with client.websocket_connect("ws://localhost/ws") as socket:
            assert socket.receive_json()["op"] == "hello"
            socket.send_json({"op": "subscribe", "topics": ["market.bars.v1"]})
            assert socket.receive_json()["op"] == "error"
            socket.send_json({"op": "auth", "secret": ticket})
            socket.send_json({"op": "subscribe", "topics": ["market.bars.v1"]})
            answers = [socket.receive_json()["op"] for _ in range(2)]
            assert "subscribed" in answers


def test_a_websocket_ends_with_its_key(tmp_path: Path) -> None:
    gate = Gate(tmp_path)
    key = gate.key(READ, name="gone")
    run = Run(WebSettings(heartbeat_s=0.05), gate=gate.keeper)
    with (
        run.client() as client,
        client.websocket_connect("ws://localhost/ws", headers=bearer(key)) as socket,
    ):
        assert socket.receive_json()["op"] == "hello"
        gate.keys.revoke("gone")
        gate.clock.now_s += 2.0
        frame = {"op": "heartbeat"}
        while frame["op"] == "heartbeat":
            frame = socket.receive_json()
        assert (frame["op"], frame["code"]) == ("error", "key_refused")


def test_scopes_of_topics_keep_the_inside_for_those_who_run_it() -> None:
    from web.access import scope_of

    assert scope_of("market.bars.v1") == READ
    for topic in ("system.audit.v1", "system.snapshots.v1", "system.order-log.v1"):
        assert scope_of(topic) == ADMIN
    assert TRADE in SCOPES


def test_key_of_another_process_is_known_in_the_second_in_which_it_is_made(tmp_path: Path) -> None:
    gate, other = Gate(tmp_path), Gate(tmp_path)
    first = gate.key("read")
    assert gate.keys.find(first) is not None
    assert gate.keys.find("mr_new_secret") is None
    second = other.keys.make("new", ("read",), "new", "secret", 0, ())
    assert second == "mr_new_secret"
    assert gate.keys.find(second) is not None
