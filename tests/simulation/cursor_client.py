"""A client that stores its cursor together with its results, made to be killed.

``python -m tests.simulation.cursor_client DATABASE URL TOPIC...`` forks a client for each line on
stdin and prints its process id; one at a time. The client goes on where the database says the last
one stood.
"""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import sys
from pathlib import Path

from streams.watching import Update, watch

Seen = dict[tuple[str, int], list[tuple[int, str]]]


def make_database(path: Path) -> None:
    """Make the tables of results and cursor."""
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA journal_mode = WAL")
        # No key: a record that is stored twice is there twice.
        database.execute("CREATE TABLE seen (topic TEXT, part INTEGER, place INTEGER, id TEXT)")
        database.execute("CREATE TABLE cursor (value TEXT)")
        database.execute("INSERT INTO cursor VALUES ('')")


def seen(path: Path) -> Seen:
    """Return offset and id of what was stored, by partition, in the order of storing."""
    with sqlite3.connect(path) as database:
        rows = database.execute("SELECT topic, part, place, id FROM seen ORDER BY rowid")
        found: Seen = {}
        for topic, partition, offset, event_id in rows:
            found.setdefault((topic, partition), []).append((offset, event_id))
        return found


async def follow(path: Path, url: str, topics: list[str]) -> None:
    """Store results and cursor, each time both or none."""
    database = sqlite3.connect(path, isolation_level=None)
    database.execute("PRAGMA synchronous = OFF")
    ((text,),) = database.execute("SELECT value FROM cursor")
    cursor = json.loads(text) if text else None
    stream = watch(
        url, topics, cursor=cursor, start="earliest", mode="all",
        retry_first_s=0.02, retry_most_s=0.1,
    )  # fmt: skip
    async for item in stream:
        assert isinstance(item, Update), item
        event_id = getattr(item.record, "event_id", "")
        database.execute("BEGIN")
        row = (item.topic, item.partition, item.offset, event_id)
        database.execute("INSERT INTO seen VALUES (?, ?, ?, ?)", row)
        database.execute("UPDATE cursor SET value = ?", (json.dumps(stream.cursor),))
        database.execute("COMMIT")


def main(path: Path, url: str, topics: list[str]) -> None:
    """Fork a client for each line."""
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(follow(path, url, topics))
            os._exit(1)
        print(child, flush=True)
        os.waitpid(child, 0)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
