"""CSV as a stream of text columns with line numbers, and columns of text as numbers.

Every field is read as text first, so that a bad field costs its row and not the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from schemas.columns import Floats, Ints
from schemas.errors import DataError
from streams.datasets.ingest import Ingest
from streams.datasets.store import disk_error

Mask = npt.NDArray[np.bool_]
_BLOCK_BYTES = 4 << 20
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
# Without a plus sign: Arrow reads one before a float, but not before an integer.
_INTEGER = r"^-?\d{1,19}$"
_SHORT_INTEGER = r"^-?\d{1,18}$"


@dataclass(frozen=True, slots=True)
class TextTable:
    """Consecutive rows: arrow arrays.

    CSV: trimmed text by column name, and the line of each row, from 1.
    """

    columns: dict[str, Any]
    line: Ints

    def text(self, row: int) -> str:
        """Return the fields of a row, joined by commas."""
        return ",".join(str(column[row].as_py()) for column in self.columns.values())

    def __len__(self) -> int:
        return len(self.line)


def text_tables(
    ingest: Ingest,
    file: str,
    source: Path | BinaryIO,
    names: Sequence[str],
    *,
    header_lines: int = 0,
) -> Iterator[TextTable]:
    """Yield the rows of ``source`` as text, blank lines left out.

    Lines with another number of fields than ``names`` has are rejected. Raises DataError if there
    are no rows, or if the text cannot be read as CSV, and StorageError if the disk refuses.
    """
    skipped: list[Any] = []

    def on_invalid(row: Any) -> str:
        skipped.append(row)
        return "skip"

    found = False
    line = header_lines + 1
    for batch in _batches(file, source, names, header_lines, on_invalid):
        lines = _lines(line, batch.num_rows, [row.number for row in skipped])
        line += batch.num_rows + len(skipped)
        for row in skipped:
            if row.text.strip():
                reason = f"{row.actual_columns} fields instead of {row.expected_columns}"
                ingest.reject_line(row.number, reason, row.text)
        skipped.clear()
        arrays = [pc.utf8_trim_whitespace(column) for column in batch.columns]
        is_blank = np.logical_and.reduce([matches(array, "^$") for array in arrays])
        if is_blank.any():
            arrays = [array.filter(pa.array(~is_blank)) for array in arrays]
            lines = lines[~is_blank]
        if len(lines):
            found = True
            yield TextTable(dict(zip(names, arrays, strict=True)), lines)
    if not found:
        raise DataError(
            f"{file} has no usable row",
            field="file",
            value=file,
            remedy="check that the file is whole: one row a line, commas between the fields",
        )


def _batches(
    file: str, source: Path | BinaryIO, names: Sequence[str], header_lines: int, on_invalid: Any
) -> Iterator[Any]:
    try:
        yield from pcsv.open_csv(
            source,
            read_options=pcsv.ReadOptions(
                use_threads=False,
                block_size=_BLOCK_BYTES,
                column_names=list(names),
                skip_rows=header_lines,
            ),
            parse_options=pcsv.ParseOptions(
                invalid_row_handler=on_invalid, ignore_empty_lines=False
            ),
            convert_options=pcsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except OSError as error:
        raise disk_error("cannot be read", Path(file), error) from error
    except pa.ArrowInvalid as error:
        raise unreadable(file, error) from error


def unreadable(file: str, error: Exception) -> DataError:
    """Return the error for text that is no CSV."""
    return DataError(
        f"{file} cannot be read as CSV: {str(error).splitlines()[0]}",
        field="file",
        value=file,
        remedy="it must be UTF-8 text with one row a line and commas between the fields",
    )


def _lines(first: int, count: int, skipped: list[int]) -> Ints:
    """Return the lines of ``count`` rows from line ``first`` on; ``skipped`` are not rows."""
    lines = np.arange(first, first + count + len(skipped), dtype=np.int64)
    return lines[~np.isin(lines, skipped)][:count] if skipped else lines


def matches(column: Any, pattern: str) -> Mask:
    """Return which fields match the regular expression ``pattern``."""
    found = pc.match_substring_regex(column, pattern).to_numpy(zero_copy_only=False)
    return np.asarray(found, np.bool_)


def numbers(column: Any) -> tuple[Floats, Mask]:
    """Return the fields as float64, NaN where one is no number, and which those are."""
    is_good = matches(column, _NUMBER)
    if not is_good.all():
        column = pc.if_else(pa.array(is_good), column, "nan")
    values: Floats = pc.cast(column, pa.float64()).to_numpy()
    return values, ~is_good


def integers(column: Any, chosen: Mask | None = None) -> tuple[Ints, Mask]:
    """Return the chosen fields.

    Default all as int64, 0 elsewhere, and which of the chosen are no integers.
    """
    wanted = np.ones(len(column), np.bool_) if chosen is None else chosen
    is_good = wanted & matches(column, _INTEGER)
    try:
        values = pc.cast(pc.if_else(pa.array(is_good), column, "0"), pa.int64())
    except pa.ArrowInvalid:
        # Nineteen digits may exceed 64 bits; then none of that length is taken.
        is_good &= matches(column, _SHORT_INTEGER)
        values = pc.cast(pc.if_else(pa.array(is_good), column, "0"), pa.int64())
    return values.to_numpy().copy(), wanted & ~is_good


def is_integer(column: Any) -> Mask:
    """Return which fields are integers."""
    return matches(column, _INTEGER)
