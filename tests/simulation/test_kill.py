"""A live run that is killed at random instants ends exactly as one that was left alone."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from streams.journal import JournalReader, compare
from tests.simulation.live_process import make_runner, play

EVENTS = 120_000
KILLS = 8
SEED = 20131007
ROOT = Path(__file__).resolve().parents[2]


def _start(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.simulation.live_process", str(folder), str(EVENTS)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_kill_at_random_instants_changes_nothing(tmp_path: Path) -> None:
    expected = asyncio.run(play(make_runner(tmp_path / "whole", EVENTS)))
    rng = random.Random(SEED)
    folder = tmp_path / "killed"
    kills = 0
    while kills < KILLS:
        process = _start(folder)
        # Past the start-up and the recovery: some instant of the work. A run that is quicker than
        # that just ends.
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.0, 0.5))
        if process.poll() is not None:
            process.communicate()
            break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        kills += 1
    final = _start(folder)
    output, _ = final.communicate(timeout=120)

    assert final.returncode == 0
    assert kills > 0
    assert output.split()[-1] == expected
    whole, killed = JournalReader(tmp_path / "whole"), JournalReader(folder)
    topics = sorted(set(whole.next_offsets) | set(killed.next_offsets))
    comparison = compare(whole, killed, topics)
    assert comparison.differences == 0
    assert comparison.records_compared > EVENTS
    assert whole.next_offsets == killed.next_offsets
