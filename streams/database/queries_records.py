"""Questions whose answers are records as they were: pages of one flow table."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, reduce
from operator import or_
from typing import Any, TypeVar

import msgspec

from streams.cursors import RecordPlace, read_cursor, write_cursor
from streams.database.connecting import Database
from streams.database.paging import ORDER, Where, limit_of, ordered, storable
from streams.database.tables import FLOW_BY_NAME, Flow
from streams.history import ALL, NOW, Filters, Moment, Page, StoredBacktest, StoredRun, Window
from streams.log import Published

_KEY = (int, int, int, str)
_COLUMNS = "run_id, ts_ns, log_partition, log_offset, event_id, body"

T = TypeVar("T")


@cache
def _decoder(relation: str) -> msgspec.json.Decoder[Any]:
    flow = FLOW_BY_NAME[relation]
    return msgspec.json.Decoder(reduce(or_, [r for _, records in flow.sources for r in records]))


def record_of(relation: str, row: Any) -> Any:
    """Return the record of a row, with the run it belongs to."""
    record = _decoder(relation).decode(row["body"])
    record.run_id = row["run_id"]
    if not record.event_id:
        record.event_id = row["event_id"]
    return record


@cache
def _topics(relation: str) -> dict[type[Any], str]:
    """Return the topic by type of record; the first where a record stands on two."""
    found: dict[type[Any], str] = {}
    for topic, records in FLOW_BY_NAME[relation].sources:
        for record in records:
            found.setdefault(record, topic)
    return found


def published_of(relation: str, row: Any) -> Published:
    """Return the record of a row with its place in the log."""
    record = record_of(relation, row)
    topic = _topics(relation)[type(record)]
    return Published(topic, row["log_partition"], row["log_offset"], record)


async def page(
    database: Database, relation: str, window: Window, filters: Filters = ALL, **equal: Any
) -> Page[Any]:
    """Return records of a flow; ``equal`` are further columns with the value they must have.

    None and an empty text let all pass.
    """
    flow = FLOW_BY_NAME[relation]
    newest, limit = window.is_newest_first, limit_of(window.limit)
    where = Where(window.run_id)
    where.filters(filters, flow.fields)
    where.span(window.first_ns, window.until_ns)
    for name, value in equal.items():
        if value is not None and value != "":
            where.add(f"{_column(flow, name)} = {{}}", value)
    where.behind(read_cursor(relation, window.cursor, *_KEY), ORDER, newest=newest)
    async with database.reading() as connection:
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM {relation} WHERE {where}"  # noqa: S608 - names of ours
            f" ORDER BY {ordered(ORDER, newest=newest)} LIMIT {where.mark(limit + 1)}",
            *where.values,
        )
    cursor = ""
    if len(rows) > limit:
        cursor = write_cursor(relation, [rows[limit - 1][name] for name in ORDER])
    page = rows[:limit]
    return Page([record_of(relation, row) for row in page], cursor, places_of(page))


def places_of(rows: Sequence[Any]) -> list[RecordPlace]:
    """Return the places of rows of a flow."""
    return [RecordPlace(*(row[name] for name in ORDER)) for row in rows]


def _column(flow: Flow, name: str) -> str:
    return f'"{flow.fields[flow.fields.index(name)]}"'


async def newest(
    database: Database,
    relation: str,
    run_id: str,
    keys: tuple[str, ...],
    filters: Filters = ALL,
    moment: Moment = NOW,
    **equal: str,
) -> list[Published]:
    """Return for each value of ``keys`` the last record up to a moment with its place, by key."""
    flow = FLOW_BY_NAME[relation]
    where = Where(run_id)
    where.filters(filters, flow.fields)
    where.moment(moment)
    for name, value in equal.items():
        where.add(f"{_column(flow, name)} = {{}}", value)
    names = ", ".join(_column(flow, key) for key in keys)
    async with database.reading() as connection:
        rows = await connection.fetch(
            f"SELECT DISTINCT ON ({names}) {_COLUMNS} FROM {relation} WHERE {where}"  # noqa: S608 - names of ours
            f" ORDER BY {names}, {ordered(ORDER, newest=True)}",
            *where.values,
        )
    return [published_of(relation, row) for row in rows]


async def every(
    database: Database, relation: str, run_id: str, moment: Moment = NOW, condition: str = "true"
) -> list[Published]:
    """Return all records of a flow up to a moment, the oldest first; ``condition`` is SQL of ours.

    For flows that are short by their nature.
    """
    where = Where(run_id)
    where.moment(moment)
    where.add(condition)
    async with database.reading() as connection:
        rows = await connection.fetch(
            f"SELECT {_COLUMNS} FROM {relation} WHERE {where}"  # noqa: S608 - names of ours
            f" ORDER BY {ordered(ORDER, newest=False)}",
            *where.values,
        )
    return [published_of(relation, row) for row in rows]


async def latest(
    database: Database,
    relation: str,
    run_id: str,
    keys: tuple[str, ...],
    filters: Filters = ALL,
    moment: Moment = NOW,
    **equal: str,
) -> list[Any]:
    """Return for each value of ``keys`` the last record up to a moment, by key."""
    found = await newest(database, relation, run_id, keys, filters, moment, **equal)
    return [item.record for item in found]


# ---- backtests and runs

_RESULT = "r.record_type = 'backtest_result'"
_FINISHED = "coalesce((r.body->>'finished_ns')::bigint, r.ts_ns)"
"""When a backtest finished by the wall clock; older records tell the market's time alone."""

_STANDS = """NOT (coalesce(r.body->'metrics'->>'code', '') = 'interrupted' AND EXISTS (
    SELECT FROM backtests o WHERE o.task_id = r.task_id AND o.run_id = r.run_id
        AND o.record_type = 'backtest_result' AND o.event_id <> r.event_id))"""
"""What an agent said for another that was only silent does not count beside its own result."""


def _with_requests(results: str) -> str:
    """Return the query of what ``results`` selects of ``backtests r``, each with its request."""
    return f"""
        SELECT r.*, q.body AS asked, q.event_id AS asked_id FROM (
            SELECT r.run_id, r.task_id, {_FINISHED} AS finished_ns, r.event_id, r.body
            FROM backtests r WHERE {_RESULT} AND {_STANDS} AND {results}
        ) r LEFT JOIN LATERAL (
            SELECT body, event_id FROM backtests q
            WHERE q.task_id = r.task_id AND q.run_id = r.run_id
                AND q.record_type = 'backtest_request'
            ORDER BY ts_ns DESC LIMIT 1
        ) q ON true
        ORDER BY r.finished_ns DESC, r.event_id DESC, r.run_id DESC
    """  # noqa: S608 - names of ours


async def backtests(
    database: Database, strategy_name: str, limit: int, cursor: str, run_id: str
) -> Page[StoredBacktest]:
    """Return finished backtests, the newest first."""
    count = limit_of(limit)
    where = Where()
    if run_id:
        where.add("r.run_id = {}", run_id)
    if strategy_name:
        where.add("r.strategy_name = {}", strategy_name)
    key = read_cursor("backtests", cursor, int, str, str)
    if key is not None:
        marks = ", ".join(where.mark(value) for value in key)
        where.add(f"({_FINISHED}, r.event_id, r.run_id) < ({marks})")
    async with database.reading() as connection:
        rows = await connection.fetch(
            _with_requests(
                f"{where} ORDER BY finished_ns DESC, r.event_id DESC, r.run_id DESC"
                f" LIMIT {where.mark(count + 1)}"
            ),
            *where.values,
        )
    following = ""
    if len(rows) > count:
        last = rows[count - 1]
        following = write_cursor(
            "backtests", [last["finished_ns"], last["event_id"], last["run_id"]]
        )
    return Page([_backtest(row) for row in rows[:count]], following)


async def backtest(database: Database, task_id: str) -> StoredBacktest | None:
    """Return one finished backtest."""
    async with database.reading() as connection:
        row = await connection.fetchrow(
            _with_requests("r.task_id = $1 ORDER BY finished_ns DESC LIMIT 1"), storable(task_id)
        )
    return None if row is None else _backtest(row)


def _backtest(row: Any) -> StoredBacktest:
    request = None
    if row["asked"] is not None:
        request = _decoder("backtests").decode(row["asked"])
        request.run_id = row["run_id"]
        request.event_id = request.event_id or row["asked_id"]
    return StoredBacktest(record_of("backtests", row), request)


async def runs(database: Database, limit: int, cursor: str, run_id: str) -> Page[StoredRun]:
    """Return the runs that have rows, the last begun first."""
    count = limit_of(limit)
    key = read_cursor("runs", cursor, int, str)
    where = Where()
    if run_id:
        where.add("s.run_id = {}", run_id)
    if key is not None:
        where.add("(begun, s.run_id) < ({}, {})", *key)
    async with database.reading() as connection:
        rows = await connection.fetch(
            f"""
            SELECT s.*, m.body, m.event_id FROM (
                SELECT run_id, (extract(epoch FROM min(begun_at)) * 1000000)::bigint AS begun,
                    min(first_ns) FILTER (WHERE relation NOT IN ('instruments', 'runs'))
                        AS first_ns,
                    max(last_ns) AS last_ns
                FROM spans GROUP BY run_id
            ) s LEFT JOIN LATERAL (
                SELECT body, event_id FROM runs m WHERE m.run_id = s.run_id
                ORDER BY segment DESC, output_hash DESC LIMIT 1
            ) m ON true
            WHERE {where} ORDER BY begun DESC, s.run_id DESC LIMIT {where.mark(count + 1)}
            """,  # noqa: S608 - names of ours
            *where.values,
        )
    items = [
        StoredRun(
            row["run_id"],
            None if row["body"] is None else record_of("runs", row),
            row["first_ns"],
            row["last_ns"],
        )
        for row in rows[:count]
    ]
    following = ""
    if len(rows) > count:
        last = rows[count - 1]
        following = write_cursor("runs", [last["begun"], last["run_id"]])
    return Page(items, following)
