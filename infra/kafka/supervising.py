"""``millrace worker --supervise``: a process that starts the worker again when it ends by failure.

What a restart cannot mend (settings, topics, another configuration) ends the supervisor too, with
the same exit status. Between restarts it waits, longer each time a worker did not live long.

A supervisor that is killed cannot stop its worker. So the worker holds one end of a pipe, and ends
in good order when there is nobody at the other. A worker that does not end when it is told to is
killed: a restart goes on from its last snapshot.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from rich.console import Console

FAILED = 3
"""Exit status of a worker that a restart may mend."""

_MILLRACE = (sys.executable, "-m", "infra")
_FIRST_WAIT_S = 0.5
_LAST_WAIT_S = 30.0
_STEADY_S = 60.0
_STOP_TIMEOUT_S = 60.0
_LOOK_S = 0.2


class _Workers:
    """One worker after another, until they are told to end."""

    def __init__(self, command: Sequence[str]) -> None:
        self.told = threading.Event()
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    def stop(self, *_: object) -> None:
        """End the worker that runs, and start none any more."""
        self.told.set()
        if self._process is not None:
            self._process.terminate()

    def run(self) -> int:
        """Start a worker and return its exit status; kill it if it does not end when told to."""
        # A group of its own: Ctrl-C reaches the supervisor, which stops the worker once.
        with subprocess.Popen(  # noqa: S603 - our own arguments
            self._command, stdin=subprocess.PIPE, start_new_session=True
        ) as self._process:
            if self.told.is_set():
                self._process.terminate()  # the signal came while it was started
            return self._ended(self._process)

    def _ended(self, process: subprocess.Popen[bytes]) -> int:
        told_s: float | None = None
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(_LOOK_S)
            if self.told.is_set():
                told_s = told_s or time.monotonic()
                if time.monotonic() - told_s > _STOP_TIMEOUT_S:
                    process.kill()


def supervise(
    arguments: Sequence[str], console: Console, program: Sequence[str] = _MILLRACE
) -> int:
    """Run ``millrace`` with these arguments until it ends well; return its exit status."""
    workers = _Workers([*program, *arguments])
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, workers.stop)
    wait_s = _FIRST_WAIT_S
    while not workers.told.is_set():
        began_s = time.monotonic()
        status = workers.run()
        if workers.told.is_set() and status == -signal.SIGKILL:
            console.print(f"the worker did not end within {_STOP_TIMEOUT_S:g} s and was killed")
            return FAILED
        if workers.told.is_set() or (status >= 0 and status != FAILED):
            return max(status, 0)
        if time.monotonic() - began_s > _STEADY_S:
            wait_s = _FIRST_WAIT_S
        how = f"exit status {status}" if status > 0 else signal.Signals(-status).name
        console.print(f"the worker ended ({how}); starting again in {wait_s:g} s")
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s and not workers.told.is_set():
            time.sleep(0.05)
        wait_s = min(wait_s * 2, _LAST_WAIT_S)
    return 0
