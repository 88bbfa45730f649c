"""The newest records of one partition in memory, each producer's record once.

A producer numbers what it writes to a partition, and after a failure it writes some of it again:
the same numbers at later offsets. Those are passed over, and their offsets remembered (8 bytes
each), so that whoever reads an older stretch passes over the same ones.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from schemas.codec import decode
from schemas.envelope import Header
from schemas.errors import RecordError
from streams.log import Published


class PartitionWindow:
    """What was read of a partition from ``start`` on; it keeps the newest ``kept`` records.

    ``first_offset`` is the offset from which on everything is here, ``next_offset`` the one behind
    all that was taken.
    """

    def __init__(self, topic: str, partition: int, start: int, kept: int) -> None:
        self.topic = topic
        self.partition = partition
        self.first_offset = start
        self.next_offset = start
        self.unreadable = 0
        self._kept = kept
        self._records: deque[Published] = deque()
        self._marks: dict[str, int] = {}
        self._repeated: array[int] = array("q")

    def take(self, arrived: Sequence[Any], next_offset: int) -> list[Published]:
        """Take records as Kafka gives them, and return those that are new.

        ``next_offset`` is where the partition goes on, behind them and what is missing behind them.
        """
        fresh: list[Published] = []
        for item in arrived:
            # A lost connection can make the client give again what it has given.
            if item.offset < self.next_offset:
                continue
            record = self.decoded(item.value)
            if record is None:
                self.unreadable += item.value is not None
            elif self._is_new(record):
                fresh.append(Published(self.topic, self.partition, item.offset, record))
            else:
                self._repeated.append(item.offset)
        self.next_offset = max(self.next_offset, next_offset)
        self._records.extend(fresh)
        while len(self._records) > self._kept:
            self.first_offset = self._records.popleft().offset + 1
        return fresh

    def decoded(self, value: bytes | None) -> Header | None:
        """Return a record, or None if there is none or it cannot be read."""
        if value is None:
            return None
        try:
            return decode(self.topic, value)
        except RecordError:
            # The stage that reads the topic makes a dead letter of it.
            return None

    def _is_new(self, record: Header) -> bool:
        if record.producer:
            if record.producer_seq <= self._marks.get(record.producer, 0):
                return False
            self._marks[record.producer] = record.producer_seq
        return True

    def is_repeated(self, offset: int) -> bool:
        """Return whether the record at ``offset`` is one that its producer had written before."""
        at = bisect_left(self._repeated, offset)
        return at < len(self._repeated) and self._repeated[at] == offset

    def read(self, offset: int, limit: int) -> list[Published]:
        """Return up to ``limit`` records from ``offset`` on."""
        start = bisect_left(self._records, offset, key=lambda item: item.offset)
        return list(islice(self._records, start, start + max(0, limit)))
