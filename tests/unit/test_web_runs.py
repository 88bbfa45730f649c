"""Other runs and other instants: every read route answers from the records up to a place."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.control import BacktestResult
from schemas.enums import RunStatus
from tests.unit.web_run import START_NS, Run, body, filled_run, problem, trade
from tests.unit.web_runs import FakeRuns
from web.routes import TABLE


@pytest.fixture
def store() -> FakeRuns:
    """Return a store with one recorded run."""
    return FakeRuns(backtest_1=filled_run())


@pytest.fixture
def client(store: FakeRuns) -> Iterator[TestClient]:
    """Give a client of an empty run beside the recorded one."""
    with Run(runs=store).client() as client:
        yield client


def test_recorded_run_is_queried_as_the_running_one(store: FakeRuns, client: TestClient) -> None:
    live = Run()
    live.log.append(filled_run())
    paths = (
        "/api/portfolio",
        "/api/orders",
        "/api/orders/o-1/causes",
        "/api/positions/SPY/lots",
        "/api/trades",
        "/api/risk",
        "/api/strategies",
    )
    with live.client() as other:
        for path in paths:
            assert client.get(f"{path}?run_id=backtest-1").json() == other.get(path).json(), path

    assert store.reads == 1
    assert client.get("/api/orders").json()["count"] == 0


def test_every_read_route_of_a_run_refuses_an_unknown_one(client: TestClient) -> None:
    for route in TABLE:
        if route.is_of_run:
            path = route.example or route.path
            mark = "&" if "?" in path else "?"
            content = problem(client.get(f"{path}{mark}run_id=nope"), 404)
            assert "run nope not found" in content["detail"], path


def test_state_is_that_of_the_instant(client: TestClient) -> None:
    def status(as_of: str) -> str | int:
        response = client.get(f"/api/orders/o-1?run_id=backtest-1&as_of={as_of}")
        return response.json()["status"]  # type: ignore[no-any-return]

    assert status("2013-10-07T13:30:00Z") == "SUBMITTED"
    assert status("2013-10-07T13:30:00.000000001Z") == "ACCEPTED"
    assert status("2013-10-07T13:30:00.000000002Z") == "FILLED"
    assert status("2013-10-07") == "FILLED"
    problem(client.get("/api/orders/o-1?run_id=backtest-1&as_of=2013-10-06"), 404)


def test_state_is_that_of_the_offset(client: TestClient) -> None:
    def status(offset: int) -> str:
        path = f"/api/orders/o-1?run_id=backtest-1&as_of={t.ORDER_EVENTS}:{offset}"
        return str(client.get(path).json()["status"])

    other = f"/api/orders/o-1?run_id=backtest-1&as_of={t.ORDER_EVENTS}/1:0"
    assert client.get(other).json()["status"] == "FILLED"
    assert [status(n) for n in (0, 2, 3, 4, 99)] == [
        "SUBMITTED",
        "SUBMITTED",
        "ACCEPTED",
        "FILLED",
        "FILLED",
    ]


@pytest.mark.parametrize("text", ["noon", "orders.events.v1:x", "no.topic:1", ":1", "1:-1"])
def test_place_that_is_none_is_refused(client: TestClient, text: str) -> None:
    content = problem(client.get(f"/api/orders?run_id=backtest-1&as_of={text}"), 422)

    assert content["errors"][0]["pointer"] == "/as_of"


def test_place_that_is_given_twice_is_refused(client: TestClient) -> None:
    problem(client.get("/api/orders?run_id=a&run_id=b"), 422)


def test_running_run_without_a_journal_is_folded_from_its_log() -> None:
    run = Run()
    run.log.append(filled_run())
    with run.client() as other:
        early = other.get("/api/orders/o-1?as_of=2013-10-07T13:30:00Z").json()
        late = other.get("/api/orders/o-1?run_id=run-1").json()

    assert (early["status"], late["status"]) == ("SUBMITTED", "FILLED")


def test_time_that_the_running_run_has_not_reached_is_the_present() -> None:
    store = FakeRuns(**{"run-1": filled_run()})
    run = Run(runs=store)
    run.log.append(filled_run())
    with run.client() as other:
        early = other.get("/api/orders/o-1?as_of=2013-10-07T13:30:00Z").json()
        late = other.get("/api/orders/o-1?as_of=2099-01-01").json()

    assert (early["status"], late["status"]) == ("SUBMITTED", "FILLED")
    assert store.reads == 1


def test_backtest_is_found_by_its_task() -> None:
    run = Run(runs=FakeRuns(backtest_1=filled_run()))
    result = BacktestResult(
        "b", START_NS, "c", "c", "task-1", "momentum", RunStatus.COMPLETED, {"run_id": "backtest-1"}
    )
    run.log.append([(t.BACKTEST_RESULTS, result)])
    with run.client() as client:
        assert client.get("/api/orders?run_id=task-1").json()["count"] == 3


def test_run_that_gets_longer_is_read_again_but_not_its_past() -> None:
    store = FakeRuns(other=filled_run())
    early = "/api/orders/o-1?run_id=other&as_of=2013-10-07T13:30:00Z"
    with Run(runs=store).client() as client:
        for path in (early, "/api/trades?run_id=other", early, "/api/trades?run_id=other"):
            assert client.get(path).status_code == 200
        assert store.reads == 2
        store.all["other"].append((t.MARKET_EVENTS, trade(199.0, at=99)))
        book = client.get("/api/trades?run_id=other").json()["order_book"]
        client.get(early)

    assert book["SPY.ARCX"]["last_price"] == 199.0
    assert store.reads == 3


def test_few_folded_runs_are_kept() -> None:
    store = FakeRuns(**{f"r{n}": filled_run()[:3] for n in range(12)})
    with Run(runs=store).client() as client:
        for n in (*range(12), 11, 0):
            client.get(f"/api/orders?run_id=r{n}")

    assert store.reads == 13


def test_nothing_can_be_done_in_a_recorded_run(client: TestClient) -> None:
    problem(client.post("/api/orders?run_id=backtest-1", json=body()), 422)
