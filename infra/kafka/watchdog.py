"""Ends a worker whose event loop does not turn any more, or does not come to its end.

Everything that tells of a stall runs on the loop itself: the watch over offsets, ``/healthz``, the
heartbeats. A strategy that never returns stops them all, so a thread looks on from beside. It
counts its own looks, not the clock: a process that was stopped or a machine that slept is not taken
for one that hangs.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import threading

from infra.kafka.supervising import FAILED

_LOOK_S = 0.5


def end_within(timeout_s: float, status: int) -> None:
    """End the process with an exit status if it has not ended by itself by then.

    A loop that closes waits for every task to take its cancellation, and clients of Kafka can lose
    one while the broker goes away.
    """

    def end() -> None:
        sys.stderr.write(
            f"what holds connections to Kafka has not ended within {timeout_s:g} s; the process"
            " ends without it\n"
        )
        sys.stderr.flush()
        os._exit(status)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()


class Watchdog:
    """Ends the process when nobody calls ``beat`` for ``timeout_s``.

    It says where the loop hangs, and gives the exit status of what a restart may mend. A call that
    never lets another thread run (native code that holds the interpreter) is not seen.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._beats = 0
        self._is_over = threading.Event()

    def __enter__(self) -> Watchdog:
        """Begin to look."""
        threading.Thread(target=self._look_on, name="watchdog", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Look no more."""
        self._is_over.set()

    def beat(self) -> None:
        """Show that the loop turns."""
        self._beats += 1

    def _look_on(self) -> None:
        seen, looks = -1, 0
        while not self._is_over.wait(_LOOK_S):
            looks = looks + 1 if self._beats == seen else 0
            seen = self._beats
            if looks * _LOOK_S >= self._timeout_s:
                self._end()

    def _end(self) -> None:
        sys.stderr.write(
            f"error: the event loop has not turned for {self._timeout_s:g} s, so the worker ends;"
            " the stack of its main thread says where it hangs, a strategy or another plug-in most"
            " likely\n"
        )
        sys.stderr.flush()
        faulthandler.dump_traceback(sys.stderr)
        os._exit(FAILED)
