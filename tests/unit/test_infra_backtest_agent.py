"""What the backtest agent does with requests, and what it refuses to run.

The program behind it is a little script here: code and data must not be reached by a request.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.backtest_agent import Asked, BacktestAgent
from infra.backtest_process import arguments_of, refusal_of
from infra.backtests import failure_code
from infra.operating import Operating, left_of
from infra.settings import Settings
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
from schemas.errors import DataError, MillraceError, NotFoundError, StorageError
from streams.memory_log import MemoryLog
from web.app import WebSettings, create_app
from web.views.backtests import Backtests


def request(task_id: str = "t", **fields: Any) -> BacktestRequest:
    """Return a request for a backtest."""
    values: dict[str, Any] = {"strategy_name": "buy_and_hold", "initial_cash": "10000", **fields}
    return BacktestRequest(
        event_id=f"e-{task_id}",
        ts_event_ns=0,
        correlation_id="t",
        task_id=task_id,
        operator="test",
        **values,
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"strategy_name": "evil.py:Strategy"},
        {"strategy_name": "/tmp/evil.py:Strategy"},
        {"strategy_name": "../evil"},
        {"strategy_name": "buy\0hold"},
        {"data": "/etc/passwd"},
        {"data": "../outside.csv"},
        {"data": "data/../../outside.csv"},
        {"data": "da\0ily"},
        {"symbols": ["IBM\n"]},
        {"parameters": {"a\0": 1}},
        {"parameters": {"a": "\x1b[2J"}},
    ],
)
def test_request_for_foreign_code_or_data_is_refused(fields: dict[str, Any]) -> None:
    assert refusal_of(request(**fields), Path("data"))


@pytest.mark.parametrize(
    ("data", "meant"),
    [
        ("", "daily"),
        ("daily", "daily"),
        ("demo", "demo"),
        ("sets/mine", "{folder}/sets/mine"),
        ("{folder}/sets/mine", "{folder}/sets/mine"),
        ("sets/../sets/mine", "{folder}/sets/../sets/mine"),
    ],
)
def test_request_for_known_data_is_run(tmp_path: Path, data: str, meant: str) -> None:
    for name in ("sets/mine", "demo"):
        (tmp_path / name).mkdir(parents=True)
    asked = request(data=data.format(folder=tmp_path), parameters={"weight": 0.5})

    assert refusal_of(asked, tmp_path) == ""
    assert f"--data={meant.format(folder=tmp_path)}" in arguments_of(asked, tmp_path)


def test_relative_data_folder_may_stand_in_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data" / "sets").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)

    assert refusal_of(request(data="data/sets"), Path("data")) == ""
    assert refusal_of(request(data="sets"), Path("data")) == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("sets/nix", "there is no such data set in the data folder"),
        ("../outside", "lies outside of the data folder"),
        ("../nix", "lies outside of the data folder"),
        ("link", "lies outside of the data folder"),
        ("link/inner", "lies outside of the data folder"),
        ("/etc/passwd", "lies outside of the data folder"),
    ],
)
def test_data_that_are_not_there_are_told_apart_from_those_outside(
    tmp_path: Path, data: str, said: str
) -> None:
    folder, outside = tmp_path / "data", tmp_path / "outside"
    folder.mkdir()
    (outside / "inner").mkdir(parents=True)
    (folder / "link").symlink_to(outside)

    refusal = refusal_of(request(data=data), folder)

    assert said in refusal
    assert f"(data={data!r})" in refusal


@pytest.mark.parametrize("data", ["a" * 300, "loop", "loop/inner"])
def test_path_that_cannot_be_looked_up_is_refused(tmp_path: Path, data: str) -> None:
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    assert "this is no path that can be looked up" in refusal_of(request(data=data), tmp_path)


class Log(MemoryLog):
    """A log to which agents write without waiting."""

    def publish_side(self, topic: str, record: Header) -> None:
        """Append one record."""
        self.append([(topic, record)])


RUNS = """
import json, os, stat, sys
assert stat.S_ISFIFO(os.fstat(0).st_mode), "a process that is not told when its agent has died"
sys.stderr.write('{"done": 5, "total": 10}\\n')
if "parity" in sys.argv:
    rerun = {"records_compared": 7, "differences": 1, "recorded_hash": "a", "rerun_hash": "b"}
    print(json.dumps({"rerun": rerun, "backtest_against_live": None, "reason": "no session"}))
    sys.exit(1)
manifest = {"output_hash": "hash", "run_id": "backtest-1"}
print(json.dumps(
    {"metrics": {"sharpe_ratio": 1.5}, "events": 10, "manifest": manifest, "folder": "runs/x",
     "warnings": ["1 gaps"]}
))
"""
FAILS = """
import sys
sys.stderr.write('{"code": "not_found"}\\nerror: strategy nope not found\\n')
sys.exit(2)
"""
HANGS = (
    'import sys, time; sys.stderr.write(\'{"done": 1, "total": 2}\\n\');'
    " sys.stderr.flush(); time.sleep(60)"
)


class Side:
    """A log with agents beside it; waits for records."""

    def __init__(self) -> None:
        self.log = Log("run-1", lambda: 0)
        self._told = asyncio.Event()
        self.log.listen(lambda _: self._told.set())
        self.agents: list[BacktestAgent] = []

    def ask(self, *records: Header) -> None:
        """Write requests."""
        self.log.append([(t.BACKTEST_REQUESTS, record) for record in records])

    def said(self, topic: str) -> Sequence[Any]:
        """Return what stands on a topic."""
        return [item.record for item in self.log.read(topic, 0, 1000)]

    async def until(self, is_met: Callable[[], object]) -> None:
        """Wait until something is true."""
        async with asyncio.timeout(20):
            while not is_met():
                self._told.clear()
                await self._told.wait()


@asynccontextmanager
async def agents(
    program: str, *names: str, beat_s: float = 10.0, silence_s: float = 60.0
) -> AsyncIterator[Side]:
    """Run agents whose backtests are a script."""
    side = Side()
    for name in names or ("one",):
        command = (sys.executable, "-c", program)
        agent = BacktestAgent(side.log, name, command, beat_s=beat_s, silence_s=silence_s)
        side.agents.append(agent)
    try:
        yield side
    finally:
        for agent in side.agents:
            await agent.stop()


async def test_request_ends_in_a_result_with_the_run_that_it_made() -> None:
    async with agents(RUNS) as side:
        side.ask(request())
        await side.until(lambda: side.said(t.BACKTEST_RESULTS))
        (result,) = side.said(t.BACKTEST_RESULTS)
        progress = side.said(t.BACKTEST_PROGRESS)

    assert isinstance(result, BacktestResult)
    assert result.status is RunStatus.COMPLETED
    assert result.metrics == {"sharpe_ratio": 1.5, "events": 10, "run_id": "backtest-1"}
    assert result.warnings == ["1 gaps"]
    assert [(p.status, p.events_done, p.events_total) for p in progress] == [
        ("QUEUED", 0, 0),
        ("RUNNING", 0, 0),
        ("RUNNING", 5, 10),
    ]


async def test_of_several_agents_the_first_claim_runs_the_request() -> None:
    async with agents(RUNS, "one", "two", "three") as side:
        side.ask(request("a"), request("b"))
        await side.until(lambda: len(side.said(t.BACKTEST_RESULTS)) == 2)
        progress: Sequence[BacktestProgress] = side.said(t.BACKTEST_PROGRESS)

    claims = [p.detail for p in progress if p.status is RunStatus.QUEUED]
    started = [p.task_id for p in progress if p.status is RunStatus.RUNNING and not p.events_done]
    assert sorted(claims) == ["one", "one", "three", "three", "two", "two"]
    assert started == ["a", "b"]


async def test_failure_has_its_code_and_the_last_words_of_the_program() -> None:
    async with agents(FAILS) as side:
        side.ask(request())
        await side.until(lambda: side.said(t.BACKTEST_RESULTS))
        (result,) = side.said(t.BACKTEST_RESULTS)

    assert (result.status, result.metrics["code"]) == (RunStatus.FAILED, "not_found")
    assert result.detail == "strategy nope not found"


CROSSOVER = {"strategy_name": "momentum_crossover"}


@pytest.mark.parametrize(
    ("fields", "code", "detail"),
    [
        ({"strategy_name": "nope"}, "not_found", "strategy nope not found"),
        ({"data": "/etc/passwd"}, "bad_request", "lies outside of the data folder"),
        ({**CROSSOVER, "parameters": {"fast": 200, "slow": 20}}, "bad_request", "below slow (20)"),
        ({**CROSSOVER, "parameters": {"fats": 2}}, "bad_request", "did you mean fast"),
        ({"symbols": ["NOPE"]}, "bad_request", "it has IBM, SPY"),
        ({"start_ns": 0, "end_ns": 1}, "no_data", "no data in this range"),
    ],
)
async def test_what_cannot_be_run_is_told_before_what_runs_has_ended(
    fields: dict[str, Any], code: str, detail: str
) -> None:
    async with agents(HANGS) as side:
        side.ask(request("long"))
        await side.until(lambda: len(side.said(t.BACKTEST_PROGRESS)) > 1)
        side.ask(request("odd", **fields))
        await side.until(lambda: side.said(t.BACKTEST_RESULTS))
        (result,) = side.said(t.BACKTEST_RESULTS)

    assert (result.task_id, result.metrics["code"]) == ("odd", code)
    assert detail in result.detail


@pytest.mark.parametrize(
    ("program", "code", "detail"),
    [
        ("import os; os.kill(os.getpid(), 9)", "backtest_failed", "its process ended by signal 9"),
        ("raise KeyError('range')", "backtest_failed", "its process ended with status 1: KeyError"),
        ("import sys; sys.exit(2)", "backtest_failed", "its process ended with status 2"),
        ("import sys; print('error: no sets/orange', file=sys.stderr); sys.exit(2)",
         "bad_request", "no sets/orange"),
        ("print('[]')", "backtest_failed", "could not be run"),
    ],
)  # fmt: skip
async def test_only_what_the_command_line_refuses_is_the_fault_of_who_asked(
    program: str, code: str, detail: str
) -> None:
    async with agents(program) as side:
        side.ask(
            request("a"), ParityRequest(event_id="p", ts_event_ns=0, task_id="p", run="backtest-1")
        )
        await side.until(lambda: len(side.said(t.BACKTEST_RESULTS)) == 2)
        backtest, parity = side.said(t.BACKTEST_RESULTS)

    assert (backtest.status, backtest.metrics["code"]) == (RunStatus.FAILED, code)
    assert detail in backtest.detail
    assert (parity.status, parity.code) == (RunStatus.FAILED, code)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (NotFoundError("strategy nope not found", field="strategy"), "not_found"),
        (DataError("daily has no data in this range", field="range"), "no_data"),
        (NotFoundError("no such data set", field="data", value="sets/orange"), "bad_request"),
        (StorageError("the disk is full"), "backtest_failed"),
    ],
)
def test_failure_has_its_code_by_its_kind(error: MillraceError, code: str) -> None:
    assert failure_code(error) == code


async def test_running_and_waiting_backtests_are_given_up() -> None:
    async with agents(HANGS) as side:
        side.ask(request("a"), request("b"))
        await side.until(lambda: [p for p in side.said(t.BACKTEST_PROGRESS) if p.events_done])
        (agent,) = side.agents
        assert (agent.running, agent.waiting) == ("a", 1)
        side.ask(BacktestCancel(ts_event_ns=0, task_id="b", reason="wrong"))
        # Without a turn of anything else: its place is free, though what runs goes on.
        assert (agent.running, agent.waiting) == ("a", 0)
        assert [r.task_id for r in side.said(t.BACKTEST_RESULTS)] == ["b"]
        side.ask(BacktestCancel(ts_event_ns=0, task_id="a", reason="wrong"))
        await side.until(lambda: len(side.said(t.BACKTEST_RESULTS)) == 2)
        results = side.said(t.BACKTEST_RESULTS)

    assert [(r.task_id, r.status, r.detail) for r in results] == [
        ("b", RunStatus.CANCELED, "wrong"),
        ("a", RunStatus.CANCELED, "wrong"),
    ]


async def test_stopped_agent_ends_what_runs_and_what_waits_as_interrupted() -> None:
    async with agents(HANGS) as side:
        side.ask(request("a"), request("b"))
        await side.until(lambda: [p for p in side.said(t.BACKTEST_PROGRESS) if p.events_done])
        await side.agents.pop().stop()
        results = side.said(t.BACKTEST_RESULTS)

    assert [(r.task_id, r.status, r.metrics["code"]) for r in results] == [
        ("a", RunStatus.FAILED, "interrupted"),
        ("b", RunStatus.FAILED, "interrupted"),
    ]
    assert "ask again" in results[0].detail


async def test_cancel_that_comes_while_the_process_begins_is_not_missed() -> None:
    async with agents(HANGS) as side:
        side.ask(request("a"))
        await side.until(lambda: side.said(t.BACKTEST_PROGRESS)[-1].status is RunStatus.RUNNING)
        assert not side.agents[0].running  # it is being started
        side.ask(BacktestCancel(ts_event_ns=0, task_id="a", reason="wrong"))
        await side.until(lambda: side.said(t.BACKTEST_RESULTS))
        (result,) = side.said(t.BACKTEST_RESULTS)

    assert (result.status, result.detail) == (RunStatus.CANCELED, "wrong")


def left_on_a_log(*claims: tuple[str, str]) -> list[Asked]:
    """Return what stands on a log of claimed requests, a finished one and a comparison."""
    backtests = Backtests(100)
    for task_id, agent in (*claims, ("done", "one")):
        backtests.on_request(request(task_id))
        backtests.on_progress(progress(task_id, RunStatus.QUEUED, agent))
        backtests.on_progress(progress(task_id, RunStatus.QUEUED, "late"))
        backtests.on_progress(progress(task_id, RunStatus.RUNNING))
    backtests.on_result(BacktestResult("r", 0, "", "", "done", "s", RunStatus.COMPLETED, {}))
    backtests.on_progress(progress("old", RunStatus.QUEUED, "one"))  # its request is gone
    backtests.on_request(ParityRequest(event_id="p", ts_event_ns=0, task_id="p", run="r-1"))
    backtests.on_request(ParityRequest(event_id="q", ts_event_ns=0, task_id="q", run="r-1"))
    for agent in ("other", "late"):
        backtests.on_progress(progress("q", RunStatus.QUEUED, agent))
    return list(left_of(backtests))


def progress(task_id: str, status: RunStatus, detail: str = "", done: int = 0) -> BacktestProgress:
    """Return what an agent tells of a request."""
    event_id = f"{task_id}-{status}-{detail}-{done}"
    return BacktestProgress(event_id, 0, "", f"e-{task_id}", task_id, status, done, 9, detail)


def test_comparison_is_left_to_the_agent_that_claimed_it_first() -> None:
    found = {asked.request.task_id: asked.agent for asked in left_on_a_log(("a", "one"))}
    assert found == {"a": "one", "old": "one", "p": "", "q": "other"}


@pytest.mark.parametrize("is_late", [True, False])
def test_result_of_an_agent_that_was_only_silent_counts(is_late: bool) -> None:
    done = BacktestResult("r", 0, "", "", "a", "s", RunStatus.COMPLETED, {"run_id": "run-7"})
    given_up = BacktestResult("i", 0, "", "", "a", "s", RunStatus.FAILED, {"code": "interrupted"})
    compared = ParityResult("p", 0, "", "", "p", "r-1", RunStatus.COMPLETED)
    lost = ParityResult("l", 0, "", "", "p", "r-1", RunStatus.FAILED, code="interrupted")
    backtests = Backtests(100)
    for results in ((given_up, done), (lost, compared)):
        for result in results if is_late else reversed(results):
            backtests.on_result(result)  # type: ignore[arg-type]

    assert (backtests.rows["a"].status, backtests.run_of("a")) == (RunStatus.COMPLETED, "run-7")
    assert backtests.parity_results["p"] == compared


async def test_agent_ends_at_its_start_what_it_claimed_before_it_died() -> None:
    async with agents(RUNS) as side:
        side.agents[0].take_over(left_on_a_log(("a", "one"), ("b", "other")))
        results = side.said(t.BACKTEST_RESULTS)

    assert [(r.task_id, r.causation_id, r.metrics["code"]) for r in results] == [
        ("a", "e-a", "interrupted"),
        ("old", "e-old", "interrupted"),
    ]


async def test_process_that_starts_ends_what_one_before_it_has_left(tmp_path: Path) -> None:
    log = Log("run-1", lambda: 0)
    log.append([
        (t.BACKTEST_REQUESTS, request("a")),
        (t.BACKTEST_PROGRESS, progress("a", RunStatus.QUEUED, "local")),
        (t.BACKTEST_PROGRESS, progress("a", RunStatus.RUNNING, done=3)),
    ])  # fmt: skip
    context = create_app(log, WebSettings(), lambda: "id").state.context
    context.views.load(log)
    agent = BacktestAgent(log)
    operating = Operating(context, agent, Settings(), runner=None, reports=tmp_path, root=tmp_path)

    operating.start()
    await operating.stop()
    await agent.stop()

    (result,) = [item.record for item in log.read(t.BACKTEST_RESULTS, 0, 9)]
    assert isinstance(result, BacktestResult)
    assert (result.task_id, result.metrics["code"]) == ("a", "interrupted")


async def test_request_of_an_agent_that_fell_silent_is_ended_by_another() -> None:
    async with agents(RUNS, beat_s=0.02, silence_s=0.2) as side:
        side.agents[0].take_over(left_on_a_log(("a", "other")))
        await side.until(lambda: {"a", "p"} <= {r.task_id for r in side.said(t.BACKTEST_RESULTS)})
        results = {r.task_id: r for r in side.said(t.BACKTEST_RESULTS)}

    assert (results["a"].status, results["a"].metrics["code"]) == (RunStatus.FAILED, "interrupted")
    assert (results["p"].status, results["p"].code) == (RunStatus.FAILED, "interrupted")
    assert results["p"].detail == "no backtest agent has taken it; ask again"


async def test_request_behind_one_of_which_is_heard_is_not_lost() -> None:
    # "one" runs what hangs and tells of it; "two" hears of that, so what waits is not lost either.
    async with agents(HANGS, "one", "two", beat_s=0.02, silence_s=1.0) as side:
        side.ask(request("a"), request("b"))
        await side.until(lambda: len(side.said(t.BACKTEST_PROGRESS)) > 80)
        results = side.said(t.BACKTEST_RESULTS)
        told = [p.event_id for p in side.said(t.BACKTEST_PROGRESS)]

    assert results == []
    assert len(set(told)) == len(told)  # a repeated id would be passed over


async def test_comparison_with_differences_is_a_result() -> None:
    async with agents(RUNS) as side:
        side.ask(ParityRequest(event_id="p", ts_event_ns=0, task_id="p", run="backtest-1"))
        await side.until(lambda: side.said(t.BACKTEST_RESULTS))
        (result,) = side.said(t.BACKTEST_RESULTS)

    assert isinstance(result, ParityResult)
    assert (result.status, result.differences) == (RunStatus.COMPLETED, 1)
    assert (result.records_compared, result.detail) == (7, "no session")


@pytest.mark.parametrize("run", ["../secret", "/etc", "--help", "", "a b"])
async def test_comparison_names_a_run_and_never_a_path(run: str) -> None:
    async with agents(RUNS) as side:
        side.ask(ParityRequest(event_id="p", ts_event_ns=0, task_id="p", run=run))
        await side.until(lambda: side.said(t.BACKTEST_RESULTS))
        (result,) = side.said(t.BACKTEST_RESULTS)

    assert result.status is RunStatus.FAILED


async def test_request_that_cannot_be_looked_at_fails_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise OSError("a disk is gone")

    monkeypatch.setattr("infra.backtest_agent.refused", broken)
    async with agents(HANGS) as side:
        side.ask(request("odd"))
        await side.until(lambda: bool(side.said(t.BACKTEST_RESULTS)))
        (result,) = side.said(t.BACKTEST_RESULTS)

    assert result.status is RunStatus.FAILED
    assert "a disk is gone" in result.detail
