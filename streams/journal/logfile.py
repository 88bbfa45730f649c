"""The row log that is being written: a buffer and a file that holds whole entries only."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Self

from streams.journal.segment import storage_error, sync_folder


class LogFile:
    """Appends to the row log at ``path``, which has ``size`` bytes of whole entries.

    Every method raises StorageError if the operating system refuses; nothing may be appended then.
    """

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self.buffered_bytes = 0
        self._buffer: list[bytes] = []
        try:
            self._fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as error:
            raise storage_error("cannot be written", path, error) from error

    @classmethod
    def create(cls, path: Path, header: bytes) -> Self:
        """Make a row log that has its whole header on the disk before it has its name."""
        draft = path.with_suffix(".new")
        try:
            with draft.open("wb") as file:
                file.write(header)
                file.flush()
                os.fsync(file.fileno())
            draft.rename(path)
            sync_folder(path.parent)
        except OSError as error:
            raise storage_error("cannot begin a segment", path, error) from error
        return cls(path, len(header))

    def put(self, entry: bytes) -> None:
        """Add an entry to the buffer."""
        self._buffer.append(entry)
        self.buffered_bytes += len(entry)

    def write_out(self) -> None:
        """Write the buffer to the file, whole or not at all."""
        if not self._buffer:
            return
        data = memoryview(b"".join(self._buffer))
        self._buffer.clear()
        self.buffered_bytes = 0
        written = 0
        try:
            while written < len(data):
                written += os.write(self._fd, data[written:])
        except OSError as error:
            # If the file cannot even be cut back, the next opening cuts the torn tail.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, self.size)
            raise storage_error("cannot be written", self.path, error) from error
        self.size += written

    def sync(self) -> None:
        """Force what was written to the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise storage_error("cannot be synced", self.path, error) from error

    def cut(self) -> None:
        """Cut off what stands behind the whole entries."""
        try:
            os.ftruncate(self._fd, self.size)
        except OSError as error:
            raise storage_error("cannot be cut", self.path, error) from error

    def close(self) -> None:
        """Close the file; the buffer is lost."""
        os.close(self._fd)
