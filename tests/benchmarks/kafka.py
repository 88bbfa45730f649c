"""Kafka workers against aiokafka itself and other frameworks, on a real broker of this machine.

Every reader is a process of its own; the ways of reading take turns, round by round, so that what
the machine does meanwhile hits all of them.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import uuid
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from infra.kafka.node import Node
from infra.settings import data_folder
from tests.benchmarks.kafka_case import EVERY, PARTITIONS
from tests.benchmarks.kafka_runs import FASTSTREAM, empty, fill, run_module, started, wait_ready

_FASTSTREAM = "faststream==0.7.8"
_STAGES = "market,venue,account,strategy"


class Counts(NamedTuple):
    """How much is measured; slower ways of reading get a share of the trades."""

    trades: int = 1_000_000
    rounds: int = 3
    seconds: float = 20.0
    rate: float = 1000.0


class Way(NamedTuple):
    """A way of reading: the module that does it, what it is told, the share of trades."""

    label: str
    module: str
    name: str
    share: float = 1.0


READERS = (
    Way("aiokafka getmany, typed decode", "kafka_readers", "raw"),
    Way("Faust agent, stock transport", "kafka_readers", "faust", 0.02),
    Way("FastStream batch subscriber", "kafka_readers", "faststream"),
    Way("Millrace worker, decode only", "kafka_readers", "batches"),
    Way("Millrace worker, market stage", "kafka_worker", "market", 0.2),
    Way("Millrace worker, all stages", "kafka_worker", _STAGES, 0.05),
)


def run_kafka(folder: Path, counts: Counts, jars: Path | None = None) -> None:
    """Start a broker, measure, print the tables."""
    node = Node(folder / "node", jars=jars or data_folder() / "kafka", heap="1g")
    address = node.start().address
    try:
        asyncio.run(empty(address, keep_trades=False))
        asyncio.run(fill(address, 0, counts.trades))
        ways = [way for way in READERS if way.name != "faststream" or _has_faststream()]
        show_rates(measure_readers(address, ways, counts))
        show_latencies(measure_latencies(address, counts), counts)
        show_workers(measure_workers(address, counts))
    finally:
        node.kill()


def _has_faststream() -> bool:
    """Install FastStream into a folder of its own unless it is there; say so if that fails."""
    if not (FASTSTREAM / "faststream").is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(FASTSTREAM)]
        done = subprocess.run([*command, _FASTSTREAM], check=False, capture_output=True, text=True)
        if done.returncode:
            print(f"FastStream is not measured, it could not be installed: {done.stderr[-200:]}")
            return False
    return True


# ---- throughput


def measure_readers(address: str, ways: list[Way], counts: Counts) -> dict[str, list[float]]:
    """Return the rates of each way of reading, by its label, a round each."""
    rates: dict[str, list[float]] = {way.label: [] for way in ways}
    for _ in range(counts.rounds):
        for way in ways:
            count = str(max(round(counts.trades * way.share), PARTITIONS))
            rates[way.label].append(_measure(address, way, count))
    return rates


def _measure(address: str, way: Way, count: str) -> float:
    if way.module == "kafka_readers":
        return float(run_module(way.module, way.name, address, count)[-1])
    asyncio.run(empty(address, keep_trades=True))
    arguments = (address, uuid.uuid4().hex, way.name, str(PARTITIONS), count)
    return float(run_module(way.module, *arguments)[-1])


def show_rates(rates: dict[str, list[float]]) -> None:
    """Print medians with their ratios to the first way, and every round."""
    base = statistics.median(next(iter(rates.values())))
    print(f"{'Kafka, 4 partitions, 150-byte trades':40} {'per second':>14} {'to raw':>9}  rounds")
    for label, found in rates.items():
        rate = statistics.median(found)
        rounds = " ".join(f"{value:,.0f}" for value in found)
        print(f"{label:40} {rate:14,.0f} {rate / base:9.3f}  {rounds}")
    print(f"(all stages: an order with every {EVERY}th trade)", flush=True)


# ---- latency


def measure_latencies(address: str, counts: Counts) -> dict[str, list[tuple[float, ...]]]:
    """Return (orders, p50, p99 in ms) of the echo chain and of a worker, a round each."""
    found: dict[str, list[tuple[float, ...]]] = {"echo": [], "worker": []}
    for _ in range(counts.rounds):
        for kind, results in found.items():
            asyncio.run(empty(address, keep_trades=False))
            arguments: tuple[str, ...] = ("kafka_echo", address)
            if kind == "worker":
                group = uuid.uuid4().hex
                arguments = ("kafka_worker", address, group, _STAGES, str(PARTITIONS))
            with started(*arguments) as process:
                wait_ready(process)
                words = run_module(
                    "kafka_latency", kind, address, str(counts.rate), str(counts.seconds)
                )
            results.append(tuple(map(float, words[-3:])))
    return found


def show_latencies(found: dict[str, list[tuple[float, ...]]], counts: Counts) -> None:
    """Print medians of p50 and p99, and their ratios to the echo chain."""
    print(f"{f'tick to accepted order, {counts.rate:,.0f} ticks/s':40} "
          f"{'p50 ms':>9} {'p99 ms':>9} {'to raw':>7} {'to raw':>7}  orders")  # fmt: skip
    base: tuple[float, ...] = ()
    for kind, label in (("echo", "aiokafka echo chain"), ("worker", "Millrace worker, all stages")):
        orders, p50, p99 = (statistics.median(column) for column in zip(*found[kind], strict=True))
        base = base or (p50, p99)
        ratios = f"{p50 / base[0]:7.2f} {p99 / base[1]:7.2f}"
        print(f"{label:40} {p50:9.1f} {p99:9.1f} {ratios}  {orders:,.0f}", flush=True)


# ---- one worker, two workers


def measure_workers(address: str, counts: Counts) -> dict[int, list[float]]:
    """Return trades a second of one and of two workers of all stages, a round each."""
    found: dict[int, list[float]] = {1: [], 2: []}
    trades = max(round(counts.trades * 0.05), PARTITIONS)
    for _ in range(counts.rounds):
        for number, rates in found.items():
            asyncio.run(empty(address, keep_trades=False))
            share = (str(PARTITIONS // number), str(trades // number))
            arguments = ("kafka_worker", address, uuid.uuid4().hex, _STAGES, *share)
            with ExitStack() as stack:
                workers = [stack.enter_context(started(*arguments)) for _ in range(number)]
                for worker in workers:
                    wait_ready(worker)
                asyncio.run(fill(address, 0, trades))
                rates.append(sum(_rate(worker) for worker in workers))
    return found


def _rate(worker: subprocess.Popen[str]) -> float:
    assert worker.stdout is not None
    return float(worker.stdout.readline())


def show_workers(found: dict[int, list[float]]) -> None:
    """Print medians and the ratio to one worker."""
    one = statistics.median(found[1])
    for number, rates in found.items():
        rate = statistics.median(rates)
        label = f"{number} worker process{'es' * (number > 1)}, all stages"
        print(f"{label:40} {rate:14,.0f} {rate / one:9.3f}  of one", flush=True)
