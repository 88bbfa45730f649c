"""The broker that the integration tests share serves here too, or each test has one of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.kafka.node import Node
from tests.integration.conftest import JARS, bootstrap, own_bootstrap
from tests.simulation.kafka_session import Commands

__all__ = ["bootstrap", "own_bootstrap"]


@pytest.fixture
def commands(tmp_path: Path) -> Iterator[Commands]:
    """Give the command line against an empty broker."""
    node = Node(tmp_path / "node", jars=JARS)
    commands = Commands(node.start().address, tmp_path)
    try:
        yield commands
    finally:
        commands.kill()
        node.kill()
