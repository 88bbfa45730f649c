"""``millrace sink``: the topics of a session to the database, with health and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge
from rich.console import Console

from infra.database.service import StorageService, refuse_disabled
from infra.kafka.reading_rule import StageRules
from infra.kafka.serving import stop_on_signals
from infra.kafka.settings import connection_of
from infra.ports import check_port
from infra.settings import Settings, data_folder
from schemas.errors import StorageError
from streams.database.topics import TopicsSource
from web.health import StageHealth, health_app
from web.server import WebServer

_HOST = "127.0.0.1"
_TELL_S = 1.0
_STAGE = "sink"


async def sink_topics(settings: Settings, folder: Path, port: int, console: Console) -> int:
    """Store the topics until a signal; return the exit status.

    Raises ConfigError for settings that do not fit.
    """
    refuse_disabled(settings.database)
    check_port(port)
    connection = connection_of(settings.kafka)
    rules = StageRules(connection)
    service = StorageService(
        settings.database,
        folder,
        lambda: TopicsSource(connection, settings.kafka.run, make_rule=rules.make),
        runs=data_folder() / "runs",
    )
    stop = stop_on_signals()

    def look() -> Mapping[str, StageHealth]:
        state = service.state()
        # A sink waits for its database as long as it takes: that is no standstill.
        is_over = state.status in {"failed", "stopped"}
        return {} if is_over else {_STAGE: StageHealth(state.is_ready, 0.0)}

    app = health_app(_registry(service), frozenset({_STAGE}), look, standstill_s_max=1.0)
    web = WebServer(app, _HOST, port)
    await web.start()
    service.start()
    console.print(
        f"sink of session {settings.kafka.run}; health and metrics on http://{_HOST}:{web.port}",
        soft_wrap=True,
    )
    try:
        await _tell(service, stop, console)
    finally:
        await asyncio.to_thread(service.stop)
        await web.stop()
    state = service.state()
    if state.status == "failed":
        raise StorageError(
            f"the sink has ended: {state.last_error}",
            field="database",
            value=state.address,
            remedy="mend what it names and start it again",
        )
    return 0


async def _tell(service: StorageService, stop: asyncio.Event, console: Console) -> None:
    """Print each change of the storage's state until a signal, or until it ends."""
    told = ""
    while not stop.is_set():
        state = service.state()
        if state.status != told:
            told = state.status
            why = f": {state.last_error}" if told in {"away", "failed", "standby"} else ""
            console.print(f"{told}{why}", markup=False, soft_wrap=True)
        if state.status == "failed":
            return
        try:
            async with asyncio.timeout(_TELL_S):
                await stop.wait()
        except TimeoutError:
            continue


def _registry(service: StorageService) -> CollectorRegistry:
    """Return what Prometheus is told of a sink."""
    registry = CollectorRegistry()
    for name, text in (
        ("lag", "Records that are not stored yet."),
        ("rows", "Rows stored since the start."),
        ("rejected", "Records that no table took."),
        ("failures", "Times the database or the source was away."),
    ):
        gauge = Gauge(f"millrace_sink_{name}", text, registry=registry)
        gauge.set_function(lambda field=name: float(getattr(service.state(), field)))  # type: ignore[misc]
    return registry
