"""What came out of backtests: report, series, manifest, two side by side, and parity."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.control import BacktestRequest, ParityRequest, ParityResult
from schemas.enums import RunStatus
from schemas.errors import ConfigError, MillraceError, NotFoundError
from schemas.topics import BACKTEST_REQUESTS, BACKTEST_RESULTS
from web.answers import backtests as answers
from web.answers import orders as order_answers
from web.context import Context
from web.problems import ProblemError, not_found
from web.result_files import ResultRows
from web.route_table import Call, NoQuery, Reply, Route
from web.routes.orders import OrdersQuery, list_orders
from web.routes.pages import bad_cursor
from web.scopes import BACKTEST, READ
from web.stored_backtests import stored_backtest
from web.times import format_time
from web.waiting import within

RunId = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]*$")]
_TEXTS = frozenset({"side", "strategy_id", "instrument_id"})
_STATUS_BY_CODE = {
    "not_found": 404,
    "no_data": 422,
    "bad_request": 422,
    "busy": 503,
    "timeout": 503,
    "interrupted": 503,
    "canceled": 409,
}
"""What the agent says of a failure; whatever else it says is a fault of ours."""


class TableQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which rows of a table; ``cursor`` is that of the page before."""

    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000
    cursor: str | None = None


class CompareQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Two backtests, each by its task or its run."""

    a: RunId
    b: RunId


class ParityBody(msgspec.Struct, forbid_unknown_fields=True):
    """The recorded run to compare: its id, or the task of a backtest."""

    run_id: RunId


def failure(code: str, detail: str, name: str = "") -> ProblemError:
    """Return the problem of what the agent could not do; its ``code`` decides the status.

    The problem's own code is ``name``, if there is one.
    """
    status = _STATUS_BY_CODE.get(code, 500)
    headers = {"Retry-After": "5"} if status == 503 else None
    return ProblemError(status, name or code, detail, headers=headers)


async def ask(context: Context, request: BacktestRequest | ParityRequest) -> None:
    """Publish a request.

    Raises ProblemError (503) while too many run and wait: those on their way are counted too, so
    that nothing is taken that would be refused afterwards; nor does it come into the history then.
    """
    backtests, now_s = context.views.backtests, context.now_s()
    if backtests.unfinished(now_s) >= context.settings.backtests_max:
        raise failure("busy", "too many backtests are waiting; try again when one has ended")
    backtests.take_place(request.task_id, now_s)
    try:
        await context.publish(BACKTEST_REQUESTS, request, "nothing was started as far as is known")
    except ProblemError as problem:
        if problem.code != "outcome_unknown":
            backtests.leave_place(request.task_id)
        raise


async def get_report(context: Context, call: Call[NoQuery, None]) -> answers.BacktestReport:
    """Return a finished backtest as a whole."""
    task_id = call.path["task_id"]
    run_id = await _run_of(context, task_id)
    manifest, metrics = (
        await _json(context, run_id, "manifest"),
        await _json(context, run_id, "metrics"),
    )
    scene = await context.at(run_id, "")
    config = manifest.get("config", {})
    strategies = [item.get("name", "") for item in config.get("strategies", [])]
    return answers.BacktestReport(
        task_id,
        run_id,
        ", ".join(strategies),
        manifest.get("output_hash", ""),
        manifest.get("config_hash", ""),
        config.get("data"),
        metrics,
        manifest.get("counts", {}),
        scene.views.risk.denied_by_code(),
        await _warnings(context, run_id),
    )


async def get_manifest(context: Context, call: Call[NoQuery, None]) -> answers.Manifest:
    """Return everything that a backtest depends on, and the hash of what came out of it."""
    run_id = await _run_of(context, call.path["task_id"])
    return answers.Manifest(run_id, await _json(context, run_id, "manifest"))


async def get_backtest_equity(context: Context, call: Call[TableQuery, None]) -> answers.Columns:
    """Return every equity mark of a backtest, as columns."""
    return await _table(context, call, "equity")


async def get_backtest_trades(context: Context, call: Call[TableQuery, None]) -> answers.Columns:
    """Return the closed trades of a backtest, as columns."""
    return await _table(context, call, "trades")


async def get_backtest_orders(
    context: Context, call: Call[OrdersQuery, None]
) -> order_answers.OrderPage:
    """List the orders of a backtest, the newest first."""
    scene = await context.at(await _run_of(context, call.path["task_id"]), "")
    return await list_orders(scene, call)


async def compare(context: Context, call: Call[CompareQuery, None]) -> answers.Comparison:
    """Return two backtests side by side: their figures, and how they were set up differently."""
    names = (call.query.a, call.query.b)
    runs = [await _run_of(context, name) for name in names]
    manifests = [await _json(context, run, "manifest") for run in runs]
    metrics = [await _json(context, run, "metrics") for run in runs]
    one, other = [_flat(m.get("config", {})) for m in manifests]
    changed = {name for name in {*one, *other} if one.get(name) != other.get(name)}
    hashes = [m.get("output_hash") for m in manifests]
    figures = sorted({*metrics[0], *metrics[1]})
    return answers.Comparison(
        runs[0],
        runs[1],
        not changed,
        bool(hashes[0]) and hashes[0] == hashes[1],
        [_difference(n, metrics[0].get(n), metrics[1].get(n)) for n in figures],
        [_difference(name, one.get(name), other.get(name)) for name in sorted(changed)],
    )


async def start_parity(context: Context, call: Call[NoQuery, ParityBody]) -> answers.Parity | Reply:
    """Run a recorded run again and compare every record; 202 with Location if it takes long."""
    run_id = await _run_of(context, call.body.run_id)
    await _version(context, run_id)
    task_id = context.ids()
    request = ParityRequest(
        event_id=f"web:{task_id}",
        ts_event_ns=context.log.now_ns(),
        correlation_id=task_id,
        task_id=task_id,
        run=run_id,
        operator=call.operator,
    )
    with context.waiters.expect(BACKTEST_RESULTS, task_id) as answer:
        await ask(context, request)
        result = await within(answer, context.settings.backtest_timeout_s)
    if not isinstance(result, ParityResult):
        location = f"/api/backtest/parity/{task_id}"
        body = answers.BacktestStarted(task_id, "running")
        return Reply(202, body, {"Location": location})
    if result.status is not RunStatus.COMPLETED:
        detail = result.detail or "the run cannot be compared"
        raise failure(result.code or "bad_request", detail, "parity_failed")
    return _parity(result)


async def get_parity(context: Context, call: Call[NoQuery, None]) -> answers.Parity:
    """Return a comparison that was asked for, finished or not."""
    task_id = call.path["task_id"]
    backtests = context.views.backtests
    result, request = backtests.parity_results.get(task_id), backtests.parity_requests.get(task_id)
    if result is not None:
        return _parity(result)
    if request is None:
        raise not_found("comparison", task_id, "POST /api/backtest/parity asks for one")
    status = RunStatus.RUNNING
    return answers.Parity(task_id, request.run, status, 0, 0, "", "", 0, 0, 0, {}, "")


def _parity(r: ParityResult) -> answers.Parity:
    return answers.Parity(
        r.task_id,
        r.run,
        r.status,
        r.records_compared,
        r.differences,
        r.recorded_hash,
        r.rerun_hash,
        r.fills_live,
        r.fills_backtest,
        r.fills_equal,
        r.classes,
        r.detail,
    )


async def _run_of(context: Context, name: str) -> str:
    """Return the run of a task, or the name itself if it is that of a run.

    Raises ProblemError: 409 for a backtest that has not finished or failed, 503 for a name that
    only the database may know while it is away.
    """
    row = context.views.backtests.rows.get(name)
    if row is None and context.history is not None and not await _is_recorded(context, name):
        row = await stored_backtest(context.history, name)
    if row is None:
        return name
    if row.run_id:
        return row.run_id
    detail = f"backtest {name} is {row.status}: it has no results"
    raise ProblemError(409, "no_results", f"{detail}; GET /api/backtest/{name} shows its state")


async def _is_recorded(context: Context, name: str) -> bool:
    try:
        await asyncio.to_thread(context.runs.store.version, name)
    except MillraceError:
        return False
    return True


async def _version(context: Context, run_id: str) -> str:
    """Return a run's version; raises ProblemError (404) if there is no such run."""
    try:
        return await asyncio.to_thread(context.runs.store.version, run_id)
    except NotFoundError as error:
        raise not_found("run", run_id, "GET /api/system/runs lists them") from error


@contextmanager
def _readable(run_id: str, cursor: str | None = None) -> Iterator[None]:
    """Put what is wrong with a run's results into HTTP's words; raises ProblemError."""
    try:
        yield
    except ProblemError:
        raise
    except NotFoundError as error:
        remedy = "only finished backtests have results; GET /api/backtest/history lists them"
        raise not_found("backtest", run_id, remedy) from error
    except ConfigError as error:
        raise bad_cursor(cursor or "") from error
    except MillraceError as error:
        raise ProblemError(500, "run_unreadable", f"the run cannot be read: {error}") from error


async def _json(context: Context, run_id: str, name: str) -> dict[str, Any]:
    with _readable(run_id):
        content = await context.results.whole(run_id, f"{name}.json")
    values: dict[str, Any] = msgspec.json.decode(content, type=dict[str, Any])
    return values


async def _warnings(context: Context, run_id: str) -> list[str]:
    """Return what a run warns of; one of an earlier version kept none."""
    try:
        return list((await _json(context, run_id, "warnings"))["warnings"])
    except ProblemError as problem:
        if problem.status != 404:
            raise
        return []


async def _table(context: Context, call: Call[TableQuery, None], name: str) -> answers.Columns:
    run_id, query = await _run_of(context, call.path["task_id"]), call.query
    offset = 0
    if query.cursor is not None:
        if not (query.cursor.isascii() and query.cursor.isdigit() and len(query.cursor) < 16):
            raise bad_cursor(query.cursor)
        offset = int(query.cursor)
    with _readable(run_id, query.cursor):
        found = await context.results.rows(run_id, f"{name}.csv", offset, query.limit)
    return await asyncio.to_thread(_columns, run_id, found)


def _columns(run_id: str, found: ResultRows) -> answers.Columns:
    columns: dict[str, list[Any]] = {}
    for index, name in enumerate(found.head):
        values = [row[index] for row in found.rows]
        columns[name] = values if name in _TEXTS else [_value(text) for text in values]
        if name.endswith("_ns"):
            columns[name.removesuffix("_ns")] = [format_time(int(text)) for text in values]
    cursor = None if found.next_offset is None else str(found.next_offset)
    return answers.Columns(run_id, columns, found.row_count, cursor)


def _value(text: str) -> Any:
    """Return a field as the number that stands there, digit for digit; an empty one is null."""
    if not text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return text
    return number if number.is_finite() else None


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their dotted names."""
    items = values.items() if isinstance(values, dict) else enumerate(values)
    found: dict[str, Any] = {}
    for key, value in items:
        name = f"{prefix}{key}"
        if isinstance(value, (dict, list)) and value:
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value
    return found


def _difference(name: str, a: Any, b: Any) -> answers.Difference:
    is_number = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (a, b))
    return answers.Difference(name, a, b, b - a if is_number else None)


def _read(path: str, handler: Any, answer: Any, summary: str, query: Any, example: str) -> Route:
    return Route(
        "GET",
        path,
        handler,
        answer,
        READ,
        summary,
        "backtests",
        query=query,
        errors=(404, 409, 503),
        example=example,
    )


_TASK = "/api/backtest/{task_id}"
_OF = "/api/backtest/task-1"
FIRST = (
    _read(
        "/api/backtest/compare",
        compare,
        answers.Comparison,
        "Two backtests side by side",
        CompareQuery,
        "/api/backtest/compare?a=task-1&b=backtest-2",
    ),
    Route(
        "POST",
        "/api/backtest/parity",
        start_parity,
        answers.Parity,
        BACKTEST,
        "Run a recorded run again and compare",
        "backtests",
        body=ParityBody,
        answers={202: answers.BacktestStarted},
        errors=(400, 404, 409, 413, 503),
        example_body={"run_id": "task-1"},
    ),
    _read(
        "/api/backtest/parity/{task_id}",
        get_parity,
        answers.Parity,
        "A comparison",
        NoQuery,
        "/api/backtest/parity/parity-1",
    ),
)
"""Routes that stand before ``/api/backtest/{task_id}``."""

ROUTES = (
    _read(
        f"{_TASK}/report", get_report, answers.BacktestReport, "Report", NoQuery, f"{_OF}/report"
    ),
    _read(
        f"{_TASK}/manifest",
        get_manifest,
        answers.Manifest,
        "Manifest",
        NoQuery,
        f"{_OF}/manifest",
    ),
    _read(
        f"{_TASK}/equity",
        get_backtest_equity,
        answers.Columns,
        "Equity marks",
        TableQuery,
        f"{_OF}/equity?limit=100",
    ),
    _read(
        f"{_TASK}/trades",
        get_backtest_trades,
        answers.Columns,
        "Closed trades",
        TableQuery,
        f"{_OF}/trades",
    ),
    _read(
        f"{_TASK}/orders",
        get_backtest_orders,
        order_answers.OrderPage,
        "Orders",
        OrdersQuery,
        f"{_OF}/orders?limit=20",
    ),
)
