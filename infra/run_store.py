"""The runs under the data folder, for the API: their records, and the results of backtests.

A run is known by its folder's name or by its id, and by nothing else: what a request names is never
taken for a path.
"""

from __future__ import annotations

import csv
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

from agents.runners.parity import read_manifest
from infra.runs import journals
from schemas.envelope import Header
from schemas.errors import MillraceError, NotFoundError, StorageError
from schemas.topics import REFERENCE_INSTRUMENTS, SYSTEM_RUNS
from streams.journal import JournalReader, published
from streams.log import Published
from web.result_files import ResultRows, read_rows
from web.runs import RunInfo

_RESULTS = frozenset(
    {f"{name}.json" for name in ("manifest", "metrics", "warnings")}
    | {f"{name}.csv" for name in ("equity", "orders", "fills", "trades")}
)
_PIECE_BYTES = 1_048_576
_COUNTS_MAX = 256


class JournalRuns:
    """Runs below ``root``, and those of ``live``: journals of running runs by their id."""

    def __init__(self, root: Path, live: Mapping[str, Path] | None = None) -> None:
        self._root = root
        self._live = dict(live or {})
        self._ids: dict[str, str] = {}
        self._told: dict[str, tuple[str, RunInfo]] = {}
        self._readers: dict[str, JournalReader] = {}
        self._telling = threading.Lock()
        self._counts: dict[Path, tuple[tuple[int, int], int]] = {}

    def runs(self) -> list[RunInfo]:
        """Return all runs that can be read, sorted by id."""
        found: dict[str, RunInfo] = {}
        with self._telling:
            for name, journal in {**journals(self._root), **self._live}.items():
                try:
                    info = self._info(name, journal)
                except MillraceError:
                    continue
                found[info.run_id] = info
        return [found[name] for name in sorted(found)]

    def _info(self, name: str, journal: Path) -> RunInfo:
        """Return what the manifest says, which stands at the end of a finished run's journal.

        A journal is read once, and of one that got longer what is new.
        """
        version = _version(journal)
        told = self._told.get(name)
        if told is not None and told[0] == version:
            return told[1]
        is_live = name in self._live
        reader = self._readers.pop(name, None) or JournalReader(journal)
        manifest = read_manifest(reader)
        if is_live:
            # Only a reader that has done its work well is used again.
            self._readers[name] = reader
        run_id = manifest.run_id if is_live else name
        info = RunInfo(run_id, manifest.mode, manifest.ts_event_ns, manifest.output_hash)
        self._told[name] = (version, info)
        return info

    def version(self, run_id: str) -> str:
        """Return a text that changes when the run gets longer; raises NotFoundError."""
        return _version(self._journal(run_id))

    def records(self, run_id: str) -> Iterator[list[Published]]:
        """Yield the records of a run in the order of its journal; raises NotFoundError."""
        reader = JournalReader(self._journal(run_id))
        if not reader.next_offsets.get(SYSTEM_RUNS, 0):
            yield _head(reader)
        yield from published(reader)

    def result(self, run_id: str, name: str) -> bytes:
        """Return a result file of a finished run; raises NotFoundError, StorageError."""
        path = self._result(run_id, name)
        try:
            return path.read_bytes()
        except OSError as error:
            raise _unreadable(path, error.strerror) from error

    def result_rows(self, run_id: str, name: str, offset: int, limit: int) -> ResultRows:
        """Return rows of a finished run's table from the byte ``offset`` on, 0 for the first.

        Raises NotFoundError, StorageError, and ConfigError for a byte at which no row begins.
        """
        path = self._result(run_id, name)
        try:
            with path.open("rb") as file:
                return read_rows(file, offset, limit, self._row_count(path))
        except OSError as error:
            raise _unreadable(path, error.strerror) from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise _unreadable(path, str(error)) from error

    def _row_count(self, path: Path) -> int:
        """Return how many rows stand below the head of a table, each on a line of its own.

        The file is gone through once, a piece at a time, and again when it has changed.
        """
        state = path.stat()
        version = (state.st_mtime_ns, state.st_size)
        known = self._counts.get(path)
        if known is not None and known[0] == version:
            return known[1]
        lines = 0
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                lines += piece.count(b"\n")
        self._counts.pop(path, None)
        self._counts[path] = (version, max(lines - 1, 0))
        if len(self._counts) > _COUNTS_MAX:
            del self._counts[next(iter(self._counts))]
        return max(lines - 1, 0)

    def _result(self, run_id: str, name: str) -> Path:
        path = self._journal(run_id).parent / name
        if name not in _RESULTS or not path.is_file():
            raise NotFoundError(
                "the run has no such result",
                field="run_id",
                value=run_id,
                remedy="only finished backtests have results",
            )
        return path

    def _journal(self, run_id: str) -> Path:
        live = self._live.get(run_id)
        if live is not None:
            return live
        known = journals(self._root)
        if run_id in known:
            return known[run_id]
        for name, journal in known.items():
            if name not in self._ids:
                self._ids[name] = _id_of(journal)
            if self._ids[name] == run_id:
                return journal
        raise NotFoundError(
            "run not found",
            field="run_id",
            value=run_id,
            remedy="`millrace runs list` shows the runs there are",
        )


def _unreadable(path: Path, reason: str | None) -> StorageError:
    return StorageError(f"the result cannot be read: {reason}", field="path", value=str(path))


def _head(reader: JournalReader) -> list[Published]:
    """Return what a backtest's journal holds as no record of its own: instruments, manifest."""
    manifest = read_manifest(reader)
    instruments: list[tuple[str, Header]] = [
        (REFERENCE_INSTRUMENTS, item) for item in manifest.instruments
    ]
    records = [*instruments, (SYSTEM_RUNS, manifest)]
    return [
        Published(topic, 0, number if topic == REFERENCE_INSTRUMENTS else 0, record)
        for number, (topic, record) in enumerate(records)
    ]


def _id_of(journal: Path) -> str:
    try:
        return JournalReader(journal).run_id
    except MillraceError:
        return ""


def _version(journal: Path) -> str:
    files = sorted(journal.glob("segment-*"))
    return "|".join(f"{file.name}:{_size(file)}" for file in files)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0  # sealed in this moment: its next version has another name
