"""Backtests by task id: asked for, how far, and what came out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import PurePath
from typing import Any

import msgspec

from schemas.control import (
    BacktestCancel,
    BacktestProgress,
    BacktestRequest,
    BacktestResult,
    ParityRequest,
    ParityResult,
)
from schemas.enums import RunStatus

_FINISHED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED})


_LOG_MAX = 200
_ON_WAY_S = 60.0
"""What was published and is not heard of by then does not come."""

INTERRUPTED = "interrupted"
"""The code of a result that an agent gives for another, of which it has heard nothing any more."""

Said = BacktestRequest | BacktestCancel | BacktestProgress | BacktestResult


class BacktestRow(msgspec.Struct, kw_only=True):
    """One backtest; what has not been said yet is None. ``log`` is what was said, in order.

    ``agent`` is the one whose claim came first.
    """

    task_id: str
    log: deque[Said]
    request: BacktestRequest | None = None
    progress: BacktestProgress | None = None
    result: BacktestResult | None = None
    agent: str = ""

    @property
    def status(self) -> RunStatus:
        """How far it has come."""
        if self.result is not None:
            return self.result.status
        return self.progress.status if self.progress is not None else RunStatus.QUEUED

    @property
    def strategy_name(self) -> str:
        """The strategy, empty while nothing named it."""
        if self.result is not None:
            return self.result.strategy_name
        return self.request.strategy_name if self.request is not None else ""

    @property
    def run_id(self) -> str:
        """The run that it made, empty if there is none."""
        if self.result is None or self.result.status is not RunStatus.COMPLETED:
            return ""
        # Results of before the id was among the metrics name the run's folder.
        return str(self.result.metrics.get("run_id") or PurePath(self.result.detail).name)


class Backtests:
    """Backtests in the order they were asked for; the oldest finished ones leave in time."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self.rows: dict[str, BacktestRow] = {}
        self.parity_requests: dict[str, ParityRequest] = {}
        self.parity_agents: dict[str, str] = {}
        self.parity_results: dict[str, ParityResult] = {}
        self._on_way: dict[str, float] = {}

    # ---- places

    def unfinished(self, now_s: float) -> int:
        """Return how many run, wait or are on their way; ``now_s`` is by a clock that only goes."""
        self._on_way = {
            task_id: at_s
            for task_id, at_s in self._on_way.items()
            if not self._is_known(task_id) and now_s - at_s < _ON_WAY_S
        }
        rows = sum(row.request is not None and row.result is None for row in self.rows.values())
        return rows + len(self.parity_requests.keys() - self.parity_results) + len(self._on_way)

    def take_place(self, task_id: str, now_s: float) -> None:
        """Count a request that is about to be published."""
        self._on_way[task_id] = now_s

    def leave_place(self, task_id: str) -> None:
        """Count a request no more that was not published."""
        self._on_way.pop(task_id, None)

    def _is_known(self, task_id: str) -> bool:
        return task_id in self.rows or task_id in self.parity_requests

    # ---- records

    def on_request(self, request: BacktestRequest | BacktestCancel | ParityRequest) -> None:
        """Take in a request, a cancel of one, or a request for a comparison."""
        if isinstance(request, ParityRequest):
            self.parity_requests[request.task_id] = request
            _bound(self.parity_requests, self._rows_max)
            return
        row = self._row(request.task_id)
        row.log.append(request)
        if isinstance(request, BacktestRequest):
            row.request = request

    def on_progress(self, progress: BacktestProgress) -> None:
        """Take in progress; a late claim of a second agent is no step back."""
        if progress.task_id in self.parity_requests:
            if progress.status is RunStatus.QUEUED:
                self.parity_agents.setdefault(progress.task_id, progress.detail)
                _bound(self.parity_agents, self._rows_max)
            return
        row = self._row(progress.task_id)
        if progress.status is RunStatus.QUEUED and row.progress is not None:
            return
        if progress.status is RunStatus.QUEUED:
            row.agent = progress.detail
        row.log.append(progress)
        row.progress = progress

    def on_result(self, result: BacktestResult | ParityResult) -> None:
        """Take in a result; who was only silent knows better than whoever gave it up."""
        if isinstance(result, ParityResult):
            if result.code == INTERRUPTED and result.task_id in self.parity_results:
                return
            self.parity_results[result.task_id] = result
            _bound(self.parity_results, self._rows_max)
            return
        row = self._row(result.task_id)
        row.log.append(result)
        if row.result is None or result.metrics.get("code") != INTERRUPTED:
            row.result = result

    def newest_first(self) -> Iterator[BacktestRow]:
        """Yield finished backtests, the newest first."""
        return (row for row in reversed(self.rows.values()) if row.result is not None)

    def run_of(self, task_id: str) -> str:
        """Return the id of the run that a finished backtest made, empty if there is none."""
        row = self.rows.get(task_id)
        return row.run_id if row is not None else ""

    def _row(self, task_id: str) -> BacktestRow:
        row = self.rows.get(task_id)
        if row is None:
            row = self.rows[task_id] = BacktestRow(task_id=task_id, log=deque(maxlen=_LOG_MAX))
            if len(self.rows) > self._rows_max:
                done = next((k for k, r in self.rows.items() if r.status in _FINISHED), None)
                if done is not None:
                    del self.rows[done]
        return row


def _bound(kept: dict[str, Any], most: int) -> None:
    if len(kept) > most:
        del kept[next(iter(kept))]
