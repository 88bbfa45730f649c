"""The wall clock of a live run, held to the clock that counts since the machine was started.

Time of a run never falls, so a wall clock that jumps ahead for a moment would carry it away for
good: orders denied for prices that are hours old, timers that stand. Here a jump of the wall clock
against the steady one counts no time. It is told once, and taken up only when it has stayed for a
while and no market data came that speak against it: then somebody has set the clock right.
"""

from __future__ import annotations

import time
from collections.abc import Callable

_NS = 1_000_000_000
_JUMP_S = 2.0
SETTLE_S = 60.0


def since_boot_ns() -> int:
    """Return ns since the machine was started, times of sleep counted where the system does so."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime_ns(clock)


class SteadyClock:
    """The time of a wall clock without its jumps (int64 ns UTC); it begins where that stands.

    ``wall_ns`` is followed while it moves with ``steady_ns`` within ``jump_s`` from one asking to
    the next. ``on_note`` is called with what the operator should know.
    """

    def __init__(
        self,
        wall_ns: Callable[[], int],
        steady_ns: Callable[[], int] = since_boot_ns,
        *,
        jump_s: float = _JUMP_S,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._wall_ns = wall_ns
        self._steady_ns = steady_ns
        self._jump_ns = round(jump_s * _NS)
        self._settle_ns = round(settle_s * _NS)
        self._offset_ns = wall_ns() - steady_ns()
        self._claimed_ns: int | None = None
        self._claimed_at_ns = 0
        self.on_note: Callable[[str], None] = lambda _: None

    def __call__(self) -> int:
        """Return the time; asking is what notices a jump."""
        steady_ns = self._steady_ns()
        offset_ns = self._wall_ns() - steady_ns
        if abs(offset_ns - self._offset_ns) <= self._jump_ns:
            if self._claimed_ns is not None:
                self.on_note("the wall clock is back where it was before it jumped")
            self._offset_ns, self._claimed_ns = offset_ns, None
        elif self._claimed_ns is None:
            self._claimed_ns, self._claimed_at_ns = offset_ns, steady_ns
            self.on_note(
                f"{self.jump()}; it is followed once it has stayed there for"
                f" {self._settle_ns / _NS:g} s and no data come with times of before"
            )
        elif abs(offset_ns - self._claimed_ns) > self._jump_ns:
            self._claimed_ns, self._claimed_at_ns = offset_ns, steady_ns
        elif steady_ns - self._claimed_at_ns >= self._settle_ns:
            self.on_note(f"{self.jump()} and has stayed there: it is followed from now on")
            self._offset_ns, self._claimed_ns = offset_ns, None
        return steady_ns + self._offset_ns

    def confirm(self) -> None:
        """Say that market data came with the time that is counted here: a jump is to stay out."""
        if self._claimed_ns is not None:
            self._claimed_at_ns = self._steady_ns()

    def jump(self) -> str:
        """Return how far the wall clock has jumped if that is not followed, else an empty text."""
        if self._claimed_ns is None:
            return ""
        ahead_s = (self._claimed_ns - self._offset_ns) / _NS
        return (
            f"the wall clock has jumped {abs(ahead_s):,.0f} s {'ahead' if ahead_s > 0 else 'back'}"
        )
