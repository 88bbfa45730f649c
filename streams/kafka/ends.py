"""Asks a cluster again and again where its partitions end: is it there, how far behind are we.

A reader cannot tell: it gets nothing from a cluster that has nothing new, and nothing from one that
is away.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping

from schemas.errors import StorageError
from streams.kafka.ranges import Place

_PAUSE_S = 2.0
_DEADLINE_S = 5.0


class Ends:
    """The last answer of ``ask``, which raises StorageError; ``silent_s`` is its age in seconds.

    ``now_s`` is a clock that only goes forward. ``trouble`` is why the last question was not
    answered, empty if it was.
    """

    def __init__(
        self,
        ask: Callable[[], Awaitable[Mapping[Place, int]]],
        *,
        pause_s: float = _PAUSE_S,
        deadline_s: float = _DEADLINE_S,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble = ""
        self._ask = ask
        self._pause_s = pause_s
        self._deadline_s = deadline_s
        self._now_s = now_s
        self._answered_s: float | None = None
        self._offsets: Mapping[Place, int] = {}

    @property
    def silent_s(self) -> float:
        """For how long (s) the cluster has not answered; 0 until it is asked."""
        return 0.0 if self._answered_s is None else self._now_s() - self._answered_s

    def of(self, place: Place) -> int:
        """Return the offset that the next record of a partition had at the last answer, else 0."""
        return self._offsets.get(place, 0)

    async def run(self) -> None:
        """Ask until cancelled."""
        self._answered_s = self._now_s()
        while True:
            try:
                async with asyncio.timeout(self._deadline_s):
                    self._offsets = await self._ask()
            except (StorageError, TimeoutError) as error:
                self.trouble = str(error) or f"no answer within {self._deadline_s:g} s"
            else:
                self.trouble = ""
                self._answered_s = self._now_s()
            await asyncio.sleep(self._pause_s)
