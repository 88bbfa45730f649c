"""Cuts a stream of bytes into lines of a bounded length; does no reading of its own."""

from __future__ import annotations

from typing import NamedTuple

_SHOWN_BYTES = 1024


class Line(NamedTuple):
    """One line, numbered from 1; of one ``is_too_long`` there is only the beginning."""

    number: int
    value: bytes
    is_too_long: bool


class LineSplitter:
    """Lines out of chunks; holds ``most_bytes`` and one chunk at the most, whatever comes."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._rest = b""
        self._is_cut = False
        self._number = 0

    def feed(self, chunk: bytes) -> list[Line]:
        """Return the lines that ``chunk`` ends, without the blank ones."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        lines = [line for value in whole if (line := self._line(value)) is not None]
        if len(self._rest) > self._most_bytes:
            self._is_cut = True
            self._rest = self._rest[:_SHOWN_BYTES]
        return lines

    def end(self) -> list[Line]:
        """Return what stands behind the last line feed: a line as well, unless it is blank."""
        value, self._rest = self._rest, b""
        line = self._line(value)
        return [] if line is None else [line]

    def _line(self, value: bytes) -> Line | None:
        self._number += 1
        is_too_long = self._is_cut or len(value) > self._most_bytes
        self._is_cut = False
        if is_too_long:
            return Line(self._number, value[:_SHOWN_BYTES], True)
        value = value.strip()
        return Line(self._number, value, False) if value else None
