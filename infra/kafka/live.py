"""``millrace live``: everything at once, on a Kafka of its own.

A broker on this machine with empty topics, two supervised workers and the web app; the demo's
recording is played into the topics, and Ctrl-C stops all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
from rich.console import Console

from agents.runners.feeds import check_speed
from infra.display import progress_bar
from infra.kafka.node import Node, free_port
from infra.kafka.publishing import publish_definitions, publish_recording
from infra.kafka.serving import serve_web, stop_on_signals
from infra.kafka.settings import addressed
from infra.ports import check_port
from infra.settings import data_folder, load_settings
from schemas.errors import ConfigError
from schemas.topics import CATALOGUE
from streams.kafka.connection import Connection
from streams.kafka.topics import ClusterTopics

_STOP_TIMEOUT_S = 20.0
_WORKERS = 2

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


async def run_live(speed: float, port: int, *, is_exiting: bool, console: Console) -> int:
    """Run everything until a signal, or with ``is_exiting`` until the recording is played.

    Raises ConfigError for a speed that is none, or a port that is none or taken.
    """
    check_speed(speed)
    check_port(port)
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
    console.print(f"kafka {running.address}, {len(CATALOGUE)} topics")
    workers: list[subprocess.Popen[bytes]] = []
    try:
        connection = Connection(bootstrap=running.address)
        await ClusterTopics(connection).apply()
        await publish_definitions(connection, "demo")
        workers += [
            _start_worker(config, running.address, folder, n, console) for n in range(_WORKERS)
        ]
        await _play(connection, config, running.address, speed, port, stop, console,
                    is_exiting=is_exiting)  # fmt: skip
    finally:
        console.print("stopping")
        await asyncio.get_running_loop().run_in_executor(None, _stop_all, workers, node)
    return 0


def _start_worker(
    config: Path, address: str, folder: Path, number: int, console: Console
) -> subprocess.Popen[bytes]:
    port = free_port()
    log_file = folder / f"worker-{number}.log"
    console.print(
        f"worker {number} http://127.0.0.1:{port}/readyz, /healthz and /metrics; log {log_file}",
        soft_wrap=True,
    )
    arguments = ["worker", "--supervise", "--config", str(config), "--bootstrap", address]
    arguments += ["--port", str(port)]
    with log_file.open("wb") as log:
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
    settings = msgspec.structs.replace(settings, kafka=addressed(settings.kafka, address))
    serving = asyncio.create_task(serve_web(settings, port, stop, console))
    pace = f"{speed:g} x real time" if speed else "full speed"
    console.print(
        f"playing six and a half hours of SPY and IBM at {pace}; the strategy trades when"
        " it has 20 minute bars (--speed 60 shows that in half a minute)",
        soft_wrap=True,
    )
    playing = asyncio.create_task(_publish(connection, speed, stop, console))
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


async def _publish(
    connection: Connection, speed: float, stop: asyncio.Event, console: Console
) -> int:
    with progress_bar(console, "recording") as bar:
        return await publish_recording(
            connection, "demo", speed=speed, stop=stop, on_total=bar.total, on_progress=bar.advance
        )


def _stop_all(workers: list[subprocess.Popen[bytes]], node: Node) -> None:
    for worker in workers:
        worker.terminate()
    for worker in workers:
        try:
            worker.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            worker.kill()
    node.stop()
