"""What time will bring about: the venue's tasks, by instant.

A cancel or replace on its way takes effect, a post-only order arrives, a DAY order expires.
"""

from __future__ import annotations

import heapq
from enum import StrEnum

import msgspec

from schemas.commands import VenueCancel, VenueReplace


class Kind(StrEnum):
    """What an instant brings about."""

    ARRIVE = "ARRIVE"
    EXPIRE = "EXPIRE"
    COMMAND = "COMMAND"


class Task(msgspec.Struct):
    """One thing to do at ``due_ns``.

    It happens at the first position whose clock is at or past ``seen_ns``. ``number`` counts up
    with time and decides between tasks of one instant. ``command`` is what takes effect then.
    """

    number: int
    due_ns: int
    seen_ns: int
    kind: Kind
    order_key: str
    command: VenueCancel | VenueReplace | None = None


class Agenda:
    """Tasks by instant."""

    __slots__ = ("_heap", "_of_order", "_tasks")

    def __init__(self, tasks: list[Task]) -> None:
        self._tasks: dict[int, Task] = {}
        self._of_order: dict[str, list[int]] = {}
        self._heap: list[tuple[int, int]] = []
        for task in tasks:
            self.add(task)

    def add(self, task: Task) -> None:
        """Take a task on."""
        self._tasks[task.number] = task
        if task.command is None:
            self._of_order.setdefault(task.order_key, []).append(task.number)
        heapq.heappush(self._heap, (task.seen_ns, task.number))

    def forget(self, order_key: str) -> None:
        """Drop what only concerns an order that has ended; commands on their way stay."""
        numbers = self._of_order.pop(order_key, None)
        if numbers is None:
            return
        for number in numbers:
            self._tasks.pop(number, None)
        if len(self._heap) > 2 * len(self._tasks) + 64:
            self._heap = [(task.seen_ns, task.number) for task in self._tasks.values()]
            heapq.heapify(self._heap)

    def next_ns(self) -> int | None:
        """Return the clock at which the next task is due; None if there is none."""
        while self._heap and self._heap[0][1] not in self._tasks:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def pop(self) -> Task:
        """Take out the next task; ``next_ns`` has said that there is one."""
        return self._tasks.pop(heapq.heappop(self._heap)[1])

    def tasks(self) -> list[Task]:
        """Return all tasks in the order in which they were taken on."""
        return [self._tasks[number] for number in sorted(self._tasks)]
