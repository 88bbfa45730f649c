"""Three brokers, of which the leader of the market data is lost while a session works."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from infra.kafka.node import Node, Quorum, free_port
from infra.kafka.publishing import publish_definitions
from schemas.topics import MARKET_EVENTS
from streams.kafka.connection import Connection
from tests.integration.conftest import JARS
from tests.simulation.checker import check_session
from tests.simulation.kafka_session import CONFIG, RUN, Commands, demo_events

UNTIL = "2013-10-07T13:35:00Z"
SAFE = """\
[kafka]
replication = 3
min_in_sync_replicas = 2
request_timeout_s = 20
"""
INTERNAL = {
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "transaction.state.log.min.isr": "2",
}


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    """Give three nodes that are one cluster."""
    quorum = Quorum("MilraceTestQuorum00001", [free_port() for _ in range(3)])
    found = [
        Node(
            tmp_path / f"node-{number}", jars=JARS, settings=INTERNAL, quorum=quorum, number=number
        )
        for number in (1, 2, 3)
    ]
    try:
        with ThreadPoolExecutor() as pool:
            list(pool.map(Node.start, found))
        yield found
    finally:
        for node in found:
            node.kill()


async def leader_of(connection: Connection, topic: str) -> int:
    """Return the number of the node that leads the first partition of a topic."""
    admin = AIOKafkaAdminClient(**connection.client())
    await admin.start()
    try:
        (described,) = await admin.describe_topics([topic])
    finally:
        await admin.close()
    (leader,) = [p["leader"] for p in described["partitions"] if p["partition"] == 0]
    return int(leader)


async def test_the_loss_of_a_leader_loses_nothing(nodes: list[Node], tmp_path: Path) -> None:
    addresses = ",".join(running.address for node in nodes if (running := node.running()))
    commands = Commands(addresses, tmp_path, CONFIG.replace("[kafka]\n", SAFE))
    try:
        await commands.run("topics", "apply", "--config", str(commands.config))
        await publish_definitions(commands.connection, "demo")
        await commands.start_workers(2, "--supervise")
        played = ("publish", "demo", "--to", UNTIL, "--config", str(commands.config))
        publishing = commands.start(*played, "--speed", "5")
        for worker in commands.workers:
            await worker.reaches("millrace_records_consumed_total", 1000)
        lost = nodes[await leader_of(commands.connection, MARKET_EVENTS) - 1]
        lost.kill()
        assert publishing.popen.poll() is None, publishing.text
        assert await publishing.ended(120) == 0, publishing.text
        lost.start()
        await commands.settled()
        assert await commands.stop_workers() == [0, 0]
    finally:
        commands.kill()
    checks = await check_session(commands.connection, RUN, *demo_events(UNTIL))
    assert [check for check in checks if check.breach] == []
    assert all(check.looked_at for check in checks if check.name != "no dead letter")
