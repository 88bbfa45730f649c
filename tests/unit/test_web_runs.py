"""Other runs and other instants: every read route answers from the records up to a place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.control import BacktestResult
from schemas.enums import RunStatus
from schemas.errors import StorageError
from schemas.portfolio import PositionChanged
from streams.history import Moment, Page, StoredRun
from streams.log import Page as LogPage
from streams.log import Published
from streams.memory_log import MemoryLog
from tests.unit.web_gate import Gate, bearer
from tests.unit.web_run import (
    START_NS,
    Run,
    body,
    filled_run,
    instrument,
    position,
    problem,
    trade,
)
from tests.unit.web_runs import FakeRuns
from web.problems import ProblemError
from web.routes import TABLE
from web.runs import END, FoldedRuns
from web.views.models import Views


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


class FarLog(MemoryLog):
    """A log with its newest record of each topic at hand; the others have to be fetched.

    ``gate`` holds up whoever fetches, ``is_compacted`` takes the first record of each compacted
    topic, ``is_away`` stands for a cluster that does not answer.
    """

    def __init__(self) -> None:
        super().__init__("run-1", lambda: START_NS + 10**12)
        self.gate: asyncio.Event | None = None
        self.is_compacted = False
        self.is_away = False
        self.fetched = 0

    def at_hand(self, topic: str, partition: int = 0) -> int:
        """Return the offset of the newest record."""
        return max(0, self.end_offset(topic) - 1)

    async def fetch(self, topic: str, partition: int, offset: int, limit: int) -> LogPage:
        """Return two records at most."""
        self.fetched += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.is_away:
            raise StorageError("no connection")
        found = self.read(topic, offset, 2)
        following = offset + len(found)
        if self.is_compacted and t.TOPIC_BY_NAME[topic].is_compacted:
            found = [item for item in found if item.offset]
        return LogPage(found, offset, following)


def far_run() -> tuple[Run, FarLog]:
    """Return a run whose log has but the newest records at hand."""
    log = FarLog()
    # One wild time, which no stage takes, is no end of what can be told.
    for at in (0, 7 * 10**18):
        log.append([(t.MARKET_EVENTS, trade(1.0, instrument_id="IBM.XNYS", at=at))])
    log.append([*filled_run(), (t.REFERENCE_INSTRUMENTS, instrument("QQQ"))])
    log.append([(t.MARKET_EVENTS, trade(166.0, at=10**12))])
    return Run(log=log), log


EARLY = "as_of=2013-10-07T13:30:00.000000001Z"


@pytest.mark.parametrize("as_of", [EARLY, f"as_of={t.ORDER_EVENTS}:3"])
def test_instant_of_the_running_run_is_folded_from_wherever_its_log_is_kept(as_of: str) -> None:
    run, log = far_run()
    with run.client() as client:
        order = client.get(f"/api/orders/o-1?{as_of}")
        fetched = log.fetched
        again = client.get(f"/api/orders/o-1?{as_of}")
        again_fetched = log.fetched
        book = client.get(f"/api/orderbook/SPY?{EARLY}").json()

    assert book["depth"] == "top"
    assert (order.json()["status"], order.json()["quantity"]) == ("ACCEPTED", 10)
    assert again.json() == order.json()
    assert again_fetched == fetched > 0


def test_instant_that_the_log_no_longer_holds_whole_is_refused() -> None:
    cut = Run(log=MemoryLog("run-1", lambda: START_NS, history_max=2))
    cut.log.append([*filled_run(), (t.MARKET_EVENTS, trade(166.0, at=10**12))])
    compacted, log = far_run()
    log.is_compacted = True
    for run in (cut, compacted):
        with run.client() as client:
            content = problem(client.get(f"/api/portfolio?{EARLY}"), 404)
        assert content["code"] == "history_needed"
    away, log = far_run()
    log.is_away = True
    with away.client() as client:
        problem(client.get(f"/api/portfolio?{EARLY}"), 503)


class StoredState:
    """A database that holds one run up to an instant: a position of 77 in it."""

    def __init__(self, last_ns: int) -> None:
        self.last_ns = last_ns

    async def runs(self, limit: int, cursor: str = "", run_id: str = "") -> Page[StoredRun]:
        """Return the run."""
        return Page([StoredRun(run_id, None, START_NS, self.last_ns)], "")

    async def state(self, run_id: str, as_of: Moment) -> list[Published]:
        """Return the position."""
        held: PositionChanged = position("77")
        return [Published(t.PORTFOLIO_POSITIONS, 0, 0, held)]


@pytest.mark.parametrize(
    ("last_ns", "is_far", "quantities"),
    [
        (START_NS + 10**12, True, [77]),
        (START_NS + 1, True, [-4, 10]),
        (START_NS + 10**12, False, [-4, 10]),
    ],
    ids=["stored", "not stored so far", "all at hand"],
)
def test_time_of_which_memory_lacks_records_is_told_by_the_database(
    last_ns: int, is_far: bool, quantities: list[int]
) -> None:
    run, _ = far_run()
    if not is_far:
        run = Run()
        run.log.append([*filled_run(), (t.MARKET_EVENTS, trade(166.0, at=10**12))])
    run.context.history = StoredState(last_ns)
    with run.client() as client:
        found = client.get(f"/api/positions?{EARLY}").json()
        # An order book is in no database.
        assert client.get(f"/api/orderbook/SPY?{EARLY}").status_code == 200

    assert [p["quantity"] for p in found["positions"]] == quantities


async def test_fold_and_the_wait_for_it_have_a_deadline() -> None:
    log = FarLog()
    log.append(filled_run())
    log.gate = asyncio.Event()
    slow = FoldedRuns(FakeRuns(), Views, log, timeout_s=0.05)
    with pytest.raises(ProblemError) as late:
        await slow.views("run-1", END)

    entered, go_on = threading.Event(), threading.Event()

    class SlowRuns(FakeRuns):
        def version(self, run_id: str) -> str:
            entered.set()
            go_on.wait(10)
            return super().version(run_id)

    runs = FoldedRuns(SlowRuns(other=filled_run()), Views, log, timeout_s=0.2)
    first = asyncio.create_task(runs.views("other", END))
    await asyncio.to_thread(entered.wait, 10)
    with pytest.raises(ProblemError) as waited:
        await runs.views("other", END)
    go_on.set()
    await asyncio.gather(first, return_exceptions=True)

    assert [(p.value.status, p.value.code) for p in (late, waited)] == [(503, "timeout")] * 2


def test_wrong_and_forbidden_requests_are_refused_before_a_run_is_read(tmp_path: Path) -> None:
    store, gate = FakeRuns(backtest_1=filled_run()), Gate(tmp_path)
    run = Run(runs=store, gate=gate.keeper)
    bound, free = gate.key("read", accounts=("desk",)), gate.key("read")

    with run.client() as asked:

        def status(path: str, key: str) -> int:
            response = asked.get(f"{path}run_id=backtest-1", headers=bearer(key))
            return int(response.status_code)

        assert status("/api/orders?limit=x&", free) == 422
        assert status("/api/risk?", bound) == 403
        assert store.reads == 0
        assert status("/api/risk?", free) == 200

    assert store.reads == 1


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
