"""Copies Kafka topics into a folder of journals, exactly and so that it can go on later.

What cannot be read is not lost either: its bytes and the reason stand in a mark at its place.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec

from agents.runners.kafka.incoming import take_records
from schemas.control import DeadLetter
from schemas.envelope import Header
from schemas.errors import ConfigError
from schemas.instruments import Instrument, Universe
from schemas.rows import KIND_BY_RECORD
from schemas.topics import MARKET_EVENTS, REFERENCE_INSTRUMENTS
from streams.datasets.topics_folder import (
    OFFSET_MARK,
    UNREADABLE_MARK,
    OffsetMark,
    Producers,
    partition_folder,
)
from streams.journal import JournalReader, JournalWriter, encode_group
from streams.journal.batches import EARLIEST_NS, batch_of, records_piece
from streams.kafka.connection import Connection
from streams.kafka.ranges import Place, PlaceReader

_log = logging.getLogger(__name__)
_STEP_RECORDS = 4000
_NOT_IN_COLUMNS = (
    "producer",
    "run_id",
    "ts_received_ns",
    "correlation_id",
    "causation_id",
    "condition",
)


class Recorder:
    """Writes the partitions of topics; ``folder`` may hold an earlier part of the recording.

    ``counts`` holds how many partitions each topic has. With ``is_history`` market events are kept
    for a replay alone: without what a producer repeated, without its numbers, so that columns hold
    them, and without what workers refuse; ``left_out`` counts that, and has the first of it.
    """

    def __init__(
        self,
        folder: Path,
        places: Sequence[Place],
        counts: Mapping[str, int],
        *,
        is_history: bool = False,
    ) -> None:
        self._counts = counts
        self._producers = {
            place: Producers() for place in places if is_history and place[0] == MARKET_EVENTS
        }
        self._stack = ExitStack()
        self._universe = Universe()
        self.left_out: tuple[int, DeadLetter | None] = (0, None)
        self._writers: dict[Place, JournalWriter] = {}
        self._marks: dict[Place, OffsetMark] = {}
        self.next_offsets: dict[Place, int] = {}
        for place in places:
            path = partition_folder(folder, *place)
            writer = JournalWriter.open(path, run_id=f"{place[0]}/{place[1]}")
            self._writers[place] = self._stack.enter_context(writer)
            writer.flush()
            found = JournalReader(path).last_mark(OFFSET_MARK)
            mark = msgspec.json.decode(found[1], type=OffsetMark) if found else OffsetMark(0, -1)
            self._marks[place] = mark
            if found:
                at = writer.next_offsets.get(place[0], 0)
                self.next_offsets[place] = mark.kafka + at - mark.journal

    def close(self) -> None:
        """Flush and close all journals."""
        self._stack.close()

    def write(self, place: Place, arrived: Sequence[Any]) -> None:
        """Append the next records of a partition, as Kafka gave them."""
        topic, partition = place
        is_history = place in self._producers
        known = self._universe if is_history else None
        taken = take_records(topic, partition, arrived, known, self._counts[topic])
        if is_history and taken.letters:
            count, first = self.left_out
            self.left_out = count + len(taken.letters), first or taken.letters[0]
        unreadable = {letter.offset: letter for letter in taken.letters}
        records = dict(taken.records)
        group: list[Header] = []
        for item in arrived:
            record = records.get(item.offset)
            if record is not None:
                if is_history:
                    if not self._producers[place].is_new(record):
                        continue
                    record.producer, record.producer_seq = "", 0
                if self.next_offsets.get(place) != item.offset:
                    self._append(place, group)
                    group = []
                    self._go_to(place, item.offset)
                group.append(record)
                self.next_offsets[place] = item.offset + 1
            elif item.offset in unreadable:
                self._append(place, group)
                group = []
                self._mark_unreadable(place, unreadable[item.offset])
                # Whoever goes on with the recording goes on behind it.
                self._go_to(place, item.offset + 1)
                self.next_offsets[place] = item.offset + 1
        self._append(place, group)
        self._writers[place].flush()

    def _go_to(self, place: Place, offset: int) -> None:
        writer = self._writers[place]
        mark = OffsetMark(writer.next_offsets.get(place[0], 0), offset)
        writer.append_mark(OFFSET_MARK, msgspec.json.encode(mark))

    def _mark_unreadable(self, place: Place, letter: DeadLetter) -> None:
        self._writers[place].append_mark(UNREADABLE_MARK, msgspec.json.encode(letter))

    def _append(self, place: Place, records: list[Header]) -> None:
        if not records:
            return
        topic, writer = place[0], self._writers[place]
        if topic == REFERENCE_INSTRUMENTS:
            for record in records:
                if (
                    isinstance(record, Instrument)
                    and self._universe.index(record.instrument_id) is None
                ):
                    with suppress(ConfigError):  # its market data stand as records then
                        self._universe.add(record)
        items = [(topic, record) for record in records]
        if topic == MARKET_EVENTS and self._is_columnar(records):
            piece = records_piece(self._universe, items)
            writer.append_batch(self._universe, batch_of(self._universe, piece, EARLIEST_NS, 0))
        else:
            writer.append_group(encode_group(items))

    def _is_columnar(self, records: Sequence[Header]) -> bool:
        """Return whether columns hold all that these records say."""
        return all(
            type(record) not in KIND_BY_RECORD
            or (
                # For history what is asked for is prices and sizes.
                (self._producers or not any(getattr(record, f, None) for f in _NOT_IN_COLUMNS))
                and self._universe.index(record.instrument_id) is not None  # type: ignore[attr-defined]
            )
            for record in records
        )


async def record_topics(
    connection: Connection,
    folder: Path,
    counts: Mapping[str, int],
    *,
    stop: asyncio.Event,
    is_following: bool = False,
    is_history: bool = False,
    ranges: Mapping[Place, tuple[int, int | None]] = {},
    on_total: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Copy topics up to their present ends, or until ``stop``; return how many records came.

    ``counts`` holds the partitions of each topic; ``ranges`` may bound some by offsets, the second
    excluded. A recording that is there is continued. ``is_history`` keeps market events for replays
    alone (see ``Recorder``). Raises StorageError if retention has taken
    what comes next of a recording, NewerSchemaError for a record that this program is too old for.
    """
    # Definitions first: columns need them.
    topics = sorted(counts, key=lambda name: (name != REFERENCE_INSTRUMENTS, name))
    places = [(topic, p) for topic in topics for p in range(counts[topic])]
    recorder = Recorder(folder, places, counts, is_history=is_history)
    done = 0
    try:
        async with PlaceReader(connection) as reader:
            beginnings = await reader.beginnings(places)
            ends = await reader.ends(places)
            for place, (first, last) in ranges.items():
                beginnings[place] = max(beginnings[place], first)
                ends[place] = ends[place] if last is None else min(ends[place], last)
            at = {place: recorder.next_offsets.get(place, beginnings[place]) for place in places}
            on_total(sum(max(ends[place] - at[place], 0) for place in places))
            for place in places:
                await reader.put({place: at[place]})
                while at[place] < ends[place] and not stop.is_set():
                    upto = min(at[place] + _STEP_RECORDS, ends[place])
                    arrived = await reader.read(place, upto)
                    if arrived:
                        recorder.write(place, arrived)
                    on_progress(upto - at[place])
                    at[place], done = upto, done + len(arrived)
            if is_following and not stop.is_set():
                await reader.put(at)
                while not stop.is_set():
                    for place, arrived in (await reader.follow()).items():
                        recorder.write(place, arrived)
                        done += len(arrived)
                        on_progress(len(arrived))
    finally:
        recorder.close()
    count, letter = recorder.left_out
    if letter is not None:
        _log.warning(
            "%d market events that workers refuse are left out; the first, %s/%d offset %d: %s",
            count, letter.topic, letter.partition, letter.offset, letter.reason,
        )  # fmt: skip
    return done
