"""``open_data``: from what a person writes after ``--data`` to a data set."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import gettempdir, mkdtemp

from schemas.errors import DataError, NotFoundError
from streams.datasets.base import DataSet
from streams.datasets.bundled import BUNDLED, bundled_folder
from streams.datasets.csv_files import read_csv
from streams.datasets.ingest import Ingest
from streams.datasets.lean import is_lean_folder, read_lean
from streams.datasets.parquet_files import read_parquet
from streams.datasets.quality import RejectFile
from streams.datasets.recorded import RecordedDataSet
from streams.datasets.store import INDEX_NAME, disk_errors
from streams.datasets.stored import StoredDataSet
from streams.datasets.topics_folder import TOPICS

_KINDS = "a CSV or Parquet file, a LEAN zip or folder, an imported folder, or the folder of a run"


def open_data(
    spec: str, *, symbols: Sequence[str] | None = None, interval: str | None = None
) -> DataSet:
    """Open a data set by name or path.

    ``spec`` is the name of a bundled set (``demo``, ``daily``), a CSV, Parquet or LEAN zip file, a
    LEAN folder, an imported folder, or the folder of a run. ``symbols`` leaves only these
    instruments (it names the one of a file without a symbol column). ``interval`` says what the
    bars of a CSV or Parquet file are, and leaves only those of other sets. A file is read once as a
    whole here, into a temporary folder that lives as long as the data set; its rejected rows are
    counted in ``quality``. Raises NotFoundError if there is no such set, DataError if it cannot be
    used.
    """
    if spec in BUNDLED:
        return StoredDataSet(spec, bundled_folder(spec), symbols=symbols, interval=interval)
    path = Path(spec)
    if not path.exists():
        raise NotFoundError(
            "there is no such data set",
            field="data",
            value=spec,
            remedy=f"use {' or '.join(BUNDLED)}, which are bundled, or the path of {_KINDS}",
        )
    if path.is_file():
        return _open_files(spec, path, symbols, interval)
    if (path / INDEX_NAME).exists():
        return StoredDataSet(spec, path, symbols=symbols, interval=interval)
    if (path / TOPICS).is_dir():
        return RecordedDataSet(spec, path, symbols=symbols)
    for folder in (path, path / "journal"):
        if next(folder.glob("segment-*"), None) is not None:
            return RecordedDataSet(spec, folder, symbols=symbols)
    if is_lean_folder(path):
        return _open_files(spec, path, symbols, interval)
    raise NotFoundError(
        "the folder holds no data set",
        field="data",
        value=spec,
        remedy=f"give the path of {_KINDS}; `millrace import` makes one folder of many files",
    )


def _open_files(
    spec: str, path: Path, symbols: Sequence[str] | None, interval: str | None
) -> StoredDataSet:
    """Read files into a temporary data-set folder and open that."""
    read = _reader(spec, path, interval)
    with disk_errors("cannot be made", Path(gettempdir())):
        folder = Path(mkdtemp(prefix="millrace-data-"))
    try:
        ingest = Ingest(folder, RejectFile(folder))
        read(ingest, path, symbols=symbols)
        ingest.finish()
        return StoredDataSet(
            spec,
            folder,
            symbols=symbols,
            interval=interval,
            is_temporary=True,
            quality=ingest.quality,
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _reader(spec: str, path: Path, interval: str | None) -> Callable[..., None]:
    """Return what reads ``path``, by its suffix."""
    suffix = path.suffix.lower()
    if path.is_dir() or suffix == ".zip":
        return read_lean
    if suffix in {".csv", ".txt"}:
        return partial(read_csv, interval=interval)
    if suffix in {".parquet", ".pq"}:
        return partial(read_parquet, interval=interval)
    raise DataError(
        "the kind of this file is not known by its name",
        field="data",
        value=spec,
        remedy="name it .csv, .parquet or .zip",
    )
