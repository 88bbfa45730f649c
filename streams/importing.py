"""Imports files into a data-set folder, once and for all: what is there already is not added again.

Files are first read into a hidden folder inside the target. Then new parts move to their places,
and the index is replaced as the last step: a crash before that leaves the old state, and what it
left behind is swept up by the next import.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Sequence
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import mkdtemp
from typing import Literal

import msgspec
import numpy as np

from schemas.columns import Columns, Ints
from schemas.errors import ConfigError, ConflictError, NotFoundError, StorageError
from schemas.instruments import Instrument, Universe
from schemas.rows import TABLE_BY_KIND
from streams.calendars import calendar_named, local_days
from streams.datasets.csv_files import read_csv
from streams.datasets.hashing import ContentHasher
from streams.datasets.ingest import Ingest, Progress, write_series
from streams.datasets.lean import read_lean
from streams.datasets.parquet_files import read_parquet
from streams.datasets.quality import REJECT_NAME, QualityReport, RejectFile
from streams.datasets.store import (
    INDEX_NAME,
    Index,
    Part,
    disk_errors,
    read_index,
    read_part,
    write_index,
    write_whole,
)
from streams.journal.locking import LOCK_NAME, FolderLock

SourceKind = Literal["lean", "csv", "parquet"]
_STAGING = ".import-"


class ImportReport(msgspec.Struct, kw_only=True):
    """What an import did; ``rows_present`` were in the folder already."""

    folder: str
    instrument_ids: list[str]
    rows_added: int = 0
    rows_present: int = 0
    parts_added: int = 0
    actions_added: int = 0
    quality: QualityReport


def import_files(
    kind_of_source: SourceKind,
    path: Path,
    into: Path,
    *,
    symbols: Sequence[str] | None = None,
    interval: str | None = None,
    is_bar_start: bool = False,
    calendar: str = "",
    on_progress: Progress | None = None,
) -> ImportReport:
    """Import a file, or all files of their kind in a folder, into the data-set folder ``into``.

    ``is_bar_start``: the bars of CSV and Parquet files are stamped by their start.
    ``calendar`` names the sessions of their symbols that are not known. A trading day that is there
    with the same rows is not added again. Raises NotFoundError if there is nothing to import, or no
    such calendar, DataError for files that cannot be used, ConflictError if a day is there with
    other rows or an instrument with another calendar, and StorageError if the disk refuses or
    another import is under way; ``into`` then holds what it held before.
    """
    if not path.exists():
        raise NotFoundError(
            "there is no such file or folder",
            field="path",
            value=str(path),
            remedy="check the path of the data to import",
        )
    if calendar:
        # Said before anything is made or read.
        calendar = calendar_named(calendar)
    made = [folder for folder in (into, *into.parents) if not folder.exists()]
    try:
        with disk_errors("cannot be made", into):
            into.mkdir(parents=True, exist_ok=True)
        lock = FolderLock(into)
    except StorageError:
        _unmake(made)
        raise
    is_done = False
    try:
        read = _reader(kind_of_source, path, symbols, interval, is_bar_start, calendar)
        report = _import(read, into, calendar, on_progress)
        is_done = True
        return report
    finally:
        if made and not is_done:
            with contextlib.suppress(OSError):
                (into / LOCK_NAME).unlink()
            _unmake(made)
        lock.release()


def _unmake(made: Sequence[Path]) -> None:
    """Remove the empty ones of the folders that a failed import made, innermost first."""
    for folder in made:
        with contextlib.suppress(OSError):
            folder.rmdir()


def _import(
    read: Callable[[Ingest], None], into: Path, calendar: str, on_progress: Progress | None
) -> ImportReport:
    old = read_index(into) if (into / INDEX_NAME).exists() else Index()
    with disk_errors("cannot be written", into):
        _sweep(into, old)
        staging = Path(mkdtemp(prefix=_STAGING, dir=into))
    try:
        ingest = Ingest(staging, RejectFile(staging), on_progress, calendar=calendar)
        read(ingest)
        fresh = ingest.finish()
        report = ImportReport(
            folder=str(into),
            instrument_ids=[instrument.instrument_id for instrument in fresh.instruments],
            quality=ingest.quality,
        )
        index = _Merge(into, staging, old, fresh, report).merged()
        if (staging / REJECT_NAME).exists():
            _keep_rejects(staging / REJECT_NAME, into / REJECT_NAME)
            report.quality.reject_file = str(into / REJECT_NAME)
        write_index(into, index)
        with disk_errors("cannot be removed", into):
            _sweep(into, index)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return report


def _sweep(into: Path, index: Index) -> None:
    """Remove what the index does not name.

    Staging folders and files of imports that did not end.
    """
    for left in into.glob(f"{_STAGING}*"):
        shutil.rmtree(left)
    named = {into / part.file for part in index.parts}
    for file in into.glob("*/*.parquet"):
        if file not in named:
            file.unlink()


def _keep_rejects(fresh: Path, kept: Path) -> None:
    """Add the lines of one reject file to another, each once."""
    with disk_errors("cannot be read", kept):
        lines = fresh.read_text(encoding="utf-8").splitlines(keepends=True)
        before = kept.read_text(encoding="utf-8").splitlines(keepends=True) if kept.exists() else []
    text = "".join(dict.fromkeys(before + lines))
    write_whole(kept, lambda path: path.write_text(text, encoding="utf-8"))


class _Merge:
    """Joins the parts of a staging folder to those of a data set."""

    def __init__(
        self, into: Path, staging: Path, old: Index, fresh: Index, report: ImportReport
    ) -> None:
        self._into = into
        self._staging = staging
        self._old = old
        self._fresh = fresh
        self._report = report
        self._universe = Universe(_joined_instruments(old, fresh))

    def merged(self) -> Index:
        """Move or write the new parts and return the index that names them.

        The old one stays valid.
        """
        parts = {_partition(part): part for part in self._old.parts}
        for part in self._fresh.parts:
            present = parts.get(_partition(part))
            if present is None:
                parts[_partition(part)] = self._moved(part)
            elif present.content_hash == part.content_hash:
                self._report.rows_present += part.count
            else:
                parts[_partition(part)] = self._joined(present, part)
        actions = {action.event_id: action for action in self._old.actions}
        for action in self._fresh.actions:
            self._report.actions_added += action.event_id not in actions
            actions.setdefault(action.event_id, action)
        return Index(
            instruments=sorted(self._universe.instruments, key=lambda i: i.instrument_id),
            actions=sorted(actions.values(), key=lambda a: (a.ts_event_ns, a.event_id)),
            parts=[parts[key] for key in sorted(parts)],
        )

    def _moved(self, part: Part) -> Part:
        target = self._into / part.file
        with disk_errors("cannot be written", target):
            target.parent.mkdir(exist_ok=True)
            (self._staging / part.file).replace(target)
        self._report.rows_added += part.count
        self._report.parts_added += 1
        return part

    def _joined(self, present: Part, part: Part) -> Part:
        """Add the days of ``part`` that ``present`` does not have.

        Raises ConflictError if another day differs.
        """
        before, new = self._table(self._into, present), self._table(self._staging, part)
        days, new_days = self._days(before, present), self._days(new, part)
        is_new = ~np.isin(new_days, days)
        for day in np.unique(new_days[~is_new]).tolist():
            if self._hash(before.take(days == day)) != self._hash(new.take(new_days == day)):
                raise ConflictError(
                    f"the folder holds other {part.kind}s of {part.instrument_id} on this day",
                    field="day",
                    value=day,
                    remedy="import into another folder, or leave the day out",
                )
        added = int(is_new.sum())
        self._report.rows_added += added
        self._report.rows_present += len(new) - added
        if not added:
            return present
        whole = type(before).concat([before, new.take(is_new)])
        order = np.argsort(np.concatenate([days, new_days[is_new]]), kind="stable")
        whole = whole.take(order)
        self._report.parts_added += 1
        # The old file must stay until the index names the new one, so the name tells the content.
        stem = _partition(part).removesuffix(".parquet")
        file = f"{stem}.{self._hash(whole)[:12]}.parquet"
        series = (part.kind, part.instrument_id, part.interval)
        return write_series(self._into, file, series, [whole], self._universe)

    def _table(self, folder: Path, part: Part) -> Columns:
        return TABLE_BY_KIND[part.kind].concat(list(read_part(folder, part, self._universe)))

    def _days(self, table: Columns, part: Part) -> Ints:
        instrument = self._universe.instruments[self._universe.index(part.instrument_id) or 0]
        ts = table.ts - 1 if part.kind == "bar" else table.ts
        return local_days(ts, instrument.time_zone)

    def _hash(self, table: Columns) -> str:
        hasher = ContentHasher()
        hasher.update(table, self._universe.sources)
        return hasher.hexdigest()


def _partition(part: Part) -> str:
    """Return the name of the partition that a part is.

    Its file without the hash of a joined part.
    """
    folder, _, name = part.file.rpartition("/")
    return f"{folder}/{name.split('.')[0]}.parquet"


def _joined_instruments(old: Index, fresh: Index) -> list[Instrument]:
    """Return all instruments, each once.

    Of two increments the finer one, which both files lie on. Raises ConflictError for two
    calendars: rows are placed by them.
    """
    joined = {instrument.instrument_id: instrument for instrument in old.instruments}
    for instrument in fresh.instruments:
        known = joined.setdefault(instrument.instrument_id, instrument)
        if known.calendar != instrument.calendar:
            raise ConflictError(
                f"the folder holds {known.instrument_id} with another calendar"
                f" ({known.calendar or 'none'})",
                field="calendar",
                value=instrument.calendar or "none",
                remedy=(
                    f"import with --calendar {known.calendar}, or into another folder"
                    if known.calendar
                    else "import into another folder, or the other files again with this calendar"
                ),
            )
        finest: Decimal = min(known.price_increment, instrument.price_increment)
        joined[instrument.instrument_id] = msgspec.structs.replace(known, price_increment=finest)
    return list(joined.values())


def files_of(path: Path, suffixes: Sequence[str]) -> list[Path]:
    """Return ``path`` if it is a file, else its files with one of ``suffixes``, by name.

    Raises NotFoundError.
    """
    if path.is_file():
        return [path]
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in suffixes)
    if not files:
        raise NotFoundError(
            "the folder has no files of this kind",
            field="path",
            value=str(path),
            remedy=f"it should have files that end in {' or '.join(suffixes)}",
        )
    return files


def _reader(
    kind: SourceKind,
    path: Path,
    symbols: Sequence[str] | None,
    interval: str | None,
    is_bar_start: bool,
    calendar: str,
) -> Callable[[Ingest], None]:
    """Return what reads all files of a kind; raises ConfigError."""
    if kind == "lean":
        if calendar:
            raise ConfigError(
                "LEAN files hold shares of New York, whose calendar is known",
                field="calendar",
                value=calendar,
                remedy="leave it out",
            )
        if interval is not None:
            raise ConfigError(
                "LEAN files say their interval themselves",
                field="interval",
                value=interval,
                remedy="leave it out; choose it when the data is opened",
            )
        return partial(read_lean, path=path, symbols=symbols)
    read, suffix = (read_csv, ".csv") if kind == "csv" else (read_parquet, ".parquet")

    def read_all(ingest: Ingest) -> None:
        for file in files_of(path, (suffix,)):
            read(ingest, file, symbols=symbols, interval=interval, is_bar_start=is_bar_start)

    return read_all
