"""``make bench``: replay, Kafka workers, fan-out and ingest against baselines of this very run.

Each case runs several times; medians are printed, with their ratios to the baselines. Absolute
figures drift with the machine, ratios hold better. ``BENCH_ARGS=replay``, ``kafka``, ``fanout`` and
``ingest`` choose one part. With ``--compiled FOLDER`` the replay runs a second time on the order
path that ``infra.compiled`` made in that folder.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from agents.account import gate
from infra.compiled import compile_into
from schemas.errors import MillraceError
from tests.benchmarks import fanout, ingest
from tests.benchmarks.kafka import Counts, run_kafka
from tests.benchmarks.replay import measure_replay, show_replay

_ROOT = Path(__file__).resolve().parents[2]
PARTS = ("all", "replay", "kafka", "fanout", "ingest")


def run_replay(folder: Path, events: int, runs: int) -> None:
    """Measure the replay engine and print the table."""
    is_compiled = not (gate.__file__ or "").endswith(".py")
    cases = measure_replay(events, runs, folder / "journal")
    show_replay(cases, "order path compiled" if is_compiled else "plain Python")


def run_compiled(folder: Path, events: int, runs: int) -> int:
    """Compile the order path into ``folder`` and run the cases on it in a process of its own."""
    print("compiling the order path (mypyc, about a minute)", flush=True)
    try:
        compile_into(folder)
    except MillraceError as error:
        print(f"not measured: {error}")
        return 0
    arguments = ["replay", "--events", str(events), "--runs", str(runs)]
    environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
    command = [sys.executable, "-m", "tests.benchmarks", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def main() -> int:
    """Run the chosen cases and print the tables; return the exit status."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("what", nargs="?", choices=PARTS, default="all")
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5, help="runs of each replay case")
    parser.add_argument("--rounds", type=int, default=3, help="interleaved rounds on Kafka")
    parser.add_argument("--seconds", type=float, default=20, help="of each latency measurement")
    parser.add_argument(
        "--compiled", type=Path, help="compile into this folder and measure that too"
    )
    options = parser.parse_args()
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, numpy {np.__version__}; medians"
    )
    folder = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
    status = 0
    try:
        if options.what in ("all", "replay"):
            run_replay(folder, options.events, options.runs)
            if options.compiled is not None:
                compiled = options.compiled.resolve()
                status = run_compiled(compiled, options.events, options.runs)
        if options.what in ("all", "kafka"):
            counts = Counts(trades=options.events, rounds=options.rounds, seconds=options.seconds)
            run_kafka(folder, counts)
        if options.what in ("all", "fanout"):
            fanout.run()
        if options.what in ("all", "ingest"):
            ingest.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
