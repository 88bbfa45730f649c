"""Processes and topics of the Kafka benchmarks: what is started, filled and emptied."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.topics import CATALOGUE, MARKET_EVENTS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher
from streams.kafka.topics import ClusterTopics
from tests.benchmarks.kafka_case import PARTITIONS, history
from tests.benchmarks.kafka_echo import LOG, TOPICS
from tests.benchmarks.kafka_readers import FRAMEWORKS

ROOT = Path(__file__).resolve().parents[2]
FASTSTREAM = ROOT / "build" / "bench-frameworks"
_FILL = 20_000
_TIMEOUT_S = 900.0
_DELETED_TIMEOUT_S = 30.0


async def fill(address: str, first: int, trades: int) -> None:
    """Write trades, the same number into each partition."""
    async with Publisher(Connection(bootstrap=address), deadline_s=60.0) as publisher:
        for start in range(first, first + trades, _FILL):
            await publisher.publish(list(history(start, min(_FILL, first + trades - start))))


async def empty(address: str, *, keep_trades: bool) -> None:
    """Delete what earlier workers wrote, and create all topics anew."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    ours = {*TOPICS, LOG}
    gone = {topic.name for topic in CATALOGUE} | ours
    if keep_trades:
        gone -= {MARKET_EVENTS}
    try:
        await admin.delete_topics(sorted(gone & set(await admin.list_topics())))
        async with asyncio.timeout(_DELETED_TIMEOUT_S):
            # Kafka tells of its topics to those alone who ask.
            while gone & set(await admin.list_topics()):  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in sorted(ours)])
    finally:
        await admin.close()
    await ClusterTopics(Connection(bootstrap=address)).apply()


def _command(module: str, arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), FRAMEWORKS: str(FASTSTREAM)}


def run_module(module: str, *arguments: str) -> list[str]:
    """Run a module of the benchmarks and return the words that it printed."""
    done = subprocess.run(
        _command(module, arguments),
        env=_environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
    )
    return done.stdout.split()


@contextmanager
def started(module: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a module; ends it by SIGTERM."""
    process = subprocess.Popen(
        _command(module, arguments), env=_environment(), stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=_TIMEOUT_S)


def wait_ready(process: subprocess.Popen[str]) -> None:
    """Wait until a process says that it is ready."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "ready":
            return
    raise RuntimeError(f"{process.args!r} ended with status {process.wait()} before it was ready")
