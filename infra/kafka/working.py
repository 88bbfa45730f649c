"""``millrace worker``: stages of a session at work until a signal, with their health on a port."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence

from rich.console import Console

from agents.runners.kafka.meters import Meters
from agents.runners.kafka.stages import StageSpec
from agents.runners.kafka.worker import StageWorker
from infra.kafka.session import Session, join_session
from infra.kafka.settings import connection_of
from infra.settings import Settings
from schemas.errors import ConfigError, StorageError
from streams.kafka.connection import Connection
from streams.kafka.topics import ClusterTopics
from web.health import health_app
from web.server import WebServer

_LOOP_S = 0.5
_FIRST_PAUSE_S = 0.25
_LAST_PAUSE_S = 5.0
STAGES = ("reference", "market", "venue", "account", "strategy")


def chosen_stages(text: str) -> tuple[str, ...]:
    """Return the stages that "all" or names with commas choose; raises ConfigError."""
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if names == ("all",):
        return STAGES
    for name in names or ("",):
        if name not in STAGES:
            raise ConfigError(
                "there is no such stage",
                field="stages",
                value=name,
                remedy=f"write all, or some of {', '.join(STAGES)} with commas",
            )
    return tuple(dict.fromkeys(names))


async def work(
    settings: Settings,
    stages: Sequence[str],
    host: str,
    port: int,
    console: Console,
    *,
    wait_s: float = 0.0,
    on_join: Callable[[str], None] = lambda _: None,
) -> None:
    """Run stages until SIGINT or SIGTERM; raises MillraceError for what ended the work before.

    ``on_join`` is called with the session's name when the cluster has answered and work begins.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    connection = connection_of(settings.kafka)
    await wait_for_topics(connection, settings, wait_s)
    session = await join_session(connection, settings, time.time_ns)
    on_join(session.run_id)
    specs = session.specs()
    with tempfile.TemporaryDirectory(prefix="millrace-") as folder:
        meters = Meters()
        workers = {
            name: _worker(settings, connection, session, specs[name], meters, folder)
            for name in stages
        }
        await _run(workers, meters, stop, host, port, console, session.run_id)


def _worker(
    settings: Settings,
    connection: Connection,
    session: Session,
    spec: StageSpec,
    meters: Meters,
    folder: str,
) -> StageWorker:
    return StageWorker(
        connection,
        spec,
        session.instruments,
        group=f"millrace-{session.run_id}",
        data_folder=folder,
        snapshot_interval_s=settings.kafka.snapshot_interval_s,
        stall_timeout_s=settings.kafka.stall_timeout_s,
        meters=meters,
    )


async def check_topics(connection: Connection, settings: Settings) -> None:
    """Raise ConfigError if topics of the catalogue are missing or too small."""
    topics = ClusterTopics(
        connection,
        replication=settings.kafka.replication,
        min_in_sync_replicas=settings.kafka.min_in_sync_replicas,
    )
    for item in await topics.differences():
        if item.property in ("topic", "partitions"):
            what = "is missing" if item.property == "topic" else f"has {item.found} partitions"
            raise ConfigError(
                f"a topic of the cluster {what}; the catalogue says {item.wanted}",
                field="topic",
                value=item.topic,
                remedy="`millrace topics apply` makes what is missing; `topics diff` shows all",
            )


async def wait_for_topics(connection: Connection, settings: Settings, wait_s: float) -> None:
    """Check the topics, again and again for ``wait_s`` if they are not there yet."""
    loop = asyncio.get_running_loop()
    until_s, pause_s = loop.time() + wait_s, _FIRST_PAUSE_S
    while True:
        try:
            await check_topics(connection, settings)
        except (ConfigError, StorageError):
            if loop.time() + pause_s > until_s:
                raise
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, _LAST_PAUSE_S)
        else:
            return


async def _run(
    workers: Mapping[str, StageWorker],
    meters: Meters,
    stop: asyncio.Event,
    host: str,
    port: int,
    console: Console,
    run_id: str,
) -> None:
    tasks = {name: asyncio.create_task(worker.run()) for name, worker in workers.items()}

    def ready() -> dict[str, bool]:
        return {n: workers[n].is_ready for n, task in tasks.items() if not task.done()}

    web = WebServer(health_app(meters.registry, frozenset(workers), ready), host, port)
    await web.start()
    console.print(
        f"run {run_id}: {', '.join(workers)}; health and metrics on http://{host}:{web.port}",
        soft_wrap=True,
    )
    stopping = asyncio.create_task(stop.wait())
    beating = asyncio.create_task(_measure_loop(meters))
    telling = asyncio.create_task(_tell_ready(workers, console))
    try:
        await asyncio.wait({stopping, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for worker in workers.values():
            worker.stop()
        await asyncio.wait(set(tasks.values()))
        for task in (stopping, beating, telling):
            task.cancel()
        await web.stop()
    for task in tasks.values():
        task.result()


async def _measure_loop(meters: Meters) -> None:
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + _LOOP_S
        await asyncio.sleep(_LOOP_S)
        meters.loop_lag_seconds.set(max(loop.time() - due_s, 0.0))


async def _tell_ready(workers: Mapping[str, StageWorker], console: Console) -> None:
    """Say once that everything is restored."""
    while not all(worker.is_ready for worker in workers.values()):  # noqa: ASYNC110
        await asyncio.sleep(_LOOP_S / 5)
    with contextlib.suppress(OSError):
        console.print("ready")
