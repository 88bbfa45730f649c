"""What stands around the app and is asked about or told to do something: the port to its process.

The process that serves the app hands these in; the app without them answers that there are none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal, Protocol

import msgspec

from schemas.control import DeadLetter
from schemas.envelope import Header

Status = Literal["pass", "warn", "fail"]


class Component(msgspec.Struct):
    """How one part of the process is; without a required one the app is not ready."""

    name: str
    status: Status
    detail: str = ""
    is_required: bool = False


class JobState(msgspec.Struct):
    """A scheduled job: when it runs next, and what its last run said."""

    name: str
    description: str
    schedule: str
    is_running: bool
    next_run_ns: int | None
    last_started_ns: int | None
    last_duration_s: float | None
    last_status: str
    last_result: str


class Jobs(Protocol):
    """The scheduled jobs of the process."""

    def states(self) -> list[JobState]:
        """Return all jobs, by name."""
        ...

    async def run_now(self, name: str) -> JobState:
        """Run a job to its end.

        Raises NotFoundError for an unknown name, ConflictError while it runs already.
        """
        ...


class StorageState(msgspec.Struct):
    """What history is kept in: ``tier`` is none, plain, timescale-apache or timescale-community."""

    tier: str = "none"
    is_available: bool = False
    detail: str = "no database is configured; history is what the run keeps in memory"


class Version(msgspec.Struct):
    """Which program answers."""

    version: str = ""
    code_hash: str = ""
    schema_version: int = 0
    python: str = ""


class Operations:
    """All of it; ``settings`` are those of the process, secrets masked.

    ``holds_run`` tells whether the running run is stored, as far as is known. ``feed`` returns what
    is wrong with the source of market data, or None.
    ``resend`` writes the record of a dead letter again, where that takes more than the log's port:
    it returns why the record still cannot be used, empty once it is written, and raises
    ConflictError where the record is kept no more, StorageError where nothing answers in time.
    ``feed_again`` hands a market event of a dead letter to the run's live feed, and returns once it
    is journaled: it raises RecordError for one that would be refused again, ConflictError where
    nothing takes market events, and what the log's port does.
    """

    def __init__(
        self,
        *,
        components: Sequence[Callable[[], Component]] = (),
        jobs: Jobs | None = None,
        storage: Callable[[], StorageState] = StorageState,
        holds_run: Callable[[], bool] = lambda: True,
        feed: Callable[[], Component | None] = lambda: None,
        settings: dict[str, Any] | None = None,
        version: Version | None = None,
        resend: Callable[[DeadLetter], Awaitable[str]] | None = None,
        feed_again: Callable[[Header], Awaitable[None]] | None = None,
    ) -> None:
        self.components = list(components)
        self.jobs = jobs
        self.storage = storage
        self.holds_run = holds_run
        self.feed = feed
        self.settings = settings or {}
        self.version = version or Version()
        self.resend = resend
        self.feed_again = feed_again
