"""``millrace publish``: plays a recording, an import or a run's journal into the topics.

Definitions first, then the events in their order at a multiple of real time, each with the source
id that it always had, and watermarks for every partition, so that time goes on where nothing
trades. The definitions stand among the events too: a session that runs gets them from its reference
stage only a moment later, and would refuse what comes before.

Records are numbered for each partition, so publishing the same selection of a recording again,
after an interruption or by mistake, adds nothing to any state.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

import msgspec

from agents.runners.feeds import CLOSING_NS, RecordingFeed, check_speed
from infra.data import open_whole
from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.identifiers import content_hash
from schemas.instruments import Instrument, Universe
from schemas.market_data import Watermark
from schemas.rows import records_from_table
from schemas.topics import MARKET_EVENTS, REFERENCE_INSTRUMENTS, key_of
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing, partition_of

_MARK_INTERVAL_NS = 1_000_000_000
_POLL_S = 0.02
_SLICE_EVENTS = 4096


def batch_records(universe: Universe, batch: MarketBatch) -> list[tuple[str, Header]]:
    """Return the events of a batch as records with their topics, in the order of the batch."""
    found: list[tuple[int, str, Header]] = list(batch.records)
    for table in (batch.trades, batch.quotes, batch.bars):
        rows = records_from_table(universe, table, slice(None))
        found += [
            (pos, MARKET_EVENTS, row) for pos, row in zip(table.pos.tolist(), rows, strict=True)
        ]
    found.sort(key=itemgetter(0))
    return [(topic, record) for _, topic, record in found]


class Numbering:
    """Addresses records and numbers them for each partition under the name of one producer.

    The same records in the same order get the same numbers, so whoever reads them knows them again.
    """

    def __init__(self, producer: str, counts: Mapping[str, int]) -> None:
        self._producer = producer
        self._counts = counts
        self._last: dict[tuple[str, int], int] = {}

    def outgoing(self, topic: str, record: Header, partition: int | None = None) -> Outgoing:
        """Return a record for its key's partition, or for ``partition``."""
        if partition is None:
            partition = partition_of(key_of(topic, record).encode(), self._counts[topic])
        place = (topic, partition)
        number = self._last[place] = self._last.get(place, 0) + 1
        numbered = msgspec.structs.replace(record, producer=self._producer, producer_seq=number)
        return outgoing(topic, numbered, partition)

    def everywhere(self, topic: str, record: Header) -> list[Outgoing]:
        """Return a record for every partition."""
        return [self.outgoing(topic, record, p) for p in range(self._counts[topic])]


class Marks:
    """Watermarks of a recording: at most one a second of its time, for every partition.

    They stand in front of the first event of that second, however fast the recording is played.
    """

    def __init__(self, source: str, numbering: Numbering) -> None:
        self._source = source
        self._numbering = numbering
        self._count = 0
        self._due_ns = 0

    def before(self, ts_event_ns: int, *, is_due: bool = False) -> list[Outgoing]:
        """Return the watermarks in front of an event at ``ts_event_ns``, if any are due."""
        if not is_due and ts_event_ns < self._due_ns:
            return []
        self._due_ns = (ts_event_ns // _MARK_INTERVAL_NS + 1) * _MARK_INTERVAL_NS
        self._count += 1
        mark = Watermark(source=self._source, source_seq=self._count, ts_event_ns=ts_event_ns - 1)
        return self._numbering.everywhere(MARKET_EVENTS, mark)


def _span(start_ns: int | None, end_ns: int | None) -> list[str]:
    """Return what tells a part of a recording from the whole: its records count from one too."""
    if start_ns is None and end_ns is None:
        return []
    return [f"{'' if start_ns is None else start_ns}-{'' if end_ns is None else end_ns}"]


async def publish_definitions(
    connection: Connection, spec: str, *, symbols: tuple[str, ...] = ()
) -> list[Instrument]:
    """Write the definitions of a recording's instruments, and return them."""
    data = open_whole(spec, symbols=symbols or None)
    ids = {item.instrument_id for item in data.inputs(symbols=list(symbols) or None)}
    definitions = [item for item in data.universe.instruments if item.instrument_id in ids]
    async with Publisher(connection) as publisher:
        await publisher.publish([outgoing(REFERENCE_INSTRUMENTS, item) for item in definitions])
    return definitions


def _among_events(definitions: Sequence[Instrument], counts: Mapping[str, int]) -> list[Outgoing]:
    """Return definitions for every partition of market events.

    They are numbered under what they say: only another definition counts as a new one.
    """
    numbering = Numbering(f"define/{content_hash(msgspec.json.encode(definitions))}", counts)
    return [out for item in definitions for out in numbering.everywhere(MARKET_EVENTS, item)]


async def publish_recording(
    connection: Connection,
    spec: str,
    *,
    symbols: tuple[str, ...] = (),
    start_ns: int | None = None,
    end_ns: int | None = None,
    speed: float = 1.0,
    stop: asyncio.Event | None = None,
    on_total: Callable[[int], None] = lambda _: None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Play a recording into the topics and return how many events went out.

    ``spec`` names data as --data of backtest does, ``start_ns`` and ``end_ns`` a part of it (int64
    ns UTC); ``speed`` 0 is as fast as Kafka takes it. Raises ConfigError for one that is none.
    """
    check_speed(speed)
    data = open_whole(spec, symbols=symbols or None)
    chosen = list(symbols) or None
    inputs = data.inputs(start_ns=start_ns, end_ns=end_ns, symbols=chosen)
    on_total(sum(item.count for item in inputs))
    first_ns = min(item.first_ts_ns for item in inputs)
    batches = data.batches(start_ns=start_ns, end_ns=end_ns, symbols=chosen)
    feed = RecordingFeed(batches, speed=speed, first_ns=first_ns)
    stop = stop or asyncio.Event()
    definitions = await publish_definitions(connection, spec, symbols=symbols)
    async with Publisher(connection) as publisher:
        counts = await publisher.counts([MARKET_EVENTS])
        await publisher.publish(_among_events(definitions, counts))
        source = "/".join(["publish", spec, *symbols, *_span(start_ns, end_ns)])
        numbering = Numbering(source, counts)
        marks = Marks(source, numbering)
        clock_ns = first_ns
        while not stop.is_set():
            batch = feed.poll()
            if batch is None:
                if feed.is_done:
                    break
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_POLL_S):
                        await stop.wait()
                continue
            for start in range(0, len(batch), _SLICE_EVENTS):
                piece = batch.slice(start, min(start + _SLICE_EVENTS, len(batch)))
                out: list[Outgoing] = []
                records = batch_records(data.universe, piece)
                for clock_ns, (_, record) in zip(piece.clock.tolist(), records, strict=True):
                    out += marks.before(clock_ns)
                    # Corporate actions too: what they mean depends on where they stand.
                    out.append(numbering.outgoing(MARKET_EVENTS, record))
                await publisher.publish(out)
                on_progress(len(piece))
        if not stop.is_set():
            await publisher.publish(marks.before(clock_ns + CLOSING_NS, is_due=True))
        return feed.played_events
