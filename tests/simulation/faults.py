"""Fault runs: a session on a real Kafka under fire, and a checker over all its topics.

``python -m tests.simulation.faults --seed 1`` runs the long one (``make faults SEED=1``): 30 kills
of workers, 10 stops of 20 s (anywhere, and between consume, order record, output and snapshot), 10
forced rebalances, 5 kills of the broker. Prints a table; exit status 1 if anything is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from agents.runners.kafka.stages import stage_specs
from agents.strategy.builtin import BUILTIN
from infra.kafka.node import Node, free_port
from infra.kafka.publishing import Numbering
from infra.settings import data_folder
from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.errors import MillraceError
from schemas.instruments import Instrument
from schemas.market_data import Watermark
from schemas.topics import CATALOGUE, MARKET_EVENTS, REFERENCE_INSTRUMENTS, TOPIC_BY_NAME
from streams.journal.batches import EARLIEST_NS, batch_of, records_piece
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing
from streams.kafka.reading import read_to_end
from streams.kafka.topics import ClusterTopics
from tests.kafka_case import CONFIG, data, define, known
from tests.simulation import restless
from tests.simulation.checker import Check, check_session
from tests.simulation.fault_worker import POINTS
from tests.simulation.fleet import Fleet

_CONFIG = """\
[account]
cash = "1000000"
[market]
intervals = ["1m"]
mark_interval_s = 60
[kafka]
run = "faults"
snapshot_interval_s = 1.5
[[strategies]]
name = "momentum_crossover"
strategy_id = "cross-a"
symbols = ["AA"]
on = "1m"
parameters = { fast = 3, slow = 8, weight = 0.2 }
[[strategies]]
name = "momentum_crossover"
strategy_id = "cross-b"
symbols = ["BB"]
on = "1m"
parameters = { fast = 3, slow = 8, weight = 0.2 }
[[strategies]]
name = "momentum_crossover"
strategy_id = "cross-all"
symbols = ["AA", "BB", "CC"]
on = "1m"
parameters = { fast = 5, slow = 12, weight = 0.1 }
[[strategies]]
name = "momentum_crossover"
strategy_id = "ticks"
symbols = ["AA", "CC"]
on = "trade"
parameters = { fast = 40, slow = 90, weight = 0.1 }
[[strategies]]
name = "RESTLESS"
strategy_id = "restless"
symbols = ["AA", "BB", "CC"]
on = "1m"
"""
_SETTLE_TIMEOUT_S = 180.0
_QUIET_S = 10.0
"""Longer than a worker may go without telling anew what it has not read."""


class Plan(NamedTuple):
    """How many faults of each kind, and how long a stop is."""

    kills: int = 30
    stops: int = 10
    rebalances: int = 10
    brokers: int = 5
    stop_s: float = 20.0
    rows: int = 4000


SHORT = Plan(kills=4, stops=2, rebalances=1, brokers=1, stop_s=14.0, rows=600)


class Feeder:
    """Publishes events little by little, numbered, again and again until they are acknowledged."""

    def __init__(self, connection: Connection, events: list[Header]) -> None:
        self.connection = connection
        self.events = events
        self.fed = 0
        self.is_over = False

    async def run(self, until: asyncio.Event) -> None:
        """Feed slowly until the event is set, then all that is left."""
        async with Publisher(self.connection) as publisher:
            counts = await publisher.counts([MARKET_EVENTS])
        numbering = Numbering("feeder", counts)
        at = 0
        while at < len(self.events):
            step = 15 if not until.is_set() else 300
            out: list[Outgoing] = []
            for event in self.events[at : at + step]:
                if isinstance(event, Instrument):
                    await self._publish(out)
                    self.fed += len(out)
                    out = []
                    await _insist(partial(define, self.connection, event))
                elif isinstance(event, Watermark):
                    out += numbering.everywhere(MARKET_EVENTS, event)
                else:
                    out.append(numbering.outgoing(MARKET_EVENTS, event))
            await self._publish(out)
            self.fed += len(out)
            at += step
            await asyncio.sleep(0.1)
            if not until.is_set() and at > 0.9 * len(self.events):
                await until.wait()
        self.is_over = True

    async def _publish(self, out: Sequence[Outgoing]) -> None:
        async def publish() -> None:
            async with Publisher(self.connection) as publisher:
                await publisher.publish(out)

        await _insist(publish)


async def _insist(act: Callable[[], Awaitable[None]]) -> None:
    """Do something again and again until Kafka takes it."""
    while True:
        try:
            await act()
        except (MillraceError, TimeoutError):
            await asyncio.sleep(0.5)
        else:
            return


async def run_faults(
    plan: Plan, seed: int, folder: Path, jars: Path, console: Console
) -> list[Check]:
    """Run a plan and return what the checker found."""
    rng = random.Random(seed)
    node = Node(folder / "node", port=free_port(), jars=jars)
    running = node.start()
    connection = Connection(bootstrap=running.address)
    config = folder / "faults.toml"
    config.write_text(_CONFIG.replace("RESTLESS", f"{restless.__file__}:Restless"))
    universe, _, events = data(plan.rows)
    fleet = Fleet(node, running.address, config, folder)
    try:
        await ClusterTopics(connection).apply()
        async with Publisher(connection) as publisher:
            await publisher.publish(
                [outgoing(REFERENCE_INSTRUMENTS, item) for item in known().instruments]
            )
        feeder, over = Feeder(connection, events), asyncio.Event()
        keeping = asyncio.create_task(fleet.keep(3))
        await asyncio.sleep(6)
        feeding = asyncio.create_task(feeder.run(over))
        for number, fault in enumerate(_faults(plan, rng), 1):
            await asyncio.sleep(rng.uniform(0.5, 3.0))
            began_s = time.monotonic()
            text = await _strike(fault, fleet, plan, rng)
            console.print(f"{number:3} {time.monotonic() - began_s:5.1f} s  {text}")
        over.set()
        await feeding
        await _settled(connection, fleet)
        statuses = await fleet.stop()
        await keeping
        console.print(f"{fleet.restarts} restarts; exit statuses at the end {statuses}")
        batch = _batch(universe, events)
        return await check_session(connection, "faults", batch, feeder.fed)
    finally:
        for worker in fleet.workers:
            worker.kill()
        node.kill()


def _batch(universe: object, events: list[Header]) -> MarketBatch:
    piece = records_piece(universe, [(MARKET_EVENTS, event) for event in events])  # type: ignore[arg-type]
    return batch_of(universe, piece, EARLIEST_NS, 0)  # type: ignore[arg-type]


def _faults(plan: Plan, rng: random.Random) -> list[str]:
    points = [(*POINTS, "anywhere")[i % 4] for i in range(plan.stops)]
    faults = [
        *["kill"] * plan.kills,
        *(f"stop {point}" for point in points),
        *["rebalance"] * plan.rebalances,
        *["broker"] * plan.brokers,
    ]
    rng.shuffle(faults)
    return faults


async def _strike(fault: str, fleet: Fleet, plan: Plan, rng: random.Random) -> str:
    kind, _, point = fault.partition(" ")
    if kind == "kill":
        return await fleet.kill_worker(rng)
    if kind == "stop":
        return await fleet.stop_worker(rng, point, plan.stop_s)
    if kind == "rebalance":
        return await fleet.rebalance(5.0)
    return await fleet.kill_broker(rng.uniform(1.0, 8.0))


async def _settled(connection: Connection, fleet: Fleet) -> None:
    """Wait until nothing is written any more, and every input has a worker that has taken all."""
    specs = stage_specs(CONFIG, {}, BUILTIN)
    inputs = {
        (stage, topic, partition)
        for stage, spec in specs.items()
        for topic in spec.topics
        for partition in range(TOPIC_BY_NAME[topic].partitions)
    }
    looks: list[int] = []
    async with asyncio.timeout(_SETTLE_TIMEOUT_S):
        quiet_since = time.monotonic()
        while time.monotonic() - quiet_since < _QUIET_S:
            total = 0
            for topic in CATALOGUE:
                if topic.name != "system.snapshots.v1":
                    async for _ in read_to_end(connection, topic.name):
                        total += 1
            unread = await asyncio.get_running_loop().run_in_executor(None, fleet.unread)
            is_read = unread is not None and inputs <= unread.keys() and not any(unread.values())
            if not looks or looks[-1] != total or not is_read:
                quiet_since = time.monotonic()
            looks.append(total)
            await asyncio.sleep(1.0)


def show(checks: list[Check], console: Console) -> bool:
    """Print a table; return whether everything holds."""
    table = Table(box=None, pad_edge=False)
    for name in ("check", "looked at", "result"):
        table.add_column(name)
    for check in checks:
        table.add_row(check.name, f"{check.looked_at:,}", check.breach[:300] or "holds")
    console.print(table)
    return not any(check.breach for check in checks)


def main() -> None:
    """Run the faults that the command line names."""
    parser = argparse.ArgumentParser(prog="make faults")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--short", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder for logs and data of the run")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=160)
    plan = SHORT if arguments.short else Plan()
    console.print(f"seed {arguments.seed}: {plan}")
    with tempfile.TemporaryDirectory(prefix="millrace-faults-") as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        jars = data_folder() / "kafka"
        checks = asyncio.run(run_faults(plan, arguments.seed, folder, jars, console))
    sys.exit(0 if show(checks, console) else 1)


if __name__ == "__main__":
    main()
