"""The real command line as users start it: short commands, and workers that run meanwhile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

PROGRAM = Path(sys.executable).with_name("millrace")
_END_S = 30.0
BOUND_S = 90.0
"""No command takes longer, however busy the machine is."""


def environment(**changes: str) -> dict[str, str]:
    """Return the environment without settings of Millrace, and with ``changes``."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
    return {**kept, **changes}


def millrace(
    *words: object, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [PROGRAM, *map(str, words)],
        capture_output=True, text=True, check=False, timeout=BOUND_S, env=env or environment(),
    )  # fmt: skip


def refusal(*words: object, env: Mapping[str, str] | None = None) -> str:
    """Run a command that is refused, and return the one line that says why."""
    done = millrace(*words, env=env)
    assert done.returncode == 2, done.stdout + done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    return line


class Background:
    """A command that runs while the block does; all that it says goes to ``output``."""

    def __init__(self, output: Path, *words: object, env: Mapping[str, str] | None = None) -> None:
        self.output = output
        with output.open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, *map(str, words)], stdout=log, stderr=log, env=env or environment()
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.is_running():
            # A supervisor that is killed would leave its worker behind.
            self._process.terminate()
            try:
                self._process.wait(_END_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()

    def said(self) -> str:
        """Return what it has said so far."""
        return self.output.read_text()

    def kill(self) -> list[int]:
        """Kill it; return the processes that it had started and that may go on."""
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        self._process.kill()
        self._process.wait(BOUND_S)
        return [int(child) for child in children]

    def is_running(self) -> bool:
        """Return whether it has not ended."""
        return self._process.poll() is None

    def until(self, text: str, times: int = 1) -> None:
        """Wait until it has said something so many times."""
        deadline_s = time.monotonic() + BOUND_S
        while self.said().count(text) < times:
            assert self.is_running(), self.said()
            assert time.monotonic() < deadline_s, self.said()
            time.sleep(0.1)

    def interrupt(self) -> int:
        """Press Ctrl-C; return its exit status."""
        self._process.send_signal(signal.SIGINT)
        return self.wait()

    def stop(self) -> int:
        """Ask it to end; return its exit status."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        return self._process.wait(BOUND_S)
