"""Sinks that are killed at random instants, two at a time, lose no row and double none."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.database.connecting import Database
from tests.database_case import Servers, journaled_rows, record_run, stored_rows, tiers

KILLS = 12
ROWS = 60
SEED = 20131007
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    """Give the database servers."""
    found = Servers()
    try:
        yield found
    finally:
        found.close()


def _start(options: dict[str, object], journal: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.simulation.storing_process"),
            *(json.dumps(options), str(journal), str(ROWS)),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("tier", tiers())
def test_killed_and_rivalling_sinks_store_each_row_once(
    servers: Servers, tier: str, tmp_path: Path
) -> None:
    journal = record_run(tmp_path / "j", f"killed-{tier}")
    options = servers.options(tier)
    rng = random.Random(SEED)
    kills = 0
    done = False
    while kills < KILLS and not done:
        pair = [_start(options, journal) for _ in range(2)]
        for process in pair:
            assert process.stdout is not None
            process.stdout.readline()
        # Some instant of the work of both: connecting, staging, copying, committing.
        time.sleep(rng.uniform(0.05, 0.8))
        for process in pair:
            done = done or process.poll() is not None
            process.send_signal(signal.SIGKILL)
            process.communicate()
            kills += 1
    final = [_start(options, journal) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in final]

    async def look() -> object:
        database = Database(options)
        try:
            async with database.reading() as connection:
                return await stored_rows(connection, f"killed-{tier}")
        finally:
            await database.close()

    assert [output.split() for output in outputs] == [["ready", "done"]] * 2
    assert kills > 0
    assert asyncio.run(look()) == journaled_rows(journal)
