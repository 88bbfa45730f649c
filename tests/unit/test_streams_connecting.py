"""What errors of the database's driver mean, and which of its words nobody needs."""

from __future__ import annotations

import logging
from types import FunctionType

import asyncpg
import pytest

from schemas.errors import StorageError
from streams.database.connecting import Database, translated

DEAD_WRITE = "socket.send() raised exception."


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.DiskFullError('could not extend file "base/5/16384"'),
        asyncpg.PostgresIOError('could not write to file "x": No space left on device'),
    ],
)
def test_full_disk_is_called_so_with_its_remedy_and_without_a_path(error: Exception) -> None:
    with pytest.raises(StorageError) as found, translated("h:1/d"):
        raise error
    assert str(found.value) == (
        "the database's disk is full (database='h:1/d');"
        " free space on it; what was journaled is stored then"
    )


def test_database_that_is_away_is_to_be_started() -> None:
    with (
        pytest.raises(StorageError, match=r"is away: refused .*; start the database"),
        translated("h:1/d"),
    ):
        raise ConnectionRefusedError("refused")


def warn(text: str) -> None:
    """Warn on asyncio's logger."""
    logging.getLogger("asyncio").warning(text)


def warn_as(module: str, text: str) -> None:
    """Warn on asyncio's logger from a function of ``module``."""
    FunctionType(warn.__code__, {"__name__": module, "logging": logging})(text)


def test_writes_to_a_dead_connection_of_the_database_are_told_by_their_statement_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Database({})
    warn_as("asyncpg.connection", DEAD_WRITE)
    assert caplog.messages == []
    warn_as("asyncpg.connection", "something else")
    warn_as("uvicorn.protocols", DEAD_WRITE)
    assert caplog.messages == ["something else", DEAD_WRITE]
