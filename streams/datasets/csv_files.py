"""CSV files with a header line, read as a stream; the columns are those of ``streams.datasets.tabular``.

Every field is read as text first, so that a bad field costs its row and not the file. A timestamp is RFC 3339 with
offset, an integer (s, ms, us or ns since 1970 by magnitude, one unit for the whole file), or for daily bars a day
(yyyy-mm-dd or yyyymmdd).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pcsv

from schemas.columns import Floats, Ints
from schemas.errors import DataError
from streams.calendars import day_numbers
from streams.datasets.ingest import Ingest
from streams.datasets.store import disk_error
from streams.datasets.table_rows import TableRows
from streams.datasets.tabular import UNIT_NS, Block, Layout, layout_of, unit_of

_BLOCK_BYTES = 4 << 20
_NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?$"
_INTEGER = r"^[+-]?\d{1,19}$"
_DAY = r"^\d{4}-\d{2}-\d{2}$"
_COMPACT_DAY = r"^(19|20)\d{6}$"
_INSTANT = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:?\d{2})$"
_NAIVE = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}"


def read_csv(
    ingest: Ingest,
    path: Path,
    *,
    symbols: Sequence[str] | None = None,
    interval: str | None = None,
) -> None:
    """Hand the rows of a CSV file to ``ingest``.

    Raises DataError if the file cannot be read as a whole: empty, no header, a column missing, no readable timestamp.
    """
    file = path.name
    skipped: list[Any] = []

    def on_invalid(row: Any) -> str:
        skipped.append(row)
        return "skip"

    reader = _open(path, on_invalid)
    layout = layout_of(file, reader.schema.names, symbols)
    ingest.begin_file(file)
    parser = _Parser(file, layout, symbols)
    rows = TableRows(ingest, file, layout.kind, interval)
    line = 2
    found = False
    for batch in _batches(reader, path):
        numbers = [row.number for row in skipped]
        lines = _lines(line, batch.num_rows, numbers)
        line += batch.num_rows + len(skipped)
        for row in skipped:
            if row.text.strip():
                reason = f"{row.actual_columns} fields where the header has {row.expected_columns}"
                ingest.reject_line(row.number, reason, row.text)
        skipped.clear()
        if batch.num_rows:
            found = True
            rows.add(parser.block(batch, lines))
    if not found:
        raise DataError(
            f"{file} has no rows",
            field="file",
            value=str(path),
            remedy="check that the file is whole; it should have one row a line below the header",
        )


def _open(path: Path, on_invalid: Any) -> Any:
    try:
        with path.open("rb") as file:
            head = file.readline(1 << 20)
        if not head.strip():
            raise DataError(
                f"{path.name} is empty or has no header",
                field="file",
                value=str(path),
                remedy="the first line must name the columns",
            )
        names = [name.strip().strip('"') for name in head.decode("utf-8-sig").strip().split(",")]
        return pcsv.open_csv(
            path,
            read_options=pcsv.ReadOptions(
                use_threads=False, block_size=_BLOCK_BYTES, column_names=names, skip_rows=1
            ),
            parse_options=pcsv.ParseOptions(
                invalid_row_handler=on_invalid, ignore_empty_lines=False
            ),
            convert_options=pcsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()), strings_can_be_null=False
            ),
        )
    except OSError as error:
        raise disk_error("cannot be read", path, error) from error
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _batches(reader: Any, path: Path) -> Iterator[Any]:
    try:
        yield from reader
    except pa.ArrowInvalid as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(
        f"{path.name} cannot be read as CSV: {str(error).splitlines()[0]}",
        field="file",
        value=str(path),
        remedy="it must be UTF-8 text with a header line and commas between the fields",
    )


def _lines(first: int, count: int, skipped: list[int]) -> Ints:
    """Return the lines of ``count`` rows from line ``first`` on, where the lines ``skipped`` are none of them."""
    lines = np.arange(first, first + count + len(skipped), dtype=np.int64)
    return lines[~np.isin(lines, skipped)][:count] if skipped else lines


class _Parser:
    """Turns batches of text columns into blocks; the unit of integer timestamps is settled by the first."""

    def __init__(self, file: str, layout: Layout, symbols: Sequence[str] | None) -> None:
        self._file = file
        self._layout = layout
        self._symbol = symbols[0] if symbols else ""
        self._unit = ""
        self._is_first = True

    def block(self, batch: Any, line: Ints) -> Block:
        """Return the rows of ``batch``, which stand in ``line`` of the file."""
        columns = {
            name: pc.utf8_trim_whitespace(batch.column(column))
            for name, column in self._layout.columns.items()
        }
        size = batch.num_rows
        reasons: dict[int, str] = {}
        unplaced: set[int] = set()
        names, code = self._symbols(columns, size)
        if "" in names:
            _note(code == names.index(""), "no symbol", reasons, unplaced)
        is_by_start = "timestamp" not in columns
        when = "start" if is_by_start else "timestamp"
        ts, day, is_bad = self._times(columns[when], when)
        _note(is_bad, f"unreadable {when}", reasons, unplaced)
        block = Block(
            symbols=names,
            code=code,
            ts=ts,
            day=day,
            values={},
            line=line,
            text=lambda row: ",".join(column[row].as_py() for column in batch.columns),
            reasons=reasons,
            unplaced=unplaced,
        )
        self._fill(block, columns, is_by_start)
        return block

    def _fill(self, block: Block, columns: dict[str, Any], is_by_start: bool) -> None:
        """Add the values, and what a file may have besides."""
        for name, column in columns.items():
            if name in {"timestamp", "symbol", "source", "seq", "start"}:
                continue
            block.values[name], is_bad = _numbers(column)
            _note(is_bad, f"{name} is not a number", block.reasons)
        if "seq" in columns:
            block.seq, is_bad = _integers(columns["seq"])
            _note(is_bad, "seq is not an integer", block.reasons)
            block.source = columns["source"].to_numpy(zero_copy_only=False)
        if is_by_start:
            block.start = block.ts
        elif "start" in columns:
            block.start, _, is_bad = self._times(columns["start"], "start")
            _note(is_bad, "unreadable start", block.reasons)

    def _symbols(
        self, columns: dict[str, Any], size: int
    ) -> tuple[list[str], npt.NDArray[np.int32]]:
        if "symbol" not in columns:
            return [self._symbol], np.zeros(size, np.int32)
        encoded = columns["symbol"].dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int32)

    def _times(self, column: Any, name: str) -> tuple[Ints, Ints, npt.NDArray[np.bool_]]:
        """Return instants (ns UTC), plain days (yyyymmdd or 0) and which rows are neither."""
        is_integer = _matches(column, _INTEGER)
        is_compact = _matches(column, _COMPACT_DAY) & (self._layout.kind == "bar")
        is_day = _matches(column, _DAY)
        is_instant = ~is_integer & ~is_day & _matches(column, _INSTANT)
        if self._is_first:
            self._check_times(column, name, is_integer | is_day | is_instant)
            self._is_first = False
        ts = np.zeros(len(column), np.int64)
        day = np.zeros(len(column), np.int64)
        is_bad = ~(is_integer | is_day | is_instant)
        if is_compact.any() or is_day.any():
            digits = pc.replace_substring(column, "-", "")
            day, _ = _integers(digits, is_compact | is_day)
            is_bad |= (is_compact | is_day) & ~_is_day_number(day)
            day[is_bad] = 0
        is_number = is_integer & ~is_compact
        if is_number.any():
            numbers, is_large = _integers(column, is_number)
            ts, is_other = self._scaled(numbers, is_number & ~is_large)
            is_bad |= is_number & (is_large | is_other)
        if is_instant.any():
            instants, is_wrong = _instants(column, is_instant)
            ts = np.where(is_instant, instants, ts)
            is_bad |= is_wrong
        return ts, day, is_bad

    def _scaled(
        self, numbers: Ints, is_number: npt.NDArray[np.bool_]
    ) -> tuple[Ints, npt.NDArray[np.bool_]]:
        """Return integer times in ns, and which have a magnitude of another unit than the file's first."""
        if not self._unit:
            first = int(numbers[np.argmax(is_number)])
            self._unit = unit_of(first)
        limits = {"s": (0, 10**11), "ms": (10**11, 10**14), "us": (10**14, 10**17)}
        low, high = limits.get(self._unit, (10**17, 2**63 - 1))
        size = np.abs(numbers)
        is_other = (size < low) | (size >= high)
        return np.where(is_other, 0, numbers) * UNIT_NS[self._unit], is_other

    def _check_times(self, column: Any, name: str, is_good: npt.NDArray[np.bool_]) -> None:
        """Raise DataError if not one timestamp of the first block can be read."""
        if is_good.any() or not len(column):
            return
        value = column[0].as_py()
        is_naive = _matches(column.slice(0, 1), _NAIVE).all()
        raise DataError(
            f"{self._file}: the {name} cannot be read" + (", it has no offset" if is_naive else ""),
            field=self._layout.columns[name],
            value=value,
            remedy="append Z or an offset such as -04:00, or write ns since 1970"
            if is_naive
            else "write RFC 3339 such as 2013-10-07T13:30:00Z, or s, ms, us or ns since 1970",
        )


def _note(
    is_bad: npt.NDArray[np.bool_], reason: str, reasons: dict[int, str], unplaced: set[int] | None = None
) -> None:
    for row in np.flatnonzero(is_bad).tolist():
        reasons.setdefault(row, reason)
        if unplaced is not None:
            unplaced.add(row)


def _matches(column: Any, pattern: str) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = pc.match_substring_regex(column, pattern).to_numpy(
        zero_copy_only=False
    )
    return found.astype(np.bool_)


def _numbers(column: Any) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Return the column as float64, NaN where it is no number, and where that is."""
    is_good = _matches(column, _NUMBER)
    if not is_good.all():
        column = pc.if_else(pa.array(is_good), column, "nan")
    values: Floats = pc.cast(column, pa.float64()).to_numpy()
    return values, ~is_good


def _integers(
    column: Any, chosen: npt.NDArray[np.bool_] | None = None
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the chosen fields as int64, 0 elsewhere, and which of them do not fit."""
    is_good = _matches(column, _INTEGER)
    if chosen is not None:
        is_good &= chosen
    try:
        values = pc.cast(pc.if_else(pa.array(is_good), column, "0"), pa.int64()).to_numpy()
    except pa.ArrowInvalid:
        # Nineteen digits may exceed 64 bits; no such field is good.
        is_good &= _matches(column, r"^[+-]?\d{1,18}$")
        values = pc.cast(pc.if_else(pa.array(is_good), column, "0"), pa.int64()).to_numpy()
    return values.copy(), ~is_good if chosen is None else chosen & ~is_good


def _instants(
    column: Any, chosen: npt.NDArray[np.bool_]
) -> tuple[Ints, npt.NDArray[np.bool_]]:
    """Return the chosen RFC 3339 fields as ns UTC, 0 elsewhere, and which of them are no instants."""
    kind = pa.timestamp("ns", "UTC")
    text = pc.if_else(pa.array(chosen), pc.utf8_upper(column), "1970-01-01T00:00:00Z")
    is_bad = np.zeros(len(column), np.bool_)
    try:
        values = pc.cast(text, kind)
    except pa.ArrowInvalid:
        # A month 13 or an hour 25 somewhere: find out field by field.
        parsed: list[Any] = []
        for row, field in enumerate(text):
            try:
                parsed.append(field.cast(kind).value)
            except pa.ArrowInvalid:
                parsed.append(0)
                is_bad[row] = True
        return np.array(parsed, np.int64), is_bad
    return pc.cast(values, pa.int64()).to_numpy(), is_bad


def _is_day_number(day: Ints) -> npt.NDArray[np.bool_]:
    """Return which yyyymmdd are days of the calendar."""
    year, month, of_month = day // 10_000, day // 100 % 100, day % 100
    is_plausible = (month >= 1) & (month <= 12) & (of_month >= 1) & (year >= 1)
    safe = np.where(is_plausible, day, 19700101)
    months = ((safe // 10_000 - 1970) * 12 + safe // 100 % 100 - 1).astype("datetime64[M]")
    days = months.astype("datetime64[D]").astype(np.int64) + safe % 100 - 1
    return is_plausible & (day_numbers(days) == day)
