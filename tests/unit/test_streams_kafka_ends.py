"""Whether a cluster answers and where it ends, and what ``millrace web`` says of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import pytest

from infra.kafka.serving import cluster
from schemas.errors import StorageError
from schemas.topics import ORDER_FILLS
from streams.kafka.connection import Connection
from streams.kafka.ends import Ends
from streams.kafka.log import KafkaLog
from streams.kafka.ranges import Place

PLACE = (ORDER_FILLS, 1)


class Cluster:
    """Answers while ``error`` is None, raises it else; ``now_s`` is the time."""

    def __init__(self) -> None:
        self.error: StorageError | None = None
        self.is_silent = False
        self.now_s = 100.0
        self.questions = 0
        self.asked = asyncio.Condition()
        self.ends = Ends(self.ask, pause_s=0.0, deadline_s=0.3, now_s=lambda: self.now_s)

    async def ask(self) -> Mapping[Place, int]:
        """Say where partition 1 ends."""
        self.questions += 1
        async with self.asked:
            self.asked.notify_all()
        if self.is_silent:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        return {PLACE: 40 + self.questions}

    async def ask_again(self) -> None:
        """Wait until what is asked from now on has been answered or given up."""
        async with asyncio.timeout(10), self.asked:
            until = self.questions + 2
            await self.asked.wait_for(lambda: self.questions >= until)


@pytest.fixture
def log() -> KafkaLog:
    """Return a log that is not connected."""
    return KafkaLog(Connection(), "run", lambda: 1)


@pytest.mark.parametrize("is_silent", [True, False])
async def test_cluster_that_stops_answering_grows_silent(log: KafkaLog, is_silent: bool) -> None:
    there = Cluster()
    log.ends = there.ends
    assert (there.ends.silent_s, cluster(log).status) == (0.0, "pass")
    running = asyncio.create_task(there.ends.run())
    await there.ask_again()
    there.now_s += 60.0
    await there.ask_again()
    assert (there.ends.silent_s, there.ends.trouble, cluster(log).status) == (0.0, "", "pass")
    assert there.ends.of(PLACE) > 40

    there.is_silent, there.error = is_silent, StorageError("Kafka does not answer")
    await there.ask_again()
    there.now_s += 60.0
    found = cluster(log)
    assert (there.ends.silent_s, found.status, found.is_required) == (60.0, "fail", True)
    assert ("no answer within" if is_silent else "does not answer") in found.detail
    assert there.ends.of(PLACE) > 40

    there.is_silent, there.error = False, None
    await there.ask_again()
    assert (cluster(log).status, there.ends.trouble) == ("pass", "")
    running.cancel()
    await asyncio.wait({running})


async def test_what_cannot_be_written_is_told(log: KafkaLog) -> None:
    log.side.trouble = "no leader"
    assert (cluster(log).status, "no leader" in cluster(log).detail) == ("warn", True)

    log.side.trouble, log.side.lost = "", 3
    assert (cluster(log).status, "3 are lost" in cluster(log).detail) == ("warn", True)
