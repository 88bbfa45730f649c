"""A run in which the example of every route works."""

from __future__ import annotations

from schemas import topics as t
from schemas.codec import encode
from schemas.control import BacktestProgress, BacktestResult, DeadLetter, ParityRequest
from schemas.enums import RunStatus
from schemas.envelope import Header
from schemas.errors import NotFoundError
from tests.unit.web_run import METRICS, START_NS, Run, bar, fast, filled_run, submit, submitted
from tests.unit.web_runs import FakeRuns
from tests.unit.web_stage import pending
from web.operations import JobState, Operations, Version
from web.security.gatekeeper import Gatekeeper


class FakeJobs:
    """One job, which does nothing."""

    def __init__(self) -> None:
        self.state = JobState(
            "reconcile", "compares", "every 300 s", False, START_NS, None, None, "", ""
        )

    def states(self) -> list[JobState]:
        """Return the job."""
        return [self.state]

    async def run_now(self, name: str) -> JobState:
        """Run the job."""
        if name != self.state.name:
            raise NotFoundError("there is no such job", field="name", value=name)
        self.state.last_status, self.state.last_result = "ok", "nothing differs"
        self.state.last_started_ns = START_NS
        return self.state


def records() -> list[tuple[str, Header]]:
    """Return the records of the run, beside those of the little session."""
    orders = [submit(f"wait-{n}") for n in (1, 2)]
    finished = BacktestResult(
        "b-1",
        START_NS,
        "task-1",
        "r",
        "task-1",
        "momentum_crossover",
        RunStatus.COMPLETED,
        {**METRICS, "run_id": "backtest-1"},
        "hash",
    )
    letter = DeadLetter(
        event_id="letter-1",
        ts_event_ns=START_NS,
        topic=t.ORDER_EVENTS,
        partition=0,
        offset=7,
        reason="broken",
        value=encode(submitted(submit("o-1"))),
    )
    return [
        (t.MARKET_BARS, bar(165.0, at=60)),
        *[(t.ACCOUNT_INPUTS, order) for order in orders],
        *[(t.ORDER_EVENTS, pending(order, START_NS + 300)) for order in orders],
        (t.BACKTEST_PROGRESS, BacktestProgress(
            "q", START_NS, "task-2", "r", "task-2", RunStatus.RUNNING, 3, 9)),
        (t.BACKTEST_REQUESTS, ParityRequest(
            event_id="p", ts_event_ns=START_NS, task_id="parity-1", run="backtest-1")),
        (t.BACKTEST_RESULTS, finished),
        (t.SYSTEM_DEAD_LETTERS, letter),
    ]  # fmt: skip


def example_run(gate: Gatekeeper | None = None) -> Run:
    """Return the run, its stage answering, with two recorded backtests and a job beside it."""
    store = FakeRuns(backtest_1=filled_run(), backtest_2=filled_run())
    store.add_results("backtest-1", sharpe=1.5, fast=10, output_hash="aa")
    store.add_results("backtest-2", sharpe=1.25, fast=20, output_hash="bb")
    run = Run(
        fast(),
        runs=store,
        operations=Operations(jobs=FakeJobs(), version=Version("0.1.0", "hash", 1, "3.11")),
        gate=gate,
    )
    run.log.append([*filled_run(), *records()])
    return run
