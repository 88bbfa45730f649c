"""What goes wrong around a worker, by the command line: one clear line each, in bounded time."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic

from infra.kafka.live import only_one
from infra.kafka.node import Node, free_port
from schemas.errors import ConfigError
from schemas.topics import CATALOGUE, MARKET_EVENTS, REFERENCE_INSTRUMENTS, TOPIC_BY_NAME
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher, outgoing
from streams.kafka.topics import ClusterTopics
from tests.generated import universe
from tests.integration.command_line import BOUND_S, Background, millrace, refusal
from tests.integration.conftest import JARS

COMMANDS = (
    ("topics", "apply"),
    ("topics", "diff"),
    ("worker",),
    ("publish", "demo"),
    ("web", "--port", "0"),
    ("record", "FOLDER"),
    ("deadletter", "list"),
    ("parity", "--from-kafka"),
    ("backtest", "--strategy", "buy_and_hold", "--from-kafka"),
)
QUICK = "[kafka]\nrequest_timeout_s = 6\nstall_timeout_s = 5\nsnapshot_interval_s = 1\n"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "millrace.toml"
    path.write_text(QUICK)
    return path


def words(command: tuple[str, ...], address: str, config: Path) -> list[object]:
    """Return a command that is about a cluster."""
    named = [config.parent / "recording" if word == "FOLDER" else word for word in command]
    return [*named, "--bootstrap", address, "--config", config]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_broker_is_told(command: tuple[str, ...], config: Path) -> None:
    # The argument wins over the environment.
    address, env = f"127.0.0.1:{free_port()}", {"MILLRACE_KAFKA_BOOTSTRAP": "127.0.0.1:1"}
    line = refusal(*words(command, address, config), env=env)
    assert "Kafka does not answer" in line
    assert address in line
    assert "has nobody who listens" in line


@contextmanager
def stranger(answer: bytes, asked: threading.Event | None = None) -> Iterator[str]:
    """Give the address of a server that is no Kafka: it says ``answer``, or nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        held: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    link, _ = server.accept()
                except OSError:
                    return
                held.append(link)
                if asked is not None:
                    asked.set()
                if answer:
                    link.recv(1000)
                    link.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for link in held:
                link.close()


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"\x00" * 64],
    ids=["silence", "HTTP", "zeros"],
)
def test_another_server_on_the_port_is_told(answer: bytes, config: Path) -> None:
    with stranger(answer) as address:
        assert "Kafka does not answer" in refusal(*words(("worker",), address, config))


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ('bootstrap = "broker"', "kafka.bootstrap"),
        ("request_timeout_s = 2", "kafka.request_timeout_s"),
        ('protocol = "SASL_SSL"', "kafka.username"),
        ('protocol = "SASL_SSL"\nusername = "ann"\npassword_file = "none"', "kafka.password_file"),
        ('protocol = "SSL"\nca_file = "none.pem"', "kafka.ca_file"),
    ],
)
def test_settings_that_cannot_work_are_told(fields: str, field: str, tmp_path: Path) -> None:
    path = tmp_path / "millrace.toml"
    path.write_text(f"[kafka]\n{fields}\n")
    assert field in refusal("worker", "--config", path)


@pytest.mark.parametrize("command", [("kafka", "start"), ("worker",), ("sink",)], ids=" ".join)
def test_a_number_that_is_no_port_is_told(command: tuple[str, ...]) -> None:
    env = {"MILLRACE_DATABASE_DSN": "postgresql://nobody@127.0.0.1:1/none"}
    assert "there is no such port (port=70000)" in refusal(*command, "--port", "70000", env=env)


def test_a_second_session_of_everything_is_refused(tmp_path: Path) -> None:
    refused = pytest.raises(ConfigError, match="another `millrace live` runs")
    with only_one(tmp_path), refused, only_one(tmp_path):
        pass
    with only_one(tmp_path):
        pass


def test_missing_topics_and_missing_instruments_are_told(own_bootstrap: str, config: Path) -> None:
    for command in COMMANDS[2:]:
        line = refusal(*words(command, own_bootstrap, config))
        assert "topics apply" in line, command
    asyncio.run(ClusterTopics(Connection(bootstrap=own_bootstrap)).apply())
    assert "knows no instrument" in refusal(*words(("worker",), own_bootstrap, config))


def address_of(node: Node) -> str:
    running = node.running()
    assert running is not None
    return running.address


async def make_topics(address: str, partitions: int = 4) -> None:
    """Make the topics with that many partitions of the market data, and define an instrument."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics(
            [
                NewTopic(t.name, partitions if t.name == MARKET_EVENTS else t.partitions, 1)
                for t in CATALOGUE
            ]
        )
    finally:
        await admin.close()
    if partitions == TOPIC_BY_NAME[MARKET_EVENTS].partitions:
        await ClusterTopics(Connection(bootstrap=address)).apply()
    async with Publisher(Connection(bootstrap=address)) as publisher:
        (share,) = universe(("AA",)).instruments
        await publisher.publish([outgoing(REFERENCE_INSTRUMENTS, share)])


async def grow(address: str, partitions: int) -> None:
    """Give the market data more partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_partitions({MARKET_EVENTS: NewPartitions(partitions)})
    finally:
        await admin.close()


def test_other_topics_than_the_catalogue_says_are_told(
    node: Node, config: Path, tmp_path: Path
) -> None:
    address = address_of(node)
    asyncio.run(make_topics(address, 2))
    line = refusal(*words(("worker",), address, config))
    assert "has 2 partitions; the catalogue says 4" in line
    asyncio.run(grow(address, 4))
    line = refusal(*words(("worker",), address, config))
    assert "message.timestamp.type CreateTime; the catalogue says LogAppendTime" in line
    assert millrace(*words(("topics", "apply"), address, config)).returncode == 0
    with Background(tmp_path / "worker.log", *words(("worker",), address, config)) as worker:
        worker.until("ready")
        # What goes to new ones nobody would read.
        asyncio.run(grow(address, 5))
        assert worker.wait() == 2
        assert "has 5 partitions; the catalogue says 4" in worker.said().splitlines()[-1]
    assert "has 5 partitions" in refusal(*words(("parity", "--from-kafka"), address, config))
    assert "not changed without you" in refusal(*words(("topics", "apply"), address, config))


def test_broker_that_goes_away_ends_a_worker_with_its_reason(
    node: Node, config: Path, tmp_path: Path
) -> None:
    address = address_of(node)
    asyncio.run(make_topics(address))
    with Background(tmp_path / "worker.log", *words(("worker",), address, config)) as worker:
        worker.until("ready")
        node.kill()
        assert worker.wait() == 3
    said = worker.said().splitlines()
    assert [line for line in said if line.startswith("error: ")] == said[-1:]
    assert "Kafka" in said[-1]
    assert "Traceback" not in worker.said()


async def make_anew(address: str, topic: str) -> None:
    """Delete a topic and make it again."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.delete_topics([topic])
        async with asyncio.timeout(BOUND_S):
            while topic in await admin.list_topics():  # noqa: ASYNC110 - Kafka tells askers alone
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await ClusterTopics(Connection(bootstrap=address)).apply()


def test_topic_that_was_made_anew_is_not_read_on(node: Node, config: Path, tmp_path: Path) -> None:
    address = address_of(node)
    asyncio.run(make_topics(address))
    with Background(tmp_path / "worker.log", *words(("worker",), address, config)) as worker:
        worker.until("ready")
        assert worker.stop() == 0
    asyncio.run(make_anew(address, REFERENCE_INSTRUMENTS))
    with Background(tmp_path / "again.log", *words(("worker",), address, config)) as worker:
        assert worker.wait() == 2
    assert f"{REFERENCE_INSTRUMENTS} was deleted and made anew" in worker.said().splitlines()[-1]


def test_supervised_worker_waits_for_its_broker(node: Node, config: Path, tmp_path: Path) -> None:
    address = address_of(node)
    asyncio.run(make_topics(address))
    supervised = words(("worker", "--supervise"), address, config)
    with Background(tmp_path / "worker.log", *supervised) as worker:
        worker.until("ready")
        node.kill()
        worker.until("Kafka does not answer")
        worker.until("starting again in", times=2)
        node.start()
        worker.until("ready", times=2)
        assert worker.stop() == 0
    assert "Traceback" not in worker.said()


def test_worker_ends_with_a_supervisor_that_is_killed(
    own_bootstrap: str, config: Path, tmp_path: Path
) -> None:
    asyncio.run(make_topics(own_bootstrap))
    supervised = words(("worker", "--supervise"), own_bootstrap, config)
    with Background(tmp_path / "worker.log", *supervised) as supervisor:
        supervisor.until("ready")
        (worker,) = supervisor.kill()
    until_s = time.monotonic() + BOUND_S
    while Path(f"/proc/{worker}").exists():
        assert time.monotonic() < until_s, "the worker goes on without its supervisor"
        time.sleep(0.1)
    assert "Traceback" not in supervisor.said()


def test_worker_may_wait_for_a_broker(tmp_path: Path, config: Path) -> None:
    port = free_port()
    node = Node(tmp_path / "node", port=port, jars=JARS)
    late = words(("worker", "--wait", "80"), f"127.0.0.1:{port}", config)
    with Background(tmp_path / "worker.log", *late) as worker:
        try:
            running = node.start()
            asyncio.run(make_topics(running.address))
            worker.until("ready")
            assert worker.stop() == 0
        finally:
            node.kill()
    assert "error" not in worker.said()


def test_folders_that_cannot_be_written_are_told(own_bootstrap: str, config: Path) -> None:
    asyncio.run(ClusterTopics(Connection(bootstrap=own_bootstrap)).apply())
    below = config / "below a file"
    assert "below a file" in refusal("record", below, "--bootstrap", own_bootstrap)
    assert "below a file" in refusal("kafka", "start", "--folder", below, "--port", "0")


def test_ctrl_c_while_a_worker_waits_for_kafka_ends_it(tmp_path: Path, config: Path) -> None:
    asked = threading.Event()
    with stranger(b"", asked) as address:
        command = words(("worker", "--wait", "80"), address, config)
        with Background(tmp_path / "worker.log", *command) as worker:
            assert asked.wait(BOUND_S)
            assert worker.interrupt() == 130
    assert "Traceback" not in worker.said()
