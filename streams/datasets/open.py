"""``open_data``: from what a person writes after ``--data`` to a data set."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from schemas.errors import NotFoundError
from streams.datasets.base import DataSet
from streams.datasets.bundled import BUNDLED, bundled_folder
from streams.datasets.csv_files import read_csv
from streams.datasets.ingest import Ingest
from streams.datasets.lean import read_lean
from streams.datasets.quality import RejectFile
from streams.datasets.store import INDEX_NAME
from streams.datasets.stored import StoredDataSet


def open_data(
    spec: str, *, symbols: Sequence[str] | None = None, interval: str | None = None
) -> DataSet:
    """Open a data set by name or path.

    ``spec`` is the name of a bundled set (``demo``, ``daily``), a CSV, Parquet or LEAN zip file, a LEAN folder, an
    imported folder, or the journal folder of a run. ``symbols`` leaves only these instruments; ``interval`` says what
    the bars of a file are, or leaves only those of a set. Files are read once as a whole here, into a temporary
    folder that lives as long as the data set. Raises NotFoundError if there is no such set, DataError if it cannot be
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
            remedy=f"bundled sets are {', '.join(BUNDLED)}; else give the path of a CSV or Parquet file, a LEAN zip or "
            "folder, an imported folder or the folder of a run",
        )
    if (path / INDEX_NAME).exists():
        return StoredDataSet(spec, path, symbols=symbols, interval=interval)
    temporary = TemporaryDirectory(prefix="millrace-data-")
    folder = Path(temporary.name)
    ingest = Ingest(folder, RejectFile(folder))
    if path.is_dir() or path.suffix == ".zip":
        read_lean(ingest, path, symbols=symbols)
    else:
        read_csv(ingest, path, symbols=symbols, interval=interval)
    ingest.finish()
    return StoredDataSet(spec, folder, symbols=symbols, interval=interval, temporary=temporary)
