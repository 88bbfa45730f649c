"""Answers about the run itself."""

from __future__ import annotations

import msgspec


class Health(msgspec.Struct):
    """Whether the process answers, and if not ready, why."""

    status: str
    reasons: list[str]


class Setting(msgspec.Struct):
    """A setting that was changed while running."""

    value: str
    operator: str
    time: str
    time_ns: int


class Config(msgspec.Struct):
    """How the run is set up."""

    paper_trading: bool
    autonomy_mode: str
    mode: str
    settings: dict[str, Setting]


class TopicState(msgspec.Struct):
    """One topic of the catalogue and how far it has come."""

    name: str
    end_offset: int
    websocket: str
    description: str


class DeadLetter(msgspec.Struct):
    """A record that could not be used."""

    topic: str
    partition: int
    offset: int
    reason: str
    time: str
    time_ns: int


class Scheduler(msgspec.Struct):
    """Scheduled jobs; a run without a scheduler says so."""

    is_running: bool
    jobs: list[dict[str, str]]
    detail: str


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
    topics: list[TopicState]
    data_quality: dict[str, int]
    dead_letter_count: int
    dead_letters: list[DeadLetter]
