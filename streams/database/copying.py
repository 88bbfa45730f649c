"""Columns to the bytes of PostgreSQL's binary COPY, built with numpy and without a step per row.

A text column is a code a row and a list of names. Rows whose texts have the same lengths have the
same shape, so they are one structured array; a block has few such shapes, and the order of rows
within a block does not matter to a table.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.columns import Codes
from streams.database.tables import Series

HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
TRAILER = b"\xff\xff"

_SIZES = {">i8": 8, ">i4": 4, ">f8": 8, "?": 1}


class Text(NamedTuple):
    """A column of few different texts: for each row the index of its name."""

    codes: Codes
    names: list[str]


Column = Text | npt.NDArray[np.generic]


class Block(NamedTuple):
    """Rows of one series; the columns stand in the order of the series' definition."""

    series: Series
    columns: tuple[Column, ...]
    rows: int


def text_of(values: Sequence[str]) -> Text:
    """Return a column of texts, one value a row."""
    index: dict[str, int] = {}
    codes = np.fromiter(
        (index.setdefault(value, len(index)) for value in values), np.int32, len(values)
    )
    return Text(codes, list(index))


def same_text(value: str, rows: int) -> Text:
    """Return a column that has one value in all rows."""
    return Text(np.zeros(rows, np.int32), [value])


def encode(block: Block) -> list[bytes]:
    """Return the rows of ``block`` as pieces of a COPY, without header and trailer.

    A NUL, which PostgreSQL's texts cannot hold, becomes U+FFFD.
    """
    if not block.rows:
        return []
    names = [
        [_bytes(name) for name in column.names] if isinstance(column, Text) else []
        for column in block.columns
    ]
    return [_encode_shape(block, names, rows) for rows in _shapes(block, names)]


def _bytes(name: str) -> bytes:
    return name.replace("\x00", "\ufffd").encode()


def _shapes(block: Block, names: list[list[bytes]]) -> list[npt.NDArray[np.intp] | None]:
    """Return the rows of each shape; None stands for all rows."""
    key: npt.NDArray[np.int64] | None = None
    for column, texts in zip(block.columns, names, strict=True):
        if isinstance(column, Text) and len(set(map(len, texts))) > 1:
            lengths = np.array([len(text) for text in texts], np.int64)
            kinds, of_name = np.unique(lengths, return_inverse=True)
            of_row = of_name.astype(np.int64)[column.codes]
            key = of_row if key is None else key * len(kinds) + of_row
    if key is None:
        return [None]
    found = np.unique(key)
    if len(found) == 1:
        return [None]
    return [np.flatnonzero(key == value) for value in found]


def _encode_shape(
    block: Block, names: list[list[bytes]], rows: npt.NDArray[np.intp] | None
) -> bytes:
    """Return rows of one shape: one row is made with all that does not vary, and repeated."""
    count = block.rows if rows is None else len(rows)
    fields: list[tuple[str, str]] = [("n", ">i2")]
    lengths: list[int] = []
    values: dict[int, npt.NDArray[np.generic]] = {}
    constants: dict[int, bytes] = {}
    for number, ((_, kind), column) in enumerate(
        zip(block.series.columns, block.columns, strict=True)
    ):
        form, length = kind, _SIZES.get(kind, 0)
        if isinstance(column, Text):
            codes = column.codes if rows is None else column.codes[rows]
            length = len(names[number][int(codes[0])])
            form = f"S{length}"
            if len(column.names) == 1:
                constants[number] = names[number][0]
            elif length:
                # Names of other lengths do not occur in these rows; they are cut, never taken.
                texts = np.array([text[:length] for text in names[number]], form)
                values[number] = texts[codes]
        else:
            values[number] = column if rows is None else column[rows]
        fields.append((f"l{number}", ">i4"))
        if length:
            fields.append((f"v{number}", form))
        lengths.append(length)
    layout = np.dtype(fields)
    row = np.zeros(1, layout)
    row["n"] = len(lengths)
    for number, length in enumerate(lengths):
        row[f"l{number}"] = length
        if length and number in constants:
            row[f"v{number}"] = constants[number]
    body = bytearray(row.tobytes()) * count
    out = np.frombuffer(body, layout)
    for number, column_values in values.items():
        out[f"v{number}"] = column_values
    return bytes(body)
