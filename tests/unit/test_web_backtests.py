"""Backtests over HTTP beyond running them: log, cancel, results, compare, parity."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.control import (
    BacktestCancel,
    BacktestProgress,
    BacktestRequest,
    BacktestResult,
    ParityRequest,
    ParityResult,
)
from schemas.enums import RunStatus
from schemas.envelope import Header
from schemas.errors import StorageError
from streams.cursors import read_cursor, write_cursor
from streams.history import Page, StoredBacktest, StoredRun
from streams.log import Published
from tests.unit.web_run import METRICS, START_NS, Run, exact, fast, filled_run, problem
from tests.unit.web_runs import FakeRuns
from web.problems import ProblemError
from web.result_files import ResultFiles
from web.views.backtests import Backtests


def result(task_id: str, run_id: str, status: RunStatus = RunStatus.COMPLETED) -> BacktestResult:
    """Return the result of a backtest."""
    metrics = {**METRICS, "run_id": run_id}
    return BacktestResult(
        f"b-{task_id}",
        START_NS + 100,
        task_id,
        "r",
        task_id,
        "momentum_crossover",
        status,
        metrics,
        "hash",
        warnings=["2 orders reached the venue and none was filled"],
    )


def request(task_id: str) -> BacktestRequest:
    """Return a request for a backtest."""
    return BacktestRequest(
        event_id=f"q-{task_id}",
        ts_event_ns=START_NS,
        task_id=task_id,
        strategy_name="momentum_crossover",
    )


def progress(task_id: str, status: RunStatus, done: int = 0, total: int = 0) -> BacktestProgress:
    """Return how far a backtest has come."""
    return BacktestProgress(
        f"p-{task_id}-{status}-{done}", START_NS + done, task_id, "r", task_id, status, done, total
    )


def parity(
    asked: ParityRequest, status: RunStatus = RunStatus.COMPLETED, code: str = ""
) -> ParityResult:
    """Return what a comparison found."""
    return ParityResult(
        f"y-{asked.task_id}",
        START_NS,
        asked.task_id,
        asked.event_id,
        asked.task_id,
        asked.run,
        status,
        462_361,
        0,
        "aa",
        "aa",
        detail="" if status is RunStatus.COMPLETED else "its strategy was a file",
        code=code,
    )


class Agent:
    """Answers comparisons, and cancels that are asked for in earnest."""

    def __init__(self, run: Run, status: RunStatus = RunStatus.COMPLETED, code: str = "") -> None:
        self._run = run
        self._status = status
        self._code = code
        run.log.listen(self)

    def __call__(self, published: Any) -> None:
        """Answer what is among ``published``."""
        item: Published
        for item in published:
            record = item.record
            if isinstance(record, ParityRequest):
                self._answer(parity(record, self._status, self._code))
            elif isinstance(record, BacktestCancel) and record.reason:
                self._answer(result(record.task_id, "", RunStatus.CANCELED))

    def _answer(self, record: Header) -> None:
        self._run.log.append([(t.BACKTEST_RESULTS, record)])


@pytest.fixture
def store() -> FakeRuns:
    """Return a store with two finished backtests."""
    store = FakeRuns(backtest_1=filled_run(), backtest_2=filled_run())
    store.add_results("backtest-1", sharpe=1.5, fast=10, output_hash="aa")
    store.add_results("backtest-2", sharpe=1.25, fast=20, output_hash="bb")
    return store


@pytest.fixture
def run(store: FakeRuns) -> Run:
    """Return a run that knows of a finished backtest and a running one."""
    run = Run(fast(), has_stage=False, runs=store)
    run.log.append(
        [
            (t.BACKTEST_REQUESTS, request("task-1")),
            (t.BACKTEST_PROGRESS, progress("task-1", RunStatus.QUEUED)),
            (t.BACKTEST_PROGRESS, progress("task-1", RunStatus.RUNNING, 5, 10)),
            (t.BACKTEST_RESULTS, result("task-1", "backtest-1")),
            (t.BACKTEST_REQUESTS, request("task-2")),
            (t.BACKTEST_PROGRESS, progress("task-2", RunStatus.RUNNING, 3, 9)),
        ]
    )
    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """Give a client of ``run``."""
    with run.client() as client:
        yield client


# ---- one backtest


def test_log_has_everything_that_was_said(client: TestClient) -> None:
    lines = client.get("/api/backtest/task-1/log").json()["lines"]

    assert [(line["what"], line["status"]) for line in lines] == [
        ("backtest_request", "QUEUED"),
        ("backtest_progress", "QUEUED"),
        ("backtest_progress", "RUNNING"),
        ("backtest_result", "COMPLETED"),
    ]
    assert (lines[2]["events_done"], lines[2]["events_total"]) == (5, 10)


def test_progress_is_told_without_the_figures(run: Run, client: TestClient) -> None:
    # The claim of a second agent comes late and is no step back.
    run.append(client, [(t.BACKTEST_PROGRESS, progress("task-2", RunStatus.QUEUED))])

    answer = client.get("/api/backtest/task-2/progress").json()

    assert (answer["status"], answer["events_done"], answer["events_total"]) == ("RUNNING", 3, 9)
    assert client.get("/api/backtest/task-1/progress").json()["result"] is None
    finished = client.get("/api/backtest/task-1").json()
    assert finished["run_id"] == "backtest-1"
    told = ["2 orders reached the venue and none was filled"]
    assert finished["result"]["warnings"] == told
    history = client.get("/api/backtest/history").json()["backtests"]
    assert history[-1]["result"]["warnings"] == told


def test_running_backtest_is_given_up(run: Run, client: TestClient) -> None:
    Agent(run)

    late = client.post("/api/backtest/task-2/cancel", json={})
    done = client.post("/api/backtest/task-2/cancel", json={"reason": "wrong"})
    again = client.post("/api/backtest/task-2/cancel", json={})

    assert late.status_code == 202
    assert (done.status_code, done.json()["status"]) == (200, "CANCELED")
    assert problem(again, 409)["code"] == "already_finished"


ASKED = {"strategy_name": "breakout", "start_date": "2014-01-01", "end_date": "2014-02-01"}


@pytest.mark.parametrize("path", ["run", "run-async", "parity"])
def test_more_than_may_wait_are_refused_at_once_without_a_record(path: str) -> None:
    run = Run(fast(backtests_max=2), has_stage=False, runs=FakeRuns(backtest_1=filled_run()))
    run.log.append([(t.BACKTEST_REQUESTS, request("task-1"))])
    body = {"run_id": "backtest-1"} if path == "parity" else ASKED
    with run.client() as client:
        assert client.post(f"/api/backtest/{path}", json=body).status_code in (200, 202)
        asked = run.log.end_offset(t.BACKTEST_REQUESTS)
        answer = client.post(f"/api/backtest/{path}", json=body)
        assert problem(answer, 503)["code"] == "busy"
        assert answer.headers["retry-after"] == "5"
        assert run.log.end_offset(t.BACKTEST_REQUESTS) == asked == 2
        run.append(client, [(t.BACKTEST_RESULTS, result("task-1", "", RunStatus.CANCELED))])
        assert client.post(f"/api/backtest/{path}", json=body).status_code in (200, 202)


def test_backtests_on_their_way_are_counted_until_they_are_heard_of() -> None:
    backtests = Backtests(10)
    for task_id in ("a", "b", "c"):
        backtests.take_place(task_id, 0.0)
    backtests.on_request(request("a"))
    backtests.leave_place("b")
    assert backtests.unfinished(1.0) == 2
    backtests.on_result(result("a", "", RunStatus.CANCELED))
    assert backtests.unfinished(1.0) == 1
    assert backtests.unfinished(61.0) == 0


def test_history_is_paged_by_its_cursor(run: Run, client: TestClient) -> None:
    for n in (3, 4, 5):
        run.append(client, [(t.BACKTEST_RESULTS, result(f"task-{n}", f"r{n}"))])

    first = client.get("/api/backtest/history?limit=3").json()
    rest = client.get(f"/api/backtest/history?limit=3&cursor={first['next_cursor']}").json()

    assert [b["task_id"] for b in first["backtests"]] == ["task-5", "task-4", "task-3"]
    assert [b["task_id"] for b in rest["backtests"]] == ["task-1"]
    assert rest["next_cursor"] is None
    problem(client.get("/api/backtest/history?cursor=nope"), 422)


class StoredBacktests:
    """A database with finished backtests, or one that is away."""

    def __init__(self, *results: BacktestResult, is_away: bool = False) -> None:
        self.is_away = is_away
        self._results = sorted(results, key=place, reverse=True)

    async def backtests(
        self, strategy_name: str = "", limit: int = 10, cursor: str = "", run_id: str = ""
    ) -> Page[StoredBacktest]:
        """Return a page of them, the newest first."""
        if self.is_away:
            raise StorageError("no connection")
        before = read_cursor("backtests", cursor, int, str, str)
        found = [r for r in self._results if before is None or (*place(r), "run-0") < before]
        following = ""
        if len(found) > limit:
            following = write_cursor("backtests", [*place(found[limit - 1]), "run-0"])
        return Page([StoredBacktest(r, None) for r in found[:limit]], following)

    async def backtest(self, task_id: str) -> StoredBacktest | None:
        """Return the backtest if it is one of them."""
        if self.is_away:
            raise StorageError("no connection")
        return next((StoredBacktest(r, None) for r in self._results if r.task_id == task_id), None)

    async def runs(self, _limit: int, _cursor: str, _run_id: str) -> Page[StoredRun]:
        """Know of no run."""
        return Page([], "")


def place(result: BacktestResult) -> tuple[int, str]:
    """Return where a result stands in the history."""
    return result.finished_ns or result.ts_event_ns, result.event_id


def at(ns: int, task_id: str, run_id: str = "r") -> BacktestResult:
    """Return the result of a backtest that finished so many ns behind the start."""
    return msgspec.structs.replace(result(task_id, run_id), ts_event_ns=START_NS + ns)


def test_history_goes_by_the_wall_clock_while_the_time_of_the_market_stands(
    run: Run, client: TestClient
) -> None:
    # Ids of results are hashes: they say nothing of what came first.
    for task_id, ns, event_id in (("first", 7, "z"), ("second", 8, "a"), ("third", 9, "m")):
        finished = msgspec.structs.replace(
            at(0, task_id), event_id=event_id, finished_ns=2 * START_NS + ns
        )
        run.append(client, [(t.BACKTEST_RESULTS, finished)])
    later_market = at(10**18, "before")  # a session of later data that ran before
    run.context.history = StoredBacktests(
        msgspec.structs.replace(later_market, finished_ns=2 * START_NS)
    )

    first = client.get("/api/backtest/history?limit=2").json()
    rest = client.get(f"/api/backtest/history?limit=3&cursor={first['next_cursor']}").json()

    found = [*first["backtests"], *rest["backtests"]]
    names = [item["task_id"] for item in found]
    assert names == ["third", "second", "first", "before", "task-1"]
    assert found[0]["result"]["finished_ns"] == 2 * START_NS + 9


def test_history_is_of_memory_and_of_all_runs_in_the_database(run: Run, client: TestClient) -> None:
    run.append(client, [(t.BACKTEST_RESULTS, at(200, "new"))])
    run.context.history = StoredBacktests(at(150, "other"), at(100, "task-1"), at(50, "old"))

    first = client.get("/api/backtest/history?limit=2").json()
    rest = client.get(f"/api/backtest/history?limit=2&cursor={first['next_cursor']}").json()

    assert [b["task_id"] for b in first["backtests"]] == ["new", "other"]
    assert [b["task_id"] for b in rest["backtests"]] == ["task-1", "old"]
    assert rest["next_cursor"] is None
    assert client.get("/api/backtest/old").json()["result"]["win_rate"] == 58.3
    problem(client.get("/api/backtest/nope"), 404)
    problem(client.get("/api/backtest/history?cursor=nope"), 422)


def test_history_that_memory_cannot_tell_is_unavailable_while_the_database_is_away(
    run: Run, client: TestClient
) -> None:
    run.context.history = StoredBacktests(is_away=True)

    response = client.get("/api/backtest/history")
    filled = client.get("/api/backtest/history?limit=1").json()

    assert problem(response, 503)["code"] == "history_unavailable"
    assert int(response.headers["retry-after"]) > 0
    assert [b["task_id"] for b in filled["backtests"]] == ["task-1"]
    assert filled["next_cursor"]


def test_task_of_before_a_restart_leads_to_its_run(store: FakeRuns) -> None:
    failed = msgspec.structs.replace(at(1, "bad"), status=RunStatus.FAILED)
    run = Run(runs=store)
    with run.client() as client:
        run.context.history = StoredBacktests(at(2, "task-0", "backtest-1"), failed)

        for name in ("report", "manifest", "equity", "trades", "orders"):
            assert client.get(f"/api/backtest/task-0/{name}").status_code == 200, name
            assert problem(client.get(f"/api/backtest/bad/{name}"), 409)["code"] == "no_results"
            problem(client.get(f"/api/backtest/nope/{name}"), 404)
        assert client.get("/api/backtest/compare?a=task-0&b=backtest-2").json()["a"] == "backtest-1"
        assert client.get("/api/orders?run_id=task-0").json()["count"] == 3
        problem(client.get("/api/orders?run_id=nope"), 404)
        # What is at hand needs no database.
        run.context.history = StoredBacktests(is_away=True)
        assert client.get("/api/backtest/backtest-1/report").status_code == 200
        problem(client.get("/api/backtest/task-0/report"), 503)


# ---- results


@pytest.mark.parametrize("name", ["task-1", "backtest-1"])
def test_report_says_what_was_run_and_what_came_out(client: TestClient, name: str) -> None:
    answer = client.get(f"/api/backtest/{name}/report").json()

    assert (answer["run_id"], answer["strategy_name"]) == ("backtest-1", "momentum_crossover")
    assert answer["metrics"] == {"sharpe_ratio": 1.5, "total_trades": 1, "cagr_pct": None}
    assert answer["denied_by_code"] == {"MAX_POSITION": 1}
    assert answer["data"] == {"spec": "daily", "symbols": ["SPY"]}
    assert answer["warnings"] == ["1 gaps"]


def test_series_are_columns_in_pages(client: TestClient) -> None:
    first = exact(client.get("/api/backtest/task-1/equity?limit=3"))
    rest = exact(client.get(f"/api/backtest/task-1/equity?limit=3&cursor={first['next_cursor']}"))
    trades = exact(client.get("/api/backtest/task-1/trades"))

    assert first["columns"]["equity"] + rest["columns"]["equity"] == [
        f"{1000 + n}.5" for n in range(5)
    ]
    assert first["columns"]["time"][0] == "2013-10-07T13:30:00.000000000Z"
    assert (first["count"], rest["next_cursor"]) == ("5", None)
    assert trades["columns"]["pnl"] == ["-1.50"]


@pytest.mark.parametrize("cursor", ["x", "9", "0x21", "99999", "30", "1" * 20])
def test_place_at_which_no_row_begins_is_no_cursor(client: TestClient, cursor: str) -> None:
    content = problem(client.get(f"/api/backtest/task-1/equity?cursor={cursor}"), 422)

    assert content["code"] == "bad_cursor"


def test_page_of_a_series_is_read_from_where_it_begins(store: FakeRuns, client: TestClient) -> None:
    first = client.get("/api/backtest/task-1/equity?limit=3").json()
    client.get(f"/api/backtest/task-1/equity?limit=3&cursor={first['next_cursor']}")

    head, *rows = store.files["backtest-1", "equity.csv"].splitlines(keepends=True)
    assert store.asked == [(0, 3), (len(head + b"".join(rows[:3])), 3)]


class SlowStore(FakeRuns):
    """Reads a result only when it is let, and counts how many are read at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.at_once = self.most = 0

    def result(self, run_id: str, name: str) -> bytes:
        """Return nothing."""
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        self.gate.wait(10)
        self.at_once -= 1
        return b""


async def test_results_are_read_one_at_a_time_and_not_too_many_wait() -> None:
    store = SlowStore()
    files = ResultFiles(store)
    reads = [asyncio.create_task(files.whole("r", "manifest.json")) for _ in range(16)]
    await asyncio.sleep(0)

    with pytest.raises(ProblemError, match="too many"):
        await files.whole("r", "manifest.json")
    store.gate.set()
    assert await asyncio.gather(*reads) == [b""] * 16
    assert store.most == 1


async def test_result_that_cannot_be_read_in_time_is_given_up() -> None:
    store = SlowStore()

    with pytest.raises(ProblemError) as caught:
        await ResultFiles(store, timeout_s=0.01).whole("r", "manifest.json")
    store.gate.set()

    assert (caught.value.status, caught.value.code) == (503, "timeout")


def test_orders_and_manifest_of_a_backtest(client: TestClient) -> None:
    orders = client.get("/api/backtest/task-1/orders?status=FILLED").json()

    assert [o["client_order_id"] for o in orders["orders"]] == ["o-1"]
    assert client.get("/api/backtest/task-1/manifest").json()["manifest"]["output_hash"] == "aa"


@pytest.mark.parametrize("name", ["report", "manifest", "equity", "trades", "orders"])
def test_results_of_what_is_not_finished_or_known(client: TestClient, name: str) -> None:
    assert problem(client.get(f"/api/backtest/task-2/{name}"), 409)["code"] == "no_results"
    problem(client.get(f"/api/backtest/nope/{name}"), 404)


def test_two_backtests_are_compared_by_figures_and_set_up(client: TestClient) -> None:
    answer = client.get("/api/backtest/compare?a=task-1&b=backtest-2").json()

    figures = {item["name"]: item for item in answer["metrics"]}
    assert figures["sharpe_ratio"]["change"] == -0.25
    assert figures["cagr_pct"]["change"] is None
    assert [(c["name"], c["a"], c["b"]) for c in answer["config"]] == [
        ("strategies.0.parameters.fast", 10, 20)
    ]
    assert (answer["is_same_config"], answer["is_same_output"]) == (False, False)
    same = client.get("/api/backtest/compare?a=task-1&b=backtest-1").json()
    assert (same["is_same_config"], same["is_same_output"]) == (True, True)
    problem(client.get("/api/backtest/compare?a=task-1&b=nope"), 404)
    problem(client.get("/api/backtest/compare?a=task-1&b=../x"), 422)


# ---- parity


def test_parity_is_asked_for_by_a_record_and_answered_by_one(run: Run, client: TestClient) -> None:
    Agent(run)

    answer = client.post("/api/backtest/parity", json={"run_id": "task-1"}).json()

    assert (answer["run_id"], answer["differences"]) == ("backtest-1", 0)
    assert answer["records_compared"] == 462_361
    assert client.get(f"/api/backtest/parity/{answer['task_id']}").json() == answer
    assert client.get("/api/backtest/history").json()["count"] == 1


def test_parity_that_takes_long_is_answered_with_the_place_to_ask(client: TestClient) -> None:
    response = client.post("/api/backtest/parity", json={"run_id": "backtest-2"})

    assert response.status_code == 202
    assert client.get(response.headers["location"]).json()["status"] == "RUNNING"


@pytest.mark.parametrize(
    ("code", "status"),
    [("", 422), ("bad_request", 422), ("interrupted", 503), ("backtest_failed", 500)],
)
def test_parity_that_fails_is_the_fault_of_who_asked_or_ours(
    run: Run, client: TestClient, code: str, status: int
) -> None:
    Agent(run, RunStatus.FAILED, code)

    failed = client.post("/api/backtest/parity", json={"run_id": "backtest-1"})

    assert problem(failed, status)["code"] == "parity_failed"
    assert ("retry-after" in failed.headers) == (status == 503)


def test_parity_of_a_run_that_is_not_there_is_refused(client: TestClient) -> None:
    problem(client.post("/api/backtest/parity", json={"run_id": "nope"}), 404)
    problem(client.post("/api/backtest/parity", json={"run_id": "../../etc"}), 422)
    problem(client.get("/api/backtest/parity/nope"), 404)
