"""Waiting for a cluster: how long, and what ends it."""

from __future__ import annotations

import pytest

from infra.kafka.working import patiently
from schemas.errors import ConfigError, StorageError

SILENT = StorageError("Kafka does not answer", field="bootstrap", value="x:1", remedy="start it")


async def test_wait_ends_with_what_the_last_attempt_said() -> None:
    attempts = 0

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        raise SILENT

    with pytest.raises(StorageError, match="does not answer"):
        await patiently(attempt, 1.0)
    assert attempts > 1


async def test_settings_that_the_cluster_refuses_are_not_tried_again() -> None:
    attempts = 0

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        raise ConfigError("refused", field="kafka.password", value="***", remedy="give the right")

    with pytest.raises(ConfigError):
        await patiently(attempt, 60.0)
    assert attempts == 1
