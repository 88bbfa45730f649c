"""Keeps the sessions of the last demos apart, so that parity can still be asked of them.

Each demo plays in the folder ``demo``. The session that is there moves to ``demo-N`` beside it, and
only the newest few of those stay. A demo that never played an event is no session: a start that
failed must not cost one that somebody may want.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from schemas.errors import MillraceError, StorageError
from schemas.topics import MARKET_EVENTS
from streams.journal import JournalReader
from streams.journal.locking import FolderLock

RUN_ID = "demo"
SESSIONS_MAX = 5
"""How many sessions are kept, the one that is played among them."""


@contextlib.contextmanager
def elsewhere() -> Iterator[None]:
    """Let a StorageError of the demo's folder say what helps: it has no option for a folder."""
    try:
        yield
    except StorageError as error:
        error.remedy = (
            "stop what uses that folder, or play in another one: "
            "MILLRACE_DATA_FOLDER=other millrace demo --port 0"
        )
        raise


def put_aside(folder: Path) -> Path | None:
    """Make room for a new session in ``folder``; return where the last one went, None without one.

    Raises StorageError if a demo is being played there, or if the disk refuses.
    """
    journal = folder / "journal"
    if not journal.is_dir():
        return None
    with elsewhere():
        FolderLock(journal).release()
    try:
        if _is_without_events(journal):
            shutil.rmtree(journal)
            return None
        kept = _numbered(folder)
        aside = folder.with_name(f"{folder.name}-{max(kept, default=0) + 1}")
        folder.rename(aside)
        ours = [number for number in sorted(kept) if _is_demo(kept[number])]
        for number in ours[: max(0, len(ours) + 2 - SESSIONS_MAX)]:
            shutil.rmtree(kept[number])
    except OSError as error:
        raise StorageError(
            f"the session of the last demo cannot be put aside: {error.strerror}",
            field="folder",
            value=str(folder),
            remedy="give this user the right to write there, or set MILLRACE_DATA_FOLDER",
        ) from error
    return aside


def _numbered(folder: Path) -> dict[int, Path]:
    """Return the folders beside ``folder`` that have its name with a number."""
    prefix = f"{folder.name}-"
    return {
        int(path.name.removeprefix(prefix)): path
        for path in folder.parent.glob(f"{prefix}*")
        if path.name.removeprefix(prefix).isdecimal()
    }


def _is_demo(folder: Path) -> bool:
    """Return whether a folder is a demo's: a run of another id may have such a name as well."""
    try:
        return JournalReader(folder / "journal").run_id == RUN_ID
    except MillraceError:
        return False


def _is_without_events(journal: Path) -> bool:
    """Return whether nothing was played; a journal that cannot be read is for a person to judge."""
    if next(journal.glob("segment-*"), None) is None:
        return True
    try:
        return JournalReader(journal).next_offsets.get(MARKET_EVENTS, 0) == 0
    except MillraceError:
        return False
