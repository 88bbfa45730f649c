"""A sink in a process of its own, to be killed.

``python -m tests.simulation.storing_process OPTIONS_JSON JOURNAL ROWS``: stores a journal in small
batches, prints a line when it begins and one when it is done.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from streams.database.connecting import Database
from streams.database.journals import JournalSource
from streams.database.sinks import Sink
from streams.database.writing import PlaceMovedError


async def store(options: dict[str, object], journal: Path, rows_max: int) -> None:
    """Store all of it, beside whoever else does."""
    database = Database(options)
    try:
        while True:
            sink = Sink(database, JournalSource(journal, rows_max=rows_max), time.time_ns)
            try:
                await sink.drain()
            except PlaceMovedError:
                continue
            return
    finally:
        await database.close()


if __name__ == "__main__":
    print("ready", flush=True)
    asyncio.run(store(json.loads(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])))
    print("done", flush=True)
