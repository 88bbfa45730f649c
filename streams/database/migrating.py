"""Numbered migrations, forward only, from the SQL files beside this module.

A file is called ``NUMBER_NAME.sql``, or ``NUMBER_NAME.FORM.sql`` where servers differ. Each runs
once, in a transaction of its own, under a lock of the database, and leaves its checksum: a file
that was changed afterwards is refused. A database stays what it was when it was made, so a server
that becomes another kind later is told.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg

from schemas.errors import ConfigError, ConflictError, StorageError
from streams.database.connecting import Database
from streams.database.tables import SCHEMA
from streams.database.tiers import Server, Tier, detect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

FOLDER = Path(__file__).with_name("migrations")

FORMS: dict[Tier, frozenset[str]] = {
    Tier.PLAIN: frozenset({"plain", "tables"}),
    Tier.APACHE: frozenset({"timescale", "tables"}),
    Tier.COMMUNITY: frozenset({"timescale", "community"}),
}
"""Which forms of a migration are for which tier."""

_LOCK = 0x6D696C6C72616365
"""Number of the advisory lock: the name in ASCII."""

_LOCK_TIMEOUT_S = 60.0

_LEDGER = f"""
CREATE SCHEMA IF NOT EXISTS {SCHEMA};
CREATE TABLE IF NOT EXISTS {SCHEMA}.schema_migrations (
    number integer PRIMARY KEY,
    name text NOT NULL,
    checksum text NOT NULL,
    tier text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
);
"""


class Migration(NamedTuple):
    """One step; ``checksum`` is the SHA-256 of its text."""

    number: int
    name: str
    sql: str
    checksum: str


class Step(NamedTuple):
    """A migration as it stands in a database: ``applied``, ``pending`` or ``changed``."""

    number: int
    name: str
    state: str


class Status(NamedTuple):
    """A database as the migrations see it; ``is_current`` if none is pending and none differs."""

    server: Server
    steps: list[Step]

    @property
    def is_current(self) -> bool:
        """Whether the tables are those of this program."""
        return all(step.state == "applied" for step in self.steps)

    @property
    def is_new(self) -> bool:
        """Whether nothing has been made in it yet."""
        return all(step.state == "pending" for step in self.steps)


def migrations(tier: Tier, folder: Path = FOLDER) -> list[Migration]:
    """Return the migrations for one tier in order; raises ConfigError for a gap or a double."""
    found = sorted(_read(folder, FORMS[tier]))
    numbers = [item.number for item in found]
    if numbers != list(range(1, len(found) + 1)):
        raise ConfigError(
            f"the migrations for {tier} are not numbered 1, 2, 3 and so on",
            field="migrations",
            value=numbers,
            remedy="give each number one file, or one for each form",
        )
    return found


def _read(folder: Path, forms: frozenset[str]) -> Iterator[Migration]:
    for path in folder.glob("*.sql"):
        stem, _, form = path.name.removesuffix(".sql").partition(".")
        if form and form not in forms:
            continue
        sql = path.read_text()
        number, _, _ = stem.partition("_")
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        yield Migration(int(number), path.name.removesuffix(".sql"), sql, checksum)


async def status(database: Database) -> Status:
    """Return how a database stands; raises StorageError if it is away."""
    async with database.connection() as connection:
        server = await server_of(connection)
        return Status(server, _steps(migrations(server.tier), await _applied(connection)))


async def migrate(database: Database) -> list[Migration]:
    """Bring a database to this version and return what was applied; nothing if it was current.

    Raises StorageError if it is away or another process holds the lock for long, ConflictError if
    it was made by other files or a newer program, ConfigError for a server that will not do.
    """
    async with database.connection() as connection, _locked(connection):
        await connection.execute(_LEDGER)
        server = await server_of(connection)
        known = await _applied(connection)
        wanted = migrations(server.tier)
        _check(_steps(wanted, known), [number for number in known if number > len(wanted)])
        done = [item for item in wanted if item.number not in known]
        for item in done:
            await _apply(connection, item, server.tier)
        return done


async def server_of(connection: Any) -> Server:
    """Return the server, with the tier that the database was made for if it was made already.

    Raises ConflictError if the server can no longer do what the tables need.
    """
    found = await detect(connection)
    made = await _made_for(connection)
    if made is None or made is found.tier:
        return found
    if made is Tier.PLAIN:
        # Plain tables work beside the extension; to get the rest, a new database is needed.
        return found._replace(tier=made)
    raise ConflictError(
        f"the tables were made for {made}, but the server is {found.tier}",
        field="timescaledb.license",
        value=found.tier.value,
        remedy="bring the extension and its licence back, or use another database",
    )


async def _made_for(connection: Any) -> Tier | None:
    if not await _has_ledger(connection):
        return None
    tier = await connection.fetchval(
        "SELECT tier FROM schema_migrations ORDER BY number DESC LIMIT 1"
    )
    return None if tier is None else Tier(tier)


async def _has_ledger(connection: Any) -> bool:
    found = await connection.fetchval("SELECT to_regclass($1)", f"{SCHEMA}.schema_migrations")
    return found is not None


async def _applied(connection: Any) -> dict[int, tuple[str, str]]:
    if not await _has_ledger(connection):
        return {}
    rows = await connection.fetch(
        "SELECT number, name, checksum FROM schema_migrations ORDER BY number"
    )
    return {row["number"]: (row["name"], row["checksum"]) for row in rows}


def _steps(wanted: Sequence[Migration], known: dict[int, tuple[str, str]]) -> list[Step]:
    steps = []
    for item in wanted:
        found = known.get(item.number)
        state = "pending" if found is None else "applied"
        if found is not None and found != (item.name, item.checksum):
            state = "changed"
        steps.append(Step(item.number, item.name, state))
    return steps


def _check(steps: Sequence[Step], newer: Sequence[int]) -> None:
    for step in steps:
        if step.state == "changed":
            raise ConflictError(
                "a migration is not the one that this database was made with",
                field="migration",
                value=step.name,
                remedy="run the version of Millrace that made it, or use another database",
            )
    if newer:
        raise ConflictError(
            "the database was made by a newer Millrace",
            field="migration",
            value=newer[-1],
            remedy="upgrade Millrace before it writes here",
        )


async def _apply(connection: Any, item: Migration, tier: Tier) -> None:
    try:
        async with connection.transaction():
            await connection.execute(f"SET LOCAL search_path TO {SCHEMA}, public")
            await connection.execute(item.sql)
            await connection.execute(
                "INSERT INTO schema_migrations (number, name, checksum, tier)"
                " VALUES ($1, $2, $3, $4)",
                item.number,
                item.name,
                item.checksum,
                tier.value,
            )
    except asyncpg.PostgresError as error:
        raise StorageError(
            f"a migration failed and was undone: {error}",
            field="migration",
            value=item.name,
            remedy="mend what it names and run `millrace db migrate` again",
        ) from error


@asynccontextmanager
async def _locked(connection: Any) -> AsyncIterator[None]:
    """Hold the database's lock of migrations; it ends with the connection if all else fails."""
    try:
        async with asyncio.timeout(_LOCK_TIMEOUT_S):
            await connection.execute("SELECT pg_advisory_lock($1)", _LOCK)
    except TimeoutError as error:
        raise StorageError(
            "another process migrates this database",
            field="database",
            value="",
            remedy="wait for it, or end it, and try again",
        ) from error
    try:
        yield
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", _LOCK)
