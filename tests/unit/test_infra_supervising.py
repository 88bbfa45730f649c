"""The supervisor of a worker, and the watchdog that ends a worker which hangs."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from infra.kafka import supervising
from infra.kafka.supervising import FAILED, supervise

BOUND_S = 30.0


def program(text: str) -> subprocess.CompletedProcess[str]:
    """Run a few lines of Python in a process of their own."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text)],
        capture_output=True,
        text=True,
        timeout=BOUND_S,
        check=False,
    )


def test_a_loop_that_hangs_ends_the_worker_and_says_where() -> None:
    ended = program("""
        from infra.kafka.watchdog import Watchdog

        def strategy_that_never_returns():
            while True:
                pass

        with Watchdog(1.0) as watchdog:
            watchdog.beat()
            strategy_that_never_returns()
    """)
    assert ended.returncode == FAILED
    assert "error: the event loop has not turned for 1 s" in ended.stderr
    assert "strategy_that_never_returns" in ended.stderr


def test_a_loop_that_turns_and_one_that_is_done_are_left_alone() -> None:
    ended = program("""
        import time
        from infra.kafka.watchdog import Watchdog

        with Watchdog(1.0) as watchdog:
            for _ in range(20):
                watchdog.beat()
                time.sleep(0.1)
        time.sleep(1.6)
    """)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_a_loop_that_cannot_close_ends_all_the_same() -> None:
    ended = program("""
        import asyncio
        from infra.kafka.watchdog import end_within

        async def loses_its_cancellation():
            while True:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    pass

        async def main():
            task = asyncio.create_task(loses_its_cancellation())
            await asyncio.sleep(0)
            end_within(0.5, 3)

        asyncio.run(main())
    """)
    assert ended.returncode == FAILED
    assert "has not ended within 0.5 s" in ended.stderr


def test_a_loop_that_closes_keeps_its_own_exit_status() -> None:
    ended = program("""
        import sys
        from infra.kafka.watchdog import end_within

        end_within(60.0, 3)
        sys.exit(5)
    """)
    assert (ended.returncode, ended.stderr) == (5, "")


def test_a_process_that_was_stopped_is_not_taken_for_one_that_hangs() -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import time
                from infra.kafka.watchdog import Watchdog

                with Watchdog(1.5) as watchdog:
                    print("begun", flush=True)
                    for _ in range(30):
                        watchdog.beat()
                        time.sleep(0.1)
            """),
        ],
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2.5)
        process.send_signal(signal.SIGCONT)
        assert process.wait(BOUND_S) == 0


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give the file of a program that stands for the worker, and the signals back afterwards."""
    monkeypatch.chdir(tmp_path)
    kept = [(number, signal.getsignal(number)) for number in (signal.SIGINT, signal.SIGTERM)]
    yield tmp_path / "worker.py"
    for number, handler in kept:
        signal.signal(number, handler)


def test_a_worker_that_does_not_end_when_it_is_told_to_is_killed(
    worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_STOP_TIMEOUT_S", 0.5)
    worker.write_text(
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    said = StringIO()
    assert supervise([str(worker)], Console(file=said, width=200), (sys.executable,)) == FAILED
    assert "was killed" in said.getvalue()


def test_a_worker_that_failed_is_started_again_and_one_that_cannot_work_is_not(
    worker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "_FIRST_WAIT_S", 0.05)
    worker.write_text(
        "import pathlib, sys\n"
        "lives = pathlib.Path('lives')\n"
        "lives.write_text((lives.read_text() if lives.exists() else '') + 'x')\n"
        f"sys.exit({FAILED} if len(lives.read_text()) < 3 else 2)\n"
    )
    said = StringIO()
    assert supervise([str(worker)], Console(file=said, width=200), (sys.executable,)) == 2
    assert worker.with_name("lives").read_text() == "xxx"
    assert said.getvalue().count(f"exit status {FAILED}") == 2
