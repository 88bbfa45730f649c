"""A sink stores every record once: whatever happens to it, and however many there are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from schemas.commands import SubmitOrder
from schemas.enums import Side
from schemas.errors import InvariantError, StorageError
from schemas.market_data import Bar, Trade
from schemas.topics import ACCOUNT_INPUTS, MARKET_BARS, MARKET_EVENTS
from streams.database.batches import Batch, Place
from streams.database.connecting import Database
from streams.database.journals import JournalSource
from streams.database.maintenance import forget, refresh_aggregates
from streams.database.migrating import server_of
from streams.database.queries import StoredHistory
from streams.database.sinks import Sink
from streams.database.tables import ROLLUPS
from streams.database.writing import PlaceMovedError, Stored, Writer
from streams.history import Window
from tests.database_case import (
    journaled_rows,
    make_runner,
    record_run,
    rows_of,
    stored_rows,
    until,
)
from tests.tcp_gate import Gate

MINUTE = 60_000_000_000
AT = 1_700_000_000_000_000_000 // MINUTE * MINUTE


async def check_stored(database: Database, journal: Path, run_id: str) -> int:
    """Hold the tables to the journal, row by row; return how many rows there are."""
    expected = journaled_rows(journal)
    async with database.reading() as connection:
        found = await stored_rows(connection, run_id)
    assert found == expected
    return rows_of(found)


async def drain(database: Database, journal: Path, rows_max: int = 500) -> Sink:
    sink = Sink(database, JournalSource(journal, rows_max=rows_max), time.time_ns)
    await sink.drain()
    return sink


async def test_journal_is_stored_once_however_often_it_is_read(
    database: Database, tmp_path: Path, tier: str
) -> None:
    journal = record_run(tmp_path / "j", "once")

    first, second = await drain(database, journal), await drain(database, journal)

    rows = await check_stored(database, journal, "once")
    assert first.state.rows == rows > 3000
    assert second.state.rows == 0
    assert first.state.tier == tier or tier == "given"


async def test_two_runs_of_the_same_data_keep_all_their_rows(
    database: Database, tmp_path: Path
) -> None:
    journals = [record_run(tmp_path / name, name) for name in ("twin-a", "twin-b")]

    for journal in journals:
        await drain(database, journal)

    rows = [await check_stored(database, journal, journal.name) for journal in journals]
    assert rows[0] == rows[1]


async def test_two_sinks_at_once_neither_lose_nor_double(
    database: Database, tmp_path: Path
) -> None:
    journal = record_run(tmp_path / "j", "rivals")
    moved = 0

    async def rival() -> None:
        nonlocal moved
        while True:
            try:
                sink = await drain(database, journal, rows_max=100)
            except PlaceMovedError:
                moved += 1
            else:
                assert sink.state.lag == 0
                return

    await asyncio.gather(rival(), rival(), rival())

    assert moved > 0
    await check_stored(database, journal, "rivals")


async def test_running_journal_is_followed_to_its_end(database: Database, tmp_path: Path) -> None:
    runner = make_runner(tmp_path / "j", "followed")
    sink = Sink(database, JournalSource(tmp_path / "j"), time.time_ns, poll_s=0.01)
    storing = asyncio.create_task(sink.run())
    while not runner.feed.is_done:
        runner.turn()
        await asyncio.sleep(0)
    runner.finish()
    expected = rows_of(journaled_rows(tmp_path / "j"))
    await until(lambda: sink.state.rows >= expected)
    sink.stop()
    await storing
    runner.close()

    await check_stored(database, tmp_path / "j", "followed")


async def test_database_that_goes_away_is_caught_up_with(
    database_options: dict[str, object], tmp_path: Path
) -> None:
    async with Gate(database_options) as gate:
        database = Database(gate.options)
        history = StoredHistory(database)
        runner = make_runner(tmp_path / "j", "outage")
        sink = Sink(database, JournalSource(tmp_path / "j"), time.time_ns, poll_s=0.01)
        storing = asyncio.create_task(sink.run())
        runner.turn()
        await until(lambda: sink.state.rows > 0)
        await gate.shut()
        runner.turn()
        await until(lambda: sink.state.status == "away")
        # The run goes on while nothing is stored, and questions get an answer all the same.
        while not runner.feed.is_done:
            runner.turn()
        runner.finish()
        with pytest.raises(StorageError):
            await history.trades(Window("outage"), "AA.XXXX")
        assert sink.state.last_error
        await gate.open()
        expected = rows_of(journaled_rows(tmp_path / "j"))
        await until(lambda: sink.state.rows >= expected and sink.state.is_up)
        assert (await history.trades(Window("outage"), "AA.XXXX")).items
        sink.stop()
        await storing
        runner.close()
        await check_stored(database, tmp_path / "j", "outage")
        await database.close()


FILL = """
    CREATE FUNCTION millrace.fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        RAISE EXCEPTION 'could not extend file "base/5/7": No space left on device'
            USING ERRCODE = 'disk_full';
    END $$;
    CREATE TRIGGER fill BEFORE UPDATE ON millrace.sink_positions
        FOR EACH ROW WHEN (NEW.sink = 'journal:full') EXECUTE FUNCTION millrace.fill();
"""


async def test_sink_on_a_full_disk_says_so_until_it_has_stored_something(
    database: Database, tmp_path: Path
) -> None:
    runner = make_runner(tmp_path / "j", "full")
    sink = Sink(database, JournalSource(tmp_path / "j"), time.time_ns, poll_s=0.01)
    async with database.connection() as connection:
        await connection.execute(FILL)
        try:
            assert sink.state.sink == "journal:full"
            storing = asyncio.create_task(sink.run())
            runner.turn()
            await until(lambda: sink.state.status == "away")
            seen = set()

            def has_tried_again() -> bool:
                seen.add((sink.state.status, sink.state.last_error.partition(" (")[0]))
                return sink.state.failures >= 4

            await until(has_tried_again)
            assert seen == {("away", "the database's disk is full")}
            assert "free space" in sink.state.last_error
        finally:
            await connection.execute("DROP FUNCTION millrace.fill CASCADE")
    while not runner.feed.is_done:
        runner.turn()
    runner.finish()
    expected = rows_of(journaled_rows(tmp_path / "j"))
    await until(lambda: sink.state.rows >= expected)
    assert (sink.state.status, sink.state.last_error) == ("storing", "")
    sink.stop()
    await storing
    runner.close()
    await check_stored(database, tmp_path / "j", "full")


async def test_forgotten_run_leaves_no_row_and_can_come_again(
    database: Database, tmp_path: Path
) -> None:
    journals = [record_run(tmp_path / name, name) for name in ("goes", "stays")]
    for journal in journals:
        await drain(database, journal)

    removed = await forget(database, "goes")

    assert removed == rows_of(journaled_rows(journals[0]))
    async with database.reading() as connection:
        assert await stored_rows(connection, "goes") == {}
    await check_stored(database, journals[1], "stays")
    await drain(database, journals[0])
    await check_stored(database, journals[0], "goes")


async def test_other_journal_of_the_same_name_is_refused(
    database: Database, tmp_path: Path
) -> None:
    await drain(database, record_run(tmp_path / "long", "name", 400))
    shorter = record_run(tmp_path / "short", "name", 50)

    with pytest.raises(InvariantError, match="another journal"):
        await drain(database, shorter)


# ---- batches by hand


class OneBatch:
    """A sink's writer with a place of its own."""

    place: Place = ("by-hand", 0)

    def __init__(self, database: Database, run_id: str) -> None:
        self.database = database
        self.batch = Batch(run_id)
        self.writer = Writer(f"test:{run_id}")
        self._next = 0

    async def write(self) -> None:
        """Store the batch and begin another."""
        async with self.database.writing() as connection:
            await self.writer.prepare(connection, time.time_ns())
            await self.writer.begin(connection, {self.place: 0})
            self.batch.places[self.place] = self._next + 1
            known = {self.place: Stored(self._next, {})}
            await self.writer.write(connection, self.batch, known)
        self._next += 1
        self.batch = Batch(self.batch.run_id)


def order(client_order_id: str, quantity: str, event_id: str = "") -> SubmitOrder:
    """Return a command."""
    return SubmitOrder(
        event_id or client_order_id,
        AT,
        "c",
        "",
        "paper",
        "manual",
        client_order_id,
        "AA.XXXX",
        Side.BUY,
        Decimal(quantity),
    )


async def test_record_that_no_table_takes_is_kept_aside_with_the_reason(
    database: Database,
) -> None:
    hand = OneBatch(database, "poison")
    hand.batch.add_records(
        ACCOUNT_INPUTS,
        0,
        [(0, order("good", "1")), (1, order("huge", "1E+200000")), (2, order("nul\x00", "2"))],
    )
    early = Trade(
        event_id="", ts_event_ns=2**63, source="s", instrument_id="AA.XXXX", price=1.0, size=1.0
    )
    fine = Trade(
        event_id="", ts_event_ns=AT, source="s", instrument_id="A\x00A", price=1.0, size=1.0
    )
    hand.batch.add_records(MARKET_EVENTS, 0, [(7, fine), (8, early)])
    await hand.write()

    async with database.reading() as connection:
        rows = await connection.fetch(
            "SELECT client_order_id, quantity FROM orders WHERE run_id = 'poison' ORDER BY 1"
        )
        rejects = await connection.fetch(
            "SELECT topic, log_offset, reason FROM sink_rejects WHERE sink = 'test:poison'"
            " ORDER BY log_offset"
        )
        trades = await connection.fetchval("SELECT count(*) FROM trades WHERE run_id = 'poison'")
    assert [tuple(row.values()) for row in rows] == [("good", 1), ("nul\ufffd", 2)]
    assert [(row["topic"], row["log_offset"]) for row in rejects] == [
        (ACCOUNT_INPUTS, 1),
        (MARKET_EVENTS, 8),
    ]
    assert all(row["reason"] for row in rejects)
    assert trades == 1


async def test_record_that_comes_twice_is_one_row_of_its_run(database: Database) -> None:
    for run_id in ("dup-a", "dup-b"):
        hand = OneBatch(database, run_id)
        for _ in range(2):
            hand.batch.add_records(ACCOUNT_INPUTS, 0, [(0, order("same", "1"))])
            await hand.write()

    async with database.reading() as connection:
        rows = await connection.fetch("SELECT run_id FROM orders WHERE run_id LIKE 'dup-%'")
    assert Counter(row["run_id"] for row in rows) == {"dup-a": 1, "dup-b": 1}


def bar(number: int, close: float, volume: float = 10.0, revision: int = 0) -> Bar:
    """Return a minute bar."""
    return Bar(
        event_id="",
        ts_event_ns=AT + (number + 1) * MINUTE,
        source="bar",
        source_seq=AT + (number + 1) * MINUTE,
        instrument_id="AA.XXXX",
        interval="1m",
        open=close - 1,
        high=close + 2,
        low=close - 3,
        close=close,
        volume=volume,
        vwap=close,
        trade_count=3,
        revision=revision,
    )


async def test_rollups_follow_the_bars_and_their_corrections(database: Database) -> None:
    earlier, hand = OneBatch(database, "rolled earlier"), OneBatch(database, "rolled")
    history = StoredHistory(database)
    closes = [100.0 + number for number in range(120)]
    # What is newer than the last refresh is computed when asked for, so there must have been one.
    earlier.batch.add_records(MARKET_BARS, 0, [(n, bar(n, c)) for n, c in enumerate(closes)])
    await earlier.write()
    async with database.reading() as connection:
        has_aggregates = (await server_of(connection)).tier.has_aggregates
    assert await refresh_aggregates(database) == (len(ROLLUPS) if has_aggregates else 0)
    hand.batch.add_records(MARKET_BARS, 0, [(n, bar(n, c)) for n, c in enumerate(closes)])
    await hand.write()
    hand.batch.add_records(MARKET_BARS, 0, [(120, bar(7, 500.0, 30.0, revision=1))])
    await hand.write()
    closes[7] = 500.0
    window = Window("rolled", is_newest_first=False, limit=500)
    async with asyncio.timeout(60):
        # A job of the database that runs already refreshes what was there when it began.
        await refresh_aggregates(database)
        while len((await history.bars(window, "AA.XXXX", "1h")).start) < 2:
            await refresh_aggregates(database)

    for interval, relation, minutes in (
        ("5m", "bars_5m", 5),
        ("15m", "bars_5m", 15),
        ("1h", "bars_1h", 60),
    ):
        series = await history.bars(window, "AA.XXXX", interval)
        length = minutes * MINUTE
        groups: dict[int, list[int]] = {}
        for number in range(120):
            groups.setdefault((AT + number * MINUTE) // length * length, []).append(number)
        assert series.relation == relation
        assert series.start.tolist() == list(groups)
        assert series.ts.tolist() == [start + length for start in groups]
        assert series.open.tolist() == [closes[g[0]] - 1 for g in groups.values()]
        assert series.close.tolist() == [closes[g[-1]] for g in groups.values()]
        assert series.high.tolist() == [max(closes[n] for n in g) + 2 for g in groups.values()]
        assert series.low.tolist() == [min(closes[n] for n in g) - 3 for g in groups.values()]
        assert series.volume.tolist() == [
            sum(30.0 if n == 7 else 10.0 for n in g) for g in groups.values()
        ]
        assert series.trade_count.tolist() == [3 * len(g) for g in groups.values()]
    minutes_found = await history.bars(
        Window("rolled", is_newest_first=False, limit=500), "AA.XXXX", "1m"
    )
    assert minutes_found.relation == "bars"
    assert minutes_found.close.tolist() == closes
