"""A small scheduler: jobs that run at an interval or at a time of day, one at a time.

Intervals go by a clock that does not jump, times of day by the wall clock. It writes no record by
itself; what its jobs say is kept and shown. A job that fails or hangs is told of and tried again at
its next time.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from schemas.errors import ConfigError, ConflictError, MillraceError, NotFoundError
from web.operations import JobState

NS = 1_000_000_000
_DAY_NS = 86_400 * NS
_SLEEP_MAX_S = 60.0
_TIMEOUT_S = 300.0


class Job(NamedTuple):
    """One job: every ``every_s`` seconds, or daily at ``at_s`` seconds after midnight UTC.

    ``work`` returns a line about what was done; it is given up after ``timeout_s``.
    """

    name: str
    description: str
    work: Callable[[], Awaitable[str]]
    every_s: float = 0.0
    at_s: int = -1
    timeout_s: float = _TIMEOUT_S

    def schedule(self) -> str:
        """Return the schedule in words."""
        if self.at_s >= 0:
            return f"daily at {self.at_s // 3600:02}:{self.at_s // 60 % 60:02} UTC"
        return f"every {self.every_s:g} s"

    def next_ns(self, after_ns: int) -> int:
        """Return the first time of the job behind ``after_ns``."""
        if self.at_s >= 0:
            today = after_ns - after_ns % _DAY_NS + self.at_s * NS
            return today if today > after_ns else today + _DAY_NS
        return after_ns + int(self.every_s * NS)


class Scheduler:
    """Runs jobs at their times; ``wall_ns`` is the wall clock (int64 ns UTC).

    ``steady_ns`` never jumps: a wall clock that is set anew stops no job at an interval.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        wall_ns: Callable[[], int] = time.time_ns,
        steady_ns: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        for job in jobs:
            if job.at_s < 0 and job.every_s <= 0:
                raise ConfigError(
                    "a job has no time", field=job.name, value=job.every_s, remedy="give it one"
                )
        self._wall_ns = wall_ns
        self._steady_ns = steady_ns
        self._jobs = {job.name: job for job in jobs}
        now_ns = wall_ns()
        self._due_ns = {job.name: steady_ns() + int(job.every_s * NS) for job in jobs}
        self._states = {
            job.name: JobState(
                job.name,
                job.description,
                job.schedule(),
                False,
                job.next_ns(now_ns),
                None,
                None,
                "",
                "",
            )
            for job in jobs
        }
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to run jobs, on the running event loop."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; a running job is given up."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    def states(self) -> list[JobState]:
        """Return all jobs, by name."""
        for name, job in self._jobs.items():
            if job.at_s < 0:
                self._states[name].next_run_ns = self._wall_ns() + self._left_ns(job)
        return [self._states[name] for name in sorted(self._states)]

    def _left_ns(self, job: Job) -> int:
        """Return the ns until the next time of a job, negative when that has passed."""
        if job.at_s < 0:
            return self._due_ns[job.name] - self._steady_ns()
        next_ns = self._states[job.name].next_run_ns
        assert next_ns is not None  # every job has a next time
        return next_ns - self._wall_ns()

    async def run_now(self, name: str) -> JobState:
        """Run a job to its end.

        Raises NotFoundError for an unknown name, ConflictError while it runs already.
        """
        job = self._jobs.get(name)
        if job is None:
            raise NotFoundError("there is no such job", field="name", value=name)
        state = self._states[name]
        if state.is_running:
            raise ConflictError(
                "the job is running", field="name", value=name, remedy="wait for its end"
            )
        state.is_running = True
        state.last_started_ns, began_ns = self._wall_ns(), self._steady_ns()
        try:
            async with asyncio.timeout(job.timeout_s):
                state.last_result, state.last_status = await job.work(), "ok"
        except TimeoutError:
            state.last_result, state.last_status = f"took more than {job.timeout_s:g} s", "failed"
        except (MillraceError, OSError, ValueError) as error:
            state.last_result, state.last_status = str(error), "failed"
        finally:
            state.is_running = False
            ended_ns = self._steady_ns()
            state.last_duration_s = (ended_ns - began_ns) / NS
            self._due_ns[name] = ended_ns + int(job.every_s * NS)
            state.next_run_ns = job.next_ns(self._wall_ns())
        return state

    async def run_due(self) -> float:
        """Run the jobs whose time has come; return the s until the next one's."""
        for name, job in sorted(self._jobs.items()):
            if self._left_ns(job) <= 0 and not self._states[name].is_running:
                await self.run_now(name)
        return min((self._left_ns(job) / NS for job in self._jobs.values()), default=_SLEEP_MAX_S)

    async def _run(self) -> None:
        while True:
            wait_s = await self.run_due()
            # A wall clock that was set anew is noticed within a minute.
            await asyncio.sleep(min(max(wait_s, 0.0), _SLEEP_MAX_S))
