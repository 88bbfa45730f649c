"""Every route: a good answer, a bad request, a missing thing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.commands import CheckOrder, SubmitOrder
from schemas.control import BacktestRequest, ConfigChanged, DeadLetter
from schemas.enums import AutonomyMode, BreakerState, QualityKind
from schemas.envelope import Header
from schemas.errors import StorageError, UnconfirmedError
from schemas.market_data import DataQuality
from schemas.risk import SetAutonomy
from streams.memory_log import MemoryLog
from tests.unit.web_run import (
    METRICS,
    START_NS,
    Run,
    body,
    breaker,
    exact,
    fast,
    filled,
    filled_run,
    instrument,
    problem,
    submit,
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


# ---- portfolio


def test_portfolio_shows_money_with_its_exact_digits(client: TestClient) -> None:
    account = exact(client.get("/api/portfolio/paper"))

    assert account["account"]["cash"] == {"USD": "9007.65"}
    assert account["account"]["realized_pnl"] == "2.40"
    assert account["positions"][1]["average_price"] == "165.10"


def test_portfolio_nets_positions_over_strategies(client: TestClient) -> None:
    answer = client.get("/api/portfolio").json()

    assert [item["account"]["account_id"] for item in answer["accounts"]] == ["paper"]
    assert answer["accounts"][0]["net_positions"] == {"SPY.ARCX": 6}
    shares = [share["strategy_id"] for share in answer["accounts"][0]["strategies"]]
    assert shares == ["manual", "momentum"]


def test_account_says_of_when_its_figures_are(client: TestClient) -> None:
    account = client.get("/api/portfolio/paper").json()["account"]

    assert account["as_of_ns"] == START_NS + 60
    assert account["snapshot_ns"] == START_NS


def test_unknown_account_is_not_found(client: TestClient) -> None:
    assert "nobody not found" in problem(client.get("/api/portfolio/nobody"), 404)["detail"]
    problem(client.get("/api/portfolio/nobody/equity"), 404)


def test_equity_curve_has_the_newest_points(client: TestClient) -> None:
    answer = client.get("/api/portfolio/paper/equity?limit=1").json()

    assert [point["equity"] for point in answer["points"]] == [10000.5]
    assert answer["points"][0]["drawdown_pct"] == -0.2


# ---- orders: entry


def test_market_order_is_answered_with_the_order_as_it_stands(run: Run, client: TestClient) -> None:
    response = client.post("/api/orders", json=body(client_order_id="mine"))

    assert response.status_code == 200
    assert response.json()["client_order_id"] == "mine"
    assert response.json()["status"] == "SUBMITTED"
    command = run.log.read(t.ACCOUNT_INPUTS, 3, 10)[0].record
    assert isinstance(command, SubmitOrder)
    assert command.wants_receipt
    assert command.quantity == Decimal(10)
    assert (command.account_id, command.strategy_id) == ("paper", "manual")
    assert (command.decision_price, command.decision_ts_ns) == (165.1, START_NS)


def test_order_without_an_id_gets_one_from_the_id_source(client: TestClient) -> None:
    first = client.post("/api/orders", json=body()).json()["client_order_id"]
    second = client.post("/api/orders", json=body()).json()["client_order_id"]

    assert first.startswith("id-")
    assert first != second


@pytest.mark.parametrize(
    "fields",
    [
        {"order_type": "LIMIT", "limit_price": 165.5},
        {"order_type": "LIMIT", "limit_price": "165.50"},
        {"order_type": "STOP", "stop_price": 160},
        {"order_type": "STOP_LIMIT", "stop_price": 160, "limit_price": 159.5},
        {"side": "SELL", "quantity": "0.5", "time_in_force": "DAY"},
        {"symbol": "SPY.ARCX"},
    ],
)
def test_orders_of_all_types_are_taken(client: TestClient, fields: dict[str, Any]) -> None:
    assert client.post("/api/orders", json=body(**fields)).status_code == 200


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"symbol": ""}, "/symbol"),
        ({"symbol": "ELEVENCHARS"}, "/symbol"),
        ({"symbol": "S" * 65}, "/symbol"),
        ({"symbol": "QQQ"}, "/symbol"),
        ({"symbol": ...}, "/symbol"),
        ({"side": "HOLD"}, "/side"),
        ({"quantity": 0}, "/quantity"),
        ({"quantity": -1}, "/quantity"),
        ({"quantity": "NaN"}, "/quantity"),
        ({"quantity": "Infinity"}, "/quantity"),
        ({"quantity": "1e999999"}, "/quantity"),
        ({"quantity": "ten"}, "/quantity"),
        ({"quantity": ...}, "/quantity"),
        ({"order_type": "PEGGED"}, "/order_type"),
        ({"order_type": "LIMIT"}, "/limit_price"),
        ({"order_type": "LIMIT", "limit_price": 0}, "/limit_price"),
        ({"order_type": "STOP"}, "/stop_price"),
        ({"order_type": "STOP_LIMIT", "stop_price": 160}, "/limit_price"),
        ({"limit_price": 165}, "/limit_price"),
        ({"client_order_id": ""}, "/client_order_id"),
        ({"client_order_id": "two words"}, "/client_order_id"),
        ({"client_order_id": "two/parts"}, "/client_order_id"),
        ({"client_order_id": "line\n"}, "/client_order_id"),
        ({"account_id": "line\n"}, "/account_id"),
        ({"leverage": 3}, "/leverage"),
    ],
)
def test_wrong_order_is_refused_and_nothing_is_published(
    run: Run, client: TestClient, fields: dict[str, Any], pointer: str
) -> None:
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    content = problem(client.post("/api/orders", json=body(**fields)), 422)

    assert [error["pointer"] for error in content["errors"]] == [pointer]
    assert content["errors"][0]["remedy"]
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == before


def test_character_that_is_not_taken_is_told_in_words(client: TestClient) -> None:
    content = problem(client.post("/api/orders", json=body(client_order_id="a b")), 422)

    (error,) = content["errors"]
    assert (error["pointer"], error["value"]) == ("/client_order_id", "a b")
    assert error["detail"] == "has a character that is not taken here"


def test_missing_body_is_an_empty_one(client: TestClient) -> None:
    needed = problem(client.post("/api/orders", content=b""), 422)

    assert needed["errors"][0]["detail"] == "is missing"
    assert client.post("/api/strategies/momentum/pause", content=b"").status_code == 200


@pytest.mark.parametrize("data", [b"{", b" ", b"\xff\xfe", b'{"symbol": "SPY"', b"[" * 100_000])
def test_body_that_is_no_json_is_a_bad_request(client: TestClient, data: bytes) -> None:
    assert problem(client.post("/api/orders", content=data), 400)["code"] == "malformed_json"


@pytest.mark.parametrize("data", [b"null", b"[]", b"3", b'"x"'])
def test_body_that_is_no_object_is_refused(client: TestClient, data: bytes) -> None:
    problem(client.post("/api/orders", content=data), 422)


def test_body_that_is_too_large_is_refused(client: TestClient) -> None:
    data = b" " * 300_000
    assert problem(client.post("/api/orders", content=data), 413)["code"] == "body_too_large"


def test_symbol_of_two_venues_is_refused_with_the_candidates(run: Run, client: TestClient) -> None:
    run.append(client, [(t.REFERENCE_INSTRUMENTS, instrument("SPY", "XNYS"))])

    content = problem(client.post("/api/orders", json=body()), 422)

    assert content["code"] == "symbol_ambiguous"
    assert "SPY.ARCX, SPY.XNYS" in content["detail"]


@pytest.mark.parametrize("path", ["/api/orders", "/api/risk/check"])
def test_instrument_id_that_is_longer_than_a_symbol_is_taken(
    run: Run, client: TestClient, path: str
) -> None:
    long = instrument("BTC-USD", "COINBASE")
    run.append(client, [(t.REFERENCE_INSTRUMENTS, long)])

    response = client.post(path, json=body(symbol="BTC-USD.COINBASE"))

    assert response.status_code == 200
    command = run.log.read(t.ACCOUNT_INPUTS, 3, 10)[0].record
    order = command.order if isinstance(command, CheckOrder) else command
    assert isinstance(order, SubmitOrder)
    assert order.instrument_id == "BTC-USD.COINBASE"


def test_id_of_another_order_is_a_conflict(client: TestClient) -> None:
    problem(client.post("/api/orders", json=body(client_order_id="taken")), 409)


def test_order_of_an_account_that_the_run_does_not_have_is_refused_with_those_it_has(
    run: Run, client: TestClient
) -> None:
    content = problem(client.post("/api/orders", json=body(account_id="nobody")), 422)

    assert content["code"] == "account_unknown"
    assert [(e["pointer"], e["value"]) for e in content["errors"]] == [("/account_id", "nobody")]
    assert content["candidates"] == ["paper"]
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == 3


def test_order_that_the_stage_refuses_at_the_door_is_denied() -> None:
    run = Run()  # it has told of no account yet
    run.log.append([(t.REFERENCE_INSTRUMENTS, instrument())])
    lost = body(account_id="nobody", client_order_id="lost")
    with run.client() as client:
        response = client.post("/api/orders", json=lost)

        assert problem(response, 422)["code"] == "account_unknown"
        assert client.get("/api/orders/lost").json()["status"] == "DENIED"


def test_late_receipt_is_answered_with_the_place_to_ask() -> None:
    run = Run(has_stage=False)
    run.log.append([(t.REFERENCE_INSTRUMENTS, instrument())])
    with run.client() as client:
        response = client.post("/api/orders", json=body(client_order_id="slow"))

        assert response.status_code == 202
        assert response.headers["location"] == "/api/orders/slow?account_id=paper"
        assert client.get("/api/orders/slow").json()["status"] == "INITIALIZED"


def test_place_to_ask_is_one_for_every_id() -> None:
    run = Run(has_stage=False)
    run.log.append([(t.REFERENCE_INSTRUMENTS, instrument())])
    with run.client() as client:
        response = client.post("/api/orders", json=body(client_order_id="50%?#"))

        assert response.headers["location"] == "/api/orders/50%25%3F%23?account_id=paper"
        assert response.json()["location"] == response.headers["location"]
        found = client.get(response.headers["location"]).json()
        assert found["client_order_id"] == "50%?#"


class FailingLog(MemoryLog):
    """A log that refuses every command with ``error``."""

    def __init__(self, error: Exception) -> None:
        super().__init__("run-1", lambda: START_NS)
        self.error = error

    async def publish(self, topic: str, record: Header) -> None:
        """Refuse."""
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageError("the disk is full"), "log_unavailable"),
        (TimeoutError(), "outcome_unknown"),
        (UnconfirmedError("records could not be written to Kafka"), "outcome_unknown"),
    ],
)
def test_log_that_does_not_take_a_command_makes_it_unavailable(error: Exception, code: str) -> None:
    run = Run(log=FailingLog(error))
    run.log.append(filled_run())
    dates = {"start_date": "2014-01-01", "end_date": "2015-01-01"}
    with run.client() as client:
        responses = [
            client.post("/api/orders", json=body()),
            client.delete("/api/orders/o-2"),
            client.post("/api/risk/breaker/trip", json={"reason": "test"}),
            client.post("/api/backtest/run", json={"strategy_name": "breakout", **dates}),
            client.post("/api/backtest/run-async", json={"strategy_name": "breakout", **dates}),
        ]

    for response in responses:
        assert problem(response, 503)["code"] == code
        assert response.headers["retry-after"] == "1"


# ---- orders: queries and cancel


def test_orders_are_listed_newest_first_and_paged(client: TestClient) -> None:
    first = client.get("/api/orders?limit=2").json()
    second = client.get("/api/orders", params={"limit": 2, "cursor": first["next_cursor"]}).json()

    assert [order["client_order_id"] for order in first["orders"]] == ["o-3", "o-2"]
    assert [order["client_order_id"] for order in second["orders"]] == ["o-1"]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "ids"),
    [
        ("status=FILLED", ["o-1"]),
        ("status=open", ["o-3", "o-2"]),
        ("strategy_id=manual", ["o-3"]),
        ("symbol=SPY", ["o-3", "o-2", "o-1"]),
        ("symbol=IBM", []),
    ],
)
def test_orders_are_filtered(client: TestClient, query: str, ids: list[str]) -> None:
    answer = client.get(f"/api/orders?{query}").json()

    assert [order["client_order_id"] for order in answer["orders"]] == ids


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=501",
        "limit=x",
        "status=LOST",
        "cursor=nonsense",
        "color=red",
        "limit=1&limit=2",
    ],
)
def test_wrong_query_is_refused(client: TestClient, query: str) -> None:
    content = problem(client.get(f"/api/orders?{query}"), 422)

    assert content["errors"][0]["pointer"] == f"/{query.partition('=')[0]}"


def test_order_shows_fills_and_its_life(client: TestClient) -> None:
    order = exact(client.get("/api/orders/o-1"))
    events = exact(client.get("/api/orders/o-1/events"))["events"]

    assert (order["status"], order["filled_quantity"], order["average_price"]) == (
        "FILLED",
        "10",
        "165.10",
    )
    assert [e["type"] for e in events] == ["order_submitted", "order_accepted", "order_filled"]
    assert events[-1]["last_price"] == "165.10"


def test_orders_of_two_accounts_may_share_an_id(run: Run, client: TestClient) -> None:
    run.append(client, [(t.ACCOUNT_INPUTS, submit("o-1", account_id="other"))])

    assert client.get("/api/orders/o-1?account_id=paper").json()["status"] == "FILLED"
    assert client.get("/api/orders/o-1?account_id=other").json()["status"] == "INITIALIZED"


def test_unknown_order_is_not_found(client: TestClient) -> None:
    problem(client.get("/api/orders/nope"), 404)
    problem(client.get("/api/orders/nope/events"), 404)
    problem(client.delete("/api/orders/nope"), 404)


def test_cancel_answers_with_the_order_as_it_stands(client: TestClient) -> None:
    response = client.delete("/api/orders/o-2")

    assert response.status_code == 200
    assert response.json()["status"] == "CANCELED"


def test_cancel_of_a_closed_order_is_a_conflict(run: Run, client: TestClient) -> None:
    order = submit("filled")
    run.append(client, [(t.ACCOUNT_INPUTS, order), (t.ORDER_EVENTS, filled(order))])

    assert problem(client.delete("/api/orders/filled"), 409)["code"] == "not_cancelable"


def test_cancel_without_a_receipt_is_answered_with_the_place_to_ask() -> None:
    run = Run(has_stage=False)
    run.log.append(filled_run())
    with run.client() as client:
        assert client.delete("/api/orders/o-2").status_code == 202


# ---- trades, strategies


def test_trades_have_fills_and_the_top_of_the_book(client: TestClient) -> None:
    answer = exact(client.get("/api/trades"))

    assert [item["trade_id"] for item in answer["trades"]] == ["trade-o-0", "trade-o-1"]
    assert answer["trades"][0]["fee"] == "0.05"
    assert answer["order_book"]["SPY.ARCX"]["bid_price"] == "165.09"
    assert answer["order_book"]["IBM.XNYS"]["bid_price"] is None


def test_trades_are_filtered_and_paged(client: TestClient) -> None:
    first = client.get("/api/trades?limit=1").json()
    second = client.get(f"/api/trades?limit=1&cursor={first['next_cursor']}").json()
    manual = client.get("/api/trades?strategy_id=manual").json()

    assert [item["trade_id"] for item in second["trades"]] == ["trade-o-1"]
    assert second["next_cursor"] is None
    assert manual["count"] == 1
    assert client.get("/api/trades?symbol=IBM").json()["trades"] == []
    problem(client.get("/api/trades?cursor=x"), 422)


def test_strategies_show_state_and_last_signal(client: TestClient) -> None:
    answer = client.get("/api/strategies").json()["strategies"]

    assert [item["strategy_id"] for item in answer] == ["momentum"]
    assert answer[0]["parameters"] == {"fast": 50, "slow": 200}
    assert answer[0]["signals"][0]["target"] == 10.0
    assert client.get("/api/strategies/momentum").json() == answer[0]
    problem(client.get("/api/strategies/nope"), 404)


# ---- risk


def test_risk_shows_breaker_limits_decisions_and_counts(client: TestClient) -> None:
    answer = exact(client.get("/api/risk"))

    assert answer["circuit_breaker"] == {"state": "ACTIVE", "scopes": []}
    assert answer["limits"][0]["limits"]["max_position"] == "10.50"
    assert [item["code"] for item in answer["decisions"]] == ["MAX_POSITION", ""]
    assert (answer["approved_count"], answer["denied_by_code"]) == ("1", {"MAX_POSITION": "1"})


def test_breaker_is_tripped_and_reset(client: TestClient) -> None:
    tripped = client.post("/api/risk/breaker/trip", json={"reason": "too wild"})
    reset = client.post("/api/risk/breaker/reset", json={"reason": "calm again"})

    assert tripped.status_code == reset.status_code == 200
    assert tripped.json()["state"] == "HALTED"
    assert tripped.json()["scopes"][0]["reason"] == "too wild"
    assert reset.json()["state"] == "ACTIVE"


def test_breaker_that_stands_there_already_is_answered_at_once() -> None:
    run = Run(has_stage=False)
    run.log.append([(t.RISK_BREAKER, breaker(BreakerState.HALTED))])
    with run.client() as client:
        assert client.post("/api/risk/breaker/trip", json={"reason": "again"}).status_code == 200
        assert client.post("/api/risk/breaker/reset", json={"reason": "calm"}).status_code == 202


@pytest.mark.parametrize(
    ("action", "content", "pointer"),
    [
        ("trip", {}, "/reason"),
        ("trip", {"reason": " "}, "/reason"),
        ("trip", {"reason": "x", "state": "ACTIVE"}, "/state"),
        ("trip", {"reason": "x", "scope": "ACCOUNT"}, "/scope_id"),
        ("trip", {"reason": "x", "scope_id": "paper"}, "/scope_id"),
        ("reset", {"reason": ""}, "/reason"),
        ("reset", {"reason": "x", "state": "ACTIVE"}, "/state"),
    ],
)
def test_wrong_breaker_command_is_refused(
    client: TestClient, action: str, content: dict[str, Any], pointer: str
) -> None:
    errors = problem(client.post(f"/api/risk/breaker/{action}", json=content), 422)["errors"]

    assert [error["pointer"] for error in errors] == [pointer]


# ---- backtests

RUN_REQUEST = {
    "strategy_name": "momentum_crossover",
    "start_date": "2014-01-01T00:00:00Z",
    "end_date": "2020-12-31T23:59:59Z",
}


def test_backtest_is_asked_for_by_a_record_and_answered_with_its_metrics(
    run: Run, client: TestClient
) -> None:
    response = client.post("/api/backtest/run", json=RUN_REQUEST)

    assert response.status_code == 200
    answer = response.json()
    named = ("sharpe_ratio", "max_drawdown_pct", "total_return_pct", "total_trades", "win_rate")
    assert {name: answer[name] for name in named} == {name: METRICS[name] for name in named}
    assert answer["strategy_name"] == "momentum_crossover"
    request = run.log.read(t.BACKTEST_REQUESTS, 0, 1)[0].record
    assert isinstance(request, BacktestRequest)
    assert request.start_ns == 1_388_534_400_000_000_000
    assert request.initial_cash == "10000"


def test_plain_end_date_is_included(run: Run, client: TestClient) -> None:
    client.post(
        "/api/backtest/run",
        json={**RUN_REQUEST, "end_date": "2014-01-01", "initial_capital": 500.5},
    )

    request = run.log.read(t.BACKTEST_REQUESTS, 0, 1)[0].record
    assert isinstance(request, BacktestRequest)
    assert request.end_ns == 1_388_534_400_000_000_000 + 86_400 * 10**9 - 1
    assert request.initial_cash == "500.5"


@pytest.mark.parametrize(
    ("strategy", "status", "words"),
    [
        ("nope", 404, "not found"),
        ("empty", 422, "1998-01-02"),
        ("busy", 503, "waiting"),
        ("broken", 500, "killed"),
        ("given_up", 409, "wrong dates"),
    ],
)
def test_backtest_that_fails_says_why(
    client: TestClient, strategy: str, status: int, words: str
) -> None:
    response = client.post("/api/backtest/run", json={**RUN_REQUEST, "strategy_name": strategy})

    assert words in problem(response, status)["detail"]


@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"strategy_name": ""}, "/strategy_name"),
        ({"start_date": "yesterday"}, "/start_date"),
        ({"start_date": "2014-02-30"}, "/start_date"),
        ({"end_date": "2013-12-31"}, "/end_date"),
        ({"initial_capital": 0}, "/initial_capital"),
        ({"initial_capital": "NaN"}, "/initial_capital"),
        ({"seed": -1}, "/seed"),
        ({"engine": "other"}, "/engine"),
        ({"parameters": {"fast": [1]}}, "/parameters"),
        ({"parameters": {"fast": 10**400}}, "/parameters/fast"),
        ({"initial_capital": "1E-999999999"}, "/initial_capital"),
    ],
)
@pytest.mark.parametrize("path", ["/api/backtest/run", "/api/backtest/run-async"])
def test_wrong_backtest_is_refused(
    client: TestClient, path: str, fields: dict[str, Any], pointer: str
) -> None:
    errors = problem(client.post(path, json={**RUN_REQUEST, **fields}), 422)["errors"]

    assert [error["pointer"] for error in errors] == [pointer]


def test_backtest_that_takes_long_is_answered_with_the_place_to_ask() -> None:
    run = Run(has_stage=False)
    with run.client() as client:
        response = client.post("/api/backtest/run", json=RUN_REQUEST)
        state = client.get(response.headers["location"]).json()

    assert response.status_code == 202
    assert (state["status"], state["result"]) == ("QUEUED", None)


def test_started_backtest_can_be_followed_by_its_task(client: TestClient) -> None:
    started = client.post("/api/backtest/run-async", json=RUN_REQUEST).json()
    state = client.get(f"/api/backtest/{started['task_id']}").json()

    assert started["status"] == "started"
    assert state["status"] == "COMPLETED"
    assert state["result"]["win_rate"] == 58.3
    problem(client.get("/api/backtest/nope"), 404)


def test_backtest_that_cannot_be_started_is_refused_at_once(client: TestClient) -> None:
    unknown = {**RUN_REQUEST, "strategy_name": "nope"}
    assert (
        "not found" in problem(client.post("/api/backtest/run-async", json=unknown), 404)["detail"]
    )


def test_history_is_newest_first_and_filtered(client: TestClient) -> None:
    for name in ("breakout", "nope", "breakout"):
        client.post("/api/backtest/run-async", json={**RUN_REQUEST, "strategy_name": name})

    history = client.get("/api/backtest/history").json()["backtests"]
    filtered = client.get("/api/backtest/history?strategy_name=breakout&limit=1").json()

    assert [item["strategy_name"] for item in history] == ["breakout", "nope", "breakout"]
    assert history[1]["status"] == "FAILED"
    assert history[1]["result"] is None
    assert [item["task_id"] for item in filtered["backtests"]] == [history[0]["task_id"]]
    for limit in ("0", "101"):
        problem(client.get(f"/api/backtest/history?limit={limit}"), 422)


# ---- config, system, pages


def test_config_shows_paper_trading_and_changes(run: Run, client: TestClient) -> None:
    autonomy = SetAutonomy("au", START_NS, "c", "c", AutonomyMode.OBSERVE_ONLY, "ada")
    change = ConfigChanged(ts_event_ns=START_NS, name="speed", value="60", operator="ada")
    run.append(client, [(t.ACCOUNT_INPUTS, autonomy), (t.CONTROL_CONFIG, change)])

    answer = client.get("/api/config").json()

    assert answer["paper_trading"] is True
    assert answer["autonomy_mode"] == "OBSERVE_ONLY"
    assert answer["settings"]["speed"]["value"] == "60"


def test_system_shows_topics_quality_and_dead_letters(run: Run, client: TestClient) -> None:
    quality = DataQuality("dq", START_NS, "c", "c", "SPY.ARCX", QualityKind.GAP, "a hole", count=3)
    letter = DeadLetter(
        ts_event_ns=START_NS, topic="orders.events.v1", partition=0, offset=7, reason="broken"
    )
    run.append(client, [(t.MARKET_QUALITY, quality), (t.SYSTEM_DEAD_LETTERS, letter)])

    answer = client.get("/api/system").json()

    assert (answer["run_id"], answer["health"]["status"]) == ("run-1", "ok")
    assert {item["name"]: item["end_offset"] for item in answer["topics"]}[t.ORDER_FILLS] == 2
    assert answer["data_quality"] == {"GAP": 3}
    assert (answer["dead_letter_count"], answer["dead_letters"][0]["reason"]) == (1, "broken")
    assert answer["scheduler"]["is_running"] is False


def test_health_and_readiness(run: Run, client: TestClient) -> None:
    assert client.get("/healthz").json() == {"status": "ok", "reasons": []}
    assert client.get("/readyz").json()["status"] == "ready"

    run.context.is_loaded = False
    assert problem(client.get("/readyz"), 503)["code"] == "not_ready"


def test_unknown_route_and_wrong_method_are_problems(client: TestClient) -> None:
    assert problem(client.get("/api/nope"), 404)["code"] == "not_found"
    assert problem(client.put("/api/orders"), 405)["code"] == "method_not_allowed"
    problem(client.get("/static/../app.py"), 404)


def test_fault_of_the_server_tells_nothing_of_its_inside(run: Run, client: TestClient) -> None:
    run.context.views.portfolio = None

    content = problem(client.get("/api/portfolio"), 500)

    assert "NoneType" not in json.dumps(content)


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"host": "evil.example"}, "host_not_allowed"),
        ({"host": ""}, "host_not_allowed"),
        ({"host": "evil@localhost"}, "host_not_allowed"),
        ({"host": "[::1"}, "host_not_allowed"),
        ({"origin": "http://evil.example"}, "origin_not_allowed"),
        ({"origin": "null"}, "origin_not_allowed"),
    ],
)
def test_pages_of_other_sites_cannot_send_orders(
    run: Run, client: TestClient, headers: dict[str, str], code: str
) -> None:
    before = run.log.end_offset(t.ACCOUNT_INPUTS)

    content = problem(client.post("/api/orders", json=body(), headers=headers), 403)

    assert content["code"] == code
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == before


def test_own_page_may_send_orders(client: TestClient) -> None:
    headers = {"host": "127.0.0.1:8000", "origin": "http://127.0.0.1:8000"}

    assert client.post("/api/orders", json=body(), headers=headers).status_code == 200


def test_app_that_starts_later_knows_what_the_log_holds() -> None:
    first = Run()
    first.log.append(filled_run())

    with Run(fast(), log=first.log).client() as client:
        assert client.get("/api/orders/o-1").json()["status"] == "FILLED"
        assert client.get("/api/risk").json()["approved_count"] == 1
