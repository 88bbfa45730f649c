"""Reads row logs: the scan that finds whole entries, and what it counts on the way."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from streams.journal.encoding import (
    HEADER_BYTES,
    MAGIC,
    Kind,
    is_intact,
    read_content,
    read_header,
    read_spans,
)
from streams.journal.names import Names
from streams.journal.segment import (
    NewNames,
    SegmentHeader,
    damaged,
    read_segment_header,
    storage_error,
)

_CHUNK_BYTES = 1 << 20


class TornTail(NamedTuple):
    """The end of a row log that is not a whole entry: file, begin and length in bytes."""

    path: Path
    at_byte: int
    bytes_cut: int


class RawEntry(NamedTuple):
    """One entry of a row log as it stands there."""

    at_byte: int
    kind: Kind
    payload: bytes

    @property
    def end_byte(self) -> int:
        """Where the next entry begins."""
        return self.at_byte + HEADER_BYTES + len(self.payload)


class RowLog:
    """Reads one row log; stops at the last whole entry, which may move while a writer is at work.

    One that ``is_frozen`` reads no byte that is written after it was opened.
    ``names`` grows as the scan meets NAMES entries; ``whole_bytes`` is the end of the last whole
    entry met.
    """

    def __init__(self, path: Path, *, is_frozen: bool = False) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            raise  # The reader looks for the sealed form then.
        except OSError as error:
            raise storage_error("cannot be read", path, error) from error
        self._bytes_max = os.fstat(self._fd).st_size if is_frozen else None
        self.whole_bytes = 0
        raw = next(self.scan(), None)
        if raw is None or raw.kind is not Kind.SEGMENT:
            raise damaged(path, 0, "it does not begin with a segment header")
        self.header = read_segment_header(path, raw.payload)
        self.names = Names(self.header.instruments, self.header.sources)
        self.first_byte = self.whole_bytes
        self._names_bytes = self.whole_bytes

    def __del__(self) -> None:
        fd = getattr(self, "_fd", None)
        if fd is not None:
            os.close(fd)

    def scan(self, at_byte: int = 0) -> Iterator[RawEntry]:
        """Yield whole entries from ``at_byte`` on, names taken in silently.

        Raises JournalError for a damaged entry that whole ones follow.
        """
        window = _Window(self._read)
        while True:
            head = window.get(at_byte, HEADER_BYTES)
            if head is None:
                return
            header = read_header(head)
            if header is None:
                self._check_tail(at_byte, at_byte + 1)
                return
            kind, length, crc = header
            payload = window.get(at_byte + HEADER_BYTES, length)
            if payload is None:
                return
            end = at_byte + HEADER_BYTES + length
            if not is_intact(payload, crc):
                self._check_tail(at_byte, end)
                return
            self.whole_bytes = max(self.whole_bytes, end)
            if kind is Kind.NAMES:
                self._take_names(end, payload)
            else:
                yield RawEntry(at_byte, kind, payload)
            at_byte = end

    def entry_at(self, at_byte: int) -> RawEntry:
        """Return the entry that begins at ``at_byte``, as an earlier scan found it."""
        head = self._read(at_byte, HEADER_BYTES)
        header = read_header(head) if len(head) == HEADER_BYTES else None
        if header is None:
            raise damaged(self.path, at_byte, "the header of an entry is not valid any more")
        payload = self._read(at_byte + HEADER_BYTES, header[1])
        if len(payload) != header[1] or not is_intact(payload, header[2]):
            raise damaged(self.path, at_byte, "the checksum of an entry does not fit any more")
        return RawEntry(at_byte, header[0], payload)

    def torn_tail(self) -> TornTail | None:
        """Return what stands behind the last whole entry met, if anything does."""
        rest = self._size() - self.whole_bytes
        return TornTail(self.path, self.whole_bytes, rest) if rest > 0 else None

    def _take_names(self, end: int, payload: bytes) -> None:
        if end > self._names_bytes:
            new = msgspec.json.decode(payload.rstrip(b"\0"), type=NewNames)
            self.names.extend(new.instruments, new.sources)
            self._names_bytes = end

    def _size(self) -> int:
        return os.fstat(self._fd).st_size if self._bytes_max is None else self._bytes_max

    def _read(self, at_byte: int, size: int) -> bytes:
        if self._bytes_max is not None:
            size = max(min(size, self._bytes_max - at_byte), 0)
        try:
            return os.pread(self._fd, size, at_byte)
        except OSError as error:
            raise storage_error("cannot be read", self.path, error) from error

    def _check_tail(self, at_byte: int, search_from: int) -> None:
        """Raise JournalError if a whole entry follows the bad one: then it is no torn tail."""
        rest = self._read(search_from, self._size())
        found = rest.find(MAGIC)
        while found >= 0:
            header = read_header(rest[found : found + HEADER_BYTES].ljust(HEADER_BYTES, b"\0"))
            start = found + HEADER_BYTES
            payload = rest[start : start + header[1]] if header else b""
            if header and len(payload) == header[1] and is_intact(payload, header[2]):
                raise damaged(self.path, at_byte, "an entry's checksum does not fit")
            found = rest.find(MAGIC, found + 1)


class _Window:
    """A piece of a file in memory, so that small entries do not cost a system call each."""

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read
        self._chunk = b""
        self._begin = 0

    def get(self, at_byte: int, size: int) -> bytes | None:
        """Return ``size`` bytes of the file, or None if it ends before; positions may only rise."""
        start = at_byte - self._begin
        if start + size > len(self._chunk):
            self._chunk = self._read(at_byte, max(size, _CHUNK_BYTES))
            self._begin = at_byte
            start = 0
        piece = self._chunk[start : start + size]
        return piece if len(piece) == size else None


class Progress:
    """What a scan has counted so far: the state with which the next segment would begin."""

    def __init__(self, header: SegmentHeader) -> None:
        self.run_id = header.run_id
        self.next_entry = header.first_entry
        self.next_offsets = dict(header.next_offsets)
        self.marks = dict(header.marks)

    def count(self, path: Path, raw: RawEntry) -> list[tuple[str, int, int]]:
        """Take in one entry, return its spans; raises JournalError if an offset is wrong."""
        spans = read_spans(raw.kind, raw.payload)
        for topic, offset, records in spans:
            if offset != self.next_offsets.get(topic, 0):
                raise damaged(
                    path,
                    raw.at_byte,
                    f"{topic} goes on at {offset} instead of {self.next_offsets.get(topic, 0)}",
                )
            self.next_offsets[topic] = offset + records
        if raw.kind is Kind.MARK:
            self.marks[read_content(raw.kind, raw.payload).name] = self.next_entry
        self.next_entry += 1
        return spans

    def next_header(self, number: int, names: Names) -> SegmentHeader:
        """Return the header with which segment ``number`` would begin here."""
        return SegmentHeader(
            run_id=self.run_id,
            number=number,
            first_entry=self.next_entry,
            next_offsets=self.next_offsets,
            instruments=names.instruments,
            sources=names.sources,
            marks=self.marks,
        )
