"""Turns finished row logs into sealed segments: folders of Arrow IPC files with checksums.

A sealed segment holds market data as typed columns, everything else as envelope columns and JSON
value, and says for each entry which rows it has. It is written beside the row log, renamed whole,
and only then the row log goes.

Each file is one record batch, not batches of 65,536 rows: so a whole column is one piece of mapped
memory and any range of rows in it is a view, however the entries were cut.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import xxhash

from schemas.columns import Columns
from schemas.errors import JournalError
from schemas.rows import TABLE_BY_KIND
from schemas.topics import MARKET_EVENTS
from streams.journal.encoding import Content, Kind, Span, read_content
from streams.journal.locking import FolderLock
from streams.journal.rowlog import Progress, RowLog
from streams.journal.segment import (
    SegmentHeader,
    damaged,
    list_segments,
    sealed_path,
    storage_error,
    sync_folder,
)

SEAL_NAME = "seal.json"
ROW_FILES: tuple[str, ...] = (*TABLE_BY_KIND, "records", "marks")
"""Files with rows of entries; an entry's rows stand together in each of them, in the order of the
entries.
"""


class SealedFile(msgspec.Struct):
    """Size and checksum (xxh3-128, hexadecimal) of one file."""

    size: int
    xxh3: str


class Seal(msgspec.Struct, kw_only=True):
    """What a sealed segment says about itself; ``end`` is the next segment's header."""

    header: SegmentHeader
    end: SegmentHeader
    topics: list[str]
    files: dict[str, SealedFile]


class Envelope(msgspec.Struct):
    """The fields of a record that become columns of their own."""

    type: str = ""
    event_id: str = ""
    ts_event_ns: int = 0
    correlation_id: str = ""
    causation_id: str = ""


_envelope = msgspec.json.Decoder(Envelope).decode


def seal_folder(folder: Path) -> list[Path]:
    """Seal every row log of a journal that nobody writes; return the sealed folders.

    The last segment is sealed too: a writer that opens the journal later begins a new one. Raises
    StorageError if a writer is at work, and JournalError, leaving the row log as it is, if one is
    damaged or ends in a torn entry.
    """
    lock = FolderLock(folder)
    try:
        return [seal_segment(s.path) for s in list_segments(folder) if not s.is_sealed]
    finally:
        lock.release()


def seal_segment(path: Path) -> Path:
    """Seal the finished row log at ``path``; return the folder that took its place."""
    log = RowLog(path)
    draft = path.with_suffix(".sealing")
    target = sealed_path(path.parent, log.header.number)
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir()
        _write_segment(log, draft)
        sync_folder(draft)
        draft.rename(target)
        sync_folder(path.parent)
        path.unlink(missing_ok=True)
    except OSError as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise storage_error("segment cannot be sealed", path, error) from error
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return target


def read_seal(path: Path) -> Seal:
    """Return the seal of the sealed segment at ``path``; raises JournalError if it was changed."""
    file = path / SEAL_NAME
    try:
        text = file.read_bytes()
    except OSError as error:
        raise storage_error("cannot be read", file, error) from error
    body, _, _ = text.removesuffix(b"\n").rpartition(b"\n")
    if text != _sealed_text(body):
        raise damaged(file, 0, "its checksum does not fit")
    seal: Seal = msgspec.json.decode(body, type=Seal)
    return seal


def end_of_sealed(path: Path) -> SegmentHeader:
    """Return the header with which the segment after the sealed one at ``path`` begins."""
    return read_seal(path).end


def _sealed_text(body: bytes) -> bytes:
    """Return the content of a seal's file: the seal and its checksum, a line each."""
    return body + b"\n" + xxhash.xxh3_128_hexdigest(body).encode() + b"\n"


class _Collector:
    """Gathers what the entries of a row log hold, file by file."""

    def __init__(self) -> None:
        self.topics: dict[str, int] = {}
        self.tables: dict[str, list[Columns]] = {kind: [] for kind in TABLE_BY_KIND}
        self.rows: dict[str, int] = dict.fromkeys(ROW_FILES, 0)
        self.entries: dict[str, list[int]] = {
            name: [] for name in ("kind", "topic", "clock", "stream_offset", *ROW_FILES)
        }
        self.spans: dict[str, list[int]] = {
            name: [] for name in ("entry", "topic", "first_offset", "count")
        }
        self.records: dict[str, list[Any]] = {
            name: [] for name in ("pos", "topic", "offset", "value")
        }
        self.marks: dict[str, list[Any]] = {"name": [], "payload": []}

    def add(self, number: int, kind: Kind, content: Content, spans: Sequence[Span]) -> None:
        """Take in entry ``number``."""
        entries = self.entries
        entries["kind"].append(kind)
        entries["topic"].append(self._code(content.topic) if content.topic else -1)
        entries["clock"].append(content.clock_ns)
        entries["stream_offset"].append(content.stream_offset)
        for name in ROW_FILES:
            entries[name].append(self.rows[name])
        for topic, offset, count in spans:
            for name, value in zip(
                self.spans, (number, self._code(topic), offset, count), strict=True
            ):
                self.spans[name].append(value)
        for table in content.tables:
            self.tables[table.KIND].append(table)
            self.rows[table.KIND] += len(table)
        self._add_records(content, spans)
        if kind is Kind.MARK:
            self.marks["name"].append(content.name)
            self.marks["payload"].append(content.payload)
            self.rows["marks"] += 1

    def _add_records(self, content: Content, spans: Sequence[Span]) -> None:
        offsets = {topic: offset for topic, offset, _ in spans}
        others = 0
        records = self.records
        for index, (topic, value) in enumerate(content.values):
            offset = offsets[topic]
            if content.places and topic == MARKET_EVENTS:
                # Rows of tables count on this topic as well; only records of other topics do not.
                offset += content.places[index] - others
            else:
                offsets[topic] = offset + 1
                others += 1
            records["pos"].append(content.places[index] if content.places else index)
            records["topic"].append(self._code(topic))
            records["offset"].append(offset)
            records["value"].append(value)
        self.rows["records"] += len(content.values)

    def _code(self, topic: str) -> int:
        return self.topics.setdefault(topic, len(self.topics))

    def arrow(self) -> dict[str, pa.RecordBatch]:
        """Return the files of the segment that have any rows."""
        files = {
            "entries": pa.record_batch(
                {k: pa.array(v, pa.int64()) for k, v in self.entries.items()}
            ),
            "spans": pa.record_batch({k: pa.array(v, pa.int64()) for k, v in self.spans.items()}),
        }
        for kind, tables in self.tables.items():
            if tables:
                files[kind] = _table_batch(TABLE_BY_KIND[kind].concat(tables))
        if self.rows["records"]:
            files["records"] = self._records_batch()
        if self.rows["marks"]:
            files["marks"] = pa.record_batch(
                {
                    "name": pa.array(self.marks["name"], pa.string()),
                    "payload": pa.array(self.marks["payload"], pa.large_binary()),
                }
            )
        return files

    def _records_batch(self) -> pa.RecordBatch:
        envelopes = [_envelope(value) for value in self.records["value"]]
        columns: dict[str, Any] = {
            "pos": pa.array(self.records["pos"], pa.int64()),
            "topic": pa.DictionaryArray.from_arrays(
                pa.array(self.records["topic"], pa.int32()), list(self.topics)
            ),
            "offset": pa.array(self.records["offset"], pa.int64()),
        }
        for field in msgspec.structs.fields(Envelope):
            values = [getattr(envelope, field.name) for envelope in envelopes]
            columns[field.name] = pa.array(values, pa.int64() if field.type is int else pa.string())
        columns["value"] = pa.array(self.records["value"], pa.large_binary())
        return pa.record_batch(columns)


def _write_segment(log: RowLog, folder: Path) -> None:
    """Write all files of a sealed segment; raises JournalError if the row log is torn."""
    collector = _Collector()
    progress = Progress(log.header)
    for raw in log.scan(log.first_byte):
        number = progress.next_entry
        spans = progress.count(log.path, raw)
        collector.add(number, raw.kind, read_content(raw.kind, raw.payload), spans)
    tail = log.torn_tail()
    if tail is not None:
        raise JournalError(
            f"a finished segment ends in a torn entry at byte {tail.at_byte}",
            field="file",
            value=str(log.path),
            remedy="bring back a copy of the file, or open the journal for writing, which cuts it",
        )
    files = {
        name: _write_arrow(folder / f"{name}.arrow", batch)
        for name, batch in collector.arrow().items()
    }
    seal = Seal(
        header=log.header,
        end=progress.next_header(log.header.number + 1, log.names),
        topics=list(collector.topics),
        files=files,
    )
    body = msgspec.json.encode(seal)
    with (folder / SEAL_NAME).open("wb") as out:
        out.write(_sealed_text(body))
        out.flush()
        os.fsync(out.fileno())


def _table_batch(table: Columns) -> pa.RecordBatch:
    # Arrow packs booleans into bits, which numpy cannot map; so they are kept as bytes.
    columns = {}
    for name in table.names():
        values = getattr(table, name)
        columns[name] = pa.array(values.view(np.uint8) if values.dtype == np.bool_ else values)
    return pa.record_batch(columns)


def _write_arrow(path: Path, batch: pa.RecordBatch) -> SealedFile:
    """Write one Arrow IPC file, force it to the disk and return its checksum."""
    with pa.OSFile(str(path), "wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
        writer.write_batch(batch)
    with path.open("rb") as file:
        os.fsync(file.fileno())
        digest = xxhash.xxh3_128()
        while block := file.read(1 << 20):
            digest.update(block)
    return SealedFile(path.stat().st_size, digest.hexdigest())
