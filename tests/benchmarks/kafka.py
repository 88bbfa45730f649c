"""Kafka workers against aiokafka itself and other frameworks, on a real broker of this machine.

Every reader is a process of its own; the ways of reading take turns, round by round, so that what
the machine does meanwhile hits all of them.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import sys
import uuid
from pathlib import Path
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient

from infra.kafka.node import Node
from infra.settings import data_folder
from schemas.topics import CATALOGUE, MARKET_EVENTS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher
from streams.kafka.topics import ClusterTopics
from tests.benchmarks.kafka_case import history
from tests.benchmarks.kafka_readers import FRAMEWORKS

_ROOT = Path(__file__).resolve().parents[2]
_FRAMEWORKS = _ROOT / "build" / "bench-frameworks"
_FASTSTREAM = "faststream==0.7.8"
_FILL = 20_000
_TIMEOUT_S = 600.0
_DELETED_TIMEOUT_S = 20.0


class Counts(NamedTuple):
    """How much is measured; a plain Faust agent gets ``trades`` / 20."""

    trades: int = 1_000_000
    rounds: int = 3
    seconds: float = 20.0


class Way(NamedTuple):
    """A way of reading: the module that does it, its first argument, the share of trades."""

    label: str
    module: str
    name: str
    share: float = 1.0


READERS = (
    Way("aiokafka getmany, typed decode", "kafka_readers", "raw"),
    Way("Faust agent, stock transport", "kafka_readers", "faust", 0.05),
    Way("FastStream batch subscriber", "kafka_readers", "faststream"),
    Way("Millrace worker, decode only", "kafka_readers", "batches"),
    Way("Millrace worker, market stage", "kafka_worker", "market", 0.4),
    Way("Millrace worker, all stages", "kafka_worker", "market,venue,account,strategy", 0.1),
)


def run_kafka(folder: Path, counts: Counts) -> None:
    """Start a broker, measure, print the tables."""
    node = Node(folder / "node", jars=data_folder() / "kafka", heap="1g")
    address = node.start().address
    try:
        asyncio.run(fill(address, counts.trades))
        ways = [way for way in READERS if way.name != "faststream" or _has_faststream()]
        show_rates(measure_readers(address, ways, counts))
    finally:
        node.kill()


def _has_faststream() -> bool:
    """Install FastStream into a folder of its own unless it is there; say so if that fails."""
    if not (_FRAMEWORKS / "faststream").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(_FRAMEWORKS)]
        done = subprocess.run([*command, _FASTSTREAM], check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"FastStream is not measured, it could not be installed: {done.stderr[-200:]}")
            return False
    return True


# ---- topics


async def fill(address: str, trades: int) -> None:
    """Create the topics and write trades, the same number into each partition."""
    connection = Connection(bootstrap=address)
    await ClusterTopics(connection).apply()
    async with Publisher(connection) as publisher:
        for first in range(0, trades, _FILL):
            await publisher.publish(list(history(first, min(_FILL, trades - first))))


async def empty(address: str, keep: frozenset[str] = frozenset({MARKET_EVENTS})) -> None:
    """Delete what earlier workers wrote, and create the topics anew."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    gone = {topic.name for topic in CATALOGUE} - keep
    try:
        await admin.delete_topics(sorted(gone))
        async with asyncio.timeout(_DELETED_TIMEOUT_S):
            while gone & set(await admin.list_topics()):
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await ClusterTopics(Connection(bootstrap=address)).apply()


# ---- readers


def measure_readers(address: str, ways: list[Way], counts: Counts) -> dict[str, list[float]]:
    """Return the rates of each way of reading, by its label, a round each."""
    rates: dict[str, list[float]] = {way.label: [] for way in ways}
    for _ in range(counts.rounds):
        for way in ways:
            rates[way.label].append(_measure(address, way, round(counts.trades * way.share)))
    return rates


def _measure(address: str, way: Way, count: int) -> float:
    if way.module == "kafka_worker":
        asyncio.run(empty(address))
        return float(run_module(way.module, address, uuid.uuid4().hex, way.name, str(count))[-1])
    return float(run_module(way.module, way.name, address, str(count))[-1])


def environment() -> dict[str, str]:
    """Return the environment of the processes that are measured."""
    return {**os.environ, "PYTHONPATH": str(_ROOT), FRAMEWORKS: str(_FRAMEWORKS)}


def run_module(module: str, *arguments: str) -> list[str]:
    """Run a module of the benchmarks and return the words that it printed."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.benchmarks.{module}", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
    )
    return done.stdout.split()


def show_rates(rates: dict[str, list[float]]) -> None:
    """Print medians with their ratios to the first way, and the spread of each."""
    base = statistics.median(next(iter(rates.values())))
    print(f"{'Kafka, 4 partitions, 150-byte trades':40} {'per second':>14} {'to raw':>9}  rounds")
    for label, found in rates.items():
        rate = statistics.median(found)
        rounds = " ".join(f"{value:,.0f}" for value in found)
        print(f"{label:40} {rate:14,.0f} {rate / base:9.3f}  {rounds}")
