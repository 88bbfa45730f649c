"""The clock of the run and the sessions of a calendar."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.errors import DataError, NotFoundError
from schemas.sessions import SessionTable
from streams.calendars import sessions
from web.answers import market as answers
from web.context import Context
from web.problems import FieldError, invalid, not_found
from web.route_table import Call, Route
from web.routes.pages import instant
from web.scopes import READ
from web.times import day_text, format_time
from web.views.configured import configured

_NS = 1_000_000_000
_AHEAD_DAYS = 14
_DAYS_MAX = 3_660
_FIRST_DAY = date(1990, 1, 1)
_LAST_DAY = date(2199, 12, 31)
_OUTSIDE = "lies outside of what calendars cover"
_WITHIN = f"give days from {_FIRST_DAY} to {_LAST_DAY}"

CalendarName = Annotated[str, Meta(max_length=20, pattern="^[A-Za-z0-9_]*$")]


class ClockQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which calendar; without one that of the default account, else of the first instrument."""

    calendar: CalendarName = ""


class CalendarQuery(ClockQuery, forbid_unknown_fields=True):
    """Which calendar, and from which day to which, both included; two weeks without them."""

    start: str | None = None
    end: str | None = None


async def get_clock(context: Context, call: Call[ClockQuery, None]) -> answers.Clock:
    """Return the time of the run, whether its session is open, and when that changes.

    Of another run, or of another instant, the time is the one asked about, else that of its end; of
    a run that the database alone has, that of its newest row.
    """
    now_ns = _now_ns(context)
    name = call.query.calendar or _default(context)
    if not name:
        return answers.Clock(format_time(now_ns), now_ns, None, None, None, None, None, None)
    today = datetime.fromtimestamp(now_ns // _NS, UTC).date()
    if context.place and not _FIRST_DAY <= today <= _LAST_DAY:
        raise invalid([FieldError("/as_of", _OUTSIDE, _WITHIN)])
    table = await _sessions(name, today - timedelta(1), today + timedelta(_AHEAD_DAYS))
    opens, closes = table.open_ns.tolist(), table.close_ns.tolist()
    next_open = next((ns for ns in opens if ns > now_ns), None)
    next_close = next((ns for ns in closes if ns > now_ns), None)
    is_open = any(begin <= now_ns < end for begin, end in zip(opens, closes, strict=True))
    return answers.Clock(
        format_time(now_ns),
        now_ns,
        name,
        is_open,
        format_time(next_open) if next_open is not None else None,
        next_open,
        format_time(next_close) if next_close is not None else None,
        next_close,
    )


async def get_calendar(context: Context, call: Call[CalendarQuery, None]) -> answers.Calendar:
    """Return the sessions of a calendar."""
    query = call.query
    name = query.calendar or _default(context)
    if not name:
        remedy = "name one, such as XNYS"
        raise invalid([FieldError("/calendar", "is needed: the run has none", remedy)])
    start_ns = instant("start", query.start)
    first = _day(_now_ns(context) if start_ns is None else start_ns)
    end_ns = instant("end", query.end)
    last = _day(end_ns) if end_ns is not None else first + timedelta(_AHEAD_DAYS)
    if last < first or (last - first).days > _DAYS_MAX:
        remedy = f"give a day from start on, {_DAYS_MAX} days later at most"
        raise invalid([FieldError("/end", "does not fit start", remedy, query.end)])
    if first < _FIRST_DAY or last > _LAST_DAY:
        raise invalid([FieldError("/start", _OUTSIDE, _WITHIN)])
    table = await _sessions(name, first, last)
    days, opens, closes = table.day.tolist(), table.open_ns.tolist(), table.close_ns.tolist()
    rows = [
        answers.Session(
            f"{day // 10_000:04}-{day // 100 % 100:02}-{day % 100:02}",
            format_time(begin),
            begin,
            format_time(end),
            end,
        )
        for day, begin, end in zip(days, opens, closes, strict=True)
    ]
    return answers.Calendar(name, rows)


def _now_ns(context: Context) -> int:
    """Return the time of the run at the place that is asked about."""
    if not context.place:
        return context.log.now_ns()
    if context.until_ns is not None:
        return context.until_ns - 1
    return max(context.views.newest_ns.values(), default=context.log.now_ns())


def _default(context: Context) -> str:
    views = context.views
    account = configured(views.system.manifest).account(context.settings.default_account_id)
    if account is not None and account.calendar:
        return account.calendar
    names = (views.market.instruments[i].calendar for i in sorted(views.market.instruments))
    return next((name for name in names if name), "")


def _day(ns: int) -> date:
    return date.fromisoformat(day_text(ns))


async def _sessions(name: str, first: date, last: date) -> SessionTable:
    """Return sessions; the library behind them is large, so it is asked in a thread."""
    try:
        return await asyncio.to_thread(sessions, name, first, last)
    except NotFoundError as error:
        raise not_found("calendar", name, "use an exchange's code, such as XNYS") from error
    except DataError as error:
        raise invalid([FieldError("/start", error.message, error.remedy)]) from error


ROUTES = (
    Route(
        "GET",
        "/api/clock",
        get_clock,
        answers.Clock,
        READ,
        "Time and session",
        "market data",
        query=ClockQuery,
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
        example="/api/clock?calendar=XNYS",
    ),
    Route(
        "GET",
        "/api/calendar",
        get_calendar,
        answers.Calendar,
        READ,
        "Sessions",
        "market data",
        query=CalendarQuery,
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
        example="/api/calendar?calendar=XNYS&start=2013-10-01&end=2013-10-31",
    ),
)
