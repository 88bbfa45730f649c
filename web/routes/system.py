"""Health, readiness, lag, topics, version: the state of the process and of its run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from schemas.enums import BreakerState, StrategyStatus
from schemas.errors import MillraceError
from schemas.topics import CATALOGUE, MARKET_EVENTS
from streams.history import StoredRun
from streams.log import Log
from web.answers import system as answers
from web.context import Context
from web.history import stored
from web.operations import Component, StorageState, Version
from web.problems import ProblemError, unavailable
from web.route_table import Call, NoQuery, Route
from web.routes.dead_letters import letter_answer
from web.routes.jobs import scheduler_answer
from web.scopes import PUBLIC, READ
from web.times import format_time

_NS = 1_000_000_000
_SHOWN = 100
_RUNS_MAX = 1_000
_SEVERITY = ("pass", "warn", "fail")


async def healthz(context: Context, call: Call[NoQuery, None]) -> answers.Health:
    """Say that the process answers."""
    return answers.Health("ok", [])


async def readyz(context: Context, call: Call[NoQuery, None]) -> answers.Health:
    """Say whether the app can do its work; 503 if not, naming the parts that fail.

    A part that it can do without, such as the database, makes it ``degraded``. Anybody may ask, so
    why a part fails is told by ``/api/system/health`` alone.
    """
    if not context.is_loaded:
        raise unavailable("the read models are not loaded yet; try again", code="not_ready")
    failed = [c for c in _components(context) if c.status == "fail"]
    reasons = [f"{c.name}: {c.status}" for c in failed]
    if any(c.is_required for c in failed):
        detail = f"{'; '.join(reasons)}; GET /api/system/health says why"
        raise unavailable(detail, code="not_ready")
    return answers.Health("degraded" if reasons else "ready", reasons)


async def get_health(context: Context, call: Call[NoQuery, None]) -> answers.SystemHealth:
    """Return the health of every component, and the worst of all."""
    components = list(_components(context))
    worst = max(components, key=lambda c: _SEVERITY.index(c.status))
    now_ns = context.log.now_ns()
    return answers.SystemHealth(worst.status, components, format_time(now_ns), now_ns)


def _components(context: Context) -> Iterator[Component]:
    views = context.views
    yield Component(
        "read models",
        "pass" if context.is_loaded else "fail",
        "" if context.is_loaded else "are being loaded",
        is_required=True,
    )
    state = views.risk.strictest()
    yield Component(
        "breaker", "pass" if state is BreakerState.ACTIVE else "warn", f"strictest state {state}"
    )
    failed = [n for n, s in views.strategies.states.items() if s.status is StrategyStatus.FAILED]
    yield Component(
        "strategies",
        "warn" if failed else "pass",
        f"failed: {', '.join(sorted(failed))}" if failed else f"{len(views.strategies.states)}",
    )
    newest_ns = views.newest_ns.get(MARKET_EVENTS)
    yield context.operations.feed() or Component(
        "market data",
        "pass" if newest_ns else "warn",
        f"newest event or watermark {format_time(newest_ns)}" if newest_ns else "no event yet",
    )
    letters = views.system.dead_letter_count
    yield Component("dead letters", "warn" if letters else "pass", str(letters))
    yield Component("websockets", "pass", f"{context.hub.client_count} clients")
    jobs = context.operations.jobs
    bad = [j.name for j in jobs.states() if j.last_status == "failed"] if jobs else []
    yield Component(
        "scheduler", "warn" if bad else "pass", f"failed: {', '.join(bad)}" if bad else ""
    )
    storage = context.operations.storage()
    is_away = storage.tier != "none" and not storage.is_available
    yield Component("database", "fail" if is_away else "pass", f"{storage.tier}: {storage.detail}")
    for probe in context.operations.components:
        yield probe()


async def get_lag(context: Context, call: Call[NoQuery, None]) -> answers.Lag:
    """Return how far the read models are behind what is written, by topic.

    Topics that hold something. Over Kafka it is what the cluster said a moment ago, or when it
    answered last; whether it answers is told by ``/api/system/health``.
    """
    log, now_ns = context.log, context.log.now_ns()
    topics = []
    for name in sorted(topic.name for topic in CATALOGUE):
        newest_ns, silent_s = context.views.newest_ns.get(name), context.silent_s(name)
        behind = _written(log, name) - _end_of(log, name)
        if newest_ns is None and not behind:
            continue
        newest = age_s = None
        if newest_ns is not None:
            newest, age_s = format_time(newest_ns), max(0, now_ns - newest_ns) / _NS
        topics.append(answers.TopicLag(name, behind, newest, newest_ns, age_s, silent_s))
    total = sum(item.behind_records for item in topics)
    return answers.Lag(format_time(now_ns), now_ns, total, topics)


async def get_topics(context: Context, call: Call[NoQuery, None]) -> answers.Topics:
    """Return the topics of the catalogue and how far each has come."""
    newest = context.views.newest_ns
    return answers.Topics(
        [
            answers.TopicDetail(
                t.name,
                t.key,
                [str(value.__struct_config__.tag) for value in t.values],
                t.partitions,
                t.retention_ms,
                t.is_compacted,
                t.producer,
                t.websocket,
                t.description,
                _end_of(context.log, t.name),
                format_time(newest[t.name]) if t.name in newest else None,
                newest.get(t.name),
            )
            for t in CATALOGUE
        ]
    )


async def get_version(context: Context, call: Call[NoQuery, None]) -> Version:
    """Return which program answers."""
    return context.operations.version


async def get_storage(context: Context, call: Call[NoQuery, None]) -> StorageState:
    """Return what history is kept in, and whether it answers."""
    return context.operations.storage()


async def get_runs(context: Context, call: Call[NoQuery, None]) -> answers.Runs:
    """Return the runs that can be asked about by ``run_id``, sorted by it.

    Recorded ones, and the newest of those that the database alone knows.
    """
    try:
        found = await asyncio.to_thread(context.runs.store.runs)
    except MillraceError as error:
        raise ProblemError(500, "runs_unreadable", f"the runs cannot be read: {error}") from error
    runs = {
        r.run_id: answers.Run(r.run_id, r.mode, format_time(r.began_ns), r.began_ns, r.output_hash)
        for r in found
    }
    is_complete = True
    if context.history is not None:
        try:
            kept = await stored(context.history.runs(_RUNS_MAX))
        except ProblemError:
            is_complete = False
        else:
            is_complete = not kept.cursor
            runs = {run.run_id: _stored_run(run) for run in kept.items} | runs
    named = [run for _, run in sorted(runs.items())]
    return answers.Runs(context.log.run_id, named, is_complete)


def _stored_run(run: StoredRun) -> answers.Run:
    manifest = run.manifest
    began_ns = run.first_ns if manifest is None else manifest.ts_event_ns
    mode, output_hash = ("", "") if manifest is None else (manifest.mode, manifest.output_hash)
    began_ns = began_ns or 0
    return answers.Run(
        run.run_id, mode, format_time(began_ns), began_ns, output_hash, source="database"
    )


def _end_of(log: Log, topic: str) -> int:
    """Return how far a topic has come: the sum over its partitions."""
    return sum(log.end_offset(topic, partition) for partition in range(log.partitions(topic)))


def _written(log: Log, topic: str) -> int:
    """Return how far a topic is written, told or not: the sum over its partitions."""
    return sum(log.written_offset(topic, partition) for partition in range(log.partitions(topic)))


async def get_system(context: Context, call: Call[NoQuery, None]) -> answers.SystemAnswer:
    """Return health, run, topics with their end offsets, data quality and dead letters."""
    log, system = context.log, context.views.system
    topics = [
        answers.TopicState(t.name, _end_of(log, t.name), t.websocket, t.description)
        for t in CATALOGUE
    ]
    letters = [letter_answer(context, item) for item in reversed(system.dead_letters)][:_SHOWN]
    now_ns = log.now_ns()
    return answers.SystemAnswer(
        answers.Health("ok" if context.is_loaded else "loading", []),
        log.run_id,
        log.epoch,
        context.settings.mode,
        format_time(now_ns),
        now_ns,
        len(context.views.market.instruments),
        context.hub.client_count,
        scheduler_answer(context),
        context.operations.storage(),
        context.operations.version,
        topics,
        system.quality_by_kind,
        system.dead_letter_count,
        letters,
    )


def _read(path: str, handler: Any, answer: Any, summary: str, scope: str = READ) -> Route:
    errors = (503,) if handler is readyz else ()
    return Route("GET", path, handler, answer, scope, summary, "system", errors=errors)


ROUTES = (
    _read("/healthz", healthz, answers.Health, "Is the process alive", PUBLIC),
    _read("/readyz", readyz, answers.Health, "Is it ready", PUBLIC),
    _read("/api/system", get_system, answers.SystemAnswer, "State of the run"),
    _read("/api/system/health", get_health, answers.SystemHealth, "Health by component"),
    _read("/api/system/lag", get_lag, answers.Lag, "How far behind"),
    _read("/api/system/topics", get_topics, answers.Topics, "Topics"),
    _read("/api/system/version", get_version, Version, "Version"),
    _read("/api/system/storage", get_storage, StorageState, "Where history is kept"),
    _read("/api/system/runs", get_runs, answers.Runs, "Recorded runs"),
)
