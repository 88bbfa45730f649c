"""The topics of a cluster as one log, for the web app: it follows all of them and writes commands.

What comes is put in order of arrival into a bounded log in memory, each producer's record once; the
offsets that clients see are those of this log, and its epoch is new with every start. Commands go
to Kafka, to the partitions that the catalogue's keys choose, and count as taken when they are
acknowledged by all replicas.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from schemas.codec import decode
from schemas.envelope import Header
from schemas.errors import RecordError, StorageError
from schemas.topics import CATALOGUE, MARKET_EVENTS, SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher, addressed
from streams.kafka.ranges import Place, PlaceReader
from streams.log import Listener, Published
from streams.memory_log import MemoryLog

_STEP_RECORDS = 4000
_SIDE_MAX = 10_000
_OWN = frozenset({SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS})


class KafkaLog:
    """A ``Log`` over a cluster; ``load`` what is there, then ``run`` to follow it.

    ``wall_ns`` is the wall clock (int64 ns UTC). The time of the log is that of the market data as
    far as it has come, for commands stand among them. Each topic keeps ``history_max`` records.
    """

    def __init__(
        self,
        connection: Connection,
        run_id: str,
        epoch: str,
        wall_ns: Callable[[], int],
        *,
        history_max: int = 100_000,
    ) -> None:
        self.run_id = run_id
        self.epoch = epoch
        self.unreadable = 0
        self._connection = connection
        self._wall_ns = wall_ns
        self._clock_ns = 0
        self._history_max = history_max
        self._memory = MemoryLog(run_id, self.now_ns, epoch=epoch, history_max=history_max)
        self._marks: dict[tuple[Place, str], int] = {}
        self._counts: dict[str, int] = {}
        self._next: dict[Place, int] = {}
        self._side: asyncio.Queue[tuple[str, Header]] = asyncio.Queue(_SIDE_MAX)
        self._stack = AsyncExitStack()
        self._publisher = Publisher(connection)
        self._reader = PlaceReader(connection)

    async def __aenter__(self) -> Self:
        """Connect; raises StorageError if the cluster does not answer."""
        await self._stack.enter_async_context(self._publisher)
        await self._stack.enter_async_context(self._reader)
        self._counts = await self._publisher.counts(topic.name for topic in CATALOGUE)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._stack.aclose()

    async def load(self) -> None:
        """Read what the topics hold by now; of market data the newest part."""
        places = [
            (topic.name, p)
            for topic in CATALOGUE
            if topic.name not in _OWN
            for p in range(self._counts[topic.name])
        ]
        beginnings, ends = await self._reader.beginnings(places), await self._reader.ends(places)
        for place in places:
            at, end = beginnings[place], ends[place]
            if place[0] == MARKET_EVENTS:
                at = max(at, end - self._history_max // self._counts[MARKET_EVENTS])
            await self._reader.put({place: at})
            while at < end:
                upto = min(at + _STEP_RECORDS, end)
                self._take(place, await self._reader.read(place, upto))
                at = upto
            self._next[place] = at

    async def run(self) -> None:
        """Follow the topics until cancelled; raises StorageError when Kafka cannot be read."""
        await self._reader.put(self._next)
        writing = asyncio.create_task(self._write_side())
        try:
            while not writing.done():
                for place, arrived in (await self._reader.follow()).items():
                    self._take(place, arrived)
            writing.result()
        finally:
            writing.cancel()

    def _take(self, place: Place, arrived: Sequence[Any]) -> None:
        fresh: list[tuple[str, Header]] = []
        for item in arrived:
            if item.value is None:
                continue
            try:
                record = decode(place[0], item.value)
            except RecordError:
                # The stage that reads the topic makes a dead letter of it.
                self.unreadable += 1
                continue
            if record.producer:
                mark = (place, record.producer)
                if record.producer_seq <= self._marks.get(mark, 0):
                    continue
                self._marks[mark] = record.producer_seq
            if place[0] == MARKET_EVENTS:
                self._clock_ns = max(self._clock_ns, getattr(record, "ts_event_ns", 0))
            fresh.append((place[0], record))
        if fresh:
            self._memory.append(fresh)

    async def _write_side(self) -> None:
        while True:
            topic, record = await self._side.get()
            await self._publisher.publish(addressed(topic, record, self._counts))

    # ---- the log port

    async def publish(self, topic: str, record: Header) -> None:
        """Write a record; returns when all replicas have it. Raises StorageError if not."""
        await self._publisher.publish(addressed(topic, record, self._counts))

    def publish_side(self, topic: str, record: Header) -> None:
        """Write a record in a moment; raises StorageError when too many are waiting."""
        try:
            self._side.put_nowait((topic, record))
        except asyncio.QueueFull as error:
            raise StorageError(
                "too many records are waiting for Kafka",
                field="topic",
                value=topic,
                remedy="try again later",
            ) from error

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with what comes from now on; returns the way to stop it."""
        return self._memory.listen(listener)

    def read(self, topic: str, offset: int, limit: int) -> list[Published]:
        """Return up to ``limit`` records of ``topic`` from ``offset`` on, of those still kept."""
        return self._memory.read(topic, offset, limit)

    def end_offset(self, topic: str) -> int:
        """Return the offset that the next record of ``topic`` will have."""
        return self._memory.end_offset(topic)

    def now_ns(self) -> int:
        """Return the time of the market data, or the wall clock while there are none."""
        return self._clock_ns or self._wall_ns()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many partitions each topic has."""
        return self._counts
