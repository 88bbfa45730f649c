"""Health, configuration and the state of the run itself."""

from __future__ import annotations

from schemas.topics import CATALOGUE
from streams.log import Log
from web.answers import system as answers
from web.context import Context
from web.problems import unavailable
from web.route_table import Call, NoQuery, Route
from web.times import format_time


async def healthz(context: Context, call: Call[NoQuery, None]) -> answers.Health:
    """Say that the process answers."""
    return answers.Health("ok", [])


async def readyz(context: Context, call: Call[NoQuery, None]) -> answers.Health:
    """Say whether the read models hold what the log holds; 503 with the reason if not."""
    if not context.is_loaded:
        raise unavailable("the read models are not loaded yet; try again", code="not_ready")
    return answers.Health("ready", [])


async def get_config(context: Context, call: Call[NoQuery, None]) -> answers.Config:
    """Return how the run is set up and which settings were changed while it ran."""
    settings = {
        name: answers.Setting(c.value, c.operator, format_time(c.ts_event_ns), c.ts_event_ns)
        for name, c in sorted(context.views.system.settings.items())
    }
    return answers.Config(
        context.settings.is_paper_trading,
        context.views.risk.autonomy_mode,
        context.settings.mode,
        settings,
    )


def _end_of(log: Log, topic: str) -> int:
    """Return how far a topic has come: the sum over its partitions."""
    return sum(log.end_offset(topic, partition) for partition in range(log.partitions(topic)))


async def get_system(context: Context, call: Call[NoQuery, None]) -> answers.SystemAnswer:
    """Return health, run, topics with their end offsets, data quality and dead letters."""
    log, system = context.log, context.views.system
    topics = [
        answers.TopicState(t.name, _end_of(log, t.name), t.websocket, t.description)
        for t in CATALOGUE
    ]
    letters = [
        answers.DeadLetter(
            d.topic, d.partition, d.offset, d.reason, format_time(d.ts_event_ns), d.ts_event_ns
        )
        for d in reversed(system.dead_letters)
    ]
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
        answers.Scheduler(False, [], "this run has no scheduled jobs"),
        topics,
        system.quality_by_kind,
        system.dead_letter_count,
        letters,
    )


ROUTES = (
    Route("GET", "/healthz", healthz, answers.Health, "public", "Is the process alive", "system"),
    Route(
        "GET", "/readyz", readyz, answers.Health, "public", "Is it ready", "system", errors=(503,)
    ),
    Route("GET", "/api/config", get_config, answers.Config, "read", "Configuration", "system"),
    Route(
        "GET", "/api/system", get_system, answers.SystemAnswer, "read", "State of the run", "system"
    ),
)
