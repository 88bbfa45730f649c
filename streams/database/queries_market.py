"""Questions about series: trades, quotes, bars, equity."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from schemas.columns import Floats, Ints
from schemas.errors import ConfigError
from schemas.identifiers import source_id
from schemas.market_data import INTERVAL_NS, INTERVALS, Quote, Trade
from streams.cursors import read_cursor, write_cursor
from streams.database.connecting import Database
from streams.database.paging import (
    SERIES_ORDER,
    Where,
    limit_of,
    ordered,
    storable,
    stretches,
    window_span,
)
from streams.database.tables import ROLLUPS
from streams.history import BarSeries, EquitySeries, Page, Window

_LENGTHS = dict(zip(INTERVALS, INTERVAL_NS, strict=True))
_KEY = (int, int, int)
_BAR_COLUMNS = "open, high, low, close, volume, vwap, trade_count"

T = TypeVar("T")


class _Served(NamedTuple):
    """What serves bars of an interval: a relation, and the span in which it has rows."""

    relation: str
    first_ns: int
    last_ns: int


async def trades(database: Database, window: Window, instrument_id: str) -> Page[Trade]:
    """Return trades of an instrument."""

    def make(row: Any) -> Trade:
        return Trade(
            event_id=source_id(row["source"], instrument_id, row["source_seq"]),
            ts_event_ns=row["ts_ns"],
            run_id=window.run_id,
            source=row["source"],
            source_seq=row["source_seq"],
            instrument_id=instrument_id,
            price=row["price"],
            size=row["size"],
        )

    return await _page(database, "trades", "price, size", window, instrument_id, make)


async def quotes(database: Database, window: Window, instrument_id: str) -> Page[Quote]:
    """Return quotes of an instrument."""

    def make(row: Any) -> Quote:
        return Quote(
            event_id=source_id(row["source"], instrument_id, row["source_seq"]),
            ts_event_ns=row["ts_ns"],
            run_id=window.run_id,
            source=row["source"],
            source_seq=row["source_seq"],
            instrument_id=instrument_id,
            bid_price=row["bid_price"],
            ask_price=row["ask_price"],
            bid_size=row["bid_size"],
            ask_size=row["ask_size"],
        )

    columns = "bid_price, ask_price, bid_size, ask_size"
    return await _page(database, "quotes", columns, window, instrument_id, make)


async def _page(
    database: Database,
    relation: str,
    columns: str,
    window: Window,
    instrument_id: str,
    make: Callable[[Any], T],
) -> Page[T]:
    """Return a page of a series in the order of its log, found stretch by stretch."""
    newest, limit = window.is_newest_first, limit_of(window.limit)
    key = read_cursor(relation, window.cursor, *_KEY)
    async with database.reading() as connection:
        span = await _span(connection, window.run_id, relation)
        if span is None:
            return Page([], "")
        low, high = window_span(window, *span)
        if key is not None:
            low, high = (low, min(high, key[0] + 1)) if newest else (max(low, key[0]), high)

        async def fetch(first: int, until: int, count: int) -> list[Any]:
            where = Where(window.run_id)
            where.add("instrument_id = {}", instrument_id)
            where.span(first, until)
            where.behind(key, SERIES_ORDER, newest=newest)
            rows: list[Any] = await connection.fetch(
                f"SELECT ts_ns, log_partition, log_offset, source, source_seq, {columns}"  # noqa: S608 - names of ours
                f" FROM {relation} WHERE {where}"
                f" ORDER BY {ordered(SERIES_ORDER, newest=newest)} LIMIT {where.mark(count)}",
                *where.values,
            )
            return rows

        rows = await _gather(low, high, limit + 1, fetch, newest=newest)
    cursor = ""
    if len(rows) > limit:
        last = rows[limit - 1]
        cursor = write_cursor(relation, [last[name] for name in SERIES_ORDER])
    return Page([make(row) for row in rows[:limit]], cursor)


async def _gather(
    low: int,
    high: int,
    count: int,
    fetch: Callable[[int, int, int], Awaitable[list[Any]]],
    *,
    newest: bool,
    width_ns: int = 3_600_000_000_000,
) -> list[Any]:
    """Return up to ``count`` rows from growing stretches of time."""
    rows: list[Any] = []
    async for first, until in stretches(low, high, newest=newest, width_ns=width_ns):
        rows += await fetch(first, until, count - len(rows))
        if len(rows) >= count:
            break
    return rows


async def _span(connection: Any, run_id: str, relation: str) -> tuple[int, int] | None:
    row = await connection.fetchrow(
        "SELECT first_ns, last_ns FROM spans WHERE run_id = $1 AND relation = $2",
        storable(run_id),
        relation,
    )
    return None if row is None else (row["first_ns"], row["last_ns"])


# ---- bars


async def bars(database: Database, window: Window, instrument_id: str, interval: str) -> BarSeries:
    """Return bars of an instrument by their end."""
    _check_interval(interval)
    newest, limit = window.is_newest_first, limit_of(window.limit)
    question = f"bars/{interval}"
    key = read_cursor(question, window.cursor, str, int)
    length = _LENGTHS[interval]
    async with database.reading() as connection:
        served = await _served(
            connection, window.run_id, interval, None if key is None else str(key[0])
        )
        for number, item in enumerate(served):
            low, high = window_span(window, item.first_ns, item.last_ns)
            if item.relation != "bars":
                # A rollup's last bar ends behind the last minute that it is made of.
                until = item.last_ns + length if window.until_ns is None else window.until_ns
                high = min(item.last_ns + length, until)
            if key is not None:
                low, high = (low, min(high, key[1])) if newest else (max(low, key[1] + 1), high)
            rows = await _gather(
                low,
                high,
                limit + 1,
                _bar_reader(connection, item.relation, window, instrument_id, interval),
                newest=newest,
                width_ns=max(3_600_000_000_000, length * limit),
            )
            if rows or number == len(served) - 1:
                return _series(rows, limit, interval, item.relation, question)
    return _series([], limit, interval, "", question)


async def _served(
    connection: Any, run_id: str, interval: str, relation: str | None
) -> list[_Served]:
    """Return what can serve an interval, the best first; ``relation`` is what a page came from."""
    found = []
    own = await _span(connection, run_id, f"bars/{interval}")
    if own is not None:
        found.append(_Served("bars", *own))
    minutes = await _span(connection, run_id, "bars/1m")
    widest = [name for name in ROLLUPS if _LENGTHS[interval] % _LENGTHS[name] == 0]
    if minutes is not None and widest and interval != "1m":
        found.append(_Served(f"bars_{widest[-1]}", *minutes))
    return [item for item in found if relation in (None, item.relation)]


def _bar_reader(
    connection: Any, relation: str, window: Window, instrument_id: str, interval: str
) -> Callable[[int, int, int], Awaitable[list[Any]]]:
    newest, length = window.is_newest_first, _LENGTHS[interval]
    direction = "DESC" if newest else "ASC"

    async def own(first: int, until: int, count: int) -> list[Any]:
        where = Where(window.run_id)
        where.add("instrument_id = {}", instrument_id)
        where.add('"interval" = {}', interval)
        where.span(first, until)
        rows: list[Any] = await connection.fetch(
            f"SELECT DISTINCT ON (ts_ns) ts_ns, start_ns, {_BAR_COLUMNS}"  # noqa: S608 - names of ours
            f" FROM bars WHERE {where}"
            f" ORDER BY ts_ns {direction}, revision DESC, log_offset DESC"
            f" LIMIT {where.mark(count)}",
            *where.values,
        )
        return rows

    async def rolled(first: int, until: int, count: int) -> list[Any]:
        where = Where(window.run_id)
        where.add("instrument_id = {}", instrument_id)
        # A bucket is the first ns behind its beginning; whole buckets, or a bar would be half.
        where.add("bucket >= {}", _align(first + 1 - length, length))
        where.add("bucket < {}", _align(until + 1 - length, length))
        rows: list[Any] = await connection.fetch(
            f"""
            SELECT wide - 1 + {length} AS ts_ns, wide - 1 AS start_ns, open, high, low, close,
                volume, CASE WHEN volume > 0 THEN turnover / volume ELSE close END AS vwap,
                trade_count::bigint AS trade_count
            FROM (
                SELECT (bucket - 1) / {length} * {length} + 1 AS wide,
                    (array_agg(open ORDER BY bucket))[1] AS open, max(high) AS high,
                    min(low) AS low, (array_agg(close ORDER BY bucket DESC))[1] AS close,
                    sum(volume) AS volume, sum(turnover) AS turnover,
                    sum(trade_count) AS trade_count
                FROM {relation} WHERE {where} GROUP BY wide
            ) AS bars
            ORDER BY ts_ns {direction} LIMIT {where.mark(count)}
            """,  # noqa: S608 - names and lengths of ours
            *where.values,
        )
        return rows

    return own if relation == "bars" else rolled


def _align(ns: int, length: int) -> int:
    """Return the first bucket at or behind an instant."""
    return -(-(ns - 1) // length) * length + 1


def _series(
    rows: Sequence[Any], limit: int, interval: str, relation: str, question: str
) -> BarSeries:
    page = rows[:limit]
    cursor = ""
    if len(rows) > limit:
        cursor = write_cursor(question, [relation, page[-1]["ts_ns"]])

    def floats(name: str) -> Floats:
        return np.array([row[name] for row in page], np.float64)

    def ints(name: str) -> Ints:
        return np.array([row[name] for row in page], np.int64)

    return BarSeries(
        interval,
        relation,
        ts=ints("ts_ns"),
        start=ints("start_ns"),
        open=floats("open"),
        high=floats("high"),
        low=floats("low"),
        close=floats("close"),
        volume=floats("volume"),
        vwap=floats("vwap"),
        trade_count=ints("trade_count"),
        cursor=cursor,
    )


def _check_interval(interval: str) -> None:
    if interval not in _LENGTHS:
        raise ConfigError(
            "there is no such interval",
            field="interval",
            value=interval,
            remedy=f"use one of {', '.join(INTERVALS)}",
        )


# ---- equity


async def equity(
    database: Database, window: Window, account_id: str, strategy_id: str, interval: str
) -> EquitySeries:
    """Return equity marks, the last of each interval, or all."""
    if interval:
        _check_interval(interval)
    length = _LENGTHS[interval] if interval else 1
    newest, limit = window.is_newest_first, limit_of(window.limit)
    question = f"equity/{interval}"
    key = read_cursor(question, window.cursor, int)
    direction = "DESC" if newest else "ASC"
    async with database.reading() as connection:
        span = await _span(connection, window.run_id, "account_equity")
        low, high = window_span(window, *span) if span is not None else (0, 0)
        if key is not None:
            # The cursor is an instant of the last interval that was given.
            start = (key[0] - 1) // length * length + 1
            low, high = (low, min(high, start)) if newest else (max(low, start + length), high)

        async def fetch(first: int, until: int, count: int) -> list[Any]:
            where = Where(window.run_id)
            where.add("account_id = {}", account_id)
            where.add("strategy_id = {}", strategy_id)
            where.span(first, until)
            rows: list[Any] = await connection.fetch(
                f"SELECT DISTINCT ON (part) (ts_ns - 1) / {length} AS part, ts_ns, equity, cash,"  # noqa: S608 - names and lengths of ours
                " gross_exposure, net_exposure, drawdown"
                f" FROM account_equity WHERE {where}"
                f" ORDER BY part {direction}, ts_ns DESC, log_partition DESC, log_offset DESC"
                f" LIMIT {where.mark(count)}",
                *where.values,
            )
            return rows

        rows = _last_of_each(
            await _gather(
                low, high, 2 * limit + 2, fetch, newest=newest, width_ns=max(length, 3600 * 10**9)
            ),
            newest=newest,
        )
    page = rows[:limit]
    cursor = write_cursor(question, [page[-1]["ts_ns"]]) if len(rows) > limit else ""

    def floats(name: str) -> Floats:
        return np.array([row[name] for row in page], np.float64)

    return EquitySeries(
        ts=np.array([row["ts_ns"] for row in page], np.int64),
        equity=floats("equity"),
        cash=floats("cash"),
        gross_exposure=floats("gross_exposure"),
        net_exposure=floats("net_exposure"),
        drawdown=floats("drawdown"),
        cursor=cursor,
    )


def _last_of_each(rows: Sequence[Any], *, newest: bool) -> list[Any]:
    """Return one row an interval: where two stretches met within one, both gave a row of it."""
    out: list[Any] = []
    for row in rows:
        if out and out[-1]["part"] == row["part"]:
            if not newest:
                out[-1] = row
            continue
        out.append(row)
    return out
