"""A log in memory: the port of ``streams.log`` without a disk, for tests of what reads topics.

Each partition keeps its newest records only, so memory is bounded; offsets go on counting, as on a
topic with retention.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from itertools import islice

from schemas.envelope import Header
from schemas.errors import RecordError
from schemas.topics import TOPIC_BY_NAME, key_of
from streams.log import Listener, Page, Published, page_of


class MemoryLog:
    """An in-memory ``Log``.

    ``now_ns`` gives the time (int64 ns UTC); ``history_max`` bounds the records that a partition
    keeps; ``counts`` says how many partitions a topic has where it is more than one: the records'
    keys choose among them.
    """

    def __init__(
        self,
        run_id: str,
        now_ns: Callable[[], int],
        *,
        epoch: str = "",
        history_max: int = 10_000,
        counts: Mapping[str, int] | None = None,
    ) -> None:
        self.run_id = run_id
        self.epoch = epoch or run_id
        self._now_ns = now_ns
        self._history_max = history_max
        self._counts = dict(counts or {})
        self._history: dict[tuple[str, int], deque[Published]] = {}
        self._next_offsets: dict[tuple[str, int], int] = {}
        self._listeners: list[Listener] = []
        self._untold: deque[list[Published]] = deque()
        self._is_telling = False

    async def publish(self, topic: str, record: Header) -> None:
        """Append one record; raises RecordError for a topic that the catalogue does not have."""
        self.append([(topic, record)])

    def append(self, records: Iterable[tuple[str, Header]]) -> None:
        """Append a group of (topic, record) and tell the listeners of all of them at once.

        A listener may append as well: what it appends is told after the group that it is being told
        of.
        """
        self._untold.append([self._store(topic, record) for topic, record in records])
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._untold:
                group = self._untold.popleft()
                for listener in list(self._listeners):
                    listener(group)
        finally:
            self._is_telling = False

    def _store(self, topic: str, record: Header) -> Published:
        if topic not in TOPIC_BY_NAME:
            raise RecordError(
                "unknown topic",
                field="topic",
                value=topic,
                remedy="`millrace topics list` shows the catalogue",
            )
        count = self.partitions(topic)
        partition = zlib.crc32(key_of(topic, record).encode()) % count if count > 1 else 0
        place = (topic, partition)
        offset = self._next_offsets.get(place, 0)
        self._next_offsets[place] = offset + 1
        published = Published(topic, partition, offset, record)
        self._history.setdefault(place, deque(maxlen=self._history_max)).append(published)
        return published

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every group of records from now on; returns the way to stop it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def epoch_of(self, topic: str) -> str:
        """Return the log's one epoch."""
        return self.epoch

    def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has."""
        return self._counts.get(topic, 1)

    def read(self, topic: str, offset: int, limit: int, partition: int = 0) -> list[Published]:
        """Return up to ``limit`` records from ``offset`` on, of those still kept."""
        history = self._history.get((topic, partition))
        if not history:
            return []
        start = max(0, offset - history[0].offset)
        return list(islice(history, start, start + max(0, limit)))

    def at_hand(self, topic: str, partition: int = 0) -> int:
        """Return the offset of the first record still kept."""
        history = self._history.get((topic, partition))
        return history[0].offset if history else 0

    async def fetch(self, topic: str, partition: int, offset: int, limit: int) -> Page:
        """Return up to ``limit`` records from ``offset`` on, of those still kept."""
        return page_of(self, topic, partition, offset, limit)

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset that the next record of the partition will have."""
        return self._next_offsets.get((topic, partition), 0)

    def written_offset(self, topic: str, partition: int = 0) -> int:
        """Return the end: all that is written is told."""
        return self.end_offset(topic, partition)

    def now_ns(self) -> int:
        """Return the time that the log was given."""
        return self._now_ns()
