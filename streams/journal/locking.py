"""The lock that keeps a journal to one writing process."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from schemas.errors import StorageError
from streams.journal.segment import storage_error

LOCK_NAME = "journal.lock"


class FolderLock:
    """Holds ``journal.lock`` of a folder until ``release`` or the end of the process.

    Raises StorageError with the pid of the holder if another writer has it.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_NAME
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise storage_error("cannot be locked", path, error) from error
        try:
            # flock belongs to the open file, so it keeps out a second writer of this process too.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(self._fd, 20, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise StorageError(
                f"the journal is being written by process {pid or 'unknown'}",
                field="folder",
                value=str(folder),
                remedy="stop that process or choose another folder",
            ) from error
        try:
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            # A lock without a holder's number tells nobody anything.
            with contextlib.suppress(OSError):
                path.unlink()
            os.close(self._fd)
            raise storage_error("cannot be locked", path, error) from error

    def release(self) -> None:
        """Let others write."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
