"""One entry of a journal, as its reader hands it out: decoded only as far as somebody asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter

import numpy as np

from schemas.codec import decode
from schemas.columns import (
    BarColumns,
    Columns,
    MarketBatch,
    QuoteColumns,
    TradeColumns,
)
from schemas.envelope import Header
from schemas.errors import JournalError
from schemas.instruments import Universe
from schemas.rows import Rows, records_from_rows
from schemas.topics import MARKET_EVENTS
from streams.journal.batches import event_times, running_clock
from streams.journal.encoding import Content, Kind
from streams.journal.names import Names

Load = Callable[[frozenset[str] | None], Content]


class Entry:
    """Entry number ``index``; ``topic`` and ``offset`` are those of its first record.

    A mark has neither: empty and 0. A method that does not fit the kind raises JournalError.
    """

    __slots__ = ("_load", "_names", "index", "kind", "offset", "topic")

    def __init__(
        self, index: int, kind: Kind, topic: str, offset: int, names: Names, load: Load
    ) -> None:
        self.index = index
        self.kind = kind
        self.topic = topic
        self.offset = offset
        self._names = names
        self._load = load

    def __repr__(self) -> str:
        return f"Entry({self.index}, {self.kind.name}, {self.topic!r}, {self.offset})"

    @property
    def instrument_ids(self) -> Sequence[str]:
        """The instruments that tables of this part of the journal may name."""
        return self._names.instruments

    def records(self, topics: frozenset[str] | None = None) -> list[tuple[str, Header]]:
        """Return (topic, record) of a RECORDS entry in order, of ``topics`` or of all."""
        self._expect(Kind.RECORDS)
        return [(topic, decode(topic, value)) for topic, value in self._load(topics).values]

    def table(self, universe: Universe) -> Columns:
        """Return the table of a COLUMNS entry with the indexes of ``universe``.

        Raises DataError if an instrument of its rows is not in the universe.
        """
        self._expect(Kind.COLUMNS)
        return self._names.to_universe(universe, self._load(None).tables[0])

    def batch(self, universe: Universe) -> MarketBatch:
        """Return the batch of a BATCH entry; indexes and errors as in ``table``."""
        self._expect(Kind.BATCH)
        content = self._load(None)
        tables = {t.KIND: self._names.to_universe(universe, t) for t in content.tables}
        records = [
            (pos, topic, decode(topic, value))
            for pos, (topic, value) in zip(content.places, content.values, strict=True)
        ]
        size = sum(map(len, content.tables)) + len(records)
        times = event_times(size, content.tables, records)
        return MarketBatch(
            universe,
            running_clock(times, content.clock_ns),
            trades=tables.get("trade", TradeColumns.empty()),  # type: ignore[arg-type]
            quotes=tables.get("quote", QuoteColumns.empty()),  # type: ignore[arg-type]
            bars=tables.get("bar", BarColumns.empty()),  # type: ignore[arg-type]
            records=records,
            first_offset=content.stream_offset,
        )

    def mark(self) -> tuple[str, bytes]:
        """Return name and payload of a MARK entry."""
        self._expect(Kind.MARK)
        content = self._load(None)
        return content.name, content.payload

    def topic_records(self, topic: str, start: int, stop: int) -> list[Header]:
        """Return records ``start`` to ``stop`` of this entry on ``topic``, rows as records."""
        if self.kind is Kind.MARK:
            return []
        content = self._load(frozenset((topic,)))
        if self.kind is Kind.RECORDS:
            return [decode(topic, value) for _, value in content.values[start:stop]]
        if self.kind is Kind.COLUMNS:
            return (
                self._rows(content.tables[0], slice(start, stop)) if content.topic == topic else []
            )
        if topic == MARKET_EVENTS:
            return self._events(content, start, stop)
        others = [value for name, value in content.values if name == topic]
        return [decode(topic, value) for value in others[start:stop]]

    def published(self) -> list[tuple[str, Header]]:
        """Return all records of this entry as (topic, record) in order; a mark has none.

        Events of a batch come in their merged order, not that of its tables.
        """
        if self.kind is Kind.MARK:
            return []
        content = self._load(None)
        if self.kind is Kind.COLUMNS:
            rows = self._rows(content.tables[0], slice(None))
            return [(content.topic, record) for record in rows]
        records = [(topic, decode(topic, value)) for topic, value in content.values]
        if self.kind is Kind.RECORDS:
            return records
        placed = list(zip(content.places, records, strict=True))
        for table in content.tables:
            rows = self._rows(table, slice(None))
            events = [(MARKET_EVENTS, record) for record in rows]
            placed.extend(zip(table.pos.tolist(), events, strict=True))
        return [item for _, item in sorted(placed, key=itemgetter(0))]

    def find(self, event_id: str) -> Header | None:
        """Return the record with that event id, the last one if there are several, or None."""
        content = self._load(None)
        key = event_id.encode()
        for topic, value in reversed(content.values):
            if key in value:
                record = decode(topic, value)
                if getattr(record, "event_id", "") == event_id:
                    return record
        seq = event_id.rpartition(":")[2]
        if content.tables and seq.isdecimal() and len(seq) < 19:
            for table in content.tables:
                for record in reversed(self._rows(table, np.flatnonzero(table.seq == int(seq)))):
                    if getattr(record, "event_id", "") == event_id:
                        return record
        return None

    def _events(self, content: Content, start: int, stop: int) -> list[Header]:
        """Return events ``start`` to ``stop`` of a batch, other topics not counted."""
        size = sum(map(len, content.tables)) + len(content.values)
        is_own = np.ones(size, np.bool_)
        own: dict[int, Header] = {}
        for pos, (topic, _) in zip(content.places, content.values, strict=True):
            is_own[pos] = topic == MARKET_EVENTS
        places = np.flatnonzero(is_own)[start:stop]
        if not len(places):
            return []
        first, last = int(places[0]), int(places[-1])
        for pos, (topic, value) in zip(content.places, content.values, strict=True):
            if first <= pos <= last and topic == MARKET_EVENTS:
                own[pos] = decode(topic, value)
        for table in content.tables:
            low, high = np.searchsorted(table.pos, (first, last + 1)).tolist()
            rows = self._rows(table, slice(low, high))
            own.update(zip(table.pos[low:high].tolist(), rows, strict=True))
        return [own[pos] for pos in places.tolist()]

    def _rows(self, table: Columns, rows: Rows) -> list[Header]:
        names = self._names
        return records_from_rows(
            names.instruments.__getitem__, names.sources.__getitem__, table, rows
        )

    def _expect(self, kind: Kind) -> None:
        if self.kind is not kind:
            raise JournalError(
                f"entry {self.index} of the journal is of another kind",
                field="kind",
                value=self.kind.name,
                remedy=f"ask for its content by kind; this method reads {kind.name}",
            )
