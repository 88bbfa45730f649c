"""Answers about the run itself."""

from __future__ import annotations

from typing import Any

import msgspec

from web.operations import Component, StorageState, Version


class Health(msgspec.Struct):
    """Whether the process answers, and if not ready, why."""

    status: str
    reasons: list[str]


class SystemHealth(msgspec.Struct):
    """The worst state of all components, and each of them."""

    status: str
    components: list[Component]
    time: str
    time_ns: int


class Setting(msgspec.Struct):
    """A setting that was changed while running."""

    value: str
    operator: str
    time: str
    time_ns: int


class Config(msgspec.Struct):
    """How the run is set up; orders that wait for a person lapse after ``approval_timeout_s``."""

    paper_trading: bool
    autonomy_mode: str
    approval_timeout_s: float
    mode: str
    settings: dict[str, Setting]


class SystemConfig(msgspec.Struct):
    """The settings of the process, secrets masked, and what was changed while it ran."""

    settings: dict[str, Any]
    changes: dict[str, Setting]


class TopicState(msgspec.Struct):
    """One topic of the catalogue and how far it has come."""

    name: str
    end_offset: int
    websocket: str
    description: str


class TopicDetail(msgspec.Struct):
    """One topic of the catalogue as it is defined, and how far it has come."""

    name: str
    key: str
    records: list[str]
    partitions: int
    retention_ms: int
    is_compacted: bool
    producer: str
    websocket: str
    description: str
    end_offset: int
    newest: str | None
    newest_ns: int | None


class Topics(msgspec.Struct):
    """The topics of the catalogue."""

    topics: list[TopicDetail]


class TopicLag(msgspec.Struct):
    """How far behind a topic is: in records that are written and not taken in yet, and in time.

    ``age_s`` is how old its newest record is by the log's time, which is that of the market data
    and stands still with it; ``silent_s`` for how long this process has been told of none, by the
    wall clock, null if of none since it began.
    """

    topic: str
    behind_records: int
    newest: str | None
    newest_ns: int | None
    age_s: float | None
    silent_s: float | None


class Lag(msgspec.Struct):
    """How far the read models are behind the log; ``time`` is the log's own."""

    time: str
    time_ns: int
    behind_records: int
    topics: list[TopicLag]


class DeadLetter(msgspec.Struct):
    """A record that could not be used; ``event_id`` names the letter.

    ``is_retried``: its record was written again, as far as is known.
    """

    event_id: str
    topic: str
    partition: int
    offset: int
    reason: str
    value: str
    time: str
    time_ns: int
    is_retried: bool


class DeadLetters(msgspec.Struct):
    """Records that could not be used, the newest first; ``count`` is how many there were in all."""

    dead_letters: list[DeadLetter]
    count: int
    next_cursor: str | None


class Retried(msgspec.Struct):
    """A record that was written again; if it still cannot be used, a new letter says why."""

    event_id: str
    topic: str
    status: str


class Job(msgspec.Struct):
    """A scheduled job."""

    name: str
    description: str
    schedule: str
    is_running: bool
    next_run: str | None
    next_run_ns: int | None
    last_started: str | None
    last_started_ns: int | None
    last_duration_s: float | None
    last_status: str
    last_result: str


class Scheduler(msgspec.Struct):
    """Scheduled jobs; a run without a scheduler says so."""

    is_running: bool
    jobs: list[Job]
    detail: str


class Run(msgspec.Struct):
    """A run that can be asked about by its id; ``source`` is journal or database."""

    run_id: str
    mode: str
    began: str
    began_ns: int
    output_hash: str
    source: str = "journal"


class Runs(msgspec.Struct):
    """The runs that can be asked about; ``current`` is the running one.

    ``is_complete`` is false while the database is away, or if it knows more than were asked for.
    """

    current: str
    runs: list[Run]
    is_complete: bool = True


class SystemAnswer(msgspec.Struct):
    """Health, run, topics, and what went wrong."""

    health: Health
    run_id: str
    epoch: str
    mode: str
    time: str
    time_ns: int
    instruments: int
    websocket_clients: int
    scheduler: Scheduler
    storage: StorageState
    version: Version
    topics: list[TopicState]
    data_quality: dict[str, int]
    dead_letter_count: int
    dead_letters: list[DeadLetter]
