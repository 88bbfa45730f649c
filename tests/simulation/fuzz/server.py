"""The one-process engine with its API in a process of its own, which tells what it holds.

``python -m tests.simulation.fuzz.server FOLDER CONFIG`` does what ``millrace run --port 0`` does.
For every line on stdin it prints a line of JSON: resident memory, descriptors, tasks and threads.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
from pathlib import Path

import uvloop
from rich.console import Console

from infra.serve import LiveRun, open_run, serve, storage_of
from infra.settings import load_settings


def holdings() -> dict[str, float]:
    """Return what this process holds, garbage collected."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return {
        "memory_mb": pages * 4096 / 1e6,
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "tasks": len(asyncio.all_tasks()),
        "threads": threading.active_count(),
    }


async def tell(stop: asyncio.Event) -> None:
    """Answer each line with the holdings, until stdin ends."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while not stop.is_set() and await reader.readline():
        print(json.dumps(holdings()), flush=True)


def main(folder: Path, config: Path) -> int:
    """Serve until stdin ends or a signal comes."""
    settings = load_settings(config)
    live: LiveRun = open_run(settings, folder, folder.name)
    storage = storage_of(settings, live.runner.folder)
    if storage is not None:
        storage.start()
    try:
        console = Console(file=sys.stdout, width=200, highlight=False)
        return uvloop.run(serve(live, "127.0.0.1", 0, tell, console, settings, storage))
    finally:
        if storage is not None:
            storage.stop()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
