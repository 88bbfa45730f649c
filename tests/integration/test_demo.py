"""``millrace demo`` as a person runs it: it plays, answers, proves itself, stops when told to."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from streams.journal import JournalReader, Kind

COMMAND = Path(sys.executable).with_name("millrace")
EVENTS = 373_609  # of the bundled recording, and the watermark that closes it
STOP_TIMEOUT_S = 20.0  # 2 s are promised; a loaded machine may need more


@contextmanager
def _demo(folder: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a demo with its own data folder on a free port; yield it with its address."""
    process = subprocess.Popen(
        [str(COMMAND), "demo", "--port", "0", *arguments],
        env={**os.environ, "MILLRACE_DATA_FOLDER": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"serving (http://127\.0\.0\.1:\d+)", line)
        assert found is not None, line + process.communicate(timeout=STOP_TIMEOUT_S)[1]
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def _get(address: str, path: str) -> Any:
    with urllib.request.urlopen(address + path, timeout=STOP_TIMEOUT_S) as answer:
        assert answer.status == 200
        return json.loads(answer.read())


def test_demo_answers_while_it_plays_and_proves_that_its_replay_is_equal(tmp_path: Path) -> None:
    with _demo(tmp_path, "--exit", "--speed", "6000") as (process, address):
        first, second = _get(address, "/api/portfolio"), _get(address, "/api/portfolio")
        assert process.poll() is None
        output, complaint = process.communicate(timeout=120)

    assert first.keys() == second.keys()
    assert (process.returncode, complaint) == (0, "")
    lines = [line.split() for line in output.splitlines()]
    assert ["events", "re-run", f"{EVENTS:,}"] in lines
    assert ["differences", "0"] in lines
    hashes = {line[-1] for line in lines if line[:2] in (["recorded", "hash"], ["re-run", "hash"])}
    assert len(hashes) == 1
    said = f"session over: {EVENTS:,} events, outputs {hashes.pop()}"
    assert said in output
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert said in readme, "the outputs of the demo have changed: tell it in CHANGELOG.md too"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_demo_that_is_stopped_leaves_a_whole_journal_and_status_0(
    tmp_path: Path, number: signal.Signals
) -> None:
    with _demo(tmp_path, "--speed", "2000") as (process, address):
        deadline_s = time.monotonic() + 60
        while not _fills(tmp_path) and time.monotonic() < deadline_s:
            _get(address, "/api/portfolio")
            time.sleep(0.1)
        process.send_signal(number)
        output, complaint = process.communicate(timeout=STOP_TIMEOUT_S)

    assert (process.returncode, complaint) == (0, "")
    assert "stopped before the recording was over" in output
    reader = JournalReader(tmp_path / "runs" / "demo" / "journal")
    assert reader.torn_tail is None
    assert sum(1 for entry in reader.entries() if entry.kind is Kind.BATCH) > 0
    assert 0 < reader.next_offsets["market.events.v1"] < EVENTS
    parity = subprocess.run(
        [str(COMMAND), "parity", "demo", "--json"],
        env={**os.environ, "MILLRACE_DATA_FOLDER": str(tmp_path)},
        capture_output=True,
        timeout=120,
        check=True,
    )
    report = json.loads(parity.stdout)
    assert report["rerun"]["differences"] == 0
    assert report["backtest_against_live"]["fills live"] > 0


def test_demo_that_is_stopped_while_it_compares_ends_in_order(tmp_path: Path) -> None:
    with _demo(tmp_path, "--speed", "20000") as (process, _):
        assert process.stdout is not None
        while "session over" not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        output, complaint = process.communicate(timeout=STOP_TIMEOUT_S)

    assert (process.returncode, complaint) == (0, "")
    assert "stopped before the comparison was over" in output
    assert "differences" not in output


def test_next_demo_keeps_the_session_before_it_and_says_where(tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    output = ""
    for _ in range(2):
        with _demo(tmp_path, "--speed", "2000") as (process, _):
            deadline_s = time.monotonic() + 60
            while not _fills(tmp_path) and time.monotonic() < deadline_s:
                time.sleep(0.1)
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=STOP_TIMEOUT_S)
    assert "the last demo is kept as demo-1" in output
    assert {path.name for path in runs.iterdir()} == {"demo", "demo-1"}
    for name in ("demo", "demo-1"):
        assert JournalReader(runs / name / "journal").next_offsets["orders.fills.v1"] > 0


def test_demo_does_not_push_a_running_one_aside(tmp_path: Path) -> None:
    with _demo(tmp_path, "--speed", "1"):
        second = subprocess.run(
            [str(COMMAND), "demo", "--port", "0"],
            env={**os.environ, "MILLRACE_DATA_FOLDER": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert second.returncode == 2
    assert "is being written by process" in second.stderr
    assert second.stderr.count("\n") == 1


def _fills(folder: Path) -> int:
    """Return how many fills the journal of a running demo holds."""
    return JournalReader(folder / "runs" / "demo" / "journal").next_offsets.get(
        "orders.fills.v1", 0
    )
