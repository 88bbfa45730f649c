"""The newest records of one partition in memory, each producer's record once.

A producer numbers what it writes to a partition, and after a failure it writes some of it again:
the same numbers at later offsets. Those are passed over, and so is what the rule refuses (see
``streams.kafka.reading_rule``). Their offsets are remembered (8 bytes each), so that whoever reads
an older stretch passes over the same ones.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from itertools import islice
from typing import Any

from schemas.envelope import Header
from streams.kafka.reading_rule import READABLE, Rule
from streams.log import Published


class PartitionWindow:
    """What was read of a partition from ``start`` on; it keeps the newest ``kept`` records.

    ``first_offset`` is the offset from which on everything is here, ``next_offset`` the one behind
    all that was taken. The topic has ``partitions`` partitions; ``rule`` decides what is taken, and
    ``refused`` counts what was not.
    """

    def __init__(
        self,
        topic: str,
        partition: int,
        start: int,
        kept: int,
        *,
        partitions: int = 1,
        rule: Rule = READABLE,
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.first_offset = start
        self.next_offset = start
        self.refused = 0
        self._start = start
        self._kept = kept
        self._partitions = partitions
        self._rule = rule
        self._records: deque[Published] = deque()
        self._marks: dict[str, int] = {}
        self._passed_over: array[int] = array("q")

    def take(self, arrived: Sequence[Any], next_offset: int) -> list[Published]:
        """Take records as Kafka gives them, and return those that are new.

        ``next_offset`` is where the partition goes on, behind them and what is missing behind them.
        """
        # A lost connection can make the client give again what it has given.
        items = [i for i in arrived if i.offset >= self.next_offset and i.value is not None]
        found = self._rule.take(self.topic, self.partition, items, self._partitions)
        self.refused += len(found.refused)
        passed_over = [offset for offset, _ in found.refused]
        fresh: list[Published] = []
        for offset, record in found.records:
            if self._is_new(record):
                fresh.append(Published(self.topic, self.partition, offset, record))
            else:
                passed_over.append(offset)
        self._passed_over.extend(sorted(passed_over))
        self.next_offset = max(self.next_offset, next_offset)
        self._records.extend(fresh)
        while len(self._records) > self._kept:
            self.first_offset = self._records.popleft().offset + 1
        return fresh

    def taken(self, arrived: Sequence[Any]) -> list[Published]:
        """Return what is good of records that are read again, or stand in front of the window."""
        items = [item for item in arrived if item.value is not None]
        again = [i for i in items if i.offset >= self._start and not self._is_passed(i.offset)]
        past = [item for item in items if item.offset < self._start]
        place = (self.topic, self.partition)
        records = self._rule.take(*place, past, self._partitions, is_past=True).records
        # What was good once is good: more is known by now, which may not change the answer.
        records += READABLE.take(*place, again, self._partitions).records
        return [Published(*place, offset, record) for offset, record in records]

    def _is_new(self, record: Header) -> bool:
        if record.producer:
            if record.producer_seq <= self._marks.get(record.producer, 0):
                return False
            self._marks[record.producer] = record.producer_seq
        return True

    def _is_passed(self, offset: int) -> bool:
        """Return whether the record at ``offset`` was refused, or one that was there before."""
        at = bisect_left(self._passed_over, offset)
        return at < len(self._passed_over) and self._passed_over[at] == offset

    def read(self, offset: int, limit: int) -> list[Published]:
        """Return up to ``limit`` records from ``offset`` on."""
        start = bisect_left(self._records, offset, key=lambda item: item.offset)
        return list(islice(self._records, start, start + max(0, limit)))
