"""The broker that the integration tests share serves here too, or each test has one of its own."""

from __future__ import annotations

from tests.integration.conftest import bootstrap, commands, node, own_bootstrap

__all__ = ["bootstrap", "commands", "node", "own_bootstrap"]
