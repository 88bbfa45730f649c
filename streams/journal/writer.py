"""Writes a journal: groups of records, tables, batches and marks, in the order given.

What ``flush`` has returned for survives the death of the process; what ``sync`` has returned for
survives a power cut. After the first failing write the writer refuses everything, so that nothing
can be acknowledged behind a hole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from schemas.columns import Columns, MarketBatch
from schemas.errors import ConflictError, MillraceError, RecordError, StorageError
from schemas.instruments import Universe
from schemas.topics import MARKET_EVENTS, TOPIC_BY_NAME
from streams.journal.batches import check_batch
from streams.journal.encoding import (
    EMPTY_GROUP,
    EncodedGroup,
    Kind,
    Part,
    batch_parts,
    encode_group,
    frame,
    group_parts,
    mark_parts,
    table_parts,
)
from streams.journal.locking import FolderLock
from streams.journal.logfile import LogFile
from streams.journal.names import Names
from streams.journal.rowlog import Progress, RowLog, TornTail
from streams.journal.sealing import end_of_sealed, seal_segment
from streams.journal.segment import (
    SegmentHeader,
    list_segments,
    log_path,
    names_entry,
    segment_header_entry,
    storage_error,
)

SEGMENT_BYTES = 256 * 1024 * 1024
_BUFFER_BYTES = 1 << 20


class JournalWriter:
    """The one writer of a journal folder; ``open`` makes it.

    ``next_offsets`` has the offset that the next record of each topic will get, ``next_entry`` the
    number of the next entry, ``recovered`` what was cut off on opening. ``sealing_error`` is why a
    finished segment stays a row log: it stays readable, only slower.
    """

    def __init__(
        self,
        folder: Path,
        run_id: str,
        segment_bytes: int,
        sync_interval_s: float | None,
        is_sealing: bool,
        monotonic_s: Callable[[], float],
    ) -> None:
        self.folder = folder
        self.run_id = run_id
        self.recovered: TornTail | None = None
        self.sealing_error: MillraceError | OSError | None = None
        self._segment_bytes = segment_bytes
        self._sync_interval_s = sync_interval_s
        self._is_sealing = is_sealing
        self._monotonic_s = monotonic_s
        self._synced_at_s = monotonic_s()
        self.appended_bytes = 0
        self._failure: StorageError | None = None
        self._sealer: threading.Thread | None = None
        self._log: LogFile | None = None
        self._lock = FolderLock(folder)
        try:
            self._restore()
        except BaseException:
            self._release()
            raise

    @classmethod
    def open(
        cls,
        folder: Path,
        *,
        run_id: str,
        segment_bytes: int = SEGMENT_BYTES,
        sync_interval_s: float | None = 1.0,
        is_sealing: bool = True,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> JournalWriter:
        """Begin a journal in ``folder``, or go on with the one that is there.

        A segment that has reached ``segment_bytes`` is closed, and sealed by a thread if
        ``is_sealing``. ``flush`` syncs to the disk if the last time was ``sync_interval_s`` ago;
        None leaves that to the operating system. A torn tail is cut off and reported by
        ``recovered``. Raises StorageError if the folder cannot be written or another process writes
        it, ConflictError if it belongs to another run, and JournalError if it is damaged.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error("folder cannot be made", folder, error) from error
        return cls(folder, run_id, segment_bytes, sync_interval_s, is_sealing, monotonic_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the journal takes appends: it is neither closed nor failed."""
        return self._log is not None and self._failure is None

    @property
    def next_entry(self) -> int:
        """The number of the next entry."""
        return self._next_entry

    def append_group(self, group: EncodedGroup) -> None:
        """Append records; their offsets are the topics' ``next_offsets`` before the call."""
        if not group.topics:
            return
        self._check()
        offsets = [self._next_offset(topic) for topic in group.topics]
        counts = list(zip(group.topics, group.counts, strict=True))
        self._append(Kind.RECORDS, group_parts(group, offsets), counts)

    def append_table(self, topic: str, universe: Universe, table: Columns) -> None:
        """Append the rows of ``table`` to ``topic``; each row is a record."""
        if not len(table):
            return
        self._check()
        self._add_names(universe)
        coded = self._names.from_universe(universe, table)
        parts = table_parts(topic, self._next_offset(topic), coded)
        self._append(Kind.COLUMNS, parts, [(topic, len(table))])

    def append_batch(self, universe: Universe, batch: MarketBatch) -> None:
        """Append consumed market events as they came; records of other topics count on their own.

        Raises InvariantError if positions have gaps, or the clock is not the running maximum of
        event times.
        """
        if not len(batch):
            return
        self._check()
        tables: list[Columns] = [
            table for table in (batch.trades, batch.quotes, batch.bars) if len(table)
        ]
        check_batch(batch, tables)
        self._add_names(universe)
        items = [(topic, record) for _, topic, record in batch.records]
        group = encode_group(items) if items else EMPTY_GROUP
        counts = dict(zip(group.topics, group.counts, strict=True))
        counts[MARKET_EVENTS] = counts.get(MARKET_EVENTS, 0) + sum(map(len, tables))
        parts = batch_parts(
            int(batch.clock[0]),
            batch.first_offset,
            self._next_offset(MARKET_EVENTS),
            [self._names.from_universe(universe, table) for table in tables],
            [pos for pos, _, _ in batch.records],
            group,
            [self._next_offset(topic) for topic in group.topics],
        )
        self._append(Kind.BATCH, parts, list(counts.items()))

    def append_mark(self, name: str, payload: bytes) -> None:
        """Append a payload under ``name``; ``JournalReader.last_mark`` finds the last."""
        self._check()
        self._append(Kind.MARK, mark_parts(name, payload), (), mark=name)

    def flush(self) -> None:
        """Hand everything to the operating system, so that it survives this process.

        Raises StorageError if that fails; the file is cut back to what was flushed before.
        """
        log = self._check()
        self._write_out(log)
        if self._sync_interval_s is not None:
            now_s = self._monotonic_s()
            if now_s - self._synced_at_s >= self._sync_interval_s:
                self._sync(log)

    def sync(self) -> None:
        """Flush, and force everything to the disk: from here on it survives a power cut."""
        self._sync(self._check())

    def close(self) -> None:
        """Flush, sync unless syncing is left to the operating system, and let go of the folder.

        A writer that failed before only lets go of the folder.
        """
        if self._log is None:
            return
        try:
            if self._failure is None:
                self._log.write_out()
                if self._sync_interval_s is not None:
                    self._log.sync()
        finally:
            self._release()

    def _restore(self) -> None:
        """Take up the state of the folder and open the segment to write to."""
        segments = list_segments(self.folder)
        if not segments:
            self._take(SegmentHeader(run_id=self.run_id, number=0))
            self._begin_segment()
            return
        for segment in segments:
            if segment.is_sealed:
                # A crash may have come between sealing a row log and removing it.
                log_path(self.folder, segment.number).unlink(missing_ok=True)
        last = segments[-1]
        if last.is_sealed:
            end = end_of_sealed(last.path)
            self._check_run(end)
            self._take(end)
            self._begin_segment()
            return
        log = RowLog(last.path)
        self._check_run(log.header)
        progress = Progress(log.header)
        for raw in log.scan(log.first_byte):
            progress.count(last.path, raw)
        self._take(progress.next_header(last.number, log.names))
        self._log = LogFile(last.path, log.whole_bytes)
        tail = log.torn_tail()
        if tail is not None:
            self._log.cut()
            self.recovered = tail

    def _take(self, state: SegmentHeader) -> None:
        self._number = state.number
        self._next_entry = state.first_entry
        self.next_offsets = dict(state.next_offsets)
        self.marks = dict(state.marks)
        self._names = Names(state.instruments, state.sources)

    def _check_run(self, header: SegmentHeader) -> None:
        if header.run_id != self.run_id:
            raise ConflictError(
                f"the folder {self.folder} holds the journal of another run",
                field="run_id",
                value=header.run_id,
                remedy="go on with that run or choose another folder",
            )

    def _begin_segment(self) -> None:
        """Make the next row log, whole with its header before it has its name."""
        header = SegmentHeader(
            run_id=self.run_id,
            number=self._number,
            first_entry=self._next_entry,
            next_offsets=self.next_offsets,
            instruments=self._names.instruments,
            sources=self._names.sources,
            marks=self.marks,
        )
        path = log_path(self.folder, self._number)
        log = LogFile.create(path, segment_header_entry(header))
        if self._log is not None:
            self._log.close()
        self._log = log

    def _next_offset(self, topic: str) -> int:
        """Return the next offset of ``topic``; raises RecordError for one nobody can decode."""
        offset = self.next_offsets.get(topic)
        if offset is not None:
            return offset
        if topic not in TOPIC_BY_NAME:
            raise RecordError(
                "unknown topic",
                field="topic",
                value=topic,
                remedy="`millrace topics list` shows the catalogue",
            )
        return 0

    def _add_names(self, universe: Universe) -> None:
        """Write down the names of ``universe`` that the journal does not have yet."""
        instruments, sources = self._names.missing(universe)
        if instruments or sources:
            self._names.extend(instruments, sources)
            self._check().put(names_entry(instruments, sources))

    def _append(
        self,
        kind: Kind,
        parts: Sequence[Part],
        counts: Sequence[tuple[str, int]],
        mark: str = "",
    ) -> None:
        """Put an entry into the log and count it, before anything that may begin a segment."""
        entry = frame(kind, parts)
        log = self._check()
        held_bytes = log.buffered_bytes
        log.put(entry)
        self.appended_bytes += log.buffered_bytes - held_bytes
        for topic, count in counts:
            self.next_offsets[topic] = self.next_offsets.get(topic, 0) + count
        if kind is Kind.MARK:
            self.marks[mark] = self._next_entry
        self._next_entry += 1
        if log.buffered_bytes >= _BUFFER_BYTES:
            self._write_out(log)
        if log.size + log.buffered_bytes >= self._segment_bytes:
            self._roll(log)

    def _write_out(self, log: LogFile) -> None:
        try:
            log.write_out()
        except StorageError as error:
            # Remembered, so that nothing can be acknowledged behind the hole.
            self._failure = error
            raise

    def _sync(self, log: LogFile) -> None:
        self._write_out(log)
        try:
            log.sync()
        except StorageError as error:
            self._failure = error
            raise
        self._synced_at_s = self._monotonic_s()

    def _roll(self, log: LogFile) -> None:
        """Close the segment, begin the next one, and let a thread seal what was closed."""
        self._sync(log)
        self._number += 1
        try:
            self._begin_segment()
        except StorageError as error:
            self._failure = error
            raise
        if self._is_sealing:
            self._join_sealer()
            self._sealer = threading.Thread(
                target=self._seal, args=(log.path,), name="journal-sealer"
            )
            self._sealer.start()

    def _seal(self, path: Path) -> None:
        # A segment that cannot be sealed is no reason to stop trading: it stays a row log.
        try:
            seal_segment(path)
        except (MillraceError, OSError) as error:
            self.sealing_error = error

    def _join_sealer(self) -> None:
        if self._sealer is not None:
            self._sealer.join()
            self._sealer = None

    def _check(self) -> LogFile:
        """Return the log to write to; raises StorageError after a failure or after ``close``."""
        if self._failure is not None:
            raise StorageError(
                f"the journal stopped at an earlier failure: {self._failure.message}",
                field=self._failure.field,
                value=self._failure.value,
                remedy=self._failure.remedy,
            )
        if self._log is None:
            raise StorageError(
                "the journal is closed",
                field="folder",
                value=str(self.folder),
                remedy="open it again to write",
            )
        return self._log

    def _release(self) -> None:
        self._join_sealer()
        if self._log is not None:
            self._log.close()
            self._log = None
        self._lock.release()
