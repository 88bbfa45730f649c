"""``millrace web`` and ``millrace live``: the API over Kafka, and everything at once.

``live`` starts a broker on this machine with empty topics, two supervised workers and the web app,
and plays the demo's recording into the topics; Ctrl-C stops all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import msgspec
from rich.console import Console

from infra.access import access_of
from infra.backtest_agent import BacktestAgent
from infra.database.service import StorageService
from infra.kafka.letters import resend
from infra.kafka.node import Node, free_port
from infra.kafka.publishing import publish_definitions, publish_recording
from infra.kafka.settings import connection_of
from infra.kafka.working import wait_for_topics
from infra.operating import Operating, operations
from infra.run_store import JournalRuns
from infra.serve import check_port
from infra.settings import Settings, data_folder, load_settings
from schemas.errors import ConfigError
from schemas.topics import SYSTEM_AUDIT
from streams.kafka.connection import Connection
from streams.kafka.log import KafkaLog
from streams.kafka.topics import ClusterTopics
from web.app import WebSettings, create_app
from web.operations import Component, Status
from web.server import WebServer

_STOP_TIMEOUT_S = 20.0
_WORKERS = 2
_SILENT_S_MAX = 10.0
"""A cluster that has not answered for so long is away; it is asked every two seconds."""

LIVE_CONFIG = """\
# What `millrace live` runs: the demo's strategy and limits over its recording.
[account]
cash = "100000"

[risk.limits]
max_notional = "200000"
max_position = "1000"
price_collar = "0.05"
max_order_rate = 20
max_daily_loss = "5000"
max_drawdown = "0.2"
stale_after_s = 300
allow_self_match = false

[venue]
fee = { type = "per_share", rate = "0.005", minimum = "1" }
latency = { submit_ns = 5000000, cancel_ns = 5000000 }

[market]
intervals = ["1s", "1m"]
mark_interval_s = 1
snapshot_interval_s = 60

[kafka]
run = "live"
kinds_of = { SPY = ["trade"] }

[[strategies]]
name = "momentum_crossover"
strategy_id = "demo"
on = "1m"
parameters = { fast = 5, slow = 20, weight = 0.5 }
"""


async def serve_web(
    settings: Settings,
    port: int,
    stop: asyncio.Event,
    console: Console,
    *,
    wait_s: float = 0.0,
    storage: StorageService | None = None,
) -> None:
    """Serve the API over a cluster until ``stop``; raises MillraceError if it cannot.

    ``storage`` answers what the topics kept in memory have forgotten; it is started and stopped.
    """
    access = access_of(settings, settings.run.host)
    check_port(port)
    connection = connection_of(settings.kafka)
    await wait_for_topics(connection, settings, wait_s)
    log = KafkaLog(connection, settings.kafka.run, time.time_ns)
    async with log:
        web_settings = WebSettings(
            autonomy_mode=settings.risk.autonomy,
            approval_timeout_s=settings.risk.approval_timeout_s,
            default_account_id=settings.account.account_id,
            allowed_hosts=access.allowed_hosts,
        )
        runs = JournalRuns(data_folder())
        around = operations(settings, storage)
        around.resend = partial(resend, connection)
        around.components.append(lambda: cluster(log))
        app = create_app(
            log,
            web_settings,
            lambda: uuid.uuid4().hex,
            runs=runs,
            history=storage.history if storage is not None else None,
            operations=around,
            gate=access.gate,
            audit=partial(log.publish_side, SYSTEM_AUDIT),
        )
        # The read models hear of everything; the log keeps the newest records only.
        await log.load(app.state.context.views.apply)
        web = WebServer(app, settings.run.host, port, tls=access.tls, proxies=access.proxies)
        await web.start()
        agent = BacktestAgent(log, uuid.uuid4().hex)
        operating = Operating(
            app.state.context,
            agent,
            settings,
            runner=None,
            reports=data_folder() / "reports" / settings.kafka.run,
            root=data_folder(),
        )
        operating.start()
        if storage is not None:
            storage.start()
        following = asyncio.create_task(log.run())
        stopping = asyncio.create_task(stop.wait())
        console.print(
            f"serving {access.scheme}://{settings.run.host}:{web.port}  (API docs at /docs)"
        )
        try:
            await asyncio.wait({following, stopping}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
            await operating.stop()
            await agent.stop()
            await web.stop()
            if storage is not None:
                await storage.close()
                await asyncio.to_thread(storage.stop)
            if not following.done():
                following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following


def cluster(log: KafkaLog) -> Component:
    """Return how Kafka is: whether it answers, and what is still to be written there."""
    ends, side = log.ends, log.side
    detail = f"answered {ends.silent_s:.1f} s ago, {side.waiting:,} records wait to be written"
    if side.lost:
        detail += f", {side.lost:,} are lost (the log has them)"
    if log.unreadable:
        detail += f", {log.unreadable:,} read that nobody can decode"
    if trouble := ends.trouble or side.trouble:
        detail += f"; {trouble}"
    status: Status = "warn" if side.trouble or side.lost else "pass"
    if ends.silent_s > _SILENT_S_MAX or side.is_refused:
        status = "fail"
    return Component("kafka", status, detail, is_required=True)


def stop_on_signals() -> asyncio.Event:
    """Return an event that SIGINT and SIGTERM set."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def run_live(speed: float, port: int, *, is_exiting: bool, console: Console) -> int:
    """Run everything until a signal, or with ``is_exiting`` until the recording is played."""
    with only_one(data_folder()):
        return await _run_live(speed, port, is_exiting=is_exiting, console=console)


@contextlib.contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Hold the place of the one ``millrace live`` of a data folder; raises ConfigError if taken."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "live.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                "another `millrace live` runs in this data folder",
                field="MILLRACE_DATA_FOLDER",
                value=str(folder),
                remedy="stop it, or let MILLRACE_DATA_FOLDER name another folder",
            ) from error
        yield


async def _run_live(speed: float, port: int, *, is_exiting: bool, console: Console) -> int:
    stop = stop_on_signals()
    folder = data_folder() / "live"
    node = Node(folder / "node", port=free_port(), jars=data_folder() / "kafka", heap="1g")
    if node.running() is not None:
        node.stop()
    # A session of its own each time: topics begin empty.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    config = folder / "live.toml"
    config.write_text(LIVE_CONFIG)
    console.print("starting Kafka (its jars come through Maven once)")
    running = await asyncio.get_running_loop().run_in_executor(None, node.start)
    console.print(f"kafka {running.address}")
    workers: list[subprocess.Popen[bytes]] = []
    try:
        connection = Connection(bootstrap=running.address)
        await ClusterTopics(connection).apply()
        await publish_definitions(connection, "demo")
        workers = [_start_worker(config, running.address, folder, n) for n in range(_WORKERS)]
        await _play(connection, config, running.address, speed, port, stop, console,
                    is_exiting=is_exiting)  # fmt: skip
    finally:
        console.print("stopping")
        await asyncio.get_running_loop().run_in_executor(None, _stop_all, workers, node)
    return 0


def _start_worker(config: Path, address: str, folder: Path, number: int) -> subprocess.Popen[bytes]:
    arguments = ["worker", "--supervise", "--config", str(config), "--bootstrap", address]
    with (folder / f"worker-{number}.log").open("wb") as log:
        return subprocess.Popen(  # noqa: S603 - our own arguments
            [sys.executable, "-m", "infra", *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


async def _play(
    connection: Connection,
    config: Path,
    address: str,
    speed: float,
    port: int,
    stop: asyncio.Event,
    console: Console,
    *,
    is_exiting: bool,
) -> None:
    settings = load_settings(config)
    kafka = msgspec.structs.replace(settings.kafka, bootstrap=address)
    settings = msgspec.structs.replace(settings, kafka=kafka)
    console.print(f"{_WORKERS} workers; their logs are in {config.parent}", soft_wrap=True)
    serving = asyncio.create_task(serve_web(settings, port, stop, console))
    playing = asyncio.create_task(publish_recording(connection, "demo", speed=speed, stop=stop))
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({serving, playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if playing.done() and not stop.is_set() and not serving.done():
            console.print(f"the recording is played: {playing.result():,} events")
            if not is_exiting:
                console.print("serving until Ctrl-C")
                await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        await asyncio.wait({serving, playing, stopping})
    serving.result()
    playing.result()


def _stop_all(workers: list[subprocess.Popen[bytes]], node: Node) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            worker.kill()
    node.stop()
