"""Backtests that memory does not know any more, as the database tells of them."""

from __future__ import annotations

from collections import deque

from streams.history import History, StoredBacktest
from web.history import stored
from web.views.backtests import BacktestRow


def row_of(item: StoredBacktest) -> BacktestRow:
    """Return a stored backtest as memory would hold it; what was said about it is not stored."""
    return BacktestRow(
        task_id=item.result.task_id, log=deque(), request=item.request, result=item.result
    )


async def stored_backtest(history: History | None, task_id: str) -> BacktestRow | None:
    """Return a finished backtest by its task, None if it is not stored or there is no database.

    Raises ProblemError (503) while the database is away.
    """
    if history is None:
        return None
    found = await stored(history.backtest(task_id))
    return row_of(found) if found is not None else None
