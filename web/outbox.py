"""What waits for one client, within bounds.

State topics keep the newest frame of each key. Conflated topics do so once the client falls behind,
and every frame that is left out is announced in a gap. Frames of complete topics are never left
out: if there is no room, ``put`` says so.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from schemas.topics import TOPIC_BY_NAME
from web.frames import Frame, control
from web.keys import Key

Item = Frame | str
"""A data frame, or the text of a control frame."""


class Outbox:
    """A bounded queue of frames for one client; sizes count characters."""

    def __init__(self, max_frames: int, max_bytes: int, conflate_after: int) -> None:
        self._max_frames = max_frames
        self._max_bytes = max_bytes
        self._conflate_after = conflate_after
        self._number = 0
        self._bytes = 0
        self._items: dict[int, Item] = {}
        self._newest_of_key: dict[Key, int] = {}
        self._droppable: dict[int, None] = {}
        self._gaps: dict[tuple[str, int], tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def is_half_full(self) -> bool:
        """Whether a reader of history should wait before it adds more."""
        return 2 * len(self._items) >= self._max_frames or 2 * self._bytes >= self._max_bytes

    def put(self, item: Item) -> bool:
        """Add a frame; return False if too many wait and nothing may be left out."""
        self._number += 1
        self._items[self._number] = item
        self._bytes += _size(item)
        if isinstance(item, Frame) and item.key:
            self._replace_older(item)
            self._droppable[self._number] = None
            self._newest_of_key[item.key] = self._number
        while len(self._items) > self._max_frames or self._bytes > self._max_bytes:
            if not self._droppable:
                return False
            self._drop(next(iter(self._droppable)))
        return True

    def _replace_older(self, frame: Frame) -> None:
        older = self._newest_of_key.get(frame.key)
        if older is None:
            return
        is_state = TOPIC_BY_NAME[frame.topic].websocket == "state"
        if is_state:
            self._remove(older)
        elif len(self._items) > self._conflate_after:
            self._drop(older)

    def _drop(self, number: int) -> None:
        """Leave out a frame and remember to say so."""
        frame = self._remove(number)
        if isinstance(frame, Frame):
            place = (frame.topic, frame.partition)
            first, last = self._gaps.get(place, (frame.offset, frame.offset))
            self._gaps[place] = (min(first, frame.offset), max(last, frame.offset))

    def _remove(self, number: int) -> Item:
        item = self._items.pop(number)
        self._bytes -= _size(item)
        if isinstance(item, Frame) and item.key:
            self._droppable.pop(number, None)
            if self._newest_of_key.get(item.key) == number:
                del self._newest_of_key[item.key]
        return item

    def take(self, count: int) -> list[Item]:
        """Remove and return up to ``count`` frames, the oldest first, gaps before them."""
        taken: list[Item] = list(self._take_gaps())
        taken.extend(self._remove(number) for number in list(islice(self._items, count)))
        return taken

    def _take_gaps(self) -> Iterator[str]:
        gaps, self._gaps = self._gaps, {}
        for (topic, partition), (first, last) in gaps.items():
            yield gap_frame(topic, partition, first, last, "slow_client")


def gap_frame(topic: str, partition: int, first: int, last: int, reason: str) -> str:
    """Return the frame that says: of the offsets ``first`` to ``last`` some were left out."""
    return control(
        {
            "op": "gap",
            "topic": topic,
            "partition": partition,
            "from": first,
            "to": last,
            "reason": reason,
        }
    )


def _size(item: Item) -> int:
    return len(item.text if isinstance(item, Frame) else item)
