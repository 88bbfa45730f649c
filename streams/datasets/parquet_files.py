"""Parquet files with the columns of ``streams.datasets.tabular``, typed.

Timestamps as int64 or Arrow timestamps.

Integer timestamps have their unit by magnitude as in CSV; Arrow timestamps say theirs, and one
without time zone is taken as UTC. A ``date32`` column, or strings as in CSV, say the day of daily
bars.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import DataError
from streams.datasets.csv_text import TextTable
from streams.datasets.ingest import Ingest
from streams.datasets.parsing import TableParser
from streams.datasets.store import disk_error
from streams.datasets.table_rows import TableRows
from streams.datasets.tabular import layout_of

_BATCH_ROWS = 65_536


def read_parquet(
    ingest: Ingest,
    path: Path,
    *,
    symbols: Sequence[str] | None = None,
    interval: str | None = None,
    is_bar_start: bool = False,
) -> None:
    """Hand the rows of a Parquet file to ``ingest``; lines of the report are row numbers, from 1.

    ``is_bar_start``: bars are stamped by their start.

    Raises DataError if the file cannot be read as a whole: damaged, empty, a column missing or of a
    wrong type.
    """
    file = path.name
    ingest.begin_file(file)
    line = 1
    parser: TableParser | None = None
    rows: TableRows | None = None
    for batch in _batches(path):
        if parser is None or rows is None:
            layout = layout_of(file, batch.schema.names, symbols, is_bar_start)
            parser = TableParser(file, layout, symbols)
            rows = TableRows(ingest, file, layout.kind, interval)
        names = batch.schema.names
        arrays = {name: batch.column(i) for i, name in enumerate(names)}
        lines = np.arange(line, line + batch.num_rows, dtype=np.int64)
        line += batch.num_rows
        rows.add(parser.block(TextTable(arrays, lines)))
    if rows is not None:
        rows.finish()
    else:
        raise DataError(
            f"{file} has no rows",
            field="file",
            value=str(path),
            remedy="check that the file is whole",
        )


def _batches(path: Path) -> Iterator[Any]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(_BATCH_ROWS, use_threads=False):
                if batch.num_rows:
                    yield batch
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, FileNotFoundError | PermissionError):
            raise disk_error("cannot be read", path, error) from error
        raise DataError(
            f"{path.name} cannot be read as Parquet: {str(error).splitlines()[0]}",
            field="file",
            value=str(path),
            remedy="write or copy the file again",
        ) from error
