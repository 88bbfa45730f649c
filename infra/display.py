"""Progress of long work: a bar on a terminal, lines for a program; a log file gets neither."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_LINE_S = 0.5


class Bar:
    """A progress bar that may have no terminal to show on."""

    def __init__(self, progress: Progress | None, task: TaskID | None) -> None:
        self._progress = progress
        self._task = task

    def total(self, total: int) -> None:
        """Set how much there is to do."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, total=total)

    def advance(self, count: int) -> None:
        """Note that ``count`` more is done."""
        if self._progress is not None and self._task is not None:
            self._progress.advance(self._task, count)

    def fail(self, code: str) -> None:
        """Say why the work ended early; a bar leaves that to the error's own line."""


class Lines(Bar):
    """Progress as JSON lines for a program that reads them: ``{"done": 10, "total": 20}``.

    Of a failure its stable code: ``{"code": "no_data"}``.
    """

    def __init__(self, stream: TextIO, clock_s: Callable[[], float]) -> None:
        super().__init__(None, None)
        self._stream = stream
        self._clock_s = clock_s
        self._told_s = -math.inf
        self._total = self._done = 0

    def total(self, total: int) -> None:
        """Set how much there is to do."""
        self._total = total
        self._tell()

    def advance(self, count: int) -> None:
        """Note that ``count`` more is done."""
        self._done += count
        if self._done == self._total or self._clock_s() - self._told_s >= _LINE_S:
            self._tell()

    def fail(self, code: str) -> None:
        """Say why the work ended early."""
        self._write({"code": code})

    def _tell(self) -> None:
        self._told_s = self._clock_s()
        self._write({"done": self._done, "total": self._total})

    def _write(self, values: dict[str, object]) -> None:
        self._stream.write(json.dumps(values) + "\n")
        self._stream.flush()


@contextmanager
def progress_bar(console: Console, label: str) -> Iterator[Bar]:
    """Show a progress bar on ``console`` while the block runs."""
    if not console.is_terminal:
        yield Bar(None, None)
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        yield Bar(progress, progress.add_task(label, total=None))
