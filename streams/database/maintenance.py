"""Work beside the sinks: retention, prompt aggregates, and forgetting a run.

Retention is by the time of the records, not of their arrival: what is kept for 30 days is the last
30 days, and history of an older date goes with the next round. Nothing is dropped unless a setting
says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import asyncpg

from schemas.errors import ConfigError
from streams.database.connecting import Database
from streams.database.journals import sink_of as journal_sink
from streams.database.migrating import server_of
from streams.database.partitions import Partitions
from streams.database.tables import FLOWS, ROLLUPS, SCHEMA, SERIES
from streams.database.tiers import Server
from streams.database.topics import sink_of as topics_sink

_TRIES = 40
_TRY_S = 0.25
DAY_NS = 86_400_000_000_000

KEEPABLE = tuple(table.relation for table in (*SERIES, *FLOWS))
"""Tables for which a retention may be set."""


def check_keep(keep_days: Mapping[str, float]) -> None:
    """Raise ConfigError for a table that there is not, or a time that is none."""
    for name, days in keep_days.items():
        if name not in KEEPABLE or not days > 0:
            raise ConfigError(
                "a retention names a table and a number of days",
                field=f"database.keep_days.{name}",
                value=days,
                remedy=f"tables are {', '.join(KEEPABLE)}",
            )


async def keep(database: Database, keep_days: Mapping[str, float], now_ns: int) -> None:
    """Drop what is older than its table's retention, and make partitions ahead of time.

    Raises StorageError if the database is away.
    """
    check_keep(keep_days)
    async with database.writing() as connection:
        server = await server_of(connection)
        partitions = Partitions()
        if not server.tier.has_hypertables:
            await partitions.make_ahead(connection, now_ns)
        for series in SERIES:
            days = keep_days.get(series.relation)
            cutoff_ns = now_ns - round(days * DAY_NS) if days else None
            await _keep_series(connection, server, partitions, series.relation, cutoff_ns, days)
        for flow in FLOWS:
            if flow.relation in keep_days:
                cutoff = now_ns - round(keep_days[flow.relation] * DAY_NS)
                await connection.execute(
                    f"DELETE FROM {flow.relation} WHERE ts_ns < $1",  # noqa: S608 - a name of ours
                    cutoff,
                )


async def _keep_series(
    connection: Any,
    server: Server,
    partitions: Partitions,
    relation: str,
    cutoff_ns: int | None,
    days: float | None,
) -> None:
    if server.tier.has_aggregates:
        # The server has a job for it; its policy is made anew, for the setting may have changed.
        await connection.execute("SELECT remove_retention_policy($1, if_exists => true)", relation)
        if days:
            await connection.execute(
                f"SELECT add_retention_policy($1, drop_after => BIGINT '{round(days * DAY_NS)}')",
                relation,
            )
    elif cutoff_ns is None:
        return
    elif server.tier.has_hypertables:
        await connection.execute(f"SELECT drop_chunks($1, BIGINT '{cutoff_ns}')", relation)
    else:
        await partitions.drop_before(connection, relation, cutoff_ns)


async def refresh_aggregates(database: Database) -> int:
    """Bring the continuous aggregates up to date now; return how many there are.

    The server does so by itself within a minute; after a bulk of history one may not want to wait.
    Nothing happens on servers without aggregates. Raises StorageError if the database is away.
    """
    async with database.writing() as connection:
        if not (await server_of(connection)).tier.has_aggregates:
            return 0
        jobs = await connection.fetch(
            """
            SELECT j.job_id FROM timescaledb_information.jobs j
            JOIN timescaledb_information.continuous_aggregates a
                -- Newer servers name the view here, older ones the table behind it.
                ON (j.hypertable_schema, j.hypertable_name) IN (
                    (a.view_schema, a.view_name),
                    (a.materialization_hypertable_schema, a.materialization_hypertable_name)
                )
            WHERE j.proc_name = 'policy_refresh_continuous_aggregate' AND a.view_schema = $1
            ORDER BY j.job_id
            """,
            SCHEMA,
        )
        for job in jobs:
            # Each builds on the one before it.
            await _run_job(connection, int(job["job_id"]))
        return len(jobs)


async def _run_job(connection: Any, job_id: int) -> None:
    """Run a job of the server, or wait a moment for the server that runs it itself."""
    for _ in range(_TRIES):
        try:
            await connection.execute(f"CALL run_job({job_id})")
        except (asyncpg.ObjectInUseError, asyncpg.ObjectNotInPrerequisiteStateError):
            await asyncio.sleep(_TRY_S)
        else:
            return


async def forget(database: Database, run_id: str) -> int:
    """Remove all rows of a run and the places of its sinks; return how many rows there were."""
    removed = 0
    async with database.connection() as connection:
        server = await server_of(connection)
        names = [*KEEPABLE, *(f"bars_{name}" for name in ROLLUPS if not server.tier.has_aggregates)]
        async with connection.transaction():
            for name in (*names, "spans"):
                done = await connection.execute(
                    f"DELETE FROM {name} WHERE run_id = $1",  # noqa: S608 - a name of ours
                    run_id,
                )
                removed += int(done.rpartition(" ")[2]) if name in KEEPABLE else 0
            for name in ("sink_positions", "sink_rejects", "sink_gaps"):
                await connection.execute(
                    f"DELETE FROM {name} WHERE sink = ANY($1)",  # noqa: S608 - a name of ours
                    [journal_sink(run_id), topics_sink(run_id)],
                )
    await refresh_aggregates(database)
    return removed
