"""Waiting for a cluster: how long, what ends it, and that Ctrl-C does."""

from __future__ import annotations

import asyncio

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


async def test_ctrl_c_that_an_attempt_loses_ends_the_wait() -> None:
    begun = asyncio.Event()

    async def attempt() -> None:
        begun.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            raise SILENT from None

    waiting = asyncio.create_task(patiently(attempt, 60.0))
    await begun.wait()
    waiting.cancel()

    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(10):
            await waiting
