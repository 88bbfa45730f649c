"""Records of one topic as far as memory keeps them, and from where on it knows all of them."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Callable, Iterator

from streams.cursors import END_PLACE, RecordPlace, place_of
from streams.log import Published

_DISORDER_NS = 60_000_000_000
"""How far times within one partition may run backwards."""


class Begin:
    """From where on the records of a topic are known: ``floor``, None if from its beginning.

    At or below it there may be more records than memory has. ``is_gapless`` is False for a topic
    whose older records are replaced by newer ones of their key: a gap raises the floor too.
    """

    def __init__(self, *, is_gapless: bool = True) -> None:
        self.floor: RecordPlace | None = None
        self._is_gapless = is_gapless
        self._next: dict[int, int] = {}

    def see(self, item: Published) -> None:
        """Take in the next record of a partition, whatever its kind."""
        expected = self._next.get(item.partition)
        self._next[item.partition] = item.offset + 1
        has_gap = item.offset > (expected or 0)
        if has_gap and (expected is None or not self._is_gapless):
            place = place_of(item)
            # What came before it may still have a later time.
            self.rise(place._replace(ts_ns=place.ts_ns + _DISORDER_NS))

    def rise(self, place: RecordPlace) -> None:
        """Know that up to ``place`` something is missing."""
        if self.floor is None or place > self.floor:
            self.floor = place


class Kept:
    """The newest records of a topic in the order of their places, the oldest leave in time."""

    def __init__(self, most: int, *, is_gapless: bool = True) -> None:
        self._most = most
        self.begin = Begin(is_gapless=is_gapless)
        self._places: list[RecordPlace] = []
        self._items: list[Published] = []
        self._is_wanted: Callable[[Published], bool] | None = None

    @property
    def floor(self) -> RecordPlace | None:
        """The place up to which records may be missing; None if none is."""
        return self.begin.floor

    def add(self, item: Published) -> None:
        """Take in a record; one that is there already changes nothing."""
        self.begin.see(item)
        place, places = place_of(item), self._places
        if not places or place > places[-1]:
            places.append(place)
            self._items.append(item)
        else:
            index = bisect_left(places, place)
            if places[index] == place:
                return
            places.insert(index, place)
            self._items.insert(index, item)
        # Some at once: the front of a list is dear to remove.
        if len(places) > self._most + self._most // 8:
            extra = len(places) - self._most
            self.begin.rise(places[extra - 1])
            del places[:extra], self._items[:extra]

    def of(self, is_wanted: Callable[[Published], bool]) -> Kept:
        """Return those that are wanted, at the same places and with the same floor.

        It follows this one and copies nothing: what is not wanted is passed over when it is read.
        """
        own = copy.copy(self)
        own._is_wanted = is_wanted
        return own

    def forget(self) -> None:
        """Know that records may be missing anywhere."""
        self.begin.rise(END_PLACE)

    def newest_first(self, before: RecordPlace | None = None) -> Iterator[Published]:
        """Yield the records below ``before``, or all, the newest first."""
        return (item for _, item in self.placed(before))

    def placed(self, before: RecordPlace | None = None) -> Iterator[tuple[RecordPlace, Published]]:
        """Yield the same with their places."""
        end = len(self._places) if before is None else bisect_left(self._places, before)
        pairs = ((self._places[n], self._items[n]) for n in range(end - 1, -1, -1))
        is_wanted = self._is_wanted
        return pairs if is_wanted is None else (pair for pair in pairs if is_wanted(pair[1]))

    def __len__(self) -> int:
        return len(self._items) if self._is_wanted is None else sum(1 for _ in self.placed())
