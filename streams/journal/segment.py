"""Segments of a journal on disk: names of files, headers, errors.

A journal folder holds ``segment-00000000.log`` (row log; the last one is being written),
``segment-00000000.sealed`` (a folder of Arrow files that took a row log's place) and
``journal.lock``. Each segment begins with everything a reader needs to start there: run id, number
of its first entry, next offset of every topic, names, and where the marks are.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

import msgspec

from schemas.errors import JournalError, StorageError
from streams.journal.encoding import (
    Kind,
    frame,
)

FORMAT = 1


class SegmentHeader(msgspec.Struct, kw_only=True):
    """The state of a journal where a segment begins.

    ``marks`` has the entry number of the last mark of each name.
    """

    run_id: str
    number: int
    first_entry: int = 0
    next_offsets: dict[str, int] = {}
    instruments: list[str] = []
    sources: list[str] = []
    marks: dict[str, int] = {}
    format: int = FORMAT


class NewNames(msgspec.Struct):
    """Payload of a NAMES entry: what is appended to the journal's names."""

    instruments: list[str]
    sources: list[str]


class SegmentFile(NamedTuple):
    """One segment of a folder."""

    number: int
    path: Path
    is_sealed: bool


def log_path(folder: Path, number: int) -> Path:
    """Return the path of a row log."""
    return folder / f"segment-{number:08d}.log"


def sealed_path(folder: Path, number: int) -> Path:
    """Return the path of a sealed segment."""
    return folder / f"segment-{number:08d}.sealed"


def list_segments(folder: Path) -> list[SegmentFile]:
    """Return the segments of ``folder`` in order; a sealed one hides the row log it was made of.

    Raises JournalError if one is missing in between.
    """
    found: dict[int, SegmentFile] = {}
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise storage_error("cannot be listed", folder, error) from error
    for name in names:
        stem, _, suffix = name.partition(".")
        if not stem.startswith("segment-") or suffix not in ("log", "sealed"):
            continue
        number = int(stem.removeprefix("segment-"))
        if number not in found or suffix == "sealed":
            found[number] = SegmentFile(number, folder / name, suffix == "sealed")
    ordered = [found[number] for number in sorted(found)]
    for index, segment in enumerate(ordered):
        if segment.number != index:
            raise JournalError(
                "a segment of the journal is missing",
                field="file",
                value=str(log_path(folder, index)),
                remedy="bring the file back from a copy",
            )
    return ordered


def storage_error(what: str, path: Path, error: OSError) -> StorageError:
    """Return the StorageError for an error of the operating system about ``path``."""
    return StorageError(
        f"the journal {what}: {error.strerror or error}",
        field="file",
        value=str(path),
        remedy=_REMEDIES.get(error.errno or 0, "see to the disk, then start again"),
    )


_REMEDIES = {
    errno.ENOSPC: "free disk space, then start again",
    errno.EDQUOT: "raise the disk quota, then start again",
    errno.EFBIG: "raise the limit of the file size (ulimit -f), then start again",
    errno.EROFS: "mount the file system for writing or choose another folder",
    errno.EACCES: "give this user the right to write there or choose another folder",
    errno.ENOENT: "check the path",
}


def damaged(path: Path, at_byte: int, what: str) -> JournalError:
    """Return the JournalError for damage at ``at_byte`` of ``path``."""
    return JournalError(
        f"the journal is damaged at byte {at_byte}: {what}",
        field="file",
        value=str(path),
        remedy=f"bring the file back from a copy; `truncate -s {at_byte}` gives up what follows",
    )


def sync_folder(folder: Path) -> None:
    """Force the names in ``folder`` to the disk."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def read_segment_header(path: Path, payload: bytes) -> SegmentHeader:
    """Decode a segment's header; raises JournalError if it is of another format."""
    try:
        header = msgspec.json.decode(payload.rstrip(b"\0"), type=SegmentHeader)
    except msgspec.DecodeError as error:
        raise damaged(path, 0, f"its header cannot be read ({error})") from error
    if header.format != FORMAT:
        raise JournalError(
            "the journal has a format that this program does not know",
            field="format",
            value=header.format,
            remedy="read it with the version of Millrace that wrote it",
        )
    return header


def segment_header_entry(header: SegmentHeader) -> bytes:
    """Return the first entry of a row log."""
    return frame(Kind.SEGMENT, [msgspec.json.encode(header)])


def names_entry(instruments: list[str], sources: list[str]) -> bytes:
    """Return the entry that appends names."""
    return frame(Kind.NAMES, [msgspec.json.encode(NewNames(instruments, sources))])
