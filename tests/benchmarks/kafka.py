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
from collections.abc import Sequence
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
    """How much is measured; slower ways of reading get a share of the trades.

    ``warm_rounds`` of latencies are not counted: a broker that was just started compiles what small
    writes need.
    """

    trades: int = 1_000_000
    rounds: int = 3
    seconds: float = 20.0
    rate: float = 1000.0
    warm_rounds: int = 1


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


class Chain(NamedTuple):
    """A way of an order: what does it, and which stages share a process."""

    label: str
    kind: str
    processes: tuple[str, ...]


CHAINS = (
    Chain("echo chain of aiokafka, one process", "echo", (_STAGES,)),
    Chain("Millrace, one worker for all stages", "worker", (_STAGES,)),
    Chain("echo chain, a process for each hop", "echo", tuple(_STAGES.split(","))),
    Chain("Millrace, a worker for each stage", "worker", tuple(_STAGES.split(","))),
)
"""In pairs: each echo chain is what the one behind it is compared with."""


def measure_latencies(
    address: str, counts: Counts, chains: Sequence[Chain] = CHAINS
) -> dict[Chain, list[tuple[float, ...]]]:
    """Return (orders, p50, p99 in ms) of each chain, a round each."""
    found: dict[Chain, list[tuple[float, ...]]] = {chain: [] for chain in chains}
    for number in range(counts.warm_rounds + counts.rounds):
        for chain, results in found.items():
            result = _measure_chain(address, chain, counts)
            if number >= counts.warm_rounds:
                results.append(result)
    return found


def _measure_chain(address: str, chain: Chain, counts: Counts) -> tuple[float, ...]:
    asyncio.run(empty(address, keep_trades=False))
    group = uuid.uuid4().hex
    with ExitStack() as stack:
        processes = []
        for stages in chain.processes:
            arguments: tuple[str, ...] = ("kafka_echo", address, stages)
            if chain.kind == "worker":
                arguments = ("kafka_worker", address, group, stages, str(PARTITIONS))
            processes.append(stack.enter_context(started(*arguments)))
        for process in processes:
            wait_ready(process)
        words = run_module(
            "kafka_latency", chain.kind, address, str(counts.rate), str(counts.seconds)
        )
    return tuple(map(float, words[-3:]))


def show_latencies(found: dict[Chain, list[tuple[float, ...]]], counts: Counts) -> None:
    """Print medians of p50 and p99, and their ratios to the echo chain of the same processes."""
    print(f"{f'tick to accepted order, {counts.rate:,.0f} ticks/s':40} "
          f"{'p50 ms':>9} {'p99 ms':>9} {'to echo':>8} {'to echo':>8}  orders")  # fmt: skip
    base: tuple[float, ...] = ()
    for chain, rounds in found.items():
        orders, p50, p99 = (statistics.median(column) for column in zip(*rounds, strict=True))
        base = (p50, p99) if chain.kind == "echo" else base
        ratios = f"{p50 / base[0]:8.2f} {p99 / base[1]:8.2f}"
        print(f"{chain.label:40} {p50:9.1f} {p99:9.1f} {ratios}  {orders:,.0f}", flush=True)


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
