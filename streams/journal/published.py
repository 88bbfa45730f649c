"""A journal as the records that its run published: each with topic and offset, in journaled order.

Read models that are folded from it are those that a client of the run saw, at any place of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter

from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.rows import records_from_table
from schemas.topics import MARKET_EVENTS
from streams.journal.reader import JournalReader
from streams.log import Published


def published(reader: JournalReader) -> Iterator[list[Published]]:
    """Yield all records of a journal, those of one entry at a time.

    Events of a batch come in their merged order. Raises JournalError for a damaged journal.
    """
    next_offsets: dict[str, int] = {}
    for entry in reader.entries():
        group = []
        for topic, record in entry.published():
            offset = next_offsets.get(topic, 0)
            next_offsets[topic] = offset + 1
            group.append(Published(topic, 0, offset, record))
        yield group


def events_of(batch: MarketBatch, universe: Universe) -> list[tuple[str, Header]]:
    """Return the records of a batch as (topic, record) in merged order, not that of its tables."""
    events = list(batch.records)
    for table in (batch.trades, batch.quotes, batch.bars):
        rows = records_from_table(universe, table, slice(None))
        places = zip(table.pos.tolist(), rows, strict=True)
        events.extend((pos, MARKET_EVENTS, record) for pos, record in places)
    return [(topic, record) for _, topic, record in sorted(events, key=itemgetter(0))]
