"""Backtests: asked for by a record, run by whoever listens for it, answered by a record."""

from __future__ import annotations

from heapq import nlargest
from typing import Annotated, Any
from urllib.parse import quote

import msgspec
from msgspec import Meta

from schemas.control import (
    BacktestCancel,
    BacktestProgress,
    BacktestResult,
)
from schemas.enums import RunStatus
from schemas.errors import ConfigError
from schemas.topics import BACKTEST_REQUESTS, BACKTEST_RESULTS
from streams.cursors import read_cursor, write_cursor
from web.answers import backtests as answers
from web.context import Context
from web.history import stored
from web.problems import ProblemError, not_found
from web.route_table import Call, NoQuery, Reply, Route
from web.routes.backtest_requests import RunRequest, failure_of, request_of
from web.routes.backtest_results import FIRST, ask
from web.routes.pages import bad_cursor
from web.scopes import BACKTEST, READ
from web.stored_backtests import row_of, stored_backtest
from web.times import format_time
from web.views.backtests import BacktestRow, Said
from web.waiting import within

_REFUSAL_S = 1.0
"""Whoever runs backtests has looked at a request by then, though others wait before it."""

_QUESTION = "backtests"
"""As the database calls it, so that one cursor holds for both."""


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the history; ``cursor`` is that of the page before."""

    strategy_name: str = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    cursor: str | None = None


class CancelRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why a backtest is given up."""

    reason: Annotated[str, Meta(max_length=500)] = ""


async def run_backtest(
    context: Context, call: Call[NoQuery, RunRequest]
) -> answers.BacktestMetrics | Reply:
    """Run a backtest and wait for its metrics; 202 with Location if it takes too long.

    Fees, slippage and latency are those of ``venue``, bounds those of ``limits``: without them
    there are none. Settings and limits of the running engine do not apply; the account is one of
    the kind ``REG_T``. 409 if it
    is given up meanwhile, 503 if too many wait or what runs it is stopped.

    `data` is `daily`, `demo`, or a path within the data folder such as `sets/acme`.
    """
    request = request_of(context, call.body, call.operator)
    with context.waiters.expect(BACKTEST_RESULTS, request.task_id) as answer:
        await ask(context, request)
        result = await within(answer, context.settings.backtest_timeout_s)
    if result is None:
        location = f"/api/backtest/{request.task_id}"
        return Reply(
            202, answers.BacktestStarted(request.task_id, "running"), {"Location": location}
        )
    assert isinstance(result, BacktestResult)
    if result.status is not RunStatus.COMPLETED:
        raise failure_of(result, call.body)
    return _metrics(result)


async def start_backtest(
    context: Context, call: Call[NoQuery, RunRequest]
) -> answers.BacktestStarted:
    """Start a backtest; its end is announced on the WebSocket topic ``backtest.results.v1``.

    It costs what ``venue`` says, as that of ``POST /api/backtest/run`` does. What cannot be run is
    refused at once: 404 for a strategy that there is not, 422 for parameters of a built-in one,
    symbols, dates, limits and settings of the venue; 503 while too many wait, of which no record is
    made. What a strategy of your own, or a file, turns out not to be fit for is the result of the
    task.
    """
    request = request_of(context, call.body, call.operator)
    rows = context.views.backtests.rows

    def is_told() -> bool:
        row = rows.get(request.task_id)
        return row is not None and row.status is not RunStatus.QUEUED

    await ask(context, request)
    await context.waiters.until(is_told, _REFUSAL_S)
    row = rows.get(request.task_id)
    if row is not None and row.result is not None and row.status is RunStatus.FAILED:
        raise failure_of(row.result, call.body)
    return answers.BacktestStarted(request.task_id, "started")


async def get_history(context: Context, call: Call[HistoryQuery, None]) -> answers.BacktestHistory:
    """List finished backtests, the newest first: of all runs where there is a database.

    While that is away, a page that memory fills is answered all the same.
    """
    query = call.query
    try:
        before = read_cursor(_QUESTION, query.cursor or "", int, str, str)
    except ConfigError as error:
        raise bad_cursor(query.cursor or "") from error
    if query.cursor == "":
        raise bad_cursor(query.cursor)
    rows, is_more = _in_memory(context, query, before), False
    if context.history is not None:
        question = context.history.backtests(
            query.strategy_name, query.limit, query.cursor or "", ""
        )
        try:
            found = await stored(question)
        except ProblemError as problem:
            if problem.status != 503 or len(rows) < query.limit:
                raise
            is_more = True
        else:
            known = {row.task_id for row in rows}
            older = (row_of(item) for item in found.items)
            rows = sorted(
                [*rows, *(row for row in older if row.task_id not in known)],
                key=_place,
                reverse=True,
            )
            is_more = bool(found.cursor)
    shown = rows[: query.limit]
    cursor = None
    if shown and (is_more or len(rows) > query.limit):
        cursor = write_cursor(_QUESTION, [*_place(shown[-1]), ""])
    return answers.BacktestHistory([_state(row) for row in shown], len(shown), cursor)


def _in_memory(
    context: Context, query: HistoryQuery, before: tuple[Any, ...] | None
) -> list[BacktestRow]:
    """Return the rows of a page and the one behind it, as far as memory has them.

    Raises ProblemError (422) for a place that memory does not know, if there is nothing but memory.
    """
    finished = list(context.views.backtests.newest_first())
    is_alone = context.history is None
    if is_alone and before is not None and before[:2] not in {_place(row) for row in finished}:
        # An empty page would look like the end.
        raise bad_cursor(query.cursor or "")
    wanted = [
        row
        for row in finished
        if query.strategy_name in ("", row.strategy_name)
        and (before is None or _place(row) < before[:2])
    ]
    return nlargest(query.limit + 1, wanted, key=_place)


def _place(row: BacktestRow) -> tuple[int, str]:
    """Return the place of a finished backtest in the history, in memory and in the database."""
    assert row.result is not None  # it is finished
    return _finished_ns(row.result), row.result.event_id


def _finished_ns(result: BacktestResult) -> int:
    """Return when a backtest finished, by the wall clock if that was noted."""
    return result.finished_ns or result.ts_event_ns


async def get_backtest(context: Context, call: Call[NoQuery, None]) -> answers.BacktestState:
    """Return how far one backtest has come, with its result once there is one."""
    return _state(await _known(context, call))


async def get_progress(context: Context, call: Call[NoQuery, None]) -> answers.BacktestState:
    """Return how far one backtest has come, without its figures."""
    state = _state(await _known(context, call))
    state.result = None
    return state


async def get_log(context: Context, call: Call[NoQuery, None]) -> answers.BacktestLog:
    """Return what was said about one backtest, in order.

    Times are those of the market of the run that answers, in a replay the replayed ones, not the
    wall clock's.
    """
    row = await _known(context, call)
    return answers.BacktestLog(row.task_id, [_line(said) for said in row.log])


async def cancel_backtest(
    context: Context, call: Call[NoQuery, CancelRequest]
) -> answers.BacktestState | Reply:
    """Give up a backtest that waits or runs; answers once it has ended, 202 if that is late."""
    row = await _known(context, call)
    if row.result is not None:
        raise ProblemError(
            409, "already_finished", f"backtest {row.task_id} is {row.status}; nothing to give up"
        )
    cancel = BacktestCancel(
        event_id=f"web:{context.ids()}",
        ts_event_ns=context.log.now_ns(),
        correlation_id=row.task_id,
        task_id=row.task_id,
        operator=call.operator,
        reason=call.body.reason,
    )
    await context.publish(BACKTEST_REQUESTS, cancel, "the backtest goes on as far as is known")
    is_over = await context.waiters.until(
        lambda: row.result is not None, context.settings.receipt_timeout_s
    )
    state = _state(row)
    location = f"/api/backtest/{quote(row.task_id, safe='')}"
    return state if is_over else Reply(202, state, {"Location": location})


async def _known(context: Context, call: Call[Any, Any]) -> BacktestRow:
    """Return a backtest by its task; raises ProblemError (404)."""
    task_id = call.path["task_id"]
    row = context.views.backtests.rows.get(task_id)
    if row is not None:
        return row
    row = await stored_backtest(context.history, task_id)
    if row is not None:
        return row
    raise not_found("backtest", task_id, "GET /api/backtest/history lists finished ones")


def _line(said: Said) -> answers.LogLine:
    done = total = None
    if isinstance(said, BacktestProgress):
        done, total, status, detail = said.events_done, said.events_total, said.status, said.detail
    elif isinstance(said, BacktestResult):
        status, detail = said.status, said.detail
    elif isinstance(said, BacktestCancel):
        status, detail = RunStatus.CANCELED, said.reason
    else:
        status, detail = RunStatus.QUEUED, said.strategy_name
    return answers.LogLine(
        format_time(said.ts_event_ns),
        said.ts_event_ns,
        str(said.__struct_config__.tag),
        status,
        done,
        total,
        detail,
    )


def _metrics(result: BacktestResult) -> answers.BacktestMetrics:
    values = result.metrics

    def figure(name: str) -> float | None:
        value = values.get(name)
        return value if isinstance(value, (int, float)) else None

    trades = values.get("total_trades")
    return answers.BacktestMetrics(
        result.task_id,
        result.strategy_name,
        result.status,
        figure("sharpe_ratio"),
        figure("max_drawdown_pct"),
        figure("total_return_pct"),
        trades if isinstance(trades, int) else None,
        figure("win_rate"),
        result.output_hash,
        values,
        format_time(_finished_ns(result)),
        _finished_ns(result),
        result.warnings,
    )


def _state(row: BacktestRow) -> answers.BacktestState:
    result, progress = row.result, row.progress
    told = result or progress
    is_complete = result is not None and result.status is RunStatus.COMPLETED
    return answers.BacktestState(
        row.task_id,
        row.run_id or None,
        row.strategy_name or None,
        row.status,
        told.detail if told else "",
        progress.events_done if progress else None,
        progress.events_total if progress else None,
        _metrics(result) if result is not None and is_complete else None,
    )


def _of_task(path: str, handler: Any, answer: Any, summary: str) -> Route:
    return Route(
        "GET",
        f"/api/backtest/{{task_id}}{path}",
        handler,
        answer,
        READ,
        summary,
        "backtests",
        errors=(404, 503),
        example=f"/api/backtest/task-1{path}",
    )


_ASKED = (400, 413, 503)
_EXAMPLE = {
    "strategy_name": "momentum_crossover",
    "start_date": "2014-01-01T00:00:00Z",
    "end_date": "2020-12-31T23:59:59Z",
    "initial_capital": 10000.0,
}
ROUTES = (
    Route(
        "POST",
        "/api/backtest/run",
        run_backtest,
        answers.BacktestMetrics,
        BACKTEST,
        "Run a backtest",
        "backtests",
        body=RunRequest,
        answers={202: answers.BacktestStarted},
        errors=(*_ASKED, 404, 409),
        example_body=_EXAMPLE,
    ),
    Route(
        "POST",
        "/api/backtest/run-async",
        start_backtest,
        answers.BacktestStarted,
        BACKTEST,
        "Start a backtest",
        "backtests",
        body=RunRequest,
        errors=(*_ASKED, 404),
        example_body=_EXAMPLE,
    ),
    Route(
        "GET",
        "/api/backtest/history",
        get_history,
        answers.BacktestHistory,
        READ,
        "Finished backtests",
        "backtests",
        query=HistoryQuery,
        errors=(503,),
        example="/api/backtest/history?strategy_name=momentum_crossover&limit=5",
    ),
    *FIRST,
    _of_task("", get_backtest, answers.BacktestState, "One backtest"),
    _of_task("/progress", get_progress, answers.BacktestState, "How far it has come"),
    _of_task("/log", get_log, answers.BacktestLog, "What was said about it"),
    Route(
        "POST",
        "/api/backtest/{task_id}/cancel",
        cancel_backtest,
        answers.BacktestState,
        BACKTEST,
        "Give up a backtest",
        "backtests",
        body=CancelRequest,
        answers={202: answers.BacktestState},
        errors=(400, 404, 409, 413, 503),
        example="/api/backtest/task-2/cancel",
        example_body={"reason": "wrong dates"},
    ),
)
