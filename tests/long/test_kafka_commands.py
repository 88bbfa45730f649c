"""Commands around a session on Kafka: they start, tell how they are, and leave nothing behind."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from pathlib import Path

import pytest

from infra.kafka.node import Node
from schemas.topics import MARKET_EVENTS
from streams.kafka.publisher import Outgoing, Publisher
from tests.integration.conftest import JARS
from tests.simulation.kafka_session import (
    CONFIG,
    Commands,
    Process,
    fetch,
    metric,
    operator_commands,
)

NOWHERE = "127.0.0.1:1"
SLICE = ("demo", "--to", "2013-10-07T13:33:00Z")
LONG_SLICE = ("demo", "--to", "2013-10-07T14:00:00Z")


def commands_of(node: Node, folder: Path, config: str = CONFIG) -> Commands:
    running = node.running()
    assert running is not None
    return Commands(running.address, folder, config)


@pytest.fixture
def alone(tmp_path: Path) -> Commands:
    """Give the command line without a broker, with jars in its data folder."""
    commands = Commands(NOWHERE, tmp_path)
    del commands.env["MILLRACE_KAFKA_BOOTSTRAP"]
    kafka = tmp_path / "data" / "kafka"
    kafka.mkdir(parents=True)
    for jars in JARS.glob("jars-*"):
        (kafka / jars.name).symlink_to(jars)
    return commands


def processes_of(folder: Path) -> list[str]:
    """Return the command lines of processes that name a folder or work in it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(folder) in line:
            found.append(line)
    return found


def is_free(address: str) -> bool:
    """Return whether nobody listens on an address."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return bool(probe.connect_ex((host, int(port))))


async def test_node_is_started_told_of_and_stopped(alone: Commands) -> None:
    folder = ("--folder", str(alone.folder / "node"))
    status = alone.start("kafka", "status", *folder)
    assert await status.ended() == 1
    assert "not running" in status.text
    started = await alone.run("kafka", "start", "--port", "0", *folder)
    address = re.search(r"kafka (\S+)", started)
    assert address is not None
    try:
        assert address.group(1) in await alone.run("kafka", "status", *folder)
        topics = ("topics", "apply", "--bootstrap", address.group(1))
        assert "as the catalogue has them" in await alone.run(*topics)
    finally:
        assert "stopped" in await alone.run("kafka", "stop", *folder)
    assert is_free(address.group(1))
    assert "was not running" in await alone.run("kafka", "stop", *folder)
    assert processes_of(alone.folder) == []


async def test_live_plays_serves_stops_and_starts_again(alone: Commands) -> None:
    live = alone.start("live", "--port", "0", "--speed", "60")
    kafka = (await live.says(r"kafka (127[\d.:]+),")).group(1)
    web = (await live.says(r"serving http://(\S+)")).group(1)
    assert fetch(f"http://{web}/api/system")[0] == 200
    async with asyncio.timeout(180):
        # Positions and cash come from the topics, when a worker has made them.
        while '"cash"' not in await answer(f"http://{web}/api/portfolio"):  # noqa: ASYNC110
            await asyncio.sleep(0.5)
    assert len([line for line in processes_of(alone.folder) if " worker " in line]) >= 2
    assert await live.stop(signal.SIGINT) == 0, live.text
    assert processes_of(alone.folder) == []
    assert is_free(kafka)
    assert is_free(web)

    again = alone.start("live", "--port", "0", "--speed", "0", "--exit")
    assert await again.ended(600) == 0, again.text
    assert "the recording is played: 373,608 events" in again.text
    assert processes_of(alone.folder) == []


async def answer(url: str) -> str:
    return (await asyncio.get_running_loop().run_in_executor(None, fetch, url))[1]


async def test_supervised_worker_that_stalls_ends_with_the_reason_and_comes_back(
    node: Node, tmp_path: Path
) -> None:
    config = CONFIG.replace("snapshot_interval_s = 2", "stall_timeout_s = 15")
    commands = commands_of(node, tmp_path, config)
    await commands.apply_topics()
    await commands.run("publish", *SLICE, "--speed", "0")
    worker = commands.start_worker("--supervise")
    try:
        await worker.says("ready")
        await commands.settled()
        assert (await worker.fetch("/healthz"))[0] == 200
        running = node.running()
        assert running is not None
        os.kill(running.pid, signal.SIGSTOP)
        await unhealthy(worker)
        await worker.says(r"error: .*(got nowhere for 15 s|Kafka)")
        await worker.says(r"the worker ended \(exit status 3\); starting again")
        os.kill(running.pid, signal.SIGCONT)
        await worker.says(r"starting again(?s:.)*ready")
        await commands.settled()
    finally:
        assert await worker.stop() == 0
    assert processes_of(commands.config) == []


async def unhealthy(worker: Process) -> None:
    """Wait until a worker says of itself that it gets nowhere."""
    async with asyncio.timeout(120):
        while True:
            status, body = await worker.fetch("/healthz")
            if status == 503:
                assert '"status":"stalled"' in body
                return
            await asyncio.sleep(0.3)


MOVED = (
    *("records_consumed_total", "records_produced_total", "batch_records_count"),
    *("handler_seconds_count", "lag_messages", "lag_seconds", "event_latency_seconds_count"),
    *("tick_to_order_seconds_count", "rebalances_total", "snapshots_total", "snapshot_bytes"),
    *("duplicates_dropped_total", "dead_letters_total", "breaker_state", "orders_total"),
    *("risk_denials_total", "event_loop_lag_seconds", "gaps_total"),
)
"""What has to be seen to move, each at some time."""


async def test_every_metric_moves(node: Node, tmp_path: Path) -> None:
    # States are saved often, and there is more to do than between two looks.
    often = CONFIG.replace("snapshot_interval_s = 2", "snapshot_interval_s = 0.5")
    commands = commands_of(node, tmp_path, often)
    await commands.apply_topics()
    await commands.run("publish", *LONG_SLICE, "--speed", "0")
    worker = commands.start_worker()
    seen: set[str] = set()
    watching = asyncio.create_task(watch(worker, seen))
    try:
        await worker.says("ready")
        await commands.publish(operator_commands()[:2])
        await worker.reaches("millrace_orders_total", 5)
        await commands.run("publish", *LONG_SLICE, "--speed", "0")
        await write_poison(commands)
        await worker.reaches("millrace_dead_letters_total", 1)
        await worker.reaches("millrace_gaps_total", 1)
        await commands.settled()
    finally:
        watching.cancel()
        commands.kill()
    assert sorted(f"millrace_{name}" for name in MOVED if f"millrace_{name}" not in seen) == []


async def watch(worker: Process, seen: set[str]) -> None:
    """Note which metrics are more than nothing, again and again."""
    names = [f"millrace_{name}" for name in MOVED]
    while True:
        try:
            _, text = await worker.fetch("/metrics")
        except OSError:
            pass  # it does not listen yet, or is too busy to answer
        else:
            seen.update(name for name in names if metric(text, name) > 0)
        await asyncio.sleep(0.1)


async def write_poison(commands: Commands) -> None:
    """Write what cannot be read, and a record whose producer left two out before it."""
    await write(commands, b"poison")
    mark = b'{"type":"watermark","ts_event_ns":1,"producer":"p","producer_seq":3}'
    await write(commands, mark)


async def write(commands: Commands, value: bytes) -> None:
    async with Publisher(commands.connection) as publisher:
        await publisher.publish([Outgoing(MARKET_EVENTS, b"", value, 0)])
