"""How a stage gets on: finished batches, lag, and for how long nothing has moved."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from agents.runners.kafka.meters import Meters
from agents.runners.kafka.turns import Job
from schemas.errors import StorageError
from streams.kafka.ranges import Place


class Progress:
    """What one stage tells its meters of its progress; ``now_ns`` is the wall clock (ns UTC).

    ``moved`` is to be called with everything that goes on; ``stall_timeout_s`` is how long a stage
    may stand still while there is something to do.
    """

    def __init__(
        self, stage: str, meters: Meters, now_ns: Callable[[], int], stall_timeout_s: float
    ) -> None:
        self.stall_timeout_s = stall_timeout_s
        self._stage = stage
        self._meters = meters
        self._now_ns = now_ns
        self._moved_at_s = 0.0
        self._written_ms: dict[Place, int] = {}

    @property
    def standstill_s(self) -> float:
        """For how long nothing has gone on although there is something to do (s)."""
        return max(asyncio.get_running_loop().time() - self._moved_at_s, 0.0)

    def moved(self) -> None:
        """Note that something goes on, or that there is nothing to do."""
        self._moved_at_s = asyncio.get_running_loop().time()

    def finished(self, job: Job, began_s: float) -> None:
        """Tell the meters of a finished batch."""
        stage, meters, part = self._stage, self._meters, job.part
        self.moved()
        self._written_ms[job.place] = job.records[-1].timestamp
        meters.consumed.labels(stage, *job.place).inc(len(job.records))
        meters.batch_records.labels(stage).observe(len(job.records))
        meters.handler_seconds.labels(stage).observe(self._moved_at_s - began_s)
        if part.clock_ns > 0:
            meters.event_seconds.labels(stage).observe((self._now_ns() - part.clock_ns) / 1e9)

    def show_lag(self, place: Place, waiting: int) -> None:
        """Tell the meters how many records of a partition are not yet taken."""
        labels = (self._stage, *place)
        self._meters.lag_messages.labels(*labels).set(waiting)
        written_ms = self._written_ms.get(place)
        lag_s = 0.0
        if waiting and written_ms is not None:
            lag_s = max(self._now_ns() / 1e9 - written_ms / 1e3, 0.0)
        self._meters.lag_seconds.labels(*labels).set(lag_s)

    def stall(self, waiting: int) -> StorageError | None:
        """Return the error of a stage that stands still for too long, or None."""
        self._meters.standstill_seconds.labels(self._stage).set(self.standstill_s)
        if self.standstill_s <= self.stall_timeout_s:
            return None
        what = f"{waiting:,} records waiting" if waiting else "no answer from Kafka"
        return StorageError(
            f"the {self._stage} stage has got nowhere for {self.stall_timeout_s:g} s, with {what}",
            field="kafka.stall_timeout_s",
            value=self.stall_timeout_s,
            remedy="look at Kafka and at this machine; a restart goes on where it was",
        )
