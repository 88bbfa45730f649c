"""Pools of connections to one database, and what their errors mean to those who use them.

Two pools: one writes, the other is read only on the server's word and has a time limit for every
statement. Nothing connects before it is needed, so a database that is away holds nobody up.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from types import FrameType
from typing import Any, NamedTuple

import asyncpg

from schemas.errors import StorageError
from streams.database.tables import SCHEMA

_CONNECT_TIMEOUT_S = 10.0
_CLOSE_TIMEOUT_S = 5.0
_IDLE_S = 300.0

REMEDY = "start the database, or see `millrace db status`; what was journaled is stored later"
FULL = "the database's disk is full"
_FULL_REMEDY = "free space on it; what was journaled is stored then"
NO_SPACE = "No space left on device"
_DEAD_WRITE = "socket.send() raised exception."


class PoolSettings(NamedTuple):
    """Sizes and time limits of the pools; ``write_timeout_s`` bounds one statement of a sink."""

    readers_max: int = 8
    writers_max: int = 4
    statement_timeout_s: float = 5.0
    write_timeout_s: float = 60.0
    connect_timeout_s: float = _CONNECT_TIMEOUT_S


DEFAULTS = PoolSettings()


class Database:
    """One database; ``options`` are those of ``asyncpg.connect``, a ``dsn`` among them.

    They may be given by a function, which is asked at every use, and raises StorageError while it
    does not know them, or when the database may not be used any more.

    Belongs to the event loop that first uses it. ``str`` never shows a password.
    """

    def __init__(
        self,
        options: Mapping[str, Any] | Callable[[], Mapping[str, Any]],
        pools: PoolSettings = DEFAULTS,
    ) -> None:
        self._given = options
        self.settings = pools
        self._pools: dict[bool, Any] = {}
        self._lock = asyncio.Lock()
        logging.getLogger("asyncio").addFilter(is_worth_telling)

    def __repr__(self) -> str:
        return f"Database({self.address})"

    @property
    def address(self) -> str:
        """Host, port and name of the database, without user and password."""
        return address_of(self._options)

    @property
    def _options(self) -> dict[str, Any]:
        return dict(self._given() if callable(self._given) else self._given)

    async def close(self) -> None:
        """Close all connections, those in use after a moment too."""
        pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            try:
                async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                    await pool.close()
            except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                pool.terminate()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """Give a connection of its own, outside of the pools, with no time limit on statements.

        For migrations. Raises StorageError as ``reading`` does.
        """
        with translated(self.address):
            connection = await asyncpg.connect(
                **self._options,
                timeout=self.settings.connect_timeout_s,
                server_settings=self._server_settings(0.0, is_reader=False),
            )
            try:
                yield connection
            finally:
                await _close(connection)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[Any]:
        """Give a connection that may write. Raises StorageError as ``reading`` does."""
        with translated(self.address):
            pool = await self._pool(is_reader=False)
            async with pool.acquire(timeout=self.settings.connect_timeout_s) as connection:
                yield connection

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[Any]:
        """Give a connection that cannot write.

        Raises StorageError if the database is away, is not made yet, or takes too long.
        """
        with translated(self.address):
            pool = await self._pool(is_reader=True)
            async with pool.acquire(timeout=self.settings.connect_timeout_s) as connection:
                yield connection

    async def _pool(self, *, is_reader: bool) -> Any:
        options = self._options
        async with self._lock:
            pool = self._pools.get(is_reader)
            if pool is None:
                settings = self.settings
                limit_s = settings.statement_timeout_s if is_reader else settings.write_timeout_s
                pool = await asyncpg.create_pool(
                    **options,
                    min_size=0,
                    max_size=settings.readers_max if is_reader else settings.writers_max,
                    timeout=settings.connect_timeout_s,
                    # The server ends a slow statement; this is for a server that does not answer.
                    command_timeout=limit_s + settings.connect_timeout_s,
                    max_inactive_connection_lifetime=_IDLE_S,
                    # Our statements leave nothing behind that a round trip would have to clear.
                    reset=_leave_as_is,
                    server_settings=self._server_settings(limit_s, is_reader=is_reader),
                )
                self._pools[is_reader] = pool
            return pool

    def _server_settings(self, limit_s: float, *, is_reader: bool) -> dict[str, str]:
        return {
            "application_name": "millrace reader" if is_reader else "millrace writer",
            "search_path": f"{SCHEMA}, public",
            "statement_timeout": str(round(limit_s * 1000)),
            "timezone": "UTC",
            "default_transaction_read_only": "on" if is_reader else "off",
        }


def is_worth_telling(record: logging.LogRecord) -> bool:
    """Return False for the word that a driver wrote to a connection that is dead.

    It comes once for each piece of a COPY, without any context; that the statement has failed, and
    why, is told by the StorageError behind it.
    """
    if record.msg != _DEAD_WRITE:
        return True
    frame: FrameType | None = sys._getframe()
    while frame is not None and not _is_of_driver(frame):
        frame = frame.f_back
    return frame is None


def _is_of_driver(frame: FrameType) -> bool:
    return str(frame.f_globals.get("__name__", "")).startswith("asyncpg.")


def address_of(options: Mapping[str, Any]) -> str:
    """Return host, port and database that ``options`` name, without user and password."""
    dsn = str(options.get("dsn") or "")
    if dsn:
        # What stands before the last @ may hold a password, and so may the query behind it.
        return dsn.partition("://")[2].rpartition("@")[2].partition("?")[0] or "the given DSN"
    return f"{options.get('host')}:{options.get('port')}/{options.get('database')}"


async def _leave_as_is(connection: Any) -> None:
    """Do nothing when a connection goes back to its pool."""


async def _close(connection: Any) -> None:
    try:
        await connection.close(timeout=_CLOSE_TIMEOUT_S)
    except (TimeoutError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        connection.terminate()


class translated:  # noqa: N801 - reads as a word at the place where it stands
    """A context in which errors of the driver become StorageError.

    Errors about data, which a caller can act on, go through untouched.
    """

    def __init__(self, address: str) -> None:
        self._address = address

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: object
    ) -> None:
        """Translate; a StorageError and errors that are not the database's stay what they are."""
        if error is None or isinstance(error, StorageError):
            return
        message = _meaning(error)
        if message:
            remedy = _FULL_REMEDY if message == FULL else REMEDY
            raise StorageError(
                message, field="database", value=self._address, remedy=remedy
            ) from error


def _meaning(error: BaseException) -> str:
    """Return what a driver's error says about the database; empty if it is about something else."""
    if isinstance(error, asyncpg.DiskFullError) or (
        isinstance(error, asyncpg.PostgresError) and NO_SPACE in str(error)
    ):
        # Which file it was is in the server's log.
        return FULL
    if isinstance(error, asyncpg.QueryCanceledError):
        return "the database did not answer in time"
    if isinstance(
        error,
        (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError, asyncpg.UndefinedColumnError),
    ):
        return f"the database has no tables of this version (`millrace db migrate`): {error}"
    if isinstance(
        error,
        (
            asyncpg.InvalidAuthorizationSpecificationError,
            asyncpg.InvalidPasswordError,
            asyncpg.InvalidCatalogNameError,
            asyncpg.InsufficientPrivilegeError,
        ),
    ):
        return f"the database lets us not in: {error}"
    if isinstance(
        error,
        (
            OSError,
            asyncpg.PostgresConnectionError,
            asyncpg.OperatorInterventionError,
            asyncpg.InsufficientResourcesError,
            asyncpg.PostgresSystemError,
            asyncpg.ReadOnlySQLTransactionError,
            asyncpg.LockNotAvailableError,
            asyncpg.DeadlockDetectedError,
            asyncpg.InternalClientError,
        ),
    ):
        return f"the database is away: {str(error) or type(error).__name__}"
    # A client's mistake about data is an InterfaceError too; that is the caller's to mend.
    if isinstance(error, asyncpg.InterfaceError) and not isinstance(error, asyncpg.DataError):
        return f"the database is away: {error}"
    return ""
