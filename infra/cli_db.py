"""``millrace db`` and ``millrace sink``: the database of history, and what fills it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from cyclopts import App
from rich.console import Console

from infra.settings import Settings, data_folder, load_settings
from schemas.errors import StorageError
from streams.database.connecting import Database
from streams.database.embedded import DATABASE, EmbeddedServer

db_app = App(name="db", help="The database in which history is kept.")
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

T = TypeVar("T")


def database_folder() -> Path:
    """Return the folder of the embedded server."""
    return data_folder() / "database"


def _settings(config: Path | None) -> Settings:
    return Settings() if config is None else load_settings(config)


def with_database(settings: Settings, work: Callable[[Database], Awaitable[T]]) -> T:
    """Do ``work`` with the database of the settings; the embedded server runs meanwhile.

    Raises ConfigError for settings that do not fit, StorageError if the database is away.
    """
    from infra.database.settings import dsn_of, pools_of
    from streams.database.preparing import make_database

    dsn, pools = dsn_of(settings.database), pools_of(settings.database)

    async def run(options: dict[str, object]) -> T:
        database = Database(options, pools)
        try:
            return await work(database)
        finally:
            await database.close()

    if dsn:
        return asyncio.run(run({"dsn": dsn}))
    with EmbeddedServer(database_folder()) as server:
        address = server.running()
        if address is None:
            raise StorageError(
                "the embedded database has ended",
                field="database",
                value=str(server.folder),
                remedy=f"read {server.log_file}",
            )
        asyncio.run(make_database(address.options(), DATABASE))
        return asyncio.run(run({**address.options(), "database": DATABASE}))


@db_app.command
def start() -> None:
    """Start the embedded database and let it run until `millrace db stop`."""
    server = EmbeddedServer(database_folder())
    with console.status("starting the database"):
        address = server.start()
    console.print(f"database {address}  (process {address.pid}, log {server.log_file})")


@db_app.command
def stop() -> None:
    """Stop the embedded database, whoever uses it; its data stays."""
    with console.status("stopping the database"):
        was_running = EmbeddedServer(database_folder()).stop()
    console.print("database stopped" if was_running else "database was not running")


@db_app.command
def migrate(*, config: Path | None = None) -> None:
    """Bring the tables to this version; does nothing if they are.

    Parameters
    ----------
    config
        settings file with a table [database]; the embedded database without it
    """
    from streams.database import migrating

    done = with_database(_settings(config), migrating.migrate)
    for item in done:
        console.print(f"applied {item.name}")
    console.print("the database is current" if not done else f"{len(done)} applied")


@db_app.command
def status(*, config: Path | None = None) -> None:
    """Say what the database is and which migrations it has; exit status 1 unless it is current.

    Parameters
    ----------
    config
        settings file with a table [database]; the embedded database without it
    """
    from streams.database import migrating

    async def look(database: Database) -> migrating.Status:
        console.print(f"database  {database.address}")
        return await migrating.status(database)

    found = with_database(_settings(config), look)
    server = found.server
    console.print(f"server    PostgreSQL {server.postgres}")
    if server.timescaledb:
        console.print(f"          TimescaleDB {server.timescaledb}")
    console.print(f"tier      {server.tier}")
    for step in found.steps:
        console.print(f"{step.state:8}  {step.name}")
    if not found.is_current:
        sys.exit(1)


@db_app.command
def load(run: str, *, config: Path | None = None) -> None:
    """Store a recorded run; what is stored already stays as it is.

    Parameters
    ----------
    run
        folder, name or beginning of the name of a run
    config
        settings file with a table [database]; the embedded database without it
    """
    from infra.database.service import store_journal
    from infra.runs import run_folder
    from streams.database import migrating

    folder = run_folder(run)

    async def store(database: Database) -> int:
        await migrating.migrate(database)
        return await store_journal(database, folder, time.time_ns)

    console.print(f"stored {with_database(_settings(config), store):,} rows of {folder}")


@db_app.command
def forget(run_id: str, *, config: Path | None = None) -> None:
    """Remove a run from the database; its journal stays.

    Parameters
    ----------
    run_id
        the run's whole id
    config
        settings file with a table [database]; the embedded database without it
    """
    from streams.database.maintenance import forget as forget_run

    async def remove(database: Database) -> int:
        return await forget_run(database, run_id)

    console.print(f"removed {with_database(_settings(config), remove):,} rows of {run_id}")


def sink(
    *,
    config: Path | None = None,
    bootstrap: str | None = None,
    run: str | None = None,
    port: int = 0,
) -> None:
    """Store the topics of a session on Kafka in the database until Ctrl-C.

    A second one waits until the first ends.

    Parameters
    ----------
    config
        settings file, the same as the workers'
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    run
        name of the session; wins over the settings
    port
        port of /healthz, /readyz and /metrics (0 takes a free one)
    """
    from infra.cli_worker import kafka_settings
    from infra.database.sinking import sink_topics

    settings = kafka_settings(config, bootstrap, run)
    sys.exit(asyncio.run(sink_topics(settings, database_folder(), port, console)))
