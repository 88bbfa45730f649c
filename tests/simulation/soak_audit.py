"""Counts what a long session left on its topics, in memory that does not grow with its trades.

Sequences are kept for each partition and producer, ids of the order flow by hash; only the records
of the order flow itself, which are few, are kept for the checks that need them whole.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import xxhash

from schemas.codec import decode
from schemas.control import OrderLogEntry
from schemas.market_data import Bar, Trade
from schemas.order_events import Fill
from schemas.topics import (
    ACCOUNT_INPUTS,
    CATALOGUE,
    MARKET_BARS,
    MARKET_EVENTS,
    ORDER_EVENTS,
    ORDER_FILLS,
    PORTFOLIO_POSITIONS,
    SYSTEM_DEAD_LETTERS,
    SYSTEM_SNAPSHOTS,
    VENUE_COMMANDS,
)
from streams.kafka.connection import Connection
from streams.kafka.reading import read_to_end
from tests.kafka_case import check_books
from tests.simulation.checker import Check, Topics, check_histories, check_venue_orders

_DEADLINE_S = 7200.0
_ORDER_FLOW = (ACCOUNT_INPUTS, VENUE_COMMANDS, ORDER_EVENTS, ORDER_FILLS, PORTFOLIO_POSITIONS)
_IDENTIFIED = frozenset({*_ORDER_FLOW, MARKET_BARS})
_KEPT = frozenset(_ORDER_FLOW)
_AT_FIRST = frozenset({("strategy", MARKET_EVENTS)})
"""What is read until a part has begun: the strategies of this session decide on bars alone."""


class Audit:
    """What was found so far; ``fed`` is how many trades of each instrument were published."""

    def __init__(self, fed: Mapping[str, int], interval: str) -> None:
        self._fed = fed
        self._interval = interval
        self._last: dict[tuple[str, int, str], int] = {}
        self._ids: set[int] = set()
        self._trades: dict[str, int] = defaultdict(int)
        self._in_bars: dict[str, int] = defaultdict(int)
        self._noted: dict[tuple[str, str, int], int] = {}
        self._ends: dict[tuple[str, int], int] = {}
        self._flow = Topics()
        self._breaches: dict[str, str] = {}
        self.total = 0

    async def run(self, connection: Connection) -> list[Check]:
        """Read all topics to their ends and return what holds and what does not."""
        for topic in CATALOGUE:
            if topic.name == SYSTEM_SNAPSHOTS:
                continue
            async for item in read_to_end(connection, topic.name, deadline_s=_DEADLINE_S):
                self.take(topic.name, item)
        return self.checks()

    def take(self, topic: str, item: Any) -> None:
        """Look at one record."""
        self.total += 1
        partition, offset = item.partition, item.offset
        self._ends[topic, partition] = offset + 1
        record: Any = decode(topic, item.value)
        where = f"{topic}/{partition}/{offset}"
        if record.producer:
            self._see_sequence(topic, partition, record, where)
        if topic in _IDENTIFIED:
            name = xxhash.xxh3_64_intdigest(f"{topic}/{partition}/{record.event_id}".encode())
            if name in self._ids:
                self._breach("no duplicate", f"{where} says {record.event_id} again")
            self._ids.add(name)
        if topic == MARKET_EVENTS and isinstance(record, Trade):
            self._trades[record.instrument_id] += 1
        elif isinstance(record, Bar) and topic == MARKET_BARS:
            if record.interval == self._interval and not record.revision:
                self._in_bars[record.instrument_id] += record.trade_count
        elif isinstance(record, OrderLogEntry):
            self._see_note(record, where)
        elif topic == SYSTEM_DEAD_LETTERS:
            self._breach("no dead letter", str(record))
        if topic in _KEPT and type(record).__name__ not in ("ReferencePrice", "Instrument"):
            self._flow.records.setdefault(topic, []).append(record)

    def _see_sequence(self, topic: str, partition: int, record: Any, where: str) -> None:
        place = (topic, partition, record.producer)
        last, now = self._last.get(place, 0), record.producer_seq
        if now <= last:
            self._breach("no duplicate", f"{where}: {record.producer} wrote {now} after {last}")
        elif now > last + 1:
            self._breach("no loss", f"{where}: {record.producer} wrote {now} after {last}")
        self._last[place] = max(now, last)

    def _see_note(self, note: OrderLogEntry, where: str) -> None:
        if note.is_claim:
            return
        place = (note.instance, note.topic, note.partition)
        at = self._noted.get(place)
        if at is not None and note.first_offset != at:
            name = "no loss" if note.first_offset > at else "no duplicate"
            self._breach(name, f"{where}: {note} does not follow {at}")
        self._noted[place] = note.last_offset + 1

    def _breach(self, name: str, text: str) -> None:
        self._breaches.setdefault(name, text)

    def checks(self) -> list[Check]:
        """Return what holds, and what does not."""
        if dict(self._trades) != dict(self._fed):
            self._breach("no loss", f"{dict(self._trades)} on the topic, fed {dict(self._fed)}")
        for (instance, topic, partition), at in self._noted.items():
            end = self._ends[topic, partition]
            if at != end and (instance.partition("/")[0], topic) not in _AT_FIRST:
                text = f"{instance} consumed {topic}/{partition} up to {at} of {end}"
                self._breach("no loss", text)
        bars = ""
        if dict(self._in_bars) != dict(self._fed):
            bars = f"{dict(self._in_bars)} trades in bars, fed {dict(self._fed)}"
        return [
            Check("no loss", self.total, self._breaches.get("no loss", "")),
            Check("no duplicate", self.total, self._breaches.get("no duplicate", "")),
            Check("every trade is in one bar", sum(self._in_bars.values()), bars),
            check_venue_orders(self._flow),
            check_histories(self._flow),
            self._books(),
            Check("no dead letter", 0, self._breaches.get("no dead letter", "")),
        ]

    def _books(self) -> Check:
        fills = [r for r in self._flow.records.get(ORDER_FILLS, []) if isinstance(r, Fill)]
        breach = "" if fills else "there are no fills"
        try:
            check_books(fills, self._flow.records.get(PORTFOLIO_POSITIONS, []), [])
        except AssertionError as error:
            breach = str(error)
        return Check("positions are the fold of the fills", len(fills), breach)
