"""One Kafka for the whole session: that of the environment, else one of our own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka.node import Node

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
