"""Backtests by task id: asked for, how far, and what came out."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from schemas.control import BacktestProgress, BacktestRequest, BacktestResult
from schemas.enums import RunStatus

_FINISHED = frozenset({RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED})


class BacktestRow(msgspec.Struct, kw_only=True):
    """One backtest; what has not been said yet is None."""

    task_id: str
    request: BacktestRequest | None = None
    progress: BacktestProgress | None = None
    result: BacktestResult | None = None

    @property
    def status(self) -> RunStatus:
        """How far it has come."""
        if self.result is not None:
            return self.result.status
        return self.progress.status if self.progress is not None else RunStatus.QUEUED


class Backtests:
    """Backtests in the order they were asked for; the oldest finished ones leave in time."""

    def __init__(self, rows_max: int) -> None:
        self._rows_max = rows_max
        self.rows: dict[str, BacktestRow] = {}

    def on_request(self, request: BacktestRequest) -> None:
        """Take in a request."""
        self._row(request.task_id).request = request

    def on_progress(self, progress: BacktestProgress) -> None:
        """Take in progress."""
        self._row(progress.task_id).progress = progress

    def on_result(self, result: BacktestResult) -> None:
        """Take in a result."""
        self._row(result.task_id).result = result

    def newest_first(self, strategy_name: str = "") -> Iterator[BacktestRow]:
        """Yield finished backtests, the newest first, of one strategy if it is named."""
        for row in reversed(self.rows.values()):
            result = row.result
            if result is not None and strategy_name in ("", result.strategy_name):
                yield row

    def run_of(self, task_id: str) -> str:
        """Return the id of the run that a finished backtest made, empty if there is none."""
        row = self.rows.get(task_id)
        if row is None or row.result is None:
            return ""
        return str(row.result.metrics.get("run_id") or "")

    def _row(self, task_id: str) -> BacktestRow:
        row = self.rows.get(task_id)
        if row is None:
            row = self.rows[task_id] = BacktestRow(task_id=task_id)
            if len(self.rows) > self._rows_max:
                done = next((k for k, r in self.rows.items() if r.status in _FINISHED), None)
                if done is not None:
                    del self.rows[done]
        return row
