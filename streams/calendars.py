"""Trading sessions and local days.

The one place that asks ``exchange_calendars`` and the time-zone database.

Processors are pure, so they get sessions as plain tables (``schemas.sessions``); importers need the
close of a session and the local trading day of an instant. Calendars are always made with explicit
first and last day, since the library's defaults depend on today.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
import numpy.typing as npt

from schemas.columns import Ints
from schemas.errors import DataError, NotFoundError
from schemas.instruments import Instrument, Universe
from schemas.sessions import SessionTable

_HOUR_NS = 3_600_000_000_000
_DAY_NS = 24 * _HOUR_NS
_PADDING_DAYS = 10
_EPOCH = date(1970, 1, 1)


def sessions(calendar: str, first_day: date | str, last_day: date | str) -> SessionTable:
    """Return the sessions of ``calendar``.

    A name such as XNYS from ``first_day`` to ``last_day``, both included.

    Days are dates or ISO text. Raises NotFoundError for an unknown calendar and DataError for days
    that it does not cover.
    """
    first, last = _date(first_day), _date(last_day)
    table = _years(calendar, first.year, last.year)
    low = int(np.searchsorted(table.day, day_number(first), "left"))
    high = int(np.searchsorted(table.day, day_number(last), "right"))
    return SessionTable(table.open_ns[low:high], table.close_ns[low:high], table.day[low:high])


def session_tables(universe: Universe, start_ns: int, end_ns: int) -> SessionTables:
    """Return sessions and days of time zones, those of the instruments of ``universe`` among them.

    They reach from ``start_ns`` to ``end_ns`` (ns UTC), padded by some days on both sides, so that
    the session before and after an instant is there. Raises NotFoundError for an instrument whose
    calendar or time zone does not exist, DataError for a span that a calendar does not cover.
    """
    tables = SessionTables(start_ns, end_ns)
    named = {(item.calendar, item.time_zone): item for item in universe.instruments}
    for names, instrument in named.items():
        check_calendar(instrument)
        for name in names:
            # What is wrong with a table is told before the run; UTC needs none.
            if name not in ("", "UTC"):
                tables.get(name)
    return tables


class SessionTables(Mapping[str, SessionTable]):
    """Sessions of every calendar and days of every time zone, each made when it is first needed."""

    def __init__(self, start_ns: int, end_ns: int) -> None:
        self._first = day_of_ns(start_ns) - timedelta(days=_PADDING_DAYS)
        self._last = day_of_ns(end_ns) + timedelta(days=_PADDING_DAYS)
        self._tables: dict[str, SessionTable] = {}

    def __getitem__(self, name: str) -> SessionTable:
        table = self._tables.get(name)
        if table is None:
            try:
                table = sessions(name, self._first, self._last)
            except NotFoundError:
                try:
                    table = zone_days(name, self._first, self._last)
                except NotFoundError:
                    raise KeyError(name) from None
            self._tables[name] = table
        return table

    def __iter__(self) -> Iterator[str]:
        return iter(self._tables)

    def __len__(self) -> int:
        return len(self._tables)


def check_calendar(instrument: Instrument) -> None:
    """Raise NotFoundError if an instrument's calendar or time zone does not exist."""
    if instrument.calendar:
        sessions(instrument.calendar, "2020-01-02", "2020-01-03")
    if instrument.time_zone != "UTC":
        zone_days(instrument.time_zone, date(2020, 1, 2), date(2020, 1, 3))


def zone_days(time_zone: str, first: date, last: date) -> SessionTable:
    """Return the local days of a time zone, ``first`` and ``last`` included, midnight to midnight.

    Raises NotFoundError for a time zone that the time-zone database does not have.
    """
    days = [first + timedelta(days=i) for i in range((last - first).days + 2)]
    try:
        midnights = np.array([local_midnight_ns(day, time_zone) for day in days], np.int64)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise NotFoundError(
            "there is no such time zone",
            field="time_zone",
            value=time_zone,
            remedy="use a name of the IANA database, such as America/New_York",
        ) from error
    numbers = np.array([day_number(day) for day in days[:-1]], np.int64)
    return SessionTable(midnights[:-1], midnights[1:], numbers)


def day_number(day: date) -> int:
    """Return ``day`` as yyyymmdd."""
    return day.year * 10_000 + day.month * 100 + day.day


def day_of_ns(ns: int) -> date:
    """Return the UTC day of an instant."""
    return _EPOCH + timedelta(days=ns // _DAY_NS)


def local_midnight_ns(day: date, time_zone: str) -> int:
    """Return the instant (ns UTC) at which ``day`` begins in ``time_zone``."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=ZoneInfo(time_zone))
    return round(midnight.timestamp()) * 1_000_000_000


def local_days(ts: Ints, time_zone: str) -> Ints:
    """Return the local day (yyyymmdd) of each instant of ``ts`` (int64 ns UTC)."""
    if not len(ts):
        return np.empty(0, np.int64)
    return day_numbers((ts + utc_offsets(ts, time_zone)) // _DAY_NS)


def utc_offsets(ts: Ints, time_zone: str) -> Ints:
    """Return what to add to each instant of ``ts``.

    Ns UTC to get the local time in ``time_zone``, ns.

    Offsets change on full hours only, so that one look-up serves all neighbours within an hour.
    """
    if time_zone == "UTC" or not len(ts):
        return np.zeros(len(ts), np.int64)
    zone = ZoneInfo(time_zone)
    hours = ts // _HOUR_NS
    starts = np.flatnonzero(np.diff(hours, prepend=hours[0] - 1))
    offsets = [_offset_ns(int(hour), zone) for hour in hours[starts]]
    return np.repeat(np.array(offsets, np.int64), np.diff(starts, append=len(ts)))


def day_numbers(days: Ints) -> Ints:
    """Return days since 1970 as yyyymmdd (proleptic Gregorian calendar)."""
    dates = days.astype("datetime64[D]")
    months = dates.astype("datetime64[M]")
    month = months.astype(np.int64)
    out: Ints = (
        (1970 + month // 12) * 10_000
        + (month % 12 + 1) * 100
        + (dates - months).astype(np.int64)
        + 1
    )
    return out


def days_since_epoch(numbers: Ints) -> Ints:
    """Return yyyymmdd as days since 1970.

    Days past the end of their month run into the next one.
    """
    months = (numbers // 10_000 - 1970) * 12 + numbers // 100 % 100 - 1
    out: Ints = months.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    return out + numbers % 100 - 1


def is_day_number(numbers: Ints) -> npt.NDArray[np.bool_]:
    """Return which yyyymmdd are days of the calendar."""
    month = numbers // 100 % 100
    is_plausible = (numbers >= 10101) & (month >= 1) & (month <= 12)
    safe = np.where(is_plausible, numbers, 19700101)
    is_same: npt.NDArray[np.bool_] = day_numbers(days_since_epoch(safe)) == safe
    return is_plausible & is_same


def date_of_number(number: int) -> date:
    """Return yyyymmdd as a date; raises DataError if there is no such day."""
    try:
        return date(number // 10_000, number // 100 % 100, number % 100)
    except ValueError as error:
        raise DataError(
            "not a day", field="day", value=number, remedy="write days as yyyymmdd"
        ) from error


def _offset_ns(hour: int, zone: ZoneInfo) -> int:
    offset = datetime.fromtimestamp(hour * 3600, zone).utcoffset()
    return 0 if offset is None else round(offset.total_seconds()) * 1_000_000_000


def _date(day: date | str) -> date:
    if isinstance(day, date):
        return day
    try:
        return date.fromisoformat(day)
    except ValueError as error:
        raise DataError(
            "not a day", field="day", value=day, remedy="write days as yyyy-mm-dd"
        ) from error


def calendar_named(name: str) -> str:
    """Return the one name of the calendar that ``name``, or an alias such as NYSE, stands for.

    Raises NotFoundError for an unknown calendar.
    """
    import exchange_calendars

    zone_of(name)
    return str(exchange_calendars.resolve_alias(name))


@lru_cache(maxsize=64)
def zone_of(calendar: str) -> str:
    """Return the time zone of a calendar; raises NotFoundError for an unknown one."""
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    try:
        # Any few days: the zone is the same in all.
        found = exchange_calendars.get_calendar(calendar, start="2020-01-01", end="2020-01-31")
    except InvalidCalendarName as error:
        raise _no_calendar(calendar) from error
    return str(found.tz)


def _no_calendar(name: str) -> NotFoundError:
    return NotFoundError(
        "there is no such session calendar",
        field="calendar",
        value=name,
        remedy="use a name that exchange_calendars knows, such as XNYS, XLON, XETR, XTKS, CMES or"
        " 24/5",
    )


@lru_cache(maxsize=64)
def _years(calendar: str, first_year: int, last_year: int) -> SessionTable:
    """Return the sessions of whole years.

    So that neighbouring ranges share one entry of the cache.
    """
    import exchange_calendars
    from exchange_calendars.errors import InvalidCalendarName

    try:
        schedule = exchange_calendars.get_calendar(
            calendar, start=f"{first_year}-01-01", end=f"{last_year}-12-31"
        ).schedule
    except InvalidCalendarName as error:
        raise _no_calendar(calendar) from error
    except ValueError as error:
        raise DataError(
            f"the calendar does not cover {first_year} to {last_year}",
            field="calendar",
            value=calendar,
            remedy=str(error),
        ) from error
    days = schedule.index.to_numpy().astype("datetime64[D]").astype(np.int64)
    opens = schedule["open"].dt.tz_localize(None).to_numpy().astype("datetime64[ns]")
    closes = schedule["close"].dt.tz_localize(None).to_numpy().astype("datetime64[ns]")
    return SessionTable(opens.astype(np.int64), closes.astype(np.int64), day_numbers(days))
