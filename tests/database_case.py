"""Databases for tests, a server for each tier that this machine has, and runs to store."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.engine import Engine, EngineConfig
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.replay import Identity, manifest_of, replay
from agents.strategy.builtin import BUILTIN
from schemas.envelope import Header
from schemas.topics import MARKET_EVENTS, PORTFOLIO_EQUITY
from streams.database.connecting import Database
from streams.database.embedded import EmbeddedServer, has_timescale
from streams.database.migrating import migrate
from streams.database.preparing import make_database
from streams.database.tables import FLOW_BY_SOURCE, SERIES_BY_SOURCE
from streams.journal import JournalReader
from tests.generated import DAY_NS, cut, session, universe
from tests.kafka_case import STRATEGIES, SYMBOLS

GIVEN = os.environ.get("MILLRACE_TEST_TIMESCALE_DSN", "")
"""A TimescaleDB server of the tester's, on which databases may be made."""


def tiers() -> tuple[str, ...]:
    """Return the tiers that can be tested here: plain always."""
    found = ["plain"]
    if has_timescale():
        found += ["timescale-apache", "timescale-community"]
    if GIVEN:
        found.append("given")
    return tuple(found)


class Servers:
    """The servers of a test session, each started when a test first wants it."""

    def __init__(self) -> None:
        # Another user than root must be able to pass through, as pytest's own folders do not allow.
        self._folder = Path(tempfile.mkdtemp(prefix="millrace-db-"))
        self._servers: dict[str, EmbeddedServer] = {}
        self._made: dict[str, dict[str, Any]] = {}

    def options(self, tier: str) -> dict[str, Any]:
        """Return how to connect to a migrated database of a tier, the same for all tests."""
        if tier not in self._made:
            self._made[tier] = asyncio.run(self.new_database(tier))
        return dict(self._made[tier])

    async def new_database(self, tier: str, *, is_migrated: bool = True) -> dict[str, Any]:
        """Make a database of its own on a tier's server and return how to connect to it."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        if tier == "given":
            options: dict[str, Any] = {"dsn": GIVEN}
        else:
            server = await asyncio.to_thread(self.server, tier)
            address = server.running()
            assert address is not None
            options = address.options()
        await make_database(options, name, with_timescale=tier != "plain")
        options["database"] = name
        if is_migrated:
            await migrate(Database(options))
        return options

    def server(self, tier: str) -> EmbeddedServer:
        """Return a running server of a tier."""
        server = self._servers.get(tier)
        if server is None:
            settings = {"fsync": "off", "synchronous_commit": "off"}
            if tier == "timescale-apache":
                settings["timescaledb.license"] = "apache"
            server = EmbeddedServer(
                self._folder / tier, settings=settings, with_timescale=tier != "plain"
            )
            server.join()
            self._servers[tier] = server
        return server

    def close(self) -> None:
        """Stop all servers and remove their data."""
        for server in self._servers.values():
            server.leave()
        shutil.rmtree(self._folder, ignore_errors=True)


# ---- runs


CONFIG = EngineConfig(
    accounts=AccountStageConfig(
        accounts=tuple(
            AccountConfig(account_id=name, cash=Decimal(100_000)) for name in ("one", "two")
        )
    ),
    strategies=STRATEGIES,
    market=MarketConfig(intervals=("1m",)),
)


def make_runner(folder: Path, run_id: str, count: int = 400, seed: int = 1) -> LocalRunner:
    """Return a live run over two days of generated trades and quotes of three instruments."""
    instruments = universe(SYMBOLS)
    batches = iter(cut(session(instruments, count, seed), 211))
    feed = RecordingFeed(batches, speed=0, first_ns=0)
    manifest = manifest_of(CONFIG, [], Identity("test", "test"), run_id, "paper")
    return LocalRunner(Engine(CONFIG, instruments, {}, BUILTIN), feed, folder, manifest)


def record_run(folder: Path, run_id: str, count: int = 400, seed: int = 1) -> Path:
    """Play a run to its end and return its journal."""
    runner = make_runner(folder, run_id, count, seed)
    while not runner.feed.is_done:
        runner.turn()
    runner.finish()
    runner.close()
    return folder


async def record_told_run(
    folder: Path, run_id: str, told: Mapping[int, Sequence[tuple[str, Header]]]
) -> Path:
    """Play a run to its end as ``record_run`` does; ``told`` is what it is told in which turn."""
    runner = make_runner(folder, run_id)
    turns = 0
    while not runner.feed.is_done:
        said = [
            asyncio.create_task(runner.publish(topic, record))
            for topic, record in told.get(turns, ())
        ]
        await asyncio.sleep(0)
        runner.turn()
        await asyncio.gather(*said)
        turns += 1
    assert turns > max(told)
    runner.finish()
    runner.close()
    return folder


def backtest_run(folder: Path, run_id: str, count: int = 400, seed: int = 1) -> Path:
    """Run a backtest over the same data and return its journal, which has none of them."""
    instruments = universe(SYMBOLS)
    manifest = msgspec.structs.replace(
        manifest_of(CONFIG, [], Identity("test", "test"), run_id, "backtest"),
        instruments=list(instruments.instruments),
    )
    batches = cut(session(instruments, count, seed), 211)
    replay(
        CONFIG,
        instruments,
        {},
        BUILTIN,
        batches,
        manifest,
        day_of=lambda ts: ts // DAY_NS,
        journal=folder,
    )
    return folder


def journaled_rows(folder: Path) -> dict[str, Counter[tuple[Any, ...]]]:
    """Return what the tables should hold of a journal: each record once, with id and offset."""
    reader = JournalReader(folder)
    found: dict[str, Counter[tuple[Any, ...]]] = {}
    for topic, end in reader.next_offsets.items():
        for offset, record in reader.read(topic, 0, end):
            event_id = getattr(record, "event_id", "") or f"{topic}/0/{offset}"
            ts = getattr(record, "ts_event_ns", 0)
            series = SERIES_BY_SOURCE.get((topic, type(record)))
            flow = FLOW_BY_SOURCE.get((topic, type(record)))
            if series is not None:
                found.setdefault(series.relation, Counter())[ts, offset, topic_kind(topic)] += 1
            elif flow is not None:
                found.setdefault(flow.relation, Counter())[ts, event_id] += 1
    return found


def topic_kind(topic: str) -> str:
    """Return what tells rows of one series apart that come from two topics."""
    return "event" if topic in {MARKET_EVENTS, PORTFOLIO_EQUITY} else "made"


async def stored_rows(connection: Any, run_id: str) -> dict[str, Counter[tuple[Any, ...]]]:
    """Return what the tables hold of a run, counted row by row."""
    found: dict[str, Counter[tuple[Any, ...]]] = {}
    relations = {flow.relation for flow in FLOW_BY_SOURCE.values()}
    for relation in sorted(relations):
        rows = await connection.fetch(
            f"SELECT ts_ns, event_id FROM {relation} WHERE run_id = $1", run_id
        )
        if rows:
            found[relation] = Counter((row["ts_ns"], row["event_id"]) for row in rows)
    for relation in sorted({series.relation for series in SERIES_BY_SOURCE.values()}):
        made = "source = 'bar'" if relation == "bars" else "false"
        rows = await connection.fetch(
            f"SELECT ts_ns, log_offset, CASE WHEN {made} THEN 'made' ELSE 'event' END AS kind"
            f" FROM {relation} WHERE run_id = $1",
            run_id,
        )
        if rows:
            found[relation] = Counter(tuple(row.values()) for row in rows)
    return found


def rows_of(found: Mapping[str, Counter[tuple[Any, ...]]]) -> int:
    """Return the number of rows in all tables."""
    return sum(sum(counter.values()) for counter in found.values())


async def until(is_so: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Wait until something is so; raises TimeoutError if it does not become so."""
    async with asyncio.timeout(timeout_s):
        while not is_so():  # noqa: ASYNC110 - what is waited for tells nobody
            await asyncio.sleep(0.01)
