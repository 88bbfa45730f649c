"""A session on Kafka by the commands that people use, and what must hold of it.

``python -m tests.simulation.kafka_session`` plays the whole recording of the demo through one and
through three worker processes (``make session``), each on a Kafka of its own, with a limits change
and breakers in the middle, and prints what was checked.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Sequence
from decimal import Decimal
from pathlib import Path

from rich.console import Console

from infra.data import open_whole
from infra.kafka.node import Node
from infra.kafka.publishing import batch_records, publish_definitions
from infra.settings import data_folder
from infra.times import parse_time
from schemas.columns import MarketBatch
from schemas.enums import BreakerState, Scope
from schemas.envelope import Header
from schemas.errors import StorageError
from schemas.market_data import Watermark
from schemas.risk import LimitSet, SetBreaker, SetLimits
from schemas.topics import ACCOUNT_INPUTS, CATALOGUE, MARKET_EVENTS, SYSTEM_SNAPSHOTS
from streams.journal.batches import EARLIEST_NS, batch_of, records_piece
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher, addressed
from streams.kafka.ranges import PlaceReader
from tests.simulation.checker import Check, check_session
from tests.simulation.faults import show

COMMAND = Path(sys.executable).with_name("millrace")
RUN = "session"
CONFIG = f"""\
# Two accounts; a strategy on one instrument in each, and one over both instruments.
[account]
account_id = "first"
cash = "100000"
[[accounts]]
account_id = "second"
cash = "250000"
[risk.limits]
max_notional = "200000"
[venue]
fee = {{ type = "per_share", rate = "0.005", minimum = "1" }}
latency = {{ submit_ns = 5000000, cancel_ns = 5000000 }}
[market]
intervals = ["1s", "1m"]
mark_interval_s = 1
snapshot_interval_s = 60
[kafka]
run = "{RUN}"
kinds_of = {{ SPY = ["trade"] }}
snapshot_interval_s = 2
[[strategies]]
name = "momentum_crossover"
strategy_id = "spy"
symbols = ["SPY"]
on = "1s"
parameters = {{ fast = 5, slow = 20, weight = 0.5 }}
[[strategies]]
name = "mean_reversion"
strategy_id = "ibm"
account = "second"
symbols = ["IBM"]
on = "1m"
parameters = {{ window = 5 }}
[[strategies]]
name = "momentum_crossover"
strategy_id = "both"
account = "second"
on = "1s"
parameters = {{ fast = 8, slow = 30, weight = 0.2 }}
[[strategies]]
name = "momentum_crossover"
strategy_id = "ticks"
account = "second"
symbols = ["SPY"]
on = "trade"
parameters = {{ fast = 500, slow = 2000, weight = 0.1 }}
"""
_ORDERS_FIRST = 6
_SETTLE_TIMEOUT_S = 400.0
_START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 90.0
_ADDRESS = re.compile(r"http://(127\.0\.0\.1:\d+)")


class Process:
    """One ``millrace`` command in the background, with its output in a file."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str]) -> None:
        self.log = log
        with log.open("wb") as file:
            self.popen = subprocess.Popen(
                command, stdout=file, stderr=subprocess.STDOUT, env=env, start_new_session=True
            )

    @property
    def text(self) -> str:
        """What it has printed by now."""
        return self.log.read_text()

    async def says(self, pattern: str, timeout_s: float = _START_TIMEOUT_S) -> re.Match[str]:
        """Wait for a line of its output."""
        try:
            async with asyncio.timeout(timeout_s):
                while (found := re.search(pattern, self.text)) is None:
                    assert not self.popen.poll(), self.text
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"no {pattern!r} in {self.text!r}") from None
        return found

    async def ended(self, timeout_s: float = _STOP_TIMEOUT_S) -> int:
        """Wait for its end and return the exit status."""
        return await asyncio.get_running_loop().run_in_executor(None, self.popen.wait, timeout_s)

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Ask it to end; return the exit status."""
        self.popen.send_signal(number)
        return await self.ended()

    # ---- of a worker

    async def fetch(self, path: str) -> tuple[int, str]:
        """Return status and body of a path on the port of its health."""
        await self.says(_ADDRESS.pattern)
        address = _ADDRESS.findall(self.text)[-1]  # a worker that started again has another port
        return await asyncio.get_running_loop().run_in_executor(
            None, fetch, f"http://{address}{path}"
        )

    async def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric over all series that have these labels."""
        _, text = await self.fetch("/metrics")
        return metric(text, name, **labels)

    async def reaches(self, name: str, value: float, timeout_s: float = 300, **labels: str) -> None:
        """Wait until a metric is at least ``value``."""
        async with asyncio.timeout(timeout_s):
            while True:
                if await self.metric(name, **labels) >= value:
                    return
                assert not self.popen.poll(), self.text
                await asyncio.sleep(0.2)


def fetch(url: str) -> tuple[int, str]:
    """Return status and body of a page."""
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def metric(text: str, name: str, **labels: str) -> float:
    """Return the sum of a metric in the Prometheus text over all series that have these labels."""
    total = 0.0
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if head.partition("{")[0] == name and all(f'{k}="{v}"' in head for k, v in labels.items()):
            total += float(value)
    return total


class Commands:
    """The ``millrace`` command against one cluster, with a folder for logs and data."""

    def __init__(self, address: str, folder: Path, config: str = CONFIG) -> None:
        self.connection = Connection(bootstrap=address)
        self.folder = folder
        self.workers: list[Process] = []
        self.config = folder / "session.toml"
        self.config.write_text(config)
        self.env = {
            **os.environ,
            "MILLRACE_KAFKA_BOOTSTRAP": address,
            "MILLRACE_DATA_FOLDER": str(folder / "data"),
            "COLUMNS": "200",
        }

    async def apply_topics(self) -> None:
        """Make the topics, and wait until the broker leads them: a busy machine needs a while."""
        await self.run("topics", "apply")
        async with asyncio.timeout(_START_TIMEOUT_S):
            while True:
                try:
                    await self.ends()
                except StorageError:
                    continue
                return

    def start(self, *arguments: str, label: str = "") -> Process:
        """Start a command in the background; ``label`` makes it one of another version."""
        log = self.folder / f"{arguments[0]}-{len(list(self.folder.glob('*.log')))}.log"
        command = [str(COMMAND)]
        if label:
            command = [sys.executable, "-m", "tests.simulation.version_worker", label]
        return Process([*command, *arguments], log, self.env)

    def start_worker(self, *arguments: str, label: str = "") -> Process:
        """Start a worker process of all stages, for which ``kill`` cares."""
        worker = self.start(
            "worker", "--wait", "120", "--config", str(self.config), *arguments, label=label
        )
        self.workers.append(worker)
        return worker

    async def run(self, *arguments: str, timeout_s: float = 600) -> str:
        """Run a command that must end well; return what it printed."""
        process = self.start(*arguments)
        status = await process.ended(timeout_s)
        assert status == 0, process.text
        return process.text

    async def start_workers(self, count: int, *arguments: str) -> None:
        """Start worker processes of all stages, and wait until they are ready."""
        new = [self.start_worker(*arguments) for _ in range(count)]
        for worker in new:
            await worker.says("ready")

    async def stop_workers(self) -> list[int]:
        """End all workers; return their exit statuses."""
        statuses = [await worker.stop() for worker in self.workers]
        self.workers = []
        return statuses

    def kill(self) -> None:
        """End whatever still runs of the workers."""
        for worker in self.workers:
            if worker.popen.poll() is None:
                worker.popen.kill()
                worker.popen.wait(_STOP_TIMEOUT_S)

    async def publish(self, records: Iterable[tuple[str, Header]]) -> None:
        """Write records as the web app does."""
        async with Publisher(self.connection, deadline_s=60) as publisher:
            counts = await publisher.counts(topic.name for topic in CATALOGUE)
            for topic, record in records:
                await publisher.publish(addressed(topic, record, counts))

    async def ends(self) -> int:
        """Return how many offsets the topics have, snapshots left out."""
        async with PlaceReader(self.connection) as reader:
            places = [
                (topic.name, p)
                for topic in CATALOGUE
                for p in range(topic.partitions)
                if topic.name != SYSTEM_SNAPSHOTS
            ]
            return sum((await reader.ends(places)).values())

    async def settled(self) -> None:
        """Wait until the workers have nothing to do and nothing is written any more."""
        looks: list[int] = []
        async with asyncio.timeout(_SETTLE_TIMEOUT_S):
            while True:
                lag = sum([await w.metric("millrace_lag_messages") for w in self.workers])
                looks = [*looks[-3:], await self.ends()] if not lag else []
                if len(looks) == 4 and len(set(looks)) == 1:
                    return
                for worker in self.workers:
                    assert worker.popen.poll() is None, worker.text
                await asyncio.sleep(1.0)


def operator_commands() -> list[tuple[str, Header]]:
    """Return what an operator says: new limits, everything halted and on again, one halted."""
    limits = SetLimits(
        event_id="limits",
        ts_event_ns=1,
        correlation_id="",
        causation_id="",
        scope=Scope.GLOBAL,
        scope_id="",
        limits=LimitSet(max_notional=Decimal(150_000), max_position=Decimal(900)),
        operator="tester",
        reason="smaller",
    )
    breakers = (
        ("trip", Scope.GLOBAL, "", BreakerState.HALTED),
        ("reset", Scope.GLOBAL, "", BreakerState.ACTIVE),
        ("trip-second", Scope.ACCOUNT, "second", BreakerState.HALTED),
    )
    return [
        (ACCOUNT_INPUTS, limits),
        *(
            (
                ACCOUNT_INPUTS,
                SetBreaker(
                    event_id=name,
                    ts_event_ns=1,
                    correlation_id="",
                    causation_id="",
                    scope=scope,
                    scope_id=scope_id,
                    state=state,
                    operator="tester",
                    reason="a test",
                ),
            )
            for name, scope, scope_id, state in breakers
        ),
    ]


def demo_events(until: str) -> tuple[MarketBatch, int]:
    """Return the demo's events up to ``until`` as ``millrace publish`` writes them.

    One batch with a closing watermark, and how many records are on the topic.
    """
    data = open_whole("demo")
    end_ns = parse_time(until, "to") if until else None
    records: list[tuple[str, Header]] = []
    seconds, clock_ns = -1, 0
    marks = 1
    for batch in data.batches(end_ns=end_ns):
        records += batch_records(data.universe, batch)
        for clock_ns in batch.clock.tolist():
            if clock_ns // 1_000_000_000 != seconds:
                seconds = clock_ns // 1_000_000_000
                marks += 1
    fed = len(records) + marks * 4
    records.append(
        (MARKET_EVENTS, Watermark(source="t", source_seq=1, ts_event_ns=clock_ns + 59_999_999_999))
    )
    piece = records_piece(data.universe, records)
    return batch_of(data.universe, piece, EARLIEST_NS, 0), fed


async def run_session(
    commands: Commands, workers: int, until: str, speed: float = 0.0
) -> list[Check]:
    """Publish the demo up to ``until``, run it by worker processes, and check everything.

    The operator's commands come when the first orders are out. At speed 0 the venue has read all
    market data before the first order comes, as in any backlog: whoever wants fills takes a speed
    that the workers can follow.
    """
    play = ["publish", "demo", "--speed", f"{speed:g}", *(("--to", until) if until else ())]
    await commands.apply_topics()
    if speed:
        await publish_definitions(commands.connection, "demo")
    else:
        await commands.run(*play)
    await commands.start_workers(workers)
    publishing = commands.start(*play) if speed else None
    outcome = "order_filled" if speed else "order_submitted"
    async with asyncio.timeout(_SETTLE_TIMEOUT_S):
        # They are counted in other processes.
        while await _orders(commands.workers, outcome) < _ORDERS_FIRST:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await commands.publish(operator_commands())
    if publishing is not None:
        assert await publishing.ended(_SETTLE_TIMEOUT_S) == 0, publishing.text
    await commands.settled()
    statuses = await commands.stop_workers()
    assert statuses == [0] * workers
    batch, fed = demo_events(until)
    checks = await check_session(commands.connection, RUN, batch, fed)
    return [c for c in checks if speed or c.breach != "there are no fills"]


async def _orders(workers: Sequence[Process], outcome: str) -> float:
    return sum([await w.metric("millrace_orders_total", outcome=outcome) for w in workers])


async def parity(commands: Commands, *arguments: str) -> int:
    """Run ``millrace parity``; return how many outputs it compared, all equal."""
    found = json.loads((await commands.run("parity", *arguments, "--json")).splitlines()[-1])
    assert found["differences"] == 0
    assert not any(part["unpublished"] for part in found["parts"])
    return sum(part["compared"] for part in found["parts"])


async def _whole(workers: int, speed: float, folder: Path, console: Console) -> bool:
    node = Node(folder / "node", jars=data_folder() / "kafka", heap="1g")
    commands = Commands(node.start().address, folder)
    began_s = time.monotonic()
    try:
        checks = await run_session(commands, workers, "", speed)
        console.print(f"{workers} workers, speed {speed:g}, {time.monotonic() - began_s:.0f} s")
        is_good = show(checks, console)
        recording = folder / "recording"
        await commands.run("record", str(recording))
        for arguments in ((RUN, "--from-kafka"), (str(recording),)):
            count = await parity(commands, *arguments)
            console.print(
                f"millrace parity {' '.join(arguments)}: {count:,} outputs, 0 differences"
            )
    finally:
        commands.kill()
        node.kill()
    return is_good


def main() -> None:
    """Run the whole demo: as a backlog by one and three workers, then by three as it comes."""
    argparse.ArgumentParser(prog="make session").parse_args()
    console = Console(highlight=False, width=160)
    is_good = True
    for workers, speed in ((1, 0.0), (3, 0.0), (3, 120.0)):
        with tempfile.TemporaryDirectory(prefix="millrace-session-") as name:
            is_good &= asyncio.run(_whole(workers, speed, Path(name), console))
    sys.exit(0 if is_good else 1)


if __name__ == "__main__":
    main()
