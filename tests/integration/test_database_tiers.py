"""What a tier is known for is in use: partitions, BRIN, chunks, columnstore, aggregates."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import pytest

from schemas.errors import StorageError
from schemas.market_data import Trade
from schemas.topics import MARKET_EVENTS
from streams.database.connecting import Database
from streams.database.maintenance import keep
from streams.database.migrating import Status, migrate, status
from streams.database.queries import StoredHistory
from streams.database.tables import BOOKKEEPING, FLOWS, ROLLUPS, SERIES
from streams.history import Window
from tests.database_case import Servers
from tests.integration.test_database_sinks import OneBatch

DAY = 86_400_000_000_000
OLD = 1_380_000_000_000_000_000  # September 2013
NAMES = {series.relation for series in SERIES}


def trade(ts_ns: int, number: int) -> Trade:
    """Return a trade."""
    return Trade(
        event_id="", ts_event_ns=ts_ns, source="s", source_seq=number, instrument_id="AA.XXXX",
        price=100.0 + number, size=1.0,
    )  # fmt: skip


async def fill_days(database: Database, run_id: str, first_ns: int, days: int) -> None:
    """Store 200 trades a day."""
    await write_days(OneBatch(database, run_id), first_ns, days)


async def write_days(hand: OneBatch, first_ns: int, days: int) -> None:
    """Store 200 trades a day by a writer that may have written before."""
    items = [
        (day * 200 + n, trade(first_ns + day * DAY + n * 1_000_000_000, day * 200 + n))
        for day in range(days)
        for n in range(200)
    ]
    hand.batch.add_records(MARKET_EVENTS, 0, items)
    await hand.write()


async def plan(connection: Any, sql: str, *values: object) -> str:
    """Return a statement's plan as text."""
    rows = await connection.fetch(f"EXPLAIN (FORMAT JSON) {sql}", *values)
    return json.dumps(json.loads(rows[0][0]))


@pytest.fixture
async def found(database: Database) -> Status:
    """Give what the database says of itself."""
    return await status(database)


async def test_tables_are_those_that_the_code_knows(database: Database, found: Status) -> None:
    async with database.reading() as connection:
        rows = await connection.fetch(
            "SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
            " WHERE n.nspname = 'millrace' AND c.relkind IN ('r', 'p', 'v')"
            " AND NOT c.relispartition"
        )
    wanted = {*NAMES, *(flow.relation for flow in FLOWS), *BOOKKEEPING}
    assert {row["relname"] for row in rows} == wanted | {f"bars_{name}" for name in ROLLUPS}
    assert found.is_current


async def test_series_are_cut_by_time_and_questions_touch_few_pieces(
    database: Database, found: Status
) -> None:
    run_id = f"cut-{found.server.tier}"
    await fill_days(database, run_id, OLD, 70)
    async with database.reading() as connection:
        text = await plan(
            connection,
            "SELECT * FROM trades WHERE run_id = $1 AND ts_ns >= $2 AND ts_ns < $3",
            run_id,
            OLD,
            OLD + DAY,
        )
        if found.server.tier.has_hypertables:
            rows = await connection.fetch(
                "SELECT hypertable_name FROM timescaledb_information.hypertables"
                " WHERE hypertable_schema = 'millrace'"
            )
            assert {row["hypertable_name"] for row in rows} >= NAMES
            chunks = await connection.fetchval(
                "SELECT count(*) FROM timescaledb_information.chunks"
                " WHERE hypertable_name = 'trades'"
            )
            assert chunks >= 10
            assert 1 <= text.count('"Relation Name": "_hyper') <= 2
        else:
            assert '"Relation Name": "trades_y2013m09"' in text
            assert "trades_y2013m10" not in text
            partitions = await connection.fetchval(
                "SELECT count(*) FROM pg_inherits WHERE inhparent = 'trades'::regclass"
            )
            assert partitions >= 3 + 2  # those of the rows, and two ahead
            methods = await connection.fetch(
                "SELECT DISTINCT am.amname FROM pg_class c JOIN pg_am am ON am.oid = c.relam"
                " JOIN pg_index i ON i.indexrelid = c.oid"
                " WHERE i.indrelid = 'trades_y2013m09'::regclass"
            )
            assert [row["amname"] for row in methods] == ["brin"]
    page = await StoredHistory(database).trades(Window(run_id, limit=1000), "AA.XXXX")
    assert [item.source_seq for item in page.items] == list(
        range(70 * 200 - 1, 70 * 200 - 1001, -1)
    )


async def test_retention_drops_what_is_old_and_nothing_else(servers: Servers, tier: str) -> None:
    database = Database(await servers.new_database(tier))
    now_ns = time.time_ns()
    aged = OneBatch(database, "aged")
    await write_days(aged, now_ns - 400 * DAY, 1)
    await fill_days(database, "fresh", now_ns - DAY, 1)
    found = await status(database)

    await keep(database, {}, now_ns)
    async with database.writing() as connection:
        assert await connection.fetchval("SELECT count(*) FROM trades") == 400
    await keep(database, {"trades": 200}, now_ns)

    async with database.writing() as connection:
        if found.server.tier.has_aggregates:
            job = await connection.fetchval(
                "SELECT job_id FROM timescaledb_information.jobs"
                " WHERE proc_name = 'policy_retention' AND hypertable_name = 'trades'"
            )
            await connection.execute(f"CALL run_job({job})")
        rows = await connection.fetch("SELECT run_id, count(*) FROM trades GROUP BY 1")
    assert [tuple(row.values()) for row in rows] == [("fresh", 200)]

    # Who wrote into what was dropped goes on there.
    await write_days(aged, now_ns - 399 * DAY, 1)
    async with database.reading() as connection:
        count = await connection.fetchval("SELECT count(*) FROM trades WHERE run_id = 'aged'")
    # A server with a job of its own may have dropped it again at once.
    assert count == 200 or found.server.tier.has_aggregates
    await database.close()


async def test_columnstore_and_aggregates_are_in_use_where_there_are_any(
    database: Database, found: Status
) -> None:
    if not found.server.tier.has_aggregates:
        async with database.reading() as connection:
            kinds = await connection.fetch(
                "SELECT relkind::text FROM pg_class WHERE relname = ANY($1)"
                " AND relnamespace = 'millrace'::regnamespace",
                [f"bars_{name}" for name in ROLLUPS],
            )
        assert [row["relkind"] for row in kinds] == ["r"] * len(ROLLUPS)
        return
    await fill_days(database, "columns", OLD, 8)
    async with database.writing() as connection:
        chunks = await connection.fetch("SELECT show_chunks('trades')::text AS chunk")
        for row in chunks:
            await connection.execute(f"CALL convert_to_columnstore('{row['chunk']}', true)")
        compressed = await connection.fetchval(
            "SELECT count(*) FROM timescaledb_information.chunks"
            " WHERE hypertable_name = 'trades' AND is_compressed"
        )
        aggregates = await connection.fetch(
            "SELECT view_name, materialized_only FROM"
            " timescaledb_information.continuous_aggregates WHERE view_schema = 'millrace'"
        )
        jobs = await connection.fetch(
            "SELECT proc_name, count(*) AS n FROM timescaledb_information.jobs GROUP BY 1"
        )
        scan = await plan(
            connection,
            "SELECT avg(price) FROM trades WHERE run_id = 'columns' AND instrument_id = 'AA.XXXX'",
        )
    assert compressed == len(chunks) > 0
    assert {row["view_name"] for row in aggregates} == {f"bars_{name}" for name in ROLLUPS}
    assert not any(row["materialized_only"] for row in aggregates)
    counts = {row["proc_name"]: row["n"] for row in jobs}
    assert counts["policy_compression"] == len(SERIES)
    assert counts["policy_refresh_continuous_aggregate"] == len(ROLLUPS)
    assert "ColumnarScan" in scan or "DecompressChunk" in scan
    # What is in the columnstore is found, and takes further rows.
    await fill_days(database, "columns-too", OLD, 1)
    page = await StoredHistory(database).trades(Window("columns", limit=10_000), "AA.XXXX")
    assert len(page.items) == 8 * 200


async def test_two_programs_migrate_at_once_and_once_is_enough(servers: Servers, tier: str) -> None:
    options = await servers.new_database(tier, is_migrated=False)
    databases = [Database(options) for _ in range(2)]
    before = await status(databases[0])

    done = await asyncio.gather(*(migrate(database) for database in databases))

    assert {step.state for step in before.steps} == {"pending"}
    assert sorted(map(len, done)) == [0, len(before.steps)]
    assert (await status(databases[0])).is_current
    for database in databases:
        await database.close()


async def test_reader_cannot_write(database: Database) -> None:
    with pytest.raises(StorageError, match="read-only"):
        async with database.reading() as connection:
            await connection.execute("DELETE FROM fills")
