"""A client that stores its cursor with its results misses nothing and sees nothing twice.

It is killed and started again a hundred times while much is published, and the server with it a few
times: over the journal of one process, and over Kafka.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from infra.kafka.node import Node, free_port
from schemas import topics as t
from schemas.codec import decode
from streams.journal import JournalReader
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing
from streams.kafka.reading import read_to_end
from streams.kafka.topics import ClusterTopics
from tests.integration.conftest import JARS
from tests.simulation.cursor_client import Seen, make_database, seen
from tests.unit.web_run import fill, submit, submitted

KILLS = 100
SERVER_KILLS = 3
SEED = 20131007
ROOT = Path(__file__).resolve().parents[2]
_SETTLE_S = 60.0


class Clients:
    """The process that forks clients, one after the other."""

    def __init__(self, path: Path, port: int, topics: list[str]) -> None:
        self.path = path
        self._arguments = [str(path), f"ws://127.0.0.1:{port}/ws", *topics]
        self._nursery: asyncio.subprocess.Process | None = None
        self._pid = 0

    async def start(self) -> None:
        """Start a client; the first one makes its database."""
        if self._nursery is None:
            make_database(self.path)
            self._nursery = await python("tests.simulation.cursor_client", *self._arguments)
        assert self._nursery.stdin is not None
        assert self._nursery.stdout is not None
        self._nursery.stdin.write(b"\n")
        self._pid = int(await self._nursery.stdout.readline())

    def kill(self) -> None:
        """Kill the client."""
        os.kill(self._pid, signal.SIGKILL)

    async def stop(self) -> None:
        """Kill the client and end the process that forks."""
        self.kill()
        assert self._nursery is not None
        assert self._nursery.stdin is not None
        self._nursery.stdin.close()
        await self._nursery.wait()


async def python(module: str, *arguments: str) -> asyncio.subprocess.Process:
    """Start a module of the tests or of the program."""
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", module, *arguments,
        cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip


class Server:
    """A server that is killed and started again."""

    def __init__(self, module: str, *arguments: str, sign: bytes) -> None:
        self._command = (module, *arguments)
        self._sign = sign
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it serves."""
        self._process = await python(*self._command)
        await self.say(self._sign)

    async def say(self, sign: bytes) -> None:
        """Wait until it prints a line with ``sign``."""
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(120):
            while sign not in (line := await self._process.stdout.readline()):
                assert line, "the server has ended"

    async def kill(self) -> None:
        """Kill it."""
        assert self._process is not None
        self._process.kill()
        await self._process.wait()


async def fire(clients: Clients, server: Server, rng: random.Random) -> None:
    """Kill clients at random instants, and the server among them."""
    server_dies = set(rng.sample(range(5, KILLS), SERVER_KILLS))
    for number in range(KILLS):
        await clients.start()
        if number in server_dies:
            await server.kill()
            await server.start()
        await asyncio.sleep(rng.uniform(0.0, 0.3))
        clients.kill()
    await clients.start()


async def settle(read: Callable[[], Awaitable[Seen]], path: Path) -> tuple[Seen, Seen]:
    """Return what was to be seen and what was, once that is no more than wanted."""
    wanted = await read()
    count = sum(map(len, wanted.values()))
    deadline_s = time.monotonic() + _SETTLE_S
    while sum(map(len, seen(path).values())) < count and time.monotonic() < deadline_s:
        await asyncio.sleep(0.1)
    # A record that is seen twice would come now.
    await asyncio.sleep(0.3)
    return wanted, seen(path)


def faults(wanted: Seen, found: Seen) -> list[str]:
    """Return by partition what was missed, seen twice, or seen that is not there."""
    out = []
    for place in sorted(set(wanted) | set(found)):
        want, got = wanted.get(place, []), found.get(place, [])
        if want != got:
            missed, more = sorted(set(want) - set(got)), sorted(set(got) - set(want))
            twice = len(got) - len(set(got))
            out.append(
                f"{place}: {len(missed)} of {len(want)} missed {missed[:3]}..{missed[-1:]}, "
                f"{len(more)} more {more[:3]}, {twice} twice, last seen {got[-1:]}"
            )
    return out


# ---- one process


async def test_nothing_is_missed_or_seen_twice_over_the_journal(tmp_path: Path) -> None:
    topics = [t.MARKET_EVENTS, t.MARKET_BARS, t.ACCOUNT_INPUTS, t.ORDER_EVENTS, t.ORDER_FILLS,
              t.RISK_DECISIONS, t.PORTFOLIO_POSITIONS]  # fmt: skip
    port = free_port()
    folder = tmp_path / "journal"
    arguments = (str(folder), str(port), "6000", "25")
    server = Server("tests.simulation.serving_process", *arguments, sign=b"ready")
    clients = Clients(tmp_path / "client.db", port, topics)
    await server.start()
    try:
        await fire(clients, server, random.Random(SEED))
        await server.say(b"done")

        async def read() -> Seen:
            reader = JournalReader(folder)
            return {
                (topic, 0): [(at, r.event_id) for at, r in reader.read(topic, 0, 10_000_000)]  # type: ignore[attr-defined]
                for topic in topics
            }

        wanted, found = await settle(read, clients.path)
    finally:
        await clients.stop()
        await server.kill()

    assert faults(wanted, found) == []
    assert sum(map(len, found.values())) > 10_000


# ---- Kafka


@pytest.fixture
def address(tmp_path: Path) -> Any:
    """Give the address of a broker of this test alone."""
    node = Node(tmp_path / "node", jars=JARS)
    running = node.start()
    yield running.address
    node.kill()


class Repeating:
    """Writes records as stages do: numbered by producer and partition, and after a failure again.

    What is written again has the same numbers, at other offsets.
    """

    def __init__(self, publisher: Publisher, rng: random.Random) -> None:
        self._publisher = publisher
        self._rng = rng
        self._numbers: dict[tuple[str, int], int] = {}
        self._last: list[Outgoing] = []
        self._count = 0
        self.repeated = 0

    async def run(self, stop: asyncio.Event) -> None:
        """Write until told to stop."""
        while not stop.is_set():
            fresh = [item for _ in range(5) for item in self._records()]
            if self._rng.random() < 0.2:
                self.repeated += len(self._last)
                await self._publisher.publish(self._last)
            await self._publisher.publish(fresh)
            self._last = fresh
            await asyncio.sleep(0.05)

    def _records(self) -> list[Outgoing]:
        self._count += 1
        name, account = f"o-{self._count}", f"account-{self._count % 7}"
        order = submit(name, account_id=account)
        return [
            self._numbered(t.ACCOUNT_INPUTS, order, self._count % 4),
            self._numbered(t.ORDER_EVENTS, submitted(order), self._count % 4),
            self._numbered(t.ORDER_FILLS, fill(name), self._count % 3),
        ]

    def _numbered(self, topic: str, record: Any, partition: int) -> Outgoing:
        number = self._numbers[topic, partition] = self._numbers.get((topic, partition), 0) + 1
        record.producer, record.producer_seq = f"stage/{topic}", number
        return outgoing(topic, record, partition)


async def each_once(address: str, topics: list[str]) -> Seen:
    """Return what is on Kafka, each producer's record once."""
    wanted: Seen = {}
    for topic in topics:
        marks: dict[tuple[int, str], int] = {}
        async for item in read_to_end(Connection(bootstrap=address), topic):
            record: Any = decode(topic, item.value)
            mark = (item.partition, record.producer)
            if record.producer_seq > marks.get(mark, 0):
                marks[mark] = record.producer_seq
                wanted.setdefault((topic, item.partition), []).append(
                    (item.offset, record.event_id)
                )
    return wanted


@asynccontextmanager
async def writing(address: str, rng: random.Random) -> AsyncIterator[Repeating]:
    """Write to Kafka while the block runs."""
    async with Publisher(Connection(bootstrap=address)) as publisher:
        writer, stop = Repeating(publisher, rng), asyncio.Event()
        running = asyncio.create_task(writer.run(stop))
        try:
            yield writer
        finally:
            stop.set()
            await running


async def test_nothing_is_missed_or_seen_twice_over_kafka(tmp_path: Path, address: str) -> None:
    topics = [t.ACCOUNT_INPUTS, t.ORDER_EVENTS, t.ORDER_FILLS]
    await ClusterTopics(Connection(bootstrap=address)).apply()
    port = free_port()
    arguments = ("web", "--bootstrap", address, "--run", "watched", "--port", str(port))
    server = Server("infra", *arguments, sign=b"serving")
    clients = Clients(tmp_path / "client.db", port, topics)
    rng = random.Random(SEED)
    await server.start()
    try:
        async with writing(address, rng) as writer:
            await fire(clients, server, rng)
        wanted, found = await settle(lambda: each_once(address, topics), clients.path)
    finally:
        await clients.stop()
        await server.kill()

    assert faults(wanted, found) == []
    assert len(found) == 11
    assert writer.repeated > 200
    # How much is written while the clients die depends on how quick the machine is.
    assert sum(map(len, found.values())) > 3_000
