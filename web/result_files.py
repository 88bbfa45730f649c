"""Result files of finished runs: tables read a page at a time, from a place on.

A cursor is the byte at which the next row begins, so a page costs what it holds, wherever in the
file it stands. Files are read in threads, one at a time, each within a deadline.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Callable
from io import SEEK_END
from itertools import islice
from typing import Any, BinaryIO, NamedTuple, Protocol, TypeVar

from schemas.errors import ConfigError, StorageError
from web.turns import Turns

T = TypeVar("T")

_TIMEOUT_S = 10.0


class ResultRows(NamedTuple):
    """Rows of a table: it has ``row_count`` in all, ``next_offset`` is where those behind begin.

    ``next_offset`` is None behind the last row.
    """

    head: list[str]
    rows: list[list[str]]
    next_offset: int | None
    row_count: int


class ResultStore(Protocol):
    """Where result files are. All methods may block: they are called in threads."""

    def result(self, run_id: str, name: str) -> bytes:
        """Return a result file; raises NotFoundError."""
        ...

    def result_rows(self, run_id: str, name: str, offset: int, limit: int) -> ResultRows:
        """Return rows of a table from a byte on; raises NotFoundError, ConfigError."""
        ...


def read_rows(file: BinaryIO, offset: int, limit: int, row_count: int) -> ResultRows:
    """Return up to ``limit`` rows of a CSV file of ``row_count`` rows from a byte ``offset`` on.

    An ``offset`` of 0 is the first row. Raises ConfigError for one at which no row begins,
    StorageError for a file that is damaged there.
    """
    head: list[str] = next(_reader(file), [])
    first = file.tell()
    if offset:
        is_inside = first <= offset < file.seek(0, SEEK_END)
        file.seek(offset - 1 if is_inside else 0)
        if not is_inside or file.read(1) != b"\n":
            raise ConfigError("no row begins there", field="cursor", value=offset)
        file.seek(offset)
    rows = list(islice(_reader(file), limit))
    if any(len(row) != len(head) for row in rows):
        raise StorageError(
            "a row does not have the columns of the table",
            field="offset",
            value=offset or first,
            remedy="run the backtest again",
        )
    end = file.tell()
    return ResultRows(head, rows, end if file.read(1) else None, row_count)


def _reader(file: BinaryIO) -> Any:
    """Return a reader of CSV that takes no more of a file than the rows it gives."""
    return csv.reader(line.decode() for line in iter(file.readline, b""))


class ResultFiles:
    """Reads files of a store one at a time; raises what the store raises.

    Raises ProblemError (503) while too many are waiting, and for one that takes too long.
    """

    def __init__(self, store: ResultStore, timeout_s: float = _TIMEOUT_S) -> None:
        self._store = store
        self._turns = Turns(
            timeout_s,
            busy="too many results are being read; try again",
            late="the result cannot be read within the deadline; try again later",
        )

    async def whole(self, run_id: str, name: str) -> bytes:
        """Return a small file as a whole."""
        return await self._read(lambda: self._store.result(run_id, name))

    async def rows(self, run_id: str, name: str, offset: int, limit: int) -> ResultRows:
        """Return rows of a table from a byte on, 0 for the first."""
        return await self._read(lambda: self._store.result_rows(run_id, name, offset, limit))

    async def _read(self, work: Callable[[], T]) -> T:
        async with self._turns.mine():
            return await asyncio.to_thread(work)
