"""The backtest agent: requests, progress and results are records, each run is a process.

Backtests wait in a bounded queue and run one at a time, so a live run beside them keeps its core.
Where several agents hear one log, the first whose claim stands on it runs the request. One that
stops says so of what it leaves; one that dies is missed by the others, or by itself at its next
start: every request ends in a result.
Whoever can write to the log can ask for one, so a request may name neither a file of code nor data
outside of the data folder: a strategy file and a path are for the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import re
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from infra.backtest_process import (
    Failure,
    arguments_of,
    ended,
    parity_result,
    refused,
    told,
    unfit,
)
from infra.settings import data_folder
from schemas.control import (
    BacktestCancel,
    BacktestProgress,
    BacktestRequest,
    BacktestResult,
    ParityRequest,
    ParityResult,
)
from schemas.enums import RunStatus
from schemas.errors import ConfigError, MillraceError
from schemas.identifiers import derived_id
from schemas.topics import BACKTEST_PROGRESS, BACKTEST_REQUESTS, BACKTEST_RESULTS
from streams.log import Published, SideLog
from web.settings import BACKTESTS_WAITING_MAX

_log = logging.getLogger(__name__)
_KNOWN_MAX = 10_000
_TIMEOUT_S = 3600.0
_LINE_MAX = 65_536
_BEAT_S = 10.0
_SILENCE_S = 60.0
_RUN_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,199}")

Request = BacktestRequest | ParityRequest


class Asked(msgspec.Struct):
    """A request without a result: which agent's claim came first, and when it was heard of last.

    ``heard_s`` is by the clock of the event loop.
    """

    request: Request
    agent: str = ""
    heard_s: float = 0.0


class BacktestAgent:
    """Listens for requests on a run's log and publishes what became of them.

    ``name`` is unique among the agents of a log: one of the same name takes over what another has
    left. ``command`` is the program that runs one, ``wall_ns`` the wall clock (int64 ns UTC). What
    runs is heard of every ``beat_s``; a request of which, and of whose agent, nothing was heard
    for ``silence_s`` is taken for lost.
    """

    def __init__(
        self,
        runner: SideLog,
        name: str = "local",
        command: Sequence[str] = (sys.executable, "-m", "infra.leashed"),
        *,
        wall_ns: Callable[[], int] = time.time_ns,
        beat_s: float = _BEAT_S,
        silence_s: float = _SILENCE_S,
    ) -> None:
        self._runner = runner
        self._name = name
        self._command = tuple(command)
        self._queue: dict[str, Request] = {}
        self._looks: dict[str, asyncio.Task[None]] = {}
        self._has_work = asyncio.Event()
        self._wall_ns = wall_ns
        self._beat_s = beat_s
        self._silence_s = silence_s
        self._now_s = asyncio.get_running_loop().time
        self._asked: dict[str, Asked] = {}
        self._claimed: dict[str, None] = {}
        self._canceled: dict[str, str] = {}
        self._taken: Request | None = None
        self._running: tuple[str, asyncio.subprocess.Process] | None = None
        self._done = (0, 0)
        self._beats = 0
        self._unlisten = runner.listen(self._on_published)
        self._tasks = [asyncio.create_task(self._work()), asyncio.create_task(self._watch())]

    @property
    def waiting(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    @property
    def running(self) -> str:
        """The task that runs now, empty if none does."""
        return self._running[0] if self._running is not None else ""

    def take_over(self, left: Iterable[Asked]) -> None:
        """Take in the requests that stand on the log without a result, at the start.

        Those that an agent of this name claimed are nobody's any more; of the others it is waited
        whether anything is heard.
        """
        for asked in left:
            task_id = asked.request.task_id
            if task_id in self._asked:
                continue
            if asked.agent == self._name:
                self._finish(asked.request, _interrupted(asked.agent))
            else:
                asked.heard_s = self._now_s()
                self._asked[task_id] = asked
                _bound(self._asked)

    async def stop(self) -> None:
        """Stop at once; what runs is killed, and it and what waits end as interrupted."""
        self._unlisten()
        left = [self._taken] if self._taken is not None else []
        left += self._queue.values()
        self._queue.clear()
        tasks = [*self._tasks, *self._looks.values()]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for request in left:
            self._finish(request, _interrupted(self._name))

    # ---- the log

    def _on_published(self, published: Sequence[Published]) -> None:
        for item in published:
            record = item.record
            if item.topic == BACKTEST_REQUESTS:
                if isinstance(record, BacktestCancel):
                    self._on_cancel(record)
                elif isinstance(record, (BacktestRequest, ParityRequest)):
                    self._on_request(record)
            elif isinstance(record, BacktestProgress):
                self._on_progress(record)
            elif isinstance(record, (BacktestResult, ParityResult)):
                self._asked.pop(record.task_id, None)

    def _on_request(self, request: Request) -> None:
        if request.task_id in self._claimed or request.task_id in self._asked:
            return
        self._asked[request.task_id] = Asked(request, heard_s=self._now_s())
        _bound(self._asked)
        self._progress(request, RunStatus.QUEUED, 0, 0, self._name)

    def _on_progress(self, progress: BacktestProgress) -> None:
        asked = self._asked.get(progress.task_id)
        if asked is None:
            return
        if progress.status is not RunStatus.QUEUED:
            # Whoever tells of one backtest has not forgotten those that wait behind it.
            for other in self._asked.values():
                if other is asked or (asked.agent and other.agent == asked.agent):
                    other.heard_s = self._now_s()
        elif not asked.agent:
            asked.agent, asked.heard_s = progress.detail, self._now_s()
            self._claimed[progress.task_id] = None
            _bound(self._claimed)
            if asked.agent == self._name:
                self._on_claimed(asked.request)

    def _on_claimed(self, request: Request) -> None:
        if request.task_id in self._canceled:
            self._finish(request, _canceled(self._canceled[request.task_id]))
            return
        if isinstance(request, BacktestRequest) and (failure := _refused(request)):
            # At once: who asks for what cannot be had waits behind nobody.
            self._finish(request, failure)
            return
        if len(self._queue) >= BACKTESTS_WAITING_MAX:
            # Two web apps may have let in one too many.
            busy = Failure(RunStatus.FAILED, "busy", "too many backtests are waiting")
            self._finish(request, busy)
            return
        self._queue[request.task_id] = request
        if isinstance(request, BacktestRequest):
            self._looks[request.task_id] = asyncio.create_task(self._look(request))
        self._has_work.set()

    async def _look(self, request: BacktestRequest) -> None:
        """Refuse a request while it waits, if that can be known without a process."""
        failure = None
        with contextlib.suppress(
            MillraceError, OSError, ValueError, LookupError, TypeError, ArithmeticError
        ):
            # Its process meets the same, and says it.
            failure = await asyncio.to_thread(unfit, request, data_folder())
        del self._looks[request.task_id]
        if failure is not None and self._queue.pop(request.task_id, None) is not None:
            self._finish(request, failure)

    def _on_cancel(self, cancel: BacktestCancel) -> None:
        self._canceled[cancel.task_id] = cancel.reason
        _bound(self._canceled)
        waiting = self._queue.pop(cancel.task_id, None)
        if waiting is not None:
            # At once, not at its turn: its place is for another.
            self._finish(waiting, _canceled(cancel.reason))
        if self._running is not None and self._running[0] == cancel.task_id:
            with contextlib.suppress(ProcessLookupError):
                self._running[1].kill()

    # ---- work

    async def _work(self) -> None:
        while True:
            while not self._queue:
                self._has_work.clear()
                await self._has_work.wait()
            task_id = next(iter(self._queue))
            if look := self._looks.get(task_id):
                await look
                continue
            request = self._taken = self._queue.pop(task_id)
            try:
                await self._take(request)
            except Failure as failure:
                self._finish(request, failure)
            except (OSError, ValueError, LookupError, TypeError) as error:
                # No process, no memory, no report in the answer: the next request may do better.
                detail = f"the backtest could not be run: {error!r}"
                self._finish(request, Failure(RunStatus.FAILED, "backtest_failed", detail))
            self._taken = None

    async def _watch(self) -> None:
        """Let others hear of what runs, and end what others have left."""
        while True:
            await asyncio.sleep(self._beat_s)
            if self._taken is not None and self._running is not None:
                self._beats += 1
                self._progress(self._taken, RunStatus.RUNNING, *self._done, beat=self._beats)
            silent_since_s = self._now_s() - self._silence_s
            for asked in list(self._asked.values()):
                if asked.agent != self._name and asked.heard_s < silent_since_s:
                    self._asked.pop(asked.request.task_id)
                    self._finish(asked.request, _interrupted(asked.agent))

    async def _take(self, request: Request) -> None:
        self._check_canceled(request)
        self._progress(request, RunStatus.RUNNING, 0, 0)
        if isinstance(request, ParityRequest):
            if _RUN_ID.fullmatch(request.run) is None:
                raise Failure(RunStatus.FAILED, "bad_request", "that is no id of a run")
            report = await self._run(request, ["parity", "--json", request.run])
            self._publish(BACKTEST_RESULTS, parity_result(request, report, self._runner.now_ns()))
            return
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
            self._wall_ns(),
            report["warnings"],
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
            stdin=asyncio.subprocess.PIPE,  # its end is ours: see infra/leashed.py
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=_LINE_MAX,
        )
        self._running, self._done = (request.task_id, process), (0, 0)
        try:
            self._check_canceled(request)  # it may have come while the process began
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
            raise ended(process.returncode, complaint.removeprefix("error: "), code)
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
                said = told(text)
                if "done" in said:
                    self._done = said["done"], said["total"]
                    self._progress(request, RunStatus.RUNNING, *self._done)
                elif said:
                    code = said["code"]
                elif text:
                    complaint = text
            output = await reading
            await process.wait()
            return output, complaint, code
        finally:
            reading.cancel()

    # ---- what is told

    def _progress(
        self,
        request: Request,
        status: RunStatus,
        done: int,
        total: int,
        detail: str = "",
        beat: int = 0,
    ) -> None:
        # A record that is said again has an id of its own, or it would be passed over.
        said = f"{detail}|{beat}" if beat else detail
        self._publish(
            BACKTEST_PROGRESS,
            BacktestProgress(
                derived_id("backtests", f"{request.event_id}|{status}|{said}", done),
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
        # The result of an agent that was only silent may still come, and then counts.
        event_id = derived_id("backtests", request.event_id, int(failure.code == "interrupted"))
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
                self._wall_ns(),
            )
        self._publish(BACKTEST_RESULTS, result)

    def _publish(
        self, topic: str, record: BacktestProgress | BacktestResult | ParityResult
    ) -> None:
        self._runner.publish_side(topic, record)


def _refused(request: BacktestRequest) -> Failure | None:
    """Return how a request ends that is not run; no request may end the engine that looks at it."""
    try:
        return refused(request, data_folder())
    except (OSError, ValueError, LookupError, TypeError, ArithmeticError, RuntimeError) as error:
        _log.exception("backtest %s cannot be looked at", request.task_id)
        return Failure(RunStatus.FAILED, "bad_request", f"it cannot be looked at: {error}")


def _arguments(request: BacktestRequest) -> list[str]:
    try:
        return arguments_of(request, data_folder())
    except ConfigError as error:
        raise Failure(RunStatus.FAILED, "bad_request", str(error)) from error


def _canceled(reason: str) -> Failure:
    return Failure(RunStatus.CANCELED, "canceled", reason or "canceled")


def _interrupted(agent: str) -> Failure:
    detail = f"the process of backtest agent {agent!r} ended before it; ask again"
    if not agent:
        detail = "no backtest agent has taken it; ask again"
    return Failure(RunStatus.FAILED, "interrupted", detail)


def _bound(kept: dict[str, Any]) -> None:
    if len(kept) > _KNOWN_MAX:
        del kept[next(iter(kept))]
