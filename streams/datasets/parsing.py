"""Columns of a table, text or typed, as blocks of parsed rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from schemas.columns import Ints
from schemas.errors import DataError
from streams.calendars import day_numbers, is_day_number
from streams.datasets.csv_text import Mask, TextTable, integers, matches, numbers
from streams.datasets.csv_text import is_integer as is_integer_text
from streams.datasets.tabular import UNIT_NS, Block, Layout, unit_of

LONGEST_SYMBOL = 64
"""Most characters of a symbol: it names a folder, and exchanges use a dozen."""

_DAY = r"^\d{4}-\d{2}-\d{2}$"
_COMPACT_DAY = r"^(19|20)\d{6}$"
_INSTANT = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:?\d{2})$"
_NAIVE = r"^\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}"


class TableParser:
    """Turn tables of text or typed columns into blocks.

    The unit of integer timestamps is settled by the first.
    """

    def __init__(self, file: str, layout: Layout, symbols: Sequence[str] | None) -> None:
        self._file = file
        self._layout = layout
        self._symbol = symbols[0] if symbols else ""
        self._unit = ""
        self._is_first = True

    def block(self, table: TextTable) -> Block:
        """Return the rows of ``table``."""
        columns = {
            name: _plain(table.columns[column]) for name, column in self._layout.columns.items()
        }
        size = len(table)
        reasons: dict[int, str] = {}
        unplaced: set[int] = set()
        names, code = self._symbols(columns, size)
        if "" in names:
            _note(code == names.index(""), "no symbol", reasons, unplaced)
        for i, name in enumerate(names):
            if len(name) > LONGEST_SYMBOL:
                reason = f"the symbol has more than {LONGEST_SYMBOL} characters"
                _note(code == i, reason, reasons, unplaced)
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
            line=table.line,
            text=table.text,
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
            if is_text(column):
                block.values[name], is_bad = numbers(column)
            else:
                # Arrow's own cast of decimals is not correctly rounded; that of text is.
                is_exact = pa.types.is_decimal(column.type)
                exact = pc.cast(column, pa.string()) if is_exact else column
                typed = self._typed(exact, pa.float64(), name).fill_null(np.nan)
                block.values[name] = typed.to_numpy()
                is_bad = np.isnan(block.values[name])
            _note(is_bad, f"{name} is not a number", block.reasons)
        if "seq" in columns:
            seq = columns["seq"]
            block.seq, is_bad = integers(seq if is_text(seq) else pc.cast(seq, pa.string()))
            _note(is_bad, "seq is not an integer", block.reasons)
            source = self._typed(columns["source"], pa.string(), "source").fill_null("")
            block.source = source.to_numpy(zero_copy_only=False)
        if is_by_start:
            block.is_by_start = True
            block.start = block.ts
        elif "start" in columns:
            block.start, block.start_day, is_bad = self._times(columns["start"], "start")
            _note(is_bad, "unreadable start", block.reasons)

    def _symbols(
        self, columns: dict[str, Any], size: int
    ) -> tuple[list[str], npt.NDArray[np.int32]]:
        if "symbol" not in columns:
            return [self._symbol], np.zeros(size, np.int32)
        symbols = self._typed(columns["symbol"], pa.string(), "symbol").fill_null("")
        encoded = symbols.dictionary_encode()
        return encoded.dictionary.to_pylist(), encoded.indices.to_numpy().astype(np.int32)

    def _times(self, column: Any, name: str) -> tuple[Ints, Ints, Mask]:
        """Return instants (ns UTC), plain days (yyyymmdd or 0) and which rows are neither."""
        if is_text(column):
            return self._text_times(column, name)
        day = np.zeros(len(column), np.int64)
        is_null = column.is_null().to_numpy(zero_copy_only=False)
        if pa.types.is_date(column.type):
            days = pc.cast(column, pa.date32()).fill_null(0).cast(pa.int32()).to_numpy()
            return day, np.where(is_null, 0, day_numbers(days.astype(np.int64))), is_null
        if pa.types.is_timestamp(column.type):
            instants = self._typed(column, pa.timestamp("ns", column.type.tz), name)
            return pc.cast(instants, pa.int64()).fill_null(0).to_numpy().copy(), day, is_null
        numbers = self._typed(column, pa.int64(), name).fill_null(0).to_numpy()
        ts, is_other = self._scaled(numbers, ~is_null)
        return ts, day, is_null | is_other

    def _typed(self, column: Any, kind: Any, name: str) -> Any:
        """Return ``column`` as arrow type ``kind``; raises DataError if its values do not fit."""
        try:
            return pc.cast(column, kind)
        except pa.ArrowException as error:
            raise DataError(
                f"{self._file}: a column has a type or values that cannot be used for {name}",
                field=self._layout.columns[name],
                value=str(column.type),
                remedy=f"write it as {kind}",
            ) from error

    def _text_times(self, column: Any, name: str) -> tuple[Ints, Ints, Mask]:
        is_integer = is_integer_text(column)
        is_compact = matches(column, _COMPACT_DAY) & (self._layout.kind == "bar")
        is_day = matches(column, _DAY)
        is_instant = ~is_integer & ~is_day & matches(column, _INSTANT)
        if self._is_first:
            self._check_times(column, name, is_integer | is_day | is_instant)
            self._is_first = False
        ts = np.zeros(len(column), np.int64)
        day = np.zeros(len(column), np.int64)
        is_bad = ~(is_integer | is_day | is_instant)
        if is_compact.any() or is_day.any():
            digits = pc.replace_substring(column, "-", "")
            day, _ = integers(digits, is_compact | is_day)
            is_bad |= (is_compact | is_day) & ~is_day_number(day)
            day[is_bad] = 0
        is_number = is_integer & ~is_compact
        if is_number.any():
            numbers, is_large = integers(column, is_number)
            ts, is_other = self._scaled(numbers, is_number & ~is_large)
            is_bad |= is_number & (is_large | is_other)
        if is_instant.any():
            instants, is_wrong = _instants(column, is_instant)
            ts = np.where(is_instant, instants, ts)
            is_bad |= is_wrong
        return ts, day, is_bad

    def _scaled(self, numbers: Ints, is_number: Mask) -> tuple[Ints, Mask]:
        """Return integer times in ns.

        And which have a magnitude of another unit than the file's first.
        """
        if not self._unit:
            first = int(numbers[np.argmax(is_number)])
            self._unit = unit_of(first)
        limits = {"s": (0, 10**11), "ms": (10**11, 10**14), "us": (10**14, 10**17)}
        low, high = limits.get(self._unit, (10**17, 2**63 - 1))
        size = np.abs(numbers)
        is_other = (size < low) | (size >= high)
        return np.where(is_other, 0, numbers) * UNIT_NS[self._unit], is_other

    def _check_times(self, column: Any, name: str, is_good: Mask) -> None:
        """Raise DataError if not one timestamp of the first block can be read."""
        if is_good.any() or not len(column):
            return
        value = column[0].as_py()
        is_naive = matches(column.slice(0, 1), _NAIVE).all()
        raise DataError(
            f"{self._file}: the {name} cannot be read" + (", it has no offset" if is_naive else ""),
            field=self._layout.columns[name],
            value=value,
            remedy="append Z or an offset such as -04:00, or write ns since 1970"
            if is_naive
            else "write RFC 3339 such as 2013-10-07T13:30:00Z, or s, ms, us or ns since 1970",
        )


def is_text(column: Any) -> bool:
    """Return whether an arrow array holds text."""
    return bool(pa.types.is_string(column.type) or pa.types.is_large_string(column.type))


def _plain(column: Any) -> Any:
    """Return a dictionary-encoded array as plain values, and text without nulls."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    return column.fill_null("") if is_text(column) else column


def _note(
    is_bad: Mask, reason: str, reasons: dict[int, str], unplaced: set[int] | None = None
) -> None:
    for row in np.flatnonzero(is_bad).tolist():
        reasons.setdefault(row, reason)
        if unplaced is not None:
            unplaced.add(row)


def _instants(column: Any, chosen: Mask) -> tuple[Ints, Mask]:
    """Return the chosen RFC 3339 fields as ns UTC, 0 elsewhere.

    And which of them are no instants.
    """
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
    return pc.cast(values, pa.int64()).to_numpy().copy(), is_bad
