"""What the venue keeps in mind: working orders, and what time will bring about.

Orders are in integers of their instrument's grids. What is to happen at an instant (a cancel or
replace on its way, the arrival of a post-only order, the end of a DAY order) waits in ``Agenda``.
"""

from __future__ import annotations

import heapq
from decimal import Decimal
from enum import StrEnum

import msgspec

from schemas.commands import VenueCancel, VenueReplace
from schemas.enums import OrderType, TimeInForce
from schemas.values import ZERO


class Resting(msgspec.Struct):
    """One working order.

    ``sign`` 1 buys, -1 sells; ``limit`` and ``stop`` in ticks, ``quantity`` and ``filled`` in units.
    ``priority`` counts up with time: the lower goes first at one price. It sees events at positions
    after ``after`` of the loaded batch whose clock is at or past ``eligible_ns``. ``has_rested``: it
    stands in the book as a limit order, so it makes liquidity.

    ``at`` is the next position at which an event meets it; ``row`` and ``print_row`` are the rows of
    the market's tapes up to which that was looked for (-1: not begun). These, ``after`` and
    ``index`` (the universe's) belong to this process and the loaded batch.
    """

    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    order_type: OrderType
    time_in_force: TimeInForce
    sign: int
    quantity: int
    limit: int | None
    stop: int | None
    is_post_only: bool
    is_reduce_only: bool
    priority: int
    eligible_ns: int
    filled: int = 0
    fees: Decimal = ZERO
    is_triggered: bool = False
    has_rested: bool = False
    index: int = -1
    after: int = -1
    at: int = -1
    row: int = -1
    print_row: int = -1

    def is_stop(self) -> bool:
        """Return whether the order still waits for its trigger."""
        return self.stop is not None and not self.is_triggered

    def is_immediate(self) -> bool:
        """Return whether the first event decides the order's fate."""
        return self.time_in_force is TimeInForce.IOC or self.time_in_force is TimeInForce.FOK

    def venue_order_id(self) -> str:
        """Return the venue's name of the order."""
        return f"paper-{self.client_order_id}"

    def position_key(self) -> str:
        """Return the key of the position that the order's fills change."""
        return position_key(self.account_id, self.strategy_id, self.instrument_id)

    def look_anew(self, after: int) -> None:
        """Forget what was looked for: the order sees the events after position ``after``."""
        self.after = after
        self.at = self.row = self.print_row = -1

    def kept(self) -> Resting:
        """Return the order as a snapshot keeps it."""
        return msgspec.structs.replace(self, index=-1, after=-1, at=-1, row=-1, print_row=-1)


def position_key(account_id: str, strategy_id: str, instrument_id: str) -> str:
    """Return the key of a position; the instrument stands last."""
    return f"{account_id}|{strategy_id}|{instrument_id}"


class Kind(StrEnum):
    """What an instant brings about."""

    ARRIVE = "ARRIVE"
    EXPIRE = "EXPIRE"
    COMMAND = "COMMAND"


class Task(msgspec.Struct):
    """One thing to do at ``due_ns``: it happens at the first position whose clock is at ``seen_ns``.

    ``number`` counts up with time and decides between tasks of one instant. ``command`` is what
    takes effect then.
    """

    number: int
    due_ns: int
    seen_ns: int
    kind: Kind
    client_order_id: str
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
            self._of_order.setdefault(task.client_order_id, []).append(task.number)
        heapq.heappush(self._heap, (task.seen_ns, task.number))

    def forget(self, client_order_id: str) -> None:
        """Drop what only concerns an order that has ended; commands on their way stay."""
        for number in self._of_order.pop(client_order_id, ()):
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
