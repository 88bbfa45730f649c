"""Backtests: asked for by a record, run by whoever listens for it, answered by a record."""

from __future__ import annotations

from decimal import Decimal
from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.control import BacktestRequest, BacktestResult
from schemas.enums import RunStatus
from schemas.topics import BACKTEST_REQUESTS, BACKTEST_RESULTS
from schemas.values import decimal_text
from web.answers import backtests as answers
from web.context import Context
from web.problems import FieldError, ProblemError, invalid, not_found
from web.route_table import Call, NoQuery, Reply, Route
from web.times import format_time, parse_time
from web.views.backtests import BacktestRow
from web.waiting import within

_STATUS_BY_CODE = {
    "not_found": 404,
    "no_data": 422,
    "bad_request": 422,
    "busy": 503,
    "timeout": 503,
}
Name = Annotated[str, Meta(min_length=1, max_length=100)]


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A backtest; dates are RFC 3339 times or plain dates, and a plain ``end_date`` is included.

    ``strategy_name`` is built in or of an entry point; ``data`` is a bundled set or a path within
    the data folder, without it the bundled daily bars; ``symbols`` chooses among its instruments.
    """

    strategy_name: Name
    start_date: str
    end_date: str
    initial_capital: Annotated[Decimal, Meta(extra_json_schema={"exclusiveMinimum": 0})] = Decimal(
        10000
    )
    symbols: Annotated[list[Name], Meta(max_length=500)] = []
    parameters: dict[str, bool | int | float | str] = {}
    data: Annotated[str, Meta(max_length=500)] = ""
    seed: Annotated[int, Meta(ge=0, le=2**53)] = 0


class HistoryQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Filters of the history."""

    strategy_name: str = ""
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


async def run_backtest(
    context: Context, call: Call[NoQuery, RunRequest]
) -> answers.BacktestMetrics | Reply:
    """Run a backtest and wait for its metrics; 202 with Location if it takes too long."""
    request = _request(context, call.body)
    with context.waiters.expect(BACKTEST_RESULTS, request.task_id) as answer:
        await context.publish(BACKTEST_REQUESTS, request, "nothing was started as far as is known")
        result = await within(answer, context.settings.backtest_timeout_s)
    if result is None:
        location = f"/api/backtest/{request.task_id}"
        return Reply(
            202, answers.BacktestStarted(request.task_id, "running"), {"Location": location}
        )
    assert isinstance(result, BacktestResult)
    if result.status is not RunStatus.COMPLETED:
        raise _failure(result)
    return _metrics(result)


async def start_backtest(
    context: Context, call: Call[NoQuery, RunRequest]
) -> answers.BacktestStarted:
    """Start a backtest; its end is announced on the WebSocket topic ``backtest.results.v1``."""
    request = _request(context, call.body)
    await context.publish(BACKTEST_REQUESTS, request, "nothing was started as far as is known")
    return answers.BacktestStarted(request.task_id, "started")


async def get_history(context: Context, call: Call[HistoryQuery, None]) -> answers.BacktestHistory:
    """List finished backtests, the newest first."""
    rows = islice(context.views.backtests.newest_first(call.query.strategy_name), call.query.limit)
    states = [_state(row) for row in rows]
    return answers.BacktestHistory(states, len(states))


async def get_backtest(context: Context, call: Call[NoQuery, None]) -> answers.BacktestState:
    """Return how far one backtest has come, with its result once there is one."""
    task_id = call.path["task_id"]
    row = context.views.backtests.rows.get(task_id)
    if row is None:
        raise not_found("backtest", task_id, "GET /api/backtest/history lists finished ones")
    return _state(row)


def _request(context: Context, body: RunRequest) -> BacktestRequest:
    """Return the record that asks for ``body``; raises ProblemError (422) for wrong values."""
    errors: list[FieldError] = []
    start_ns, end_ns = parse_time(body.start_date), parse_time(body.end_date, is_end=True)
    for name, value, text in (
        ("start_date", start_ns, body.start_date),
        ("end_date", end_ns, body.end_date),
    ):
        if value is None:
            remedy = "write 2014-01-01 or 2014-01-01T00:00:00Z"
            errors.append(FieldError(f"/{name}", "is not a date or time", remedy, text[:40]))
    if start_ns is not None and end_ns is not None and start_ns > end_ns:
        errors.append(
            FieldError("/end_date", "lies before start_date", "exchange the two", body.end_date)
        )
    capital = body.initial_capital
    if not (capital.is_finite() and 0 < capital < 10**15):
        errors.append(
            FieldError(
                "/initial_capital",
                "must be a positive number below 10^15",
                "give a number",
                str(capital)[:40],
            )
        )
    if errors:
        raise invalid(errors)
    task_id = context.ids()
    return BacktestRequest(
        event_id=f"web:{task_id}",
        ts_event_ns=context.log.now_ns(),
        correlation_id=task_id,
        task_id=task_id,
        strategy_name=body.strategy_name,
        start_ns=start_ns,
        end_ns=end_ns,
        initial_cash=decimal_text(capital),
        data=body.data,
        symbols=body.symbols,
        parameters=body.parameters,
        seed=body.seed,
        operator="api",
    )


def _failure(result: BacktestResult) -> ProblemError:
    """Return the problem of a backtest that failed; the agent's code decides the status."""
    code = str(result.metrics.get("code") or "backtest_failed")
    detail = result.detail or "the backtest failed"
    if code == "not_found" and "not found" not in detail:
        detail = f"strategy {result.strategy_name} not found; {detail}"
    status = _STATUS_BY_CODE.get(code, 500)
    return ProblemError(
        status, code, detail, headers={"Retry-After": "5"} if status == 503 else None
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
        format_time(result.ts_event_ns),
        result.ts_event_ns,
    )


def _state(row: BacktestRow) -> answers.BacktestState:
    result, progress = row.result, row.progress
    told = result or progress
    name = result.strategy_name if result else row.request.strategy_name if row.request else None
    return answers.BacktestState(
        row.task_id,
        name,
        row.status,
        told.detail if told else "",
        progress.events_done if progress else None,
        progress.events_total if progress else None,
        _metrics(result) if result is not None and result.status is RunStatus.COMPLETED else None,
    )


_ASKED = (400, 403, 413, 503)
ROUTES = (
    Route(
        "POST",
        "/api/backtest/run",
        run_backtest,
        answers.BacktestMetrics,
        "backtest",
        "Run a backtest",
        "backtests",
        body=RunRequest,
        answers={202: answers.BacktestStarted},
        errors=(*_ASKED, 404),
    ),
    Route(
        "POST",
        "/api/backtest/run-async",
        start_backtest,
        answers.BacktestStarted,
        "backtest",
        "Start a backtest",
        "backtests",
        body=RunRequest,
        errors=_ASKED,
    ),
    Route(
        "GET",
        "/api/backtest/history",
        get_history,
        answers.BacktestHistory,
        "read",
        "Finished backtests",
        "backtests",
        query=HistoryQuery,
    ),
    Route(
        "GET",
        "/api/backtest/{task_id}",
        get_backtest,
        answers.BacktestState,
        "read",
        "One backtest",
        "backtests",
        errors=(404,),
    ),
)
