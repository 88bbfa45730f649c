"""The topics of a cluster as one log, for the web app: it follows all of them and writes commands.

Every record has the partition and offset that Kafka gave it, and a topic's epoch is the id that the
cluster gave the topic, so a place in the log means the same to every web process and after every
restart. The newest records of each partition are kept in memory; older ones are read from Kafka
when somebody asks (``streams.kafka.history``). A record that its producer wrote again, at another
offset, is passed over: the whole of each topic is read at the start, so every process passes over
the same ones. Of market data only the newest part is read. What is read at the start is told as it
comes, so that whoever folds it has heard of all of it, however little of it memory keeps.

Commands go to Kafka, to the partitions that the catalogue's keys choose, and count as taken when
they are acknowledged by all replicas. What nobody waits for (audit, progress and results of
backtests) has a producer of its own, which keeps it while Kafka is away.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from schemas.envelope import Header
from schemas.topics import CATALOGUE, MARKET_EVENTS, SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS
from streams.kafka.connection import Connection
from streams.kafka.ends import Ends
from streams.kafka.history import History
from streams.kafka.partition_window import PartitionWindow
from streams.kafka.publisher import Publisher, addressed
from streams.kafka.ranges import Place, PlaceReader
from streams.kafka.reading_rule import READABLE, Rule
from streams.kafka.side import SideWriter
from streams.kafka.topic_ids import topic_ids
from streams.log import Listener, Page, Published, page_of
from streams.merging import in_order_of_time, time_of

_STEP_RECORDS = 4000
_AHEAD_NS = 86_400_000_000_000
"""An event may be so much later than the time at which it was written, as for the stages."""
_OWN = frozenset({SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS})
"""What stages write for themselves: followed, but not read from the beginning."""


class KafkaLog:
    """A ``Log`` over a cluster; ``load`` what is there, then ``run`` to follow it.

    ``wall_ns`` is the wall clock (int64 ns UTC). The time of the log is that of the market data as
    far as it has come, for commands stand among them. Each topic keeps ``history_max`` records in
    memory. ``rule`` decides which records are told at all.
    """

    def __init__(
        self,
        connection: Connection,
        run_id: str,
        wall_ns: Callable[[], int],
        *,
        history_max: int = 100_000,
        rule: Rule = READABLE,
    ) -> None:
        self.run_id = run_id
        self.epoch = ""
        self._connection = connection
        self._wall_ns = wall_ns
        self._clock_ns = 0
        self._history_max = history_max
        self._rule = rule
        self._epochs: dict[str, str] = {}
        self._counts: dict[str, int] = {}
        self._windows: dict[Place, PartitionWindow] = {}
        self._listeners: list[Listener] = []
        self._stack = AsyncExitStack()
        self._publisher = Publisher(connection)
        self._side_publisher = Publisher(connection, deadline_s=None)
        self._reader = PlaceReader(connection)
        self.side = SideWriter(self._write_side)
        self.ends = Ends(lambda: self._reader.ends(self._windows))
        self._history = History(connection)

    async def __aenter__(self) -> Self:
        """Connect; raises StorageError if the cluster does not answer."""
        for part in (self._publisher, self._side_publisher, self._reader, self._history):
            await self._stack.enter_async_context(part)
        names = [topic.name for topic in CATALOGUE]
        self._counts = await self._publisher.counts(names)
        # What a client has not looked up by then it cannot write to while Kafka is away.
        await self._side_publisher.counts(names)
        self._epochs = await topic_ids(self._connection, names)
        said = "|".join(f"{name}={self._epochs[name]}" for name in sorted(names))
        self.epoch = hashlib.blake2b(said.encode(), digest_size=16).hexdigest()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        await self._stack.aclose()

    async def load(self, tell: Listener) -> None:
        """Read what the topics hold by now and tell all of it; of market data the newest part.

        ``tell`` is given the records of all partitions merged by their time. Raises StorageError
        when Kafka cannot be read.
        """
        places = [(topic.name, p) for topic in CATALOGUE for p in range(self._counts[topic.name])]
        beginnings, ends = await self._reader.beginnings(places), await self._reader.ends(places)
        for place in places:
            end, kept = ends[place], max(1, self._history_max // self._counts[place[0]])
            at = end if place[0] in _OWN else beginnings[place]
            if place[0] == MARKET_EVENTS:
                at = max(at, end - kept)
            self._windows[place] = PartitionWindow(
                *place, at, kept, partitions=self._counts[place[0]], rule=self._rule
            )
        parts = [self._steps(self._windows[place], ends[place]) for place in places]
        async for group in in_order_of_time(parts):
            tell(group)

    async def _steps(self, window: PartitionWindow, end: int) -> AsyncIterator[list[Published]]:
        """Yield what is new in a partition up to ``end``, a step at a time."""
        place = (window.topic, window.partition)
        while window.next_offset < end:
            # Steps of other partitions come between.
            await self._reader.put({place: window.next_offset})
            stop = min(window.next_offset + _STEP_RECORDS, end)
            yield self._taken(window, await self._reader.read(place, stop), stop)

    async def run(self) -> None:
        """Follow the topics until cancelled; raises StorageError when Kafka cannot be read.

        A cluster that is away is waited for.
        """
        await self._reader.put({place: w.next_offset for place, w in self._windows.items()})
        writing = asyncio.create_task(self.side.run())
        asking = asyncio.create_task(self.ends.run())
        try:
            while not writing.done():
                for place, arrived in (await self._reader.follow()).items():
                    window = self._windows[place]
                    if fresh := self._taken(window, arrived, arrived[-1].offset + 1):
                        for listener in list(self._listeners):
                            listener(fresh)
            writing.result()
        finally:
            asking.cancel()
            await self.side.end()
            writing.cancel()

    def _taken(
        self, window: PartitionWindow, arrived: Sequence[Any], next_offset: int
    ) -> list[Published]:
        fresh = window.take(arrived, next_offset)
        if window.topic == MARKET_EVENTS:
            # What no stage takes may not move the clock by which commands are stamped.
            latest_ns = max((item.timestamp for item in arrived), default=0) * 10**6 + _AHEAD_NS
            for item in fresh:
                ts_ns = time_of(item)
                if self._clock_ns < ts_ns <= latest_ns:
                    self._clock_ns = ts_ns
        return fresh

    async def _write_side(self, topic: str, record: Header) -> None:
        await self._side_publisher.publish(addressed(topic, record, self._counts))

    # ---- the log port

    async def publish(self, topic: str, record: Header) -> None:
        """Write a record; returns when all replicas have it.

        Raises StorageError if Kafka refuses it, UnconfirmedError if it does not answer in time.
        """
        await self._publisher.publish(addressed(topic, record, self._counts))

    def publish_side(self, topic: str, record: Header) -> None:
        """Write a record in a moment, or once Kafka is back; ``SideWriter`` says what is lost."""
        self.side.put(topic, record)

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with what comes from now on; returns the way to stop it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def epoch_of(self, topic: str) -> str:
        """Return the id that the cluster gave the topic."""
        return self._epochs[topic]

    def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has."""
        return self._counts[topic]

    def read(self, topic: str, offset: int, limit: int, partition: int = 0) -> list[Published]:
        """Return up to ``limit`` records from ``offset`` on, of those in memory."""
        return self._windows[topic, partition].read(offset, limit)

    def at_hand(self, topic: str, partition: int = 0) -> int:
        """Return the offset from which on everything is in memory."""
        return self._windows[topic, partition].first_offset

    async def fetch(self, topic: str, partition: int, offset: int, limit: int) -> Page:
        """Return records from ``offset`` on, from memory, else from Kafka.

        What Kafka gives comes in blocks of its own size. Raises StorageError if it does not answer.
        """
        window = self._windows[topic, partition]
        if offset >= window.first_offset:
            return page_of(self, topic, partition, offset, limit)
        return await self._history.page(window, offset)

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset behind the last record that was taken in."""
        return self._windows[topic, partition].next_offset

    def written_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset behind the last record on the cluster, as it said a moment ago."""
        return max(self.end_offset(topic, partition), self.ends.of((topic, partition)))

    def now_ns(self) -> int:
        """Return the time of the market data, or the wall clock while there are none."""
        return self._clock_ns or self._wall_ns()

    @property
    def counts(self) -> Mapping[str, int]:
        """How many partitions each topic has."""
        return self._counts

    @property
    def refused(self) -> int:
        """How many records are passed over that the stages make dead letters of."""
        return sum(window.refused for window in self._windows.values())
