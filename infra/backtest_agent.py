"""The backtest agent: requests, progress and results are records, each run is a process.

Backtests wait in a bounded queue and run one at a time, so a live run beside them keeps its core.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from typing import Any

from agents.runners.local import LocalRunner
from infra.times import format_time
from schemas.control import BacktestProgress, BacktestRequest, BacktestResult
from schemas.enums import RunStatus
from schemas.identifiers import derived_id
from schemas.topics import BACKTEST_PROGRESS, BACKTEST_REQUESTS, BACKTEST_RESULTS
from streams.log import Published

_QUEUE_MAX = 32
_TIMEOUT_S = 3600.0


class BacktestAgent:
    """Listens for requests on a run's log and publishes what became of them."""

    def __init__(self, runner: LocalRunner) -> None:
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
            await self._run(request)

    async def _run(self, request: BacktestRequest) -> None:
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


def _arguments(request: BacktestRequest) -> list[str]:
    """Return the command line of a request."""
    out = [
        "backtest",
        "--json",
        "--strategy",
        request.strategy_name,
        "--data",
        request.data or "daily",
        "--cash",
        request.initial_cash,
        "--seed",
        str(request.seed),
    ]
    if request.symbols:
        out += ["--symbols", ",".join(request.symbols)]
    if request.start_ns is not None:
        out += ["--from", format_time(request.start_ns)]
    if request.end_ns is not None:
        out += ["--to", format_time(request.end_ns)]
    for name, value in request.parameters.items():
        out += ["--param", f"{name}={value}"]
    return out


def _code(detail: str) -> str:
    """Return the stable code of a failure from its text."""
    if "strategy" in detail and "not found" in detail:
        return "not_found"
    if "range" in detail or "no data" in detail:
        return "no_data"
    return "bad_request"
