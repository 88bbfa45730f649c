"""What a backtest is asked for by: the body of a request, its record, and what is wrong with it."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from schemas.control import BacktestRequest, BacktestResult, VenueTable
from schemas.errors import field_in, parts_of
from schemas.risk import LimitSet
from schemas.values import decimal_text
from web.context import Context
from web.problems import FieldError, ProblemError, invalid
from web.routes.backtest_results import failure
from web.routes.risk_answers import check_bounds
from web.times import parse_time

_POINTERS = {
    "strategy": "/strategy_name",
    "data": "/data",
    "symbols": "/symbols",
    "range": "/start_date",
    "cash": "/initial_capital",
    "on": "/on",
    "interval": "/interval",
    "warmup_days": "/warmup_days",
}

_SETTING = re.compile(r" \(((?:venue|risk\.limits)[.\w-]*)=")
"""Where a failure names a setting of the venue, or a limit."""

Name = Annotated[str, Meta(min_length=1, max_length=100)]


class RunRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A backtest; dates are RFC 3339 times or plain dates, and a plain ``end_date`` is included.

    ``strategy_name`` is built in or of an entry point. ``data`` is a bundled set (``daily``, which
    is meant without it, or ``demo``) or a path within the data folder, such as ``sets/acme``: an
    imported folder, the folder of a run, or a file. ``symbols`` chooses among its instruments.
    ``venue`` has the fields of the table ``[venue]`` of the settings: ``fee``, ``slippage``,
    ``latency``, ``participation``, ``limit_fill``, ``execution_data``. ``limits`` has those of
    ``PUT /api/risk/limits``, for all of the run. ``on`` is what drives the strategy: ``trade``,
    ``quote`` or an interval such as ``1m``; what it wants without it. ``interval`` is that of the
    bars in a file. In the ``warmup_days`` before ``start_date`` the strategy runs with its orders
    withheld, and figures begin behind them.
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
    venue: VenueTable = {}
    limits: LimitSet = LimitSet()
    on: Annotated[str, Meta(max_length=20)] = ""
    interval: Annotated[str, Meta(max_length=20)] = ""
    warmup_days: Annotated[float, Meta(ge=0, le=36_500)] = 0.0


def request_of(context: Context, body: RunRequest, operator: str) -> BacktestRequest:
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
    check_bounds(body.limits)
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
        operator=operator,
        venue=body.venue,
        limits=body.limits,
        on=body.on,
        interval=body.interval,
        warmup_days=body.warmup_days,
    )


def failure_of(result: BacktestResult, request: RunRequest) -> ProblemError:
    """Return the problem of a backtest that failed, with a pointer to the field that it names."""
    code = str(result.metrics.get("code") or "backtest_failed")
    detail = result.detail or "the backtest failed"
    if code == "not_found" and "not found" not in detail:
        detail = f"strategy {result.strategy_name} not found; {detail}"
    problem = failure(code, detail)
    if problem.status in (404, 422):
        problem.errors = _errors(result.detail, request)
    return problem


def _errors(detail: str, request: RunRequest) -> list[FieldError]:
    """Return which field of a request a failure names, and what to do about it."""
    name = field_in(detail, [*request.parameters, *_POINTERS])
    if name and name in request.parameters:
        value: Any = request.parameters[name]
        return [FieldError(f"/parameters/{name}", *parts_of(detail, name, value), value)]
    if name:
        value = {
            "strategy": request.strategy_name,
            "data": request.data,
            "on": request.on,
            "interval": request.interval,
        }.get(name)
        return [FieldError(_POINTERS[name], *parts_of(detail, name, value), value)]
    setting = _SETTING.search(detail)
    if setting is None:
        return []
    if setting[1].startswith("risk."):
        return [FieldError("/" + setting[1].removeprefix("risk.").replace(".", "/"), detail)]
    value = request.venue
    for step in setting[1].split(".")[1:]:
        value = value.get(step) if isinstance(value, dict) else None
    # An amount that is refused is told as a text.
    message, remedy = parts_of(detail, setting[1], value)
    if message == detail:
        message, remedy = parts_of(detail, setting[1], str(value))
    shown = None if isinstance(value, dict) else value
    return [FieldError("/" + setting[1].replace(".", "/"), message, remedy, shown)]
