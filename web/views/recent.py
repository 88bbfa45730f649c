"""The newest records of every topic, as they were published: what a WebSocket snapshot is made of.

Topics with a key keep one record for each key, the others their last few. What is left out for want
of room is said.
"""

from __future__ import annotations

from collections import OrderedDict, deque

from schemas.topics import CATALOGUE, SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS
from streams.log import Published
from web.keys import Key, keyed_topics, record_key

_KEYS_MAX = {"state": 10_000}
"""Most keys by class of topic: a state is to be told whole. What is sent fits into an outbox."""

_OTHER_KEYS_MAX = 2_000
_COMPLETE_MAX = 200
_INTERNAL = frozenset({SYSTEM_SNAPSHOTS, SYSTEM_ORDER_LOG})


class RecentRecords:
    """Newest records by topic; what stages write for themselves is not kept."""

    def __init__(self) -> None:
        keyed = keyed_topics()
        names = [topic.name for topic in CATALOGUE if topic.name not in _INTERNAL]
        self._by_key: dict[str, OrderedDict[Key, Published]] = {
            name: OrderedDict() for name in names if name in keyed
        }
        self._last: dict[str, deque[Published]] = {
            name: deque(maxlen=_COMPLETE_MAX) for name in names if name not in keyed
        }
        self._keys_max = {
            topic.name: _KEYS_MAX.get(topic.websocket, _OTHER_KEYS_MAX) for topic in CATALOGUE
        }
        self._is_cut: set[str] = set()

    def apply(self, published: Published) -> None:
        """Take one record in; of too many keys the one that was silent longest is forgotten."""
        by_key = self._by_key.get(published.topic)
        if by_key is None:
            last = self._last.get(published.topic)
            if last is not None:
                if len(last) == _COMPLETE_MAX:
                    self._is_cut.add(published.topic)
                last.append(published)
            return
        key = record_key(published.topic, published.record)
        # Insertion order is the order of silence, so the key moves to the end.
        by_key.pop(key, None)
        by_key[key] = published
        if len(by_key) > self._keys_max[published.topic]:
            by_key.popitem(last=False)
            self._is_cut.add(published.topic)

    def is_complete(self, topic: str) -> bool:
        """Return whether nothing of ``topic`` was forgotten: no key, or no record without keys."""
        return topic not in self._is_cut

    def of(self, topic: str) -> list[Published]:
        """Return what is kept of ``topic``, in the order of the offsets."""
        if topic in self._by_key:
            return list(self._by_key[topic].values())
        return list(self._last.get(topic, ()))
