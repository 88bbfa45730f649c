"""``millrace worker --supervise``: a process that starts the worker again when it ends by failure.

What a restart cannot mend (settings, topics, another configuration) ends the supervisor too, with
the same exit status. Between restarts it waits, longer each time a worker did not live long.

A supervisor that is killed cannot stop its worker. So the worker holds one end of a pipe, and ends
in good order when there is nobody at the other.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from rich.console import Console

FAILED = 3
"""Exit status of a worker that a restart may mend."""

_FIRST_WAIT_S = 0.5
_LAST_WAIT_S = 30.0
_STEADY_S = 60.0
_STOP_TIMEOUT_S = 30.0


def supervise(arguments: Sequence[str], console: Console) -> int:
    """Run ``millrace`` with these arguments until it ends well; return its exit status."""
    is_stopping = False
    child: subprocess.Popen[bytes] | None = None

    def stop(*_: object) -> None:
        nonlocal is_stopping
        is_stopping = True
        if child is not None:
            child.terminate()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    wait_s = _FIRST_WAIT_S
    while not is_stopping:
        began_s = time.monotonic()
        # A group of its own: Ctrl-C reaches the supervisor, which stops the worker once.
        child = subprocess.Popen(  # noqa: S603 - our own arguments
            [sys.executable, "-m", "infra", *arguments],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )
        status = child.wait()
        # To mypy the first is always false: it does not see the signal handler.
        if is_stopping or (status >= 0 and status != FAILED):  # type: ignore[redundant-expr]
            return max(status, 0)
        if time.monotonic() - began_s > _STEADY_S:
            wait_s = _FIRST_WAIT_S
        how = f"exit status {status}" if status > 0 else signal.Signals(-status).name
        console.print(f"the worker ended ({how}); starting again in {wait_s:g} s")
        until_s = time.monotonic() + wait_s
        while time.monotonic() < until_s and not is_stopping:
            time.sleep(0.05)
        wait_s = min(wait_s * 2, _LAST_WAIT_S)
    return 0
