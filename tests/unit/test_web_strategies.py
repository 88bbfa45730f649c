"""Strategies over HTTP: what they are told, their signals, what they achieved."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.control import RunManifest, StrategyCommand
from schemas.enums import Side
from schemas.envelope import Header
from tests.unit.web_run import (
    START_NS,
    Run,
    fast,
    fill,
    filled_run,
    instrument,
    mark,
    problem,
    strategy_records,
)

DAY_NS = 86_400 * 10**9


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


@pytest.mark.parametrize(
    ("action", "status"),
    [("start", "RUNNING"), ("stop", "STOPPED"), ("pause", "PAUSED"), ("resume", "RUNNING")],
)
def test_strategy_is_told_by_a_command(
    run: Run, client: TestClient, action: str, status: str
) -> None:
    response = client.post(f"/api/strategies/momentum/{action}", json={"reason": "so"})

    assert (response.status_code, response.json()["status"]) == (200, status)
    command = run.log.read(t.STRATEGY_INPUTS, 0, 1)[0].record
    assert isinstance(command, StrategyCommand)
    assert (command.action, command.operator, command.reason) == (action.upper(), "api", "so")


def test_parameters_are_shown_and_changed_by_a_command(run: Run, client: TestClient) -> None:
    path = "/api/strategies/momentum/parameters"
    before = client.get(path).json()["parameters"]

    changed = client.patch(path, json={"parameters": {"fast": 20, "weight": 0.5}})

    assert before == {"fast": 50, "slow": 200}
    assert changed.json()["parameters"] == {"fast": 20, "slow": 200, "weight": 0.5}
    command = run.log.read(t.STRATEGY_INPUTS, 0, 1)[0].record
    assert isinstance(command, StrategyCommand)
    assert command.parameters == {"fast": 20, "weight": 0.5}


def test_parameter_that_the_strategy_does_not_take_is_refused(client: TestClient) -> None:
    response = client.patch("/api/strategies/momentum/parameters", json={"parameters": {"fast": 0}})

    content = problem(response, 422)
    assert (content["code"], content["errors"][0]["pointer"]) == (
        "parameters_refused",
        "/parameters/fast",
    )
    (error,) = content["errors"]
    assert (error["detail"], error["value"]) == ("cannot be used", 0)
    assert error["remedy"] == "give a value of at least 1; the strategy goes on as it was"


@pytest.mark.parametrize(
    "content", [{}, {"parameters": {}}, {"parameters": {"fast": [1]}}, {"fast": 1}]
)
def test_wrong_change_of_parameters_is_refused(client: TestClient, content: dict[str, Any]) -> None:
    problem(client.patch("/api/strategies/momentum/parameters", json=content), 422)


def test_command_that_nobody_answers_is_pending() -> None:
    run = Run(has_stage=False)
    run.log.append(strategy_records())
    with run.client() as client:
        response = client.post("/api/strategies/momentum/pause", json={})

    assert (response.status_code, response.headers["location"]) == (202, "/api/strategies/momentum")


def test_nothing_is_told_to_an_unknown_strategy(run: Run, client: TestClient) -> None:
    problem(client.post("/api/strategies/nope/stop", json={}), 404)
    problem(client.patch("/api/strategies/nope/parameters", json={"parameters": {"a": 1}}), 404)
    for name in ("performance", "signals", "parameters"):
        problem(client.get(f"/api/strategies/nope/{name}"), 404)
    assert run.log.end_offset(t.STRATEGY_INPUTS) == 0


def test_signals_are_paged_newest_first(run: Run, client: TestClient) -> None:
    _, (topic, signal) = strategy_records()
    for n in range(1, 4):
        run.append(client, [(topic, msgspec.structs.replace(signal, target=float(n)))])

    first = client.get("/api/strategies/momentum/signals?limit=2").json()
    rest = client.get(
        f"/api/strategies/momentum/signals?limit=2&cursor={first['next_cursor']}"
    ).json()

    assert [s["target"] for s in first["signals"] + rest["signals"]] == [3.0, 2.0, 1.0, 10.0]
    assert rest["next_cursor"] is None
    assert client.get("/api/strategies/momentum/signals?symbol=IBM").json()["count"] == 0


def share_marks() -> list[tuple[str, Header]]:
    """Return the marks of a strategy's share over three days: 100 up, 60 down, 20 up."""
    found: list[tuple[str, Header]] = []
    for day, equity in enumerate((100.0, 40.0, 60.0)):
        record = mark(equity, at=day * DAY_NS + 60)
        found.append((t.PORTFOLIO_EQUITY, msgspec.structs.replace(record, strategy_id="momentum")))
    return found


def trade_of(name: str, side: Side, price: str) -> tuple[str, Header]:
    """Return an execution of the strategy."""
    record = msgspec.structs.replace(
        fill(name, price=price), side=side, reference_price=Decimal(price)
    )
    return t.ORDER_FILLS, record


def test_performance_counts_from_the_capital_of_the_strategy() -> None:
    run = Run()
    config: dict[str, object] = {
        "strategies": [{"strategy_id": "momentum", "account_id": "paper", "capital": "1000"}]
    }
    run.log.append(
        [
            (t.SYSTEM_RUNS, RunManifest(ts_event_ns=START_NS, config=config)),
            (t.REFERENCE_INSTRUMENTS, instrument()),
            *strategy_records(),
            *share_marks(),
            trade_of("a", Side.BUY, "100"),
            trade_of("b", Side.SELL, "101"),
        ]
    )
    with run.client() as client:
        answer = client.get("/api/strategies/momentum/performance").json()

    assert (answer["capital"], answer["equity"]) == (1000.0, 1060.0)
    assert answer["total_return_pct"] == pytest.approx(6.0)
    assert answer["max_drawdown_pct"] == pytest.approx(100 * (1040 / 1100 - 1))
    assert (answer["total_trades"], answer["win_rate"], answer["fills"]) == (1, 100.0, 2)
    assert answer["expectancy"] == pytest.approx(9.9)
    assert answer["sharpe_ratio"] is not None


def test_performance_after_a_restart_is_of_the_whole_run() -> None:
    """However few records of each list memory keeps."""
    answers = []
    for history_max in (10_000, 1):
        run = Run(fast(history_max=history_max))
        run.log.append([*strategy_records(), *share_marks()])
        with run.client() as client:
            curve = client.get("/api/portfolio/paper/equity?strategy_id=momentum").json()
            answers.append((curve, client.get("/api/strategies/momentum/performance").json()))

    assert answers[0] == answers[1]
    assert [point["equity"] for point in answers[0][0]["points"]] == [100, 40, 60]


def test_performance_without_capital_has_no_returns() -> None:
    run = Run()
    run.log.append([*strategy_records(), *share_marks()])
    with run.client() as client:
        answer = client.get("/api/strategies/momentum/performance").json()

    assert (answer["capital"], answer["total_return_pct"], answer["sharpe_ratio"]) == (
        None,
        None,
        None,
    )
    assert (answer["equity"], answer["net_profit"]) == (60.0, 60.0)
