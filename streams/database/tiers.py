"""What kind of server a database is: the same queries run on all, the storage below differs.

plain                PostgreSQL 15 or newer: range partitions, BRIN, rollups kept by the sink
timescale-apache     TimescaleDB's Apache edition: hypertables, rollups kept by the sink
timescale-community  hypertables, columnstore, continuous aggregates, retention policies
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any, NamedTuple

from schemas.errors import ConfigError

POSTGRES_MIN = 15
TIMESCALE_MIN = (2, 20)


class Tier(StrEnum):
    """What a server can do for us."""

    PLAIN = "plain"
    APACHE = "timescale-apache"
    COMMUNITY = "timescale-community"

    @property
    def has_hypertables(self) -> bool:
        """Whether series are hypertables; else they are partitioned tables."""
        return self is not Tier.PLAIN

    @property
    def has_aggregates(self) -> bool:
        """Whether the server keeps the rollups; else the sink does."""
        return self is Tier.COMMUNITY


class Server(NamedTuple):
    """A server's tier and versions; ``timescaledb`` is empty where the extension is missing."""

    tier: Tier
    postgres: str
    timescaledb: str


async def detect(connection: Any) -> Server:
    """Return what a connection's database is; raises ConfigError for a PostgreSQL too old."""
    number = int(await connection.fetchval("SHOW server_version_num"))
    postgres = str(await connection.fetchval("SHOW server_version"))
    if number < POSTGRES_MIN * 10_000:
        raise ConfigError(
            "this PostgreSQL is too old",
            field="database.dsn",
            value=postgres,
            remedy=f"use PostgreSQL {POSTGRES_MIN} or newer",
        )
    version = await connection.fetchval(
        "SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'"
    )
    if version is None:
        return Server(Tier.PLAIN, postgres, "")
    if tuple(int(part) for part in re.findall(r"\d+", str(version))[:2]) < TIMESCALE_MIN:
        raise ConfigError(
            "this TimescaleDB is too old",
            field="database.dsn",
            value=str(version),
            remedy=f"use TimescaleDB {'.'.join(map(str, TIMESCALE_MIN))} or newer",
        )
    # The setting exists once the library is loaded, which any call of the extension does.
    licence = await connection.fetchval("SELECT current_setting('timescaledb.license', true)")
    tier = Tier.COMMUNITY if licence == "timescale" else Tier.APACHE
    return Server(tier, postgres, str(version))
