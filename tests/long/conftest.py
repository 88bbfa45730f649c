"""The broker that the integration tests share serves here too."""

from __future__ import annotations

from tests.integration.conftest import bootstrap, own_bootstrap

__all__ = ["bootstrap", "own_bootstrap"]
