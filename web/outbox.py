"""What waits for one client that reads slower than frames come, within bounds.

State topics keep the newest frame of each key. Conflated topics do so once the client falls behind,
and every frame that is left out is announced in a gap. Frames of complete topics are never left
out: if there is no room, ``put`` says so. Frames are shared by all clients, and what an outbox adds
to one is a reference, so a thousand slow clients cost little more than one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from schemas.topics import TOPIC_BY_NAME
from web.frames import Frame, Text, control
from web.keys import Key
from web.server_frames import Gap

_HOLES_MAX = 1024


class Outbox:
    """A bounded queue of frames for one client; sizes are bytes on the wire."""

    def __init__(self, max_frames: int, max_bytes: int, conflate_after: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._conflate_after = conflate_after
        self._count = 0
        self._bytes = 0
        # Frames by number; one that was left out leaves a hole.
        self._first = 0
        self._items: deque[Text | None] = deque()
        self._newest_of_key: dict[Key, int] = {}
        self._no_droppable_before = 0
        self._gaps: dict[tuple[str, int], tuple[int, int]] = {}
        self._kept_whole: frozenset[str] = frozenset()

    def keep_whole(self, topics: frozenset[str]) -> None:
        """Leave out nothing of these topics, whatever their class."""
        self._kept_whole = topics
        self._no_droppable_before = self._first

    def __len__(self) -> int:
        return self._count

    @property
    def is_half_full(self) -> bool:
        """Whether a reader of history should wait before it adds more."""
        return 2 * self._count >= self._max_frames or 2 * self._bytes >= self._max_bytes

    def put(self, item: Text) -> bool:
        """Add a frame; return False if too many wait and nothing may be left out."""
        number = self._first + len(self._items)
        self._items.append(item)
        self._count += 1
        self._bytes += len(item.wire)
        if isinstance(item, Frame) and self._may_drop(item):
            self._replace_older(item)
            self._newest_of_key[item.key] = number
        while self._count > self._max_frames or self._bytes > self._max_bytes:
            oldest = self._oldest_droppable()
            if oldest is None:
                return False
            self._drop(oldest)
        if len(self._items) > 2 * self._count + _HOLES_MAX:
            self._close_holes()
        return True

    def _may_drop(self, frame: Frame) -> bool:
        return bool(frame.key) and frame.topic not in self._kept_whole

    def _replace_older(self, frame: Frame) -> None:
        older = self._newest_of_key.get(frame.key)
        if older is None:
            return
        if TOPIC_BY_NAME[frame.topic].websocket == "state":
            self._remove(older)
        elif self._count > self._conflate_after:
            self._drop(older)

    def _oldest_droppable(self) -> int | None:
        number = max(self._no_droppable_before, self._first)
        while number < self._first + len(self._items):
            item = self._items[number - self._first]
            if isinstance(item, Frame) and self._may_drop(item):
                self._no_droppable_before = number
                return number
            number += 1
        self._no_droppable_before = number
        return None

    def _drop(self, number: int) -> None:
        """Leave out a frame and remember to say so."""
        frame = self._remove(number)
        if isinstance(frame, Frame):
            place = (frame.topic, frame.partition)
            first, last = self._gaps.get(place, (frame.offset, frame.offset))
            self._gaps[place] = (min(first, frame.offset), max(last, frame.offset))

    def _remove(self, number: int) -> Text | None:
        item = self._items[number - self._first]
        self._items[number - self._first] = None
        self._forget(item, number)
        return item

    def _forget(self, item: Text | None, number: int) -> None:
        if item is None:
            return
        self._count -= 1
        self._bytes -= len(item.wire)
        if isinstance(item, Frame) and item.key and self._newest_of_key.get(item.key) == number:
            del self._newest_of_key[item.key]

    def _close_holes(self) -> None:
        moved: dict[int, int] = {}
        items: deque[Text | None] = deque()
        for number, item in enumerate(self._items, self._first):
            if item is not None:
                moved[number] = self._first + len(items)
                items.append(item)
        self._newest_of_key = {key: moved[at] for key, at in self._newest_of_key.items()}
        self._items = items
        self._no_droppable_before = self._first

    def take(self, max_frames: int, max_bytes: int) -> list[Text]:
        """Remove and return the oldest frames, gaps before them; at least one if one waits."""
        taken: list[Text] = list(self._take_gaps())
        size = 0
        while self._items and len(taken) < max_frames and size < max_bytes:
            item = self._items.popleft()
            self._forget(item, self._first)
            self._first += 1
            if item is not None:
                taken.append(item)
                size += len(item.wire)
        return taken

    def _take_gaps(self) -> Iterator[Text]:
        gaps, self._gaps = self._gaps, {}
        for (topic, partition), (first, last) in gaps.items():
            yield control(
                Gap(topic=topic, partition=partition, first=first, last=last, reason="slow_client")
            )
