"""Makes the database within a server of our own, with TimescaleDB where it is installed."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import asyncpg

from streams.database.connecting import address_of, translated
from streams.database.tables import SCHEMA

_TIMEOUT_S = 30.0


async def make_database(
    options: Mapping[str, Any], name: str, *, with_timescale: bool | None = None
) -> None:
    """Make the database ``name`` if there is none; ``options`` connect to one that there is.

    ``with_timescale`` of None takes the extension if the server has loaded it. A database that has
    our tables already stays as it is. Raises StorageError if the server does not answer.
    """
    with translated(address_of(options)):
        connection = await asyncpg.connect(**options, timeout=_TIMEOUT_S)
        try:
            loaded = await connection.fetchval("SHOW shared_preload_libraries")
            if not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", name):
                # Another program may be quicker.
                with suppress(asyncpg.DuplicateDatabaseError, asyncpg.UniqueViolationError):
                    await connection.execute(f'CREATE DATABASE "{_plain(name)}"')
        finally:
            await connection.close(timeout=_TIMEOUT_S)
        wanted = "timescaledb" in str(loaded) if with_timescale is None else with_timescale
        if not wanted:
            return
        connection = await asyncpg.connect(**{**options, "database": name}, timeout=_TIMEOUT_S)
        try:
            if not await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.spans"):
                await connection.execute("CREATE EXTENSION IF NOT EXISTS timescaledb")
        finally:
            await connection.close(timeout=_TIMEOUT_S)


def _plain(name: str) -> str:
    return name.replace('"', "")
