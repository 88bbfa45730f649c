"""The backtest agent: requests, progress and results are records, each run is a process.

Backtests wait in a bounded queue and run one at a time, so a live run beside them keeps its core.
Whoever can write to the log can ask for one, so a request may name neither a file of code nor data
outside of the data folder: a strategy file and a path are for the command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from infra.settings import data_folder
from infra.times import format_time
from schemas.control import BacktestProgress, BacktestRequest, BacktestResult
from schemas.enums import RunStatus
from schemas.identifiers import derived_id
from schemas.topics import BACKTEST_PROGRESS, BACKTEST_REQUESTS, BACKTEST_RESULTS
from streams.datasets import BUNDLED
from streams.log import Published, SideLog

_QUEUE_MAX = 32
_TIMEOUT_S = 3600.0


class BacktestAgent:
    """Listens for requests on a run's log and publishes what became of them."""

    def __init__(self, runner: SideLog) -> None:
        self._runner = runner
        self._queue: asyncio.Queue[BacktestRequest] = asyncio.Queue(_QUEUE_MAX)
        self._unlisten = runner.listen(self._on_published)
        self._task = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Stop at once; a running backtest is killed and leaves nothing behind."""
        self._unlisten()
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    def _on_published(self, published: Sequence[Published]) -> None:
        for item in published:
            if item.topic == BACKTEST_REQUESTS and isinstance(item.record, BacktestRequest):
                try:
                    self._queue.put_nowait(item.record)
                except asyncio.QueueFull:
                    self._finish(
                        item.record,
                        RunStatus.FAILED,
                        {"code": "busy"},
                        "",
                        "too many backtests are waiting",
                    )
                else:
                    self._progress(item.record, RunStatus.QUEUED)

    async def _work(self) -> None:
        while True:
            request = await self._queue.get()
            self._progress(request, RunStatus.RUNNING)
            try:
                await self._run(request)
            except (OSError, ValueError) as error:
                # No process, no memory, an answer that is no JSON: the next request may do better.
                detail = f"the backtest could not be run: {error}"
                self._finish(request, RunStatus.FAILED, {"code": "backtest_failed"}, "", detail)

    async def _run(self, request: BacktestRequest) -> None:
        refusal = refusal_of(request, data_folder())
        if refusal:
            self._finish(request, RunStatus.FAILED, {"code": "bad_request"}, "", refusal)
            return
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "infra",
            *_arguments(request),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                output, complaint = await process.communicate()
        except TimeoutError:
            self._finish(
                request,
                RunStatus.FAILED,
                {"code": "timeout"},
                "",
                f"took more than {_TIMEOUT_S:.0f} s",
            )
            return
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode:
            text = complaint.decode(errors="replace").strip().splitlines()
            detail = text[-1].removeprefix("error: ") if text else "failed"
            self._finish(request, RunStatus.FAILED, {"code": _code(detail)}, "", detail)
            return
        report: dict[str, Any] = json.loads(output)
        metrics = dict(report["metrics"])
        metrics["events"] = report["events"]
        self._finish(
            request,
            RunStatus.COMPLETED,
            metrics,
            report["manifest"]["output_hash"],
            report["folder"],
        )

    def _progress(self, request: BacktestRequest, status: RunStatus) -> None:
        event_id = derived_id("backtests", f"{request.event_id}|{status}", 0)
        self._runner.publish_side(
            BACKTEST_PROGRESS,
            BacktestProgress(
                event_id,
                self._runner.now_ns(),
                request.task_id,
                request.event_id,
                request.task_id,
                status,
                0,
                0,
            ),
        )

    def _finish(
        self,
        request: BacktestRequest,
        status: RunStatus,
        metrics: dict[str, Any],
        output_hash: str,
        detail: str,
    ) -> None:
        self._runner.publish_side(
            BACKTEST_RESULTS,
            BacktestResult(
                derived_id("backtests", request.event_id, 0),
                self._runner.now_ns(),
                request.task_id,
                request.event_id,
                request.task_id,
                request.strategy_name,
                status,
                metrics,
                output_hash,
                detail,
            ),
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


def _code(detail: str) -> str:
    """Return the stable code of a failure from its text."""
    if "strategy" in detail and "not found" in detail:
        return "not_found"
    if "range" in detail or "no data" in detail:
        return "no_data"
    return "bad_request"
