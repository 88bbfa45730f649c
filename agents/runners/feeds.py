"""Feeds of the one-process runner: market events as they become due."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from schemas.columns import MarketBatch
from schemas.errors import ConfigError
from schemas.identifiers import source_id
from schemas.market_data import CLOSING_SOURCE, Watermark
from schemas.topics import MARKET_EVENTS

NS = 1_000_000_000
CLOSING_NS = 60 * NS
"""So long behind its last event a recording's time goes on: no bar of up to a minute stays open."""


def check_speed(speed: float) -> None:
    """Raise ConfigError for a multiple of real time that nothing can be played at."""
    if not (math.isfinite(speed) and speed >= 0):
        raise ConfigError(
            "history cannot be played at this speed",
            field="speed",
            value=speed,
            remedy="give a multiple of real time, or 0 for as fast as it goes",
        )


def with_closing(batches: Iterable[MarketBatch]) -> Iterator[MarketBatch]:
    """Yield ``batches`` and, behind their last event, the watermark that closes a recording.

    Without it nothing would tell that time went on: the last bars stayed open, and orders of the
    day alive. The mark behind the last price comes with the next one, or with the run's end.
    """
    last: MarketBatch | None = None
    for batch in batches:
        if len(batch):
            last = batch
        yield batch
    if last is None:
        return
    events = last.first_offset + len(last)
    mark = Watermark(
        event_id=source_id(CLOSING_SOURCE, "", events),
        source=CLOSING_SOURCE,
        source_seq=events,
        ts_event_ns=int(last.clock[-1]) + CLOSING_NS - 1,
    )
    yield MarketBatch(
        last.universe,
        np.array([mark.ts_event_ns], np.int64),
        records=[(0, MARKET_EVENTS, mark)],
        first_offset=events,
    )


class RecordingFeed:
    """Plays history at a multiple of real time; ``speed`` 0 plays as fast as it is taken.

    The feed's time is the recording's: its first event plus the time played. It stands while the
    recording does not play, so a run that was killed goes on where it stopped.
    """

    def __init__(
        self,
        batches: Iterator[MarketBatch],
        *,
        speed: float,
        first_ns: int,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batches = batches
        self._speed = speed
        self._monotonic_s = monotonic_s
        self._started_at_s: float | None = None
        self._origin_ns = first_ns
        self._batch: MarketBatch | None = None
        self._at = 0
        self._is_done = False
        self._last_ns = first_ns
        self.played_events = 0

    @property
    def is_done(self) -> bool:
        """Whether all of the recording was played."""
        return self._is_done

    def now_ns(self) -> int:
        """Return the place in the recording (int64 ns UTC), never past an event not yet taken."""
        if not self._speed or self._batch is None or self._at >= len(self._batch):
            return self._last_ns
        return max(self._last_ns, min(self._due_ns(), int(self._batch.clock[self._at])))

    def _due_ns(self) -> int:
        """Return how far the recording would be played on a machine that keeps up."""
        if self._started_at_s is None:
            return self._last_ns
        played = (self._monotonic_s() - self._started_at_s) * self._speed
        return self._origin_ns + int(played * NS)

    def skip(self, events: int) -> None:
        """Pass over the first ``events`` events."""
        left = events
        while left and self._load():
            assert self._batch is not None
            step = min(left, len(self._batch) - self._at)
            self._last_ns = self._origin_ns = int(self._batch.clock[self._at + step - 1])
            self._at += step
            self.played_events += step
            left -= step

    def poll(self) -> MarketBatch | None:
        """Return the events up to the feed's time."""
        if self._started_at_s is None:
            self._started_at_s = self._monotonic_s()
        if not self._load():
            return None
        assert self._batch is not None
        stop = len(self._batch)
        if self._speed:
            stop = int(self._batch.clock.searchsorted(self._due_ns(), side="right"))
        if stop <= self._at:
            return None
        batch = self._batch.slice(self._at, stop)
        self.played_events += stop - self._at
        self._at = stop
        self._last_ns = int(batch.clock[-1])
        return batch

    def _load(self) -> bool:
        """Make sure that there is a batch with events left; return False at the end."""
        while self._batch is None or self._at >= len(self._batch):
            following = next(self._batches, None)
            if following is None:
                self._is_done = True
                return False
            self._batch, self._at = following, 0
        return True
