"""Writes what a run consumes and brings about: into its journal, and into the hash of its outputs.

After a restart the engine makes again what the journal holds already. The recorder then checks that
it is the same, to the byte, and writes only what is missing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from agents.runners.config import nested
from agents.runners.engine import Outputs
from schemas.codec import encode
from schemas.columns import Columns, MarketBatch
from schemas.envelope import Header
from schemas.errors import InvariantError
from schemas.instruments import Universe
from schemas.topics import MARKET_EVENTS
from streams.journal import JournalReader, JournalWriter, Kind, OutputHasher, encode_group

SNAPSHOT = "snapshot"
FINISH = "finish"


class RunSnapshot(msgspec.Struct):
    """The state of a run at one place of its journal.

    ``offsets`` are those of the next records, ``events`` the market events consumed so far.
    """

    engine: msgspec.Raw
    hasher: str
    offsets: dict[str, int]
    events: int


class Written(NamedTuple):
    """What was written, with the offset of the first record of each topic."""

    outputs: Outputs
    offsets: dict[str, int]


class Recorder:
    """The writing side of a run; ``writer`` of None only hashes."""

    def __init__(
        self, writer: JournalWriter | None, universe: Universe, *, is_hashing: bool = True
    ) -> None:
        self.writer = writer
        self.universe = universe
        self.hasher = OutputHasher() if is_hashing else None
        self.offsets: dict[str, int] = {}
        self.market_events = 0
        self._recorded: dict[str, int] = {}
        self._reader: JournalReader | None = None

    def consume(self, batch: MarketBatch) -> None:
        """Journal a batch of input before it is processed."""
        if self.writer is not None:
            self.writer.append_batch(self.universe, batch)
        self._count_input(batch)

    def _count_input(self, batch: MarketBatch) -> None:
        """Count input records: inputs and outputs of one topic share its offsets."""
        rows = len(batch.trades) + len(batch.quotes) + len(batch.bars)
        self.offsets[MARKET_EVENTS] = self.offsets.get(MARKET_EVENTS, 0) + rows
        for _, topic, _ in batch.records:
            self.offsets[topic] = self.offsets.get(topic, 0) + 1
            rows += topic == MARKET_EVENTS
        self.market_events += rows

    def write(self, outputs: Outputs) -> Written:
        """Journal and hash what a batch brought about."""
        before = dict(self.offsets)
        for topic, table in outputs.tables:
            self._write_table(topic, table)
        if outputs.records:
            self._write_records(outputs.records)
        return Written(outputs, before)

    def _write_table(self, topic: str, table: Columns) -> None:
        if self.hasher is not None:
            self.hasher.update_table(topic, self.universe, table)
        known = self._known(topic, len(table))
        if self.writer is not None and known < len(table):
            self.writer.append_table(
                topic, self.universe, table.take(slice(known, None)) if known else table
            )
        self.offsets[topic] = self.offsets.get(topic, 0) + len(table)

    def _write_records(self, records: list[tuple[str, Header]]) -> None:
        if self._recorded:
            records = self._check_recorded(records)
            if not records:
                return
        group = encode_group(records)
        if self.hasher is not None:
            self.hasher.update_group(group)
        if self.writer is not None:
            self.writer.append_group(group)
        for topic, count in zip(group.topics, group.counts, strict=True):
            self.offsets[topic] = self.offsets.get(topic, 0) + count

    def _known(self, topic: str, count: int) -> int:
        """Return how many of the next ``count`` records of a topic the journal holds already."""
        left = self._recorded.get(topic, 0) - self.offsets.get(topic, 0)
        if left <= 0:
            self._recorded.pop(topic, None)
            return 0
        return min(left, count)

    def _check_recorded(self, records: list[tuple[str, Header]]) -> list[tuple[str, Header]]:
        """Compare records that the journal holds already, and return the rest."""
        assert self._reader is not None  # recorded offsets come from a reader
        held: dict[str, Iterator[tuple[int, Header]]] = {}
        for topic, count in Counter(topic for topic, _ in records).items():
            known_count = self._known(topic, count)
            offset = self.offsets.get(topic, 0)
            held[topic] = iter(self._reader.read(topic, offset, known_count) if known_count else ())
        rest: list[tuple[str, Header]] = []
        for topic, record in records:
            found = next(held[topic], None)
            if found is None:
                rest.append((topic, record))
                continue
            offset, known = found
            if encode(known) != encode(record):
                raise InvariantError(
                    f"recovery made another record than the journal holds at {topic}/{offset}",
                    field="event_id",
                    value=getattr(record, "event_id", ""),
                    remedy="the code or configuration of this run has changed; start a new session",
                )
            if self.hasher is not None:
                self.hasher.update_group(encode_group([(topic, record)]))
            self.offsets[topic] = offset + 1
        return rest

    # ---- snapshots and recovery

    def snapshot(self, engine: bytes) -> None:
        """Append a mark from which the run can go on."""
        if self.writer is None:
            return
        hasher = self.hasher.snapshot().decode() if self.hasher is not None else ""
        self.writer.append_mark(
            SNAPSHOT,
            msgspec.json.encode(
                RunSnapshot(msgspec.Raw(engine), hasher, self.offsets, self.market_events)
            ),
        )

    def hash_table(self, topic: str, table: Columns) -> None:
        """Hash a table that a journal holds."""
        if self.hasher is not None:
            self.hasher.update_table(topic, self.universe, table)

    def hash_records(self, records: list[tuple[str, Header]]) -> None:
        """Hash records that a journal holds."""
        if records and self.hasher is not None:
            self.hasher.update_group(encode_group(records))

    def write_side(self, items: list[tuple[str, Header]]) -> None:
        """Journal records that are neither input nor output of the engine; they are not hashed."""
        if items and self.writer is not None:
            self.writer.append_group(encode_group(items))

    def recover(
        self,
        folder: Path,
        restore: Callable[[bytes], None],
        process: Callable[[MarketBatch], Outputs],
        finish: Callable[[], Outputs],
    ) -> bool:
        """Bring a run back from its journal: the last snapshot, then every input behind it.

        Returns whether the run had been finished. Raises InvariantError if an output comes out
        differently.
        """
        reader = JournalReader(folder)
        mark = reader.last_mark(SNAPSHOT)
        first = 0
        is_finished = False
        if mark is not None:
            first = mark[0] + 1
            saved = msgspec.json.decode(mark[1], type=RunSnapshot)
            restore(nested(saved.engine))
            if self.hasher is not None:
                self.hasher.restore(saved.hasher.encode())
            self.offsets = saved.offsets
            self.market_events = saved.events
        self._recorded = dict(reader.next_offsets)
        self._reader = reader
        for entry in reader.entries(first):
            if entry.kind is Kind.BATCH:
                batch = entry.batch(self.universe)
                self._count_input(batch)
                self.write(process(batch))
            elif entry.kind is Kind.MARK and entry.mark()[0] == FINISH:
                self.write(finish())
                is_finished = True
        self._recorded = {}
        self._reader = None
        return is_finished
