"""A worker that can be made to stop at a named point: between two steps of its work.

``python -m tests.simulation.fault_worker FOLDER ARGUMENTS…`` is ``millrace ARGUMENTS…``. When the
file ``FOLDER/stop-PID`` names a point, the process stops itself there (SIGSTOP) and removes the
file; whoever asked for it lets it go on.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from agents.runners.kafka.order_log import OrderLog
from agents.runners.kafka.worker import StageWorker
from infra.cli import main

POINTS = ("before-note", "before-output", "before-snapshot")


def _stop_at(point: str, file: Path) -> None:
    try:
        wanted = file.read_text()
    except FileNotFoundError:
        return
    if wanted == point:
        file.unlink()
        os.kill(os.getpid(), signal.SIGSTOP)


def _wrap(
    owner: type, name: str, file: Path, before: str | None, after: str | None
) -> Callable[..., Awaitable[Any]]:
    inner = getattr(owner, name)

    async def wrapped(self: Any, *args: Any, **terms: Any) -> Any:
        if before is not None:
            _stop_at(before, file)
        result = await inner(self, *args, **terms)
        if after is not None:
            _stop_at(after, file)
        return result

    setattr(owner, name, wrapped)
    return wrapped


if __name__ == "__main__":
    stop_file = Path(sys.argv.pop(1)) / f"stop-{os.getpid()}"
    _wrap(OrderLog, "write", stop_file, "before-note", "before-output")
    _wrap(StageWorker, "_save", stop_file, "before-snapshot", None)
    main()
