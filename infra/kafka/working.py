"""``millrace worker``: stages of a session at work until a signal, with their health on a port."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeVar

from rich.console import Console

from agents.runners.kafka.meters import Meters
from agents.runners.kafka.stages import StageSpec
from agents.runners.kafka.worker import StageWorker
from infra.kafka.session import Session, join_session
from infra.kafka.settings import connection_of
from infra.kafka.watchdog import Watchdog
from infra.ports import check_port
from infra.settings import Settings
from schemas.errors import ConfigError, StorageError
from schemas.topics import CATALOGUE
from streams.kafka.connection import Connection
from streams.kafka.ranges import PlaceReader
from streams.kafka.topics import TIME_SETTING, ClusterTopics, check_counts, unlike
from web.health import StageHealth, health_app
from web.server import WebServer

_LOOP_S = 0.5
_PARTITIONS_S = 10.0
_COLLECT_EVERY = 50_000
_FIRST_PAUSE_S = 0.25
_LAST_PAUSE_S = 5.0
_UNHEALTHY_SHARE = 1 / 3
"""After this share of the stall timeout a stage that gets nowhere counts as unhealthy."""
_T = TypeVar("_T")
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
    leash: int | None = None,
) -> None:
    """Run stages until SIGINT or SIGTERM; raises MillraceError for what ended the work before.

    ``on_join`` is called with the session's name when the cluster has answered and work begins.
    ``leash``: a pipe whose other end a supervisor holds; its end is as good as SIGTERM.
    """
    if leash is not None:
        _end_with(leash)
    check_port(port)
    connection = connection_of(settings.kafka)
    await wait_for_topics(connection, settings, wait_s)
    # Instruments come with the first data.
    session = await patiently(lambda: join_session(connection, settings, time.time_ns), wait_s)
    on_join(session.run_id)
    # Until now there is nothing to save, and a signal ends the process at once.
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    specs = session.specs()
    collect_rarely()
    with _work_folder() as folder:
        meters = Meters()
        workers = {
            name: _worker(settings, connection, session, specs[name], meters, folder)
            for name in stages
        }
        standstill_s_max = settings.kafka.stall_timeout_s * _UNHEALTHY_SHARE
        web = _web(workers, meters, standstill_s_max, host, port)
        with Watchdog(settings.kafka.stall_timeout_s) as watchdog:
            await _run(workers, meters, stop, web, console, session.run_id, watchdog, connection)


def _end_with(pipe: int) -> None:
    """Send SIGTERM to this process when nobody holds the other end of a pipe any more."""
    loop = asyncio.get_running_loop()

    def end() -> None:
        loop.remove_reader(pipe)
        signal.raise_signal(signal.SIGTERM)

    loop.add_reader(pipe, end)


def collect_rarely() -> None:
    """Let the collector of cycles pass over the heap more seldom, and never over what is there now.

    Records are not tracked by it, and what the client makes of every record dies without it.
    """
    gc.freeze()
    gc.set_threshold(_COLLECT_EVERY, 20, 20)


def _work_folder() -> tempfile.TemporaryDirectory[str]:
    try:
        return tempfile.TemporaryDirectory(prefix="millrace-")
    except OSError as error:
        raise ConfigError(
            f"there is no folder for temporary files: {error.strerror or error}",
            field="TMPDIR",
            value=os.environ.get("TMPDIR", ""),
            remedy="let TMPDIR name a folder that can be written",
        ) from error


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
    """Raise ConfigError if topics of the catalogue are missing, or cannot be worked with."""
    topics = ClusterTopics(
        connection,
        replication=settings.kafka.replication,
        min_in_sync_replicas=settings.kafka.min_in_sync_replicas,
    )
    for item in await topics.differences():
        whats = {
            "topic": "is missing",
            "partitions": f"has {item.found} partitions",
            TIME_SETTING: f"has the {TIME_SETTING} {item.found}",
        }
        if item.property in whats:
            raise unlike(item.topic, whats[item.property], item.wanted)


async def watch_partitions(connection: Connection, every_s: float = _PARTITIONS_S) -> NoReturn:
    """Look now and then whether topics got more partitions; raises ConfigError if so.

    Keys would go where no stage reads, and the order within a key be lost. Whether the cluster
    answers at all is for the stages to tell.
    """
    async with PlaceReader(connection) as reader:
        while True:
            await asyncio.sleep(every_s)
            with contextlib.suppress(StorageError):
                check_counts(await reader.counts(topic.name for topic in CATALOGUE))


async def wait_for_topics(connection: Connection, settings: Settings, wait_s: float) -> None:
    """Check the topics, again and again for ``wait_s`` if they are not there yet."""
    await patiently(lambda: check_topics(connection, settings), wait_s)


async def patiently(attempt: Callable[[], Awaitable[_T]], wait_s: float) -> _T:
    """Return what an attempt gives, trying again for ``wait_s`` while the cluster is not ready."""
    loop = asyncio.get_running_loop()
    until_s, pause_s = loop.time() + wait_s, _FIRST_PAUSE_S
    while True:
        try:
            return await attempt()
        except (ConfigError, StorageError) as error:
            # Settings that the cluster refuses it will refuse again, and count as attacks.
            is_refused = isinstance(error, ConfigError) and error.field.startswith("kafka.")
            if is_refused or loop.time() + pause_s > until_s:
                raise
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _LAST_PAUSE_S)


def _web(
    workers: Mapping[str, StageWorker],
    meters: Meters,
    standstill_s_max: float,
    host: str,
    port: int,
) -> WebServer:
    """Return the server of health and metrics."""

    def look() -> dict[str, StageHealth]:
        return {
            name: StageHealth(worker.is_ready, worker.standstill_s)
            for name, worker in workers.items()
            if not worker.is_over
        }

    app = health_app(meters.registry, frozenset(workers), look, standstill_s_max=standstill_s_max)
    return WebServer(app, host, port)


async def _run(
    workers: Mapping[str, StageWorker],
    meters: Meters,
    stop: asyncio.Event,
    web: WebServer,
    console: Console,
    run_id: str,
    watchdog: Watchdog,
    connection: Connection,
) -> None:
    tasks = {name: asyncio.create_task(worker.run()) for name, worker in workers.items()}
    await web.start()
    console.print(
        f"run {run_id}: {', '.join(workers)}; health and metrics on http://{web.host}:{web.port}",
        soft_wrap=True,
    )
    stopping = asyncio.create_task(stop.wait())
    beating = asyncio.create_task(_measure_loop(meters, watchdog))
    telling = asyncio.create_task(_tell_ready(workers, console))
    looking = asyncio.create_task(watch_partitions(connection))
    first: set[asyncio.Task[Any]] = set()
    try:
        first, _ = await asyncio.wait(
            {stopping, looking, *tasks.values()}, return_when=asyncio.FIRST_COMPLETED
        )
    finally:
        for worker in workers.values():
            worker.stop()
        await asyncio.wait(set(tasks.values()))
        for task in (stopping, beating, telling, looking):
            task.cancel()
        await web.stop()
    # All are looked at, or the loop would tell of each that was not; what came first is the reason.
    ended = sorted([*tasks.values(), *(first & {looking})], key=lambda task: task not in first)
    failures = [error for task in ended if (error := task.exception()) is not None]
    if failures:
        raise failures[0]


async def _measure_loop(meters: Meters, watchdog: Watchdog) -> None:
    loop = asyncio.get_running_loop()
    while True:
        watchdog.beat()
        due_s = loop.time() + _LOOP_S
        await asyncio.sleep(_LOOP_S)
        meters.loop_lag_seconds.set(max(loop.time() - due_s, 0.0))


async def _tell_ready(workers: Mapping[str, StageWorker], console: Console) -> None:
    """Say once that everything is restored."""
    while not all(worker.is_ready for worker in workers.values()):  # noqa: ASYNC110
        await asyncio.sleep(_LOOP_S / 5)
    with contextlib.suppress(OSError):
        console.print("ready")
