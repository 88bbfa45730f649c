"""A log in memory: the port of ``streams.log`` without a disk, for tests of what reads topics.

Each topic keeps its newest records only, so memory is bounded; offsets go on counting, as on a
topic with retention.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice

from schemas.envelope import Header
from schemas.errors import RecordError
from schemas.topics import TOPIC_BY_NAME
from streams.log import Listener, Published


class MemoryLog:
    """An in-memory ``Log`` with one partition a topic.

    ``now_ns`` gives the time (int64 ns UTC); ``history_max`` bounds the records that a topic keeps.
    """

    def __init__(
        self,
        run_id: str,
        now_ns: Callable[[], int],
        *,
        epoch: str = "",
        history_max: int = 10_000,
    ) -> None:
        self.run_id = run_id
        self.epoch = epoch or run_id
        self._now_ns = now_ns
        self._history_max = history_max
        self._history: dict[str, deque[Published]] = {}
        self._next_offsets: dict[str, int] = {}
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
        offset = self._next_offsets.get(topic, 0)
        self._next_offsets[topic] = offset + 1
        published = Published(topic, 0, offset, record)
        self._history.setdefault(topic, deque(maxlen=self._history_max)).append(published)
        return published

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every group of records from now on; returns the way to stop it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def read(self, topic: str, offset: int, limit: int) -> list[Published]:
        """Return up to ``limit`` records of ``topic`` from ``offset`` on, of those still kept."""
        history = self._history.get(topic)
        if not history:
            return []
        start = max(0, offset - history[0].offset)
        return list(islice(history, start, start + max(0, limit)))

    def end_offset(self, topic: str) -> int:
        """Return the offset that the next record of ``topic`` will have."""
        return self._next_offsets.get(topic, 0)

    def now_ns(self) -> int:
        """Return the time that the log was given."""
        return self._now_ns()
