"""Rows on disk: one Parquet file a part of a series, and the index that says which parts there are.

An imported folder, the bundled sets and the temporary form of an opened CSV file are all this. The
index is written last, so a folder is what its index says, and files that it does not name do not
exist.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import Columns
from schemas.errors import DataError, StorageError
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.market_data import INTERVALS
from schemas.rows import TABLE_BY_KIND

INDEX_NAME = "dataset.json"
FORMAT = "millrace-dataset/1"
ROW_GROUP_ROWS = 65_536


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One file: rows of one series from ``first_day`` to ``last_day`` (yyyymmdd, trading days).

    ``content_hash`` is that of its columns (``streams.datasets.hashing``), not of the file's bytes.
    """

    file: str
    instrument_id: str
    kind: str
    interval: str = ""
    count: int
    first_ts_ns: int
    last_ts_ns: int
    first_day: int
    last_day: int
    sources: list[str]
    content_hash: str


class Index(msgspec.Struct, kw_only=True):
    """The contents of a folder: instruments, corporate actions and parts, each sorted."""

    format: str = FORMAT
    instruments: list[Instrument] = []
    actions: list[CorporateAction] = []
    parts: list[Part] = []


def read_index(folder: Path) -> Index:
    """Read the index of a data-set folder; raises DataError if it cannot be understood."""
    path = folder / INDEX_NAME
    try:
        index = msgspec.json.decode(path.read_bytes(), type=Index)
    except OSError as error:
        raise disk_error("cannot be read", path, error) from error
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise DataError(
            f"the index of the data set cannot be read: {error}",
            field="file",
            value=str(path),
            remedy="import the data again into an empty folder",
        ) from error
    if index.format != FORMAT:
        raise DataError(
            "the data set has a format that this program does not know",
            field="format",
            value=index.format,
            remedy=f"import the data again; this program reads {FORMAT}",
        )
    return index


def write_index(folder: Path, index: Index) -> None:
    """Replace the index of ``folder`` at once; raises StorageError if the disk refuses."""
    data = msgspec.json.format(msgspec.json.encode(index), indent=1)
    write_whole(folder / INDEX_NAME, lambda path: path.write_bytes(data))


def write_part(path: Path, tables: Iterable[Columns], sources: list[str]) -> None:
    """Write the rows of ``tables`` (all of one kind) to ``path`` at once.

    ``sources`` are the names of their codes.
    """

    def write(temporary: Path) -> None:
        writer: Any = None
        try:
            for table in _joined(tables):
                data = _to_arrow(table, sources)
                if writer is None:
                    writer = _writer(temporary, data.schema)
                writer.write_table(data, row_group_size=ROW_GROUP_ROWS)
        finally:
            if writer is not None:
                writer.close()

    write_whole(path, write)


def read_part(folder: Path, part: Part, universe: Universe) -> Iterator[Columns]:
    """Yield the rows of ``part`` in pieces of a bounded size, with codes of ``universe``.

    ``pos`` counts from 0.

    Raises DataError if the file is damaged or missing.
    """
    path = folder / part.file
    instrument = universe.index(part.instrument_id)
    assert instrument is not None, "the index lists every instrument of its parts"
    interval = INTERVALS.index(part.interval) if part.interval else 0
    count = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(ROW_GROUP_ROWS, use_threads=False):
                count += batch.num_rows
                yield _from_arrow(batch, part.kind, universe, instrument, interval)
    except (OSError, pa.ArrowException, KeyError) as error:
        raise _damaged(path, str(error)) from error
    if count != part.count:
        raise _damaged(path, f"it has {count} rows where the index says {part.count}")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` fill a temporary file, force it to the disk and give it its name.

    Raises StorageError if the disk refuses; the temporary file is removed then.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    with disk_errors("cannot be written", path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def disk_errors(what: str, path: Path) -> Iterator[None]:
    """Turn an OSError of the block into a StorageError about ``path``."""
    try:
        yield
    except OSError as error:
        raise disk_error(what, path, error) from error


def disk_error(what: str, path: Path, error: OSError) -> StorageError:
    """Return the StorageError for an error of the operating system about ``path``."""
    return StorageError(
        f"the file {what}: {error.strerror or error}",
        field="file",
        value=str(path),
        remedy="check free space and the rights of the folder, then try again",
    )


def _damaged(path: Path, detail: str) -> DataError:
    return DataError(
        f"a file of the data set is damaged: {detail}",
        field="file",
        value=str(path),
        remedy="import the data again into an empty folder",
    )


def _stored_columns(kind: str) -> list[str]:
    """Return the names of the stored columns: all but those that the part itself says."""
    said = {"pos", "instrument", "interval"}
    return [name for name in TABLE_BY_KIND[kind].names() if name not in said]


def _joined(tables: Iterable[Columns]) -> Iterator[Columns]:
    """Yield the rows of ``tables`` in tables that fill a row group.

    So that small blocks make no small groups.
    """
    held: list[Columns] = []
    for table in tables:
        held.append(table)
        if sum(map(len, held)) >= ROW_GROUP_ROWS:
            yield type(table).concat(held)
            held = []
    if held:
        yield type(held[0]).concat(held)


def _writer(path: Path, schema: Any) -> Any:
    """Return a writer whose files are small.

    Times and numbers rise by small steps, prices repeat.
    """
    rising = {"ts", "seq", "start"} & set(schema.names)
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=3,
        use_dictionary=[name for name in schema.names if name not in rising],
        column_encoding=dict.fromkeys(sorted(rising), "DELTA_BINARY_PACKED"),
    )


def _to_arrow(table: Columns, sources: list[str]) -> pa.Table:
    arrays: dict[str, Any] = {}
    for name in _stored_columns(table.KIND):
        values = getattr(table, name)
        if name == "source":
            arrays[name] = pa.DictionaryArray.from_arrays(pa.array(values), pa.array(sources))
        else:
            arrays[name] = pa.array(values)
    return pa.table(arrays)


def _from_arrow(
    batch: Any, kind: str, universe: Universe, instrument: int, interval: int
) -> Columns:
    rows = batch.num_rows
    columns: dict[str, Any] = {
        "pos": np.arange(rows, dtype=np.int64),
        "instrument": np.full(rows, instrument, np.int32),
    }
    if kind == "bar":
        columns["interval"] = np.full(rows, interval, np.int32)
    for name in _stored_columns(kind):
        array = batch.column(name)
        if name == "source":
            names = array.dictionary.to_pylist()
            codes = np.array([universe.source_index(text) for text in names], np.int32)
            columns[name] = codes[array.indices.to_numpy(zero_copy_only=False)]
        else:
            columns[name] = array.to_numpy(zero_copy_only=False)
    return TABLE_BY_KIND[kind](**columns)
