"""A journal as the source of a sink: its entries from the place that the database knows.

The journal is read beside its writer, from the files alone, so the run that writes it notices
nothing. The place is the number of the next entry; beside it stand the next offsets of all topics,
counted from the beginning.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np

from schemas.columns import Ints, MarketBatch
from schemas.control import RunManifest
from schemas.envelope import Header
from schemas.errors import InvariantError
from schemas.instruments import Instrument, Universe
from schemas.topics import MARKET_EVENTS, SYSTEM_RUNS
from streams.database.batches import Batch, Place
from streams.database.tables import STORED_TOPICS
from streams.database.writing import Stored
from streams.journal import EPOCH_MARK, JournalReader, Kind
from streams.journal.entry import Entry

PLACE: Place = ("journal", 0)
_TOPICS = frozenset(STORED_TOPICS)
_MANIFEST = "manifest"
_NAME = "journal:"
"""Begins the name of a journal among the offsets that stand beside a sink's place."""


def sink_of(run_id: str) -> str:
    """Return the name of the sink that stores a run's journal."""
    return f"journal:{run_id}"


class JournalSource:
    """Reads the journal in ``folder`` in batches of about ``rows_max`` rows.

    Raises NotFoundError if there is none, JournalError if it is damaged.
    """

    def __init__(self, folder: Path, *, rows_max: int = 10_000) -> None:
        self._reader = JournalReader(folder)
        self._rows_max = rows_max
        self._universe = Universe()
        self._next = 0
        self._offsets: Counter[str] = Counter()
        self.run_id = self._reader.run_id
        self.sink = sink_of(self.run_id)

    async def begin(self) -> dict[Place, int]:
        """Return where a sink begins that has no place yet."""
        return {PLACE: 0}

    async def seek(self, known: Mapping[Place, Stored]) -> dict[Place, int]:
        """Go to the place that the database knows; nothing of a journal is ever gone."""
        stored = known[PLACE]
        # Rows that were stored before there were names are taken for this journal's.
        names = {name for name in stored.state if name.startswith(_NAME)}
        mine = self._name()
        is_other = bool(names and mine) and mine not in names
        if is_other or stored.next_offset > self._reader.next_entry:
            raise InvariantError(
                f"what is stored of run {self.run_id} is not of its journal",
                field="entry",
                value=stored.next_offset,
                remedy=f"this is another journal of that name; `millrace db forget {self.run_id}`"
                " removes the stored run",
            )
        self._next = stored.next_offset
        self._offsets = Counter({t: n for t, n in stored.state.items() if t not in names})
        self._universe = Universe()
        return {}

    async def read(self) -> Batch | None:
        """Return the next entries, None if there are none yet."""
        batch = Batch(self.run_id)
        for entry in self._reader.entries(self._next):
            self._add(batch, entry)
            self._next = entry.index + 1
            if batch.rows >= self._rows_max:
                break
        if not batch:
            return None
        mine = self._name()
        batch.states[PLACE] = dict(self._offsets) | ({mine: 1} if mine else {})
        return batch

    def _name(self) -> str:
        """Return what tells a live run's journal from others, empty for a backtest's.

        Its epoch comes before everything else, so whoever has read an entry has it.
        """
        found = self._reader.last_mark(EPOCH_MARK)
        return "" if found is None else _NAME + found[1].decode()

    async def lag(self) -> int:
        """Return how many entries the journal has that are not read yet."""
        return self._reader.next_entry - self._next

    async def close(self) -> None:
        """Do nothing: files are read, not held."""

    def _add(self, batch: Batch, entry: Entry) -> None:
        batch.places[PLACE] = entry.index + 1
        if entry.kind is Kind.MARK:
            name, payload = entry.mark()
            # A live run has its manifest as a record too.
            if name == _MANIFEST and not self._offsets[SYSTEM_RUNS]:
                _add_manifest(batch, entry.index, payload)
            return
        if entry.offset != self._offsets[entry.topic]:
            raise InvariantError(
                f"the offsets of {entry.topic} do not count on in the journal of {self.run_id}",
                field="offset",
                value=entry.offset,
                remedy=f"{self._offsets[entry.topic]} was expected; restore the journal",
            )
        if entry.kind is Kind.RECORDS:
            self._add_records(batch, entry.records())
        elif entry.kind is Kind.COLUMNS:
            table = entry.table(self._named(entry))
            first = self._offsets[entry.topic]
            self._offsets[entry.topic] += len(table)
            if entry.topic in _TOPICS:
                offsets: Ints = np.arange(first, first + len(table), dtype=np.int64)
                batch.add_table(self._universe, table, offsets)
        else:
            self._add_batch(batch, entry.batch(self._named(entry)))

    def _add_records(self, batch: Batch, records: list[tuple[str, Header]]) -> None:
        by_topic: dict[str, list[tuple[int, Header]]] = {}
        for topic, record in records:
            by_topic.setdefault(topic, []).append((self._offsets[topic], record))
            self._offsets[topic] += 1
        for topic, items in by_topic.items():
            batch.add_records(topic, 0, items)

    def _add_batch(self, batch: Batch, events: MarketBatch) -> None:
        """Add consumed market events; their offsets follow their positions, others not counted."""
        first = self._offsets[MARKET_EVENTS]
        own = np.ones(len(events), np.bool_)
        by_topic: dict[str, list[tuple[int, Header]]] = {}
        for pos, topic, record in events.records:
            if topic == MARKET_EVENTS:
                continue
            own[pos] = False
            by_topic.setdefault(topic, []).append((self._offsets[topic], record))
            self._offsets[topic] += 1
        place: Ints = first + np.cumsum(own, dtype=np.int64) - 1
        by_topic[MARKET_EVENTS] = [
            (int(place[pos]), record)
            for pos, topic, record in events.records
            if topic == MARKET_EVENTS
        ]
        self._offsets[MARKET_EVENTS] = first + int(own.sum())
        for table in (events.trades, events.quotes, events.bars):
            batch.add_table(self._universe, table, place[table.pos])
        for topic, items in by_topic.items():
            batch.add_records(topic, 0, items)

    def _named(self, entry: Entry) -> Universe:
        """Return a universe with the names that an entry's tables use; rows need no more of it."""
        known = self._universe
        for name in entry.instrument_ids[len(known) :]:
            known.add(Instrument(ts_event_ns=0, instrument_id=name, symbol=name, venue=""))
        return known


def _add_manifest(batch: Batch, index: int, payload: bytes) -> None:
    """Add the manifest that a mark holds: a backtest has one when it begins and one at its end."""
    manifest = msgspec.json.decode(payload, type=RunManifest)
    if manifest.output_hash:
        manifest.event_id += ":end"
    batch.add_records(SYSTEM_RUNS, 0, [(index, manifest)])
