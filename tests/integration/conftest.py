"""What the whole session shares: one Kafka, and a database server for each tier there is."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.kafka.node import Node
from streams.database.connecting import Database
from tests.database_case import Servers, tiers
from tests.simulation.kafka_session import Commands

# Runs that tests start as programs keep no history: a server for each would cost minutes. Tests of
# the storage make their own.
os.environ.setdefault("MILLRACE_DATABASE_DSN", "off")

# A broker of a test lives for a minute: Java's second compiler would cost more than it gives back.
os.environ.setdefault("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")

JARS = Path(__file__).resolve().parents[2] / "data" / "kafka"
"""Where the jars stay between sessions; git does not see it."""


@pytest.fixture(scope="session")
def bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of a broker that auto-creates nothing."""
    known = os.environ.get("MILLRACE_KAFKA_BOOTSTRAP")
    if known:
        yield known
        return
    node = Node(tmp_path_factory.mktemp("kafka") / "node", jars=JARS)
    running = node.start()
    try:
        yield running.address
    finally:
        node.kill()


@pytest.fixture(scope="module")
def own_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give the address of an empty broker that no other module writes to."""
    node = Node(tmp_path_factory.mktemp("kafka-own") / "node", jars=JARS)
    running = node.start()
    try:
        yield running.address
    finally:
        node.kill()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Give a broker of a test alone, which may stop or kill it."""
    node = Node(tmp_path / "node", jars=JARS)
    node.start()
    try:
        yield node
    finally:
        running = node.running()
        if running is not None:
            os.kill(running.pid, signal.SIGCONT)
        node.kill()


@pytest.fixture
def commands(node: Node, tmp_path: Path) -> Iterator[Commands]:
    """Give the command line against an empty broker."""
    running = node.running()
    assert running is not None
    commands = Commands(running.address, tmp_path)
    try:
        yield commands
    finally:
        commands.kill()


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Give the database servers; each starts when it is first asked for."""
    found = Servers()
    try:
        yield found
    finally:
        found.close()


@pytest.fixture(params=tiers())
def tier(request: pytest.FixtureRequest) -> str:
    """Give each tier of storage that this machine has, in turn."""
    return str(request.param)


@pytest.fixture
async def database(database_options: dict[str, object]) -> AsyncIterator[Database]:
    """Give a migrated database, which tests of one tier share: use a run id of your own."""
    found = Database(database_options)
    yield found
    await found.close()


@pytest.fixture
def database_options(servers: Servers, tier: str) -> dict[str, object]:
    """Give how to connect to that database."""
    return servers.options(tier)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tiers of storage could be tested on this machine."""
    terminalreporter.write_line(f"storage tiers on this machine: {', '.join(tiers())}")
