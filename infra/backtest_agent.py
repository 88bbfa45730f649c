"""The backtest agent: requests, progress and results are records, each run is a process.

Backtests wait in a bounded queue and run one at a time, so a live run beside them keeps its core.
Where several agents hear one log, the first whose claim stands on it runs the request.
Whoever can write to the log can ask for one, so a request may name neither a file of code nor data
outside of the data folder: a strategy file and a path are for the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.settings import data_folder
from infra.times import format_time
from schemas.control import (
    BacktestCancel,
    BacktestProgress,
    BacktestRequest,
    BacktestResult,
    ParityRequest,
    ParityResult,
)
from schemas.enums import RunStatus
from schemas.identifiers import derived_id
from schemas.topics import BACKTEST_PROGRESS, BACKTEST_REQUESTS, BACKTEST_RESULTS
from streams.datasets import BUNDLED
from streams.log import Published, SideLog

_QUEUE_MAX = 32
_KNOWN_MAX = 10_000
_TIMEOUT_S = 3600.0
_LINE_MAX = 65_536
_REFUSED = 2
"""Exit status of the command line for what it cannot use, or for a disk that refused."""

_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")

Request = BacktestRequest | ParityRequest


class Failure(Exception):  # noqa: N818 - what became of a request, not a fault of the agent
    """A request that ends without a result: how, with a stable code, and why."""

    def __init__(self, status: RunStatus, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class BacktestAgent:
    """Listens for requests on a run's log and publishes what became of them.

    ``name`` is unique among the agents of a log; ``command`` is the program that runs one.
    """

    def __init__(
        self,
        runner: SideLog,
        name: str = "local",
        command: Sequence[str] = (sys.executable, "-m", "infra"),
    ) -> None:
        self._runner = runner
        self._name = name
        self._command = tuple(command)
        self._queue: asyncio.Queue[Request] = asyncio.Queue(_QUEUE_MAX)
        self._asked: dict[str, Request] = {}
        self._claimed: dict[str, None] = {}
        self._canceled: dict[str, str] = {}
        self._running: tuple[str, asyncio.subprocess.Process] | None = None
        self._unlisten = runner.listen(self._on_published)
        self._task = asyncio.create_task(self._work())

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return self._queue.qsize()

    @property
    def running(self) -> str:
        """The task that runs now, empty if none does."""
        return self._running[0] if self._running is not None else ""

    async def stop(self) -> None:
        """Stop at once; a running backtest is killed and leaves nothing behind."""
        self._unlisten()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    # ---- the log

    def _on_published(self, published: Sequence[Published]) -> None:
        for item in published:
            record = item.record
            if item.topic == BACKTEST_REQUESTS:
                if isinstance(record, BacktestCancel):
                    self._on_cancel(record)
                elif isinstance(record, (BacktestRequest, ParityRequest)):
                    self._asked[record.task_id] = record
                    _bound(self._asked)
                    self._progress(record, RunStatus.QUEUED, 0, 0, self._name)
            elif isinstance(record, BacktestProgress) and record.status is RunStatus.QUEUED:
                self._on_claim(record)

    def _on_claim(self, claim: BacktestProgress) -> None:
        request = self._asked.get(claim.task_id)
        if request is None or claim.task_id in self._claimed:
            return
        self._claimed[claim.task_id] = None
        _bound(self._claimed)
        if claim.detail != self._name:
            return
        if claim.task_id in self._canceled:
            self._finish(request, _canceled(self._canceled[claim.task_id]))
            return
        try:
            self._queue.put_nowait(request)
        except asyncio.QueueFull:
            busy = Failure(RunStatus.FAILED, "busy", "too many backtests are waiting")
            self._finish(request, busy)

    def _on_cancel(self, cancel: BacktestCancel) -> None:
        self._canceled[cancel.task_id] = cancel.reason
        _bound(self._canceled)
        if self._running is not None and self._running[0] == cancel.task_id:
            with contextlib.suppress(ProcessLookupError):
                self._running[1].kill()

    # ---- work

    async def _work(self) -> None:
        while True:
            request = await self._queue.get()
            try:
                await self._take(request)
            except Failure as failure:
                self._finish(request, failure)
            except (OSError, ValueError, LookupError, TypeError) as error:
                # No process, no memory, no report in the answer: the next request may do better.
                detail = f"the backtest could not be run: {error!r}"
                self._finish(request, Failure(RunStatus.FAILED, "backtest_failed", detail))

    async def _take(self, request: Request) -> None:
        self._check_canceled(request)
        self._progress(request, RunStatus.RUNNING, 0, 0)
        if isinstance(request, ParityRequest):
            if _RUN_ID.fullmatch(request.run) is None:
                raise Failure(RunStatus.FAILED, "bad_request", "that is no id of a run")
            report = await self._run(request, ["parity", "--json", request.run])
            self._publish(BACKTEST_RESULTS, _parity(request, report, self._runner.now_ns()))
            return
        refusal = refusal_of(request, data_folder())
        if refusal:
            raise Failure(RunStatus.FAILED, "bad_request", refusal)
        report = await self._run(request, _arguments(request))
        metrics = dict(report["metrics"])
        metrics["events"] = report["events"]
        metrics["run_id"] = report["manifest"]["run_id"]
        result = BacktestResult(
            derived_id("backtests", request.event_id, 0),
            self._runner.now_ns(),
            request.task_id,
            request.event_id,
            request.task_id,
            request.strategy_name,
            RunStatus.COMPLETED,
            metrics,
            report["manifest"]["output_hash"],
            report["folder"],
        )
        self._publish(BACKTEST_RESULTS, result)

    def _check_canceled(self, request: Request) -> None:
        reason = self._canceled.get(request.task_id)
        if reason is not None:
            raise _canceled(reason)

    async def _run(self, request: Request, arguments: list[str]) -> dict[str, Any]:
        """Run a process and return its report; raises Failure."""
        process = await asyncio.create_subprocess_exec(
            *self._command,
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_MAX,
        )
        self._running = (request.task_id, process)
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                output, complaint, code = await self._follow(request, process)
        except TimeoutError as error:
            detail = f"took more than {_TIMEOUT_S:.0f} s"
            raise Failure(RunStatus.FAILED, "timeout", detail) from error
        finally:
            self._running = None
            if process.returncode is None:
                process.kill()
                await process.wait()
        self._check_canceled(request)
        is_compared = isinstance(request, ParityRequest) and process.returncode == 1 and output
        if process.returncode and not is_compared:
            raise _ended(process.returncode, complaint.removeprefix("error: "), code)
        report: dict[str, Any] = json.loads(output)
        return report

    async def _follow(
        self, request: Request, process: asyncio.subprocess.Process
    ) -> tuple[bytes, str, str]:
        """Return what a process says, its last complaint and the code that it gives for it.

        Its progress is published.
        """
        assert process.stdout is not None
        assert process.stderr is not None
        reading = asyncio.create_task(process.stdout.read())
        complaint = code = ""
        try:
            while line := await process.stderr.readline():
                text = line.decode(errors="replace").strip()
                told = _told(text)
                if "done" in told:
                    self._progress(request, RunStatus.RUNNING, told["done"], told["total"])
                elif told:
                    code = told["code"]
                elif text:
                    complaint = text
            return await reading, complaint, code
        finally:
            reading.cancel()
            await process.wait()

    # ---- what is told

    def _progress(
        self, request: Request, status: RunStatus, done: int, total: int, detail: str = ""
    ) -> None:
        self._publish(
            BACKTEST_PROGRESS,
            BacktestProgress(
                derived_id("backtests", f"{request.event_id}|{status}|{detail}", done),
                self._runner.now_ns(),
                request.task_id,
                request.event_id,
                request.task_id,
                status,
                done,
                total,
                detail,
            ),
        )

    def _finish(self, request: Request, failure: Failure) -> None:
        event_id = derived_id("backtests", request.event_id, 0)
        head = (event_id, self._runner.now_ns(), request.task_id, request.event_id)
        if isinstance(request, ParityRequest):
            result: BacktestResult | ParityResult = ParityResult(
                *head,
                request.task_id,
                request.run,
                failure.status,
                detail=failure.detail,
                code=failure.code,
            )
        else:
            result = BacktestResult(
                *head,
                request.task_id,
                request.strategy_name,
                failure.status,
                {"code": failure.code},
                "",
                failure.detail,
            )
        self._publish(BACKTEST_RESULTS, result)

    def _publish(
        self, topic: str, record: BacktestProgress | BacktestResult | ParityResult
    ) -> None:
        self._runner.publish_side(topic, record)


def _canceled(reason: str) -> Failure:
    return Failure(RunStatus.CANCELED, "canceled", reason or "canceled")


def _bound(kept: dict[str, Any]) -> None:
    if len(kept) > _KNOWN_MAX:
        del kept[next(iter(kept))]


def _told(line: str) -> dict[str, Any]:
    """Return what a line says of the progress or of the failure, nothing if it says neither."""
    if not line.startswith(('{"done":', '{"code":')):
        return {}
    try:
        values: dict[str, Any] = json.loads(line)
    except ValueError:
        return {}
    return values if values.keys() in ({"done", "total"}, {"code"}) else {}


def _ended(status: int, detail: str, code: str) -> Failure:
    """Return the failure of a process that ended with ``status``.

    Only status 2 with a word on it is about the request; a process that was killed, or ended in a
    fault of ours, says nothing of it.
    """
    if status == _REFUSED and detail:
        return Failure(RunStatus.FAILED, code or "bad_request", detail)
    how = f"by signal {-status}" if status < 0 else f"with status {status}"
    said = f": {detail}" if detail else ""
    return Failure(RunStatus.FAILED, "backtest_failed", f"its process ended {how}{said}")


def _parity(request: ParityRequest, report: dict[str, Any], now_ns: int) -> ParityResult:
    rerun = report["rerun"]
    against: dict[str, Any] = report.get("backtest_against_live") or {}
    classes = {name: int(found["count"]) for name, found in against.get("classes", {}).items()}
    return ParityResult(
        derived_id("backtests", request.event_id, 0),
        now_ns,
        request.task_id,
        request.event_id,
        request.task_id,
        request.run,
        RunStatus.COMPLETED,
        rerun["records_compared"],
        rerun["differences"],
        rerun["recorded_hash"],
        rerun["rerun_hash"],
        against.get("fills live", 0),
        against.get("fills backtest", 0),
        against.get("equal", 0),
        classes,
        str(report.get("reason", "")),
    )


def refusal_of(request: BacktestRequest, folder: Path) -> str:
    """Return why a request is not run, empty if it may; ``folder`` is the data folder."""
    if "/" in request.strategy_name or ".py:" in request.strategy_name:
        return (
            f"strategy {request.strategy_name!r} is a file: only the command line runs files;"
            " give a strategy its name by an entry point"
        )
    data = request.data
    texts = [request.strategy_name, data, *request.symbols, *request.parameters]
    texts += [value for value in request.parameters.values() if isinstance(value, str)]
    if not all(text.isprintable() for text in texts):
        return "a text of the request has a character that is not printable; leave it out"
    is_outside = not Path(data).resolve().is_relative_to(folder.resolve())
    if data and data not in BUNDLED and is_outside:
        return f"data {data!r} lies outside of the data folder {folder}; import it into there"
    return ""


def _arguments(request: BacktestRequest) -> list[str]:
    """Return the command line of a request; what it says can never become an option."""
    out = [
        "backtest",
        "--json",
        "--progress",
        f"--strategy={request.strategy_name}",
        f"--data={request.data or 'daily'}",
        f"--cash={request.initial_cash}",
        f"--seed={request.seed}",
    ]
    if request.symbols:
        out.append(f"--symbols={','.join(request.symbols)}")
    if request.start_ns is not None:
        out.append(f"--from={format_time(request.start_ns)}")
    if request.end_ns is not None:
        out.append(f"--to={format_time(request.end_ns)}")
    out += [f"--param={name}={value}" for name, value in request.parameters.items()]
    return out
