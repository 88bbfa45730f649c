"""How far a stage is, for its meters and its health: progress of records, not presence."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from typing import Any

from agents.runners.kafka.meters import Meters
from agents.runners.kafka.parts.part import Part
from schemas.errors import StorageError
from streams.kafka.ranges import Place


class Progress:
    """What a stage has done lately; times of day are handed in (int64 ns UTC)."""

    def __init__(self, stage: str, meters: Meters) -> None:
        self._stage = stage
        self._meters = meters
        self._made_at_s = 0.0
        self._written_ms: dict[Place, int] = {}
        self._shown: set[Place] = set()

    def made(self) -> None:
        """Note that something went on, or that there is nothing to do."""
        self._made_at_s = asyncio.get_running_loop().time()

    @property
    def standstill_s(self) -> float:
        """For how long nothing has gone on although there is something to do (s)."""
        return max(asyncio.get_running_loop().time() - self._made_at_s, 0.0)

    def see(
        self, part: Part, place: Place, arrived: Sequence[Any], began_s: float, now_ns: int
    ) -> None:
        """Tell the meters of a finished batch."""
        self.made()
        self._written_ms[place] = arrived[-1].timestamp
        meters, stage = self._meters, self._stage
        meters.consumed.labels(stage, *place).inc(len(arrived))
        meters.batch_records.labels(stage).observe(len(arrived))
        meters.handler_seconds.labels(stage).observe(self._made_at_s - began_s)
        if part.clock_ns > 0:
            # A wall clock that was set back must not let the sum fall.
            meters.event_seconds.labels(stage).observe(max(now_ns - part.clock_ns, 0) / 1e9)

    def show_lag(self, place: Place, waiting: int, now_ns: int) -> None:
        """Tell the meters how many records of a partition are waiting, and since when."""
        labels = (self._stage, *place)
        self._shown.add(place)
        self._meters.lag_messages.labels(*labels).set(waiting)
        written_ms = self._written_ms.get(place)
        lag_s = 0.0
        if waiting and written_ms is not None:
            lag_s = max(now_ns / 1e9 - written_ms / 1e3, 0.0)
        self._meters.lag_seconds.labels(*labels).set(lag_s)

    def keep_lag(self, places: Set[Place]) -> None:
        """Show no lag of other places than these: other workers have them now."""
        for place in self._shown - places:
            self.show_lag(place, 0, 0)
        self._shown &= places


def stalled(stage: str, timeout_s: float, waiting: int) -> StorageError:
    """Return what ends a stage that has got nowhere for so long."""
    what = f"{waiting:,} records waiting" if waiting else "no answer from Kafka"
    return StorageError(
        f"the {stage} stage has got nowhere for {timeout_s:g} s, with {what}",
        field="kafka.stall_timeout_s",
        value=timeout_s,
        remedy="look at Kafka and at this machine; a restart goes on where it was",
    )


def stuck(stage: str, timeout_s: float) -> StorageError:
    """Return what ends a stage that does not stop when it should."""
    return StorageError(
        f"the {stage} stage does not stop within {timeout_s:g} s",
        field="stage",
        value=stage,
        remedy="look at Kafka and at this machine; a restart goes on where it was",
    )
