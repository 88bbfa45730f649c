"""Questions about results: what groups of positions and fills amount to."""

from __future__ import annotations

from typing import Any

from schemas.errors import ConfigError
from schemas.values import ZERO
from streams.cursors import read_cursor, write_cursor
from streams.database.connecting import Database
from streams.database.paging import ORDER, Where, limit_of, ordered
from streams.database.queries_records import record_of
from streams.database.tables import FLOW_BY_NAME
from streams.history import PNL_GROUPS, Filters, Moment, Page, PnlRow, PositionStep, Window

_GROUPS = {
    "strategy": "strategy_id",
    "instrument": "instrument_id",
    "day": "to_char(ts(ts_ns) AT TIME ZONE 'UTC', 'YYYY-MM-DD')",
}


# One look for each row of the page: a join would read all fills for every page.
_BEHIND = """
    LEFT JOIN LATERAL (
        SELECT body, event_id FROM fills f
        WHERE f.run_id = p.run_id AND f.ts_ns = p.ts_ns AND f.event_id = p.causation_id LIMIT 1
    ) f ON p.reason = 'fill'
"""


async def position_steps(
    database: Database, window: Window, account_id: str, strategy_id: str
) -> Page[PositionStep]:
    """Return changes of positions, each with the fill that it names as its cause."""
    newest, limit = window.is_newest_first, limit_of(window.limit)
    where = Where(window.run_id)
    where.add("account_id = {}", account_id)
    where.add("strategy_id = {}", strategy_id)
    where.span(window.first_ns, window.until_ns)
    key = read_cursor("position_steps", window.cursor, int, int, int, str)
    where.behind(key, ORDER, newest=newest)
    async with database.reading() as connection:
        rows = await connection.fetch(
            f"""
            SELECT p.*, f.body AS fill, f.event_id AS fill_id FROM (
                SELECT run_id, ts_ns, log_partition, log_offset, event_id, causation_id, reason,
                    body
                FROM positions WHERE {where}
                ORDER BY {ordered(ORDER, newest=newest)} LIMIT {where.mark(limit + 1)}
            ) p {_BEHIND} ORDER BY {ordered(ORDER, newest=newest, prefix="p.")}
            """,  # noqa: S608 - names of ours; values are parameters
            *where.values,
        )
    cursor = ""
    if len(rows) > limit:
        cursor = write_cursor("position_steps", [rows[limit - 1][name] for name in ORDER])
    return Page([_step(row) for row in rows[:limit]], cursor)


def _step(row: Any) -> PositionStep:
    fill = None
    if row["fill"] is not None:
        whole = {"run_id": row["run_id"], "body": row["fill"], "event_id": row["fill_id"]}
        fill = record_of("fills", whole)
    return PositionStep(record_of("positions", row), fill)


async def decision_counts(
    database: Database, run_id: str, as_of: Moment, account_id: str
) -> dict[str, int]:
    """Return the decisions of the risk gate counted by code, in the order of their first."""
    where = Where(run_id)
    where.filters(Filters(account_id), FLOW_BY_NAME["risk_decisions"].fields)
    where.moment(as_of)
    async with database.reading() as connection:
        rows = await connection.fetch(
            "SELECT CASE WHEN is_approved THEN '' ELSE code END AS kind, count(*) AS decisions"  # noqa: S608 - values are parameters
            f" FROM risk_decisions WHERE {where} GROUP BY 1 ORDER BY min(ts_ns), 1",
            *where.values,
        )
    return {row["kind"]: row["decisions"] for row in rows}


async def pnl(database: Database, window: Window, group_by: str, filters: Filters) -> Page[PnlRow]:
    """Return what groups gained in a span: positions tell sums, so steps between them are added.

    Under a new symbol a position keeps the results that it has: such a step is no gain.
    """
    key = _GROUPS.get(group_by)
    if key is None:
        raise ConfigError(
            "results cannot be grouped so",
            field="group_by",
            value=group_by,
            remedy=f"use one of {', '.join(PNL_GROUPS)}",
        )
    limit = limit_of(window.limit)
    newest = window.is_newest_first
    question = f"pnl/{group_by}"
    steps = Where(window.run_id)
    steps.filters(filters._replace(client_order_id=""), FLOW_BY_NAME["positions"].fields)
    steps.span(None, window.until_ns)
    begun = Where()
    fills = Where()
    rest = Where()
    for where in (begun, fills, rest):
        where.values = steps.values
    begun.span(window.first_ns, None)
    fills.add("run_id = {}", window.run_id)
    fills.filters(filters, FLOW_BY_NAME["fills"].fields)
    fills.span(window.first_ns, window.until_ns)
    rest.behind(read_cursor(question, window.cursor, str, str), ("key", "currency"), newest=newest)
    direction = "DESC" if newest else "ASC"
    sql = f"""
        WITH steps AS (
            SELECT {key} AS key, currency, ts_ns, reason,
                realized_pnl - coalesce(lag(realized_pnl) OVER p, 0) AS realized_pnl,
                fees - coalesce(lag(fees) OVER p, 0) AS fees
            FROM positions WHERE {steps}
            WINDOW p AS (PARTITION BY account_id, strategy_id, instrument_id
                ORDER BY ts_ns, log_partition, log_offset, event_id)
        ), gains AS (
            SELECT key, currency, sum(realized_pnl) AS realized_pnl, sum(fees) AS fees
            FROM steps WHERE {begun} AND reason <> 'symbol_change' GROUP BY key, currency
        ), traded AS (
            SELECT {key} AS key, currency, count(*) AS fills, sum(price * quantity) AS notional
            FROM fills WHERE {fills} GROUP BY 1, 2
        )
        SELECT * FROM gains FULL JOIN traded USING (key, currency) WHERE {rest}
        ORDER BY key {direction}, currency {direction} LIMIT {rest.mark(limit + 1)}
    """  # noqa: S608 - names of ours; values are parameters
    async with database.reading() as connection:
        rows = await connection.fetch(sql, *rest.values)
    cursor = ""
    if len(rows) > limit:
        cursor = write_cursor(question, [rows[limit - 1]["key"], rows[limit - 1]["currency"]])
    return Page([_row(row) for row in rows[:limit]], cursor)


def _row(row: Any) -> PnlRow:
    return PnlRow(
        row["key"],
        row["currency"],
        ZERO if row["realized_pnl"] is None else row["realized_pnl"],
        ZERO if row["fees"] is None else row["fees"],
        row["fills"] or 0,
        ZERO if row["notional"] is None else row["notional"],
    )
