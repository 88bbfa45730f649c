"""What nobody waits for: written in order, kept while Kafka is away, and never lost in silence."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import KafkaError, MessageSizeTooLargeError, TopicAuthorizationFailedError

from schemas.control import ApiWrite
from schemas.envelope import Header
from schemas.errors import StorageError
from schemas.topics import SYSTEM_AUDIT
from streams.kafka.side import SideWriter


def record(name: str) -> ApiWrite:
    """Return the audit of a write."""
    return ApiWrite(
        event_id=name, ts_event_ns=1, operator="ada", method="POST", path="/x", status=200
    )


class Cluster:
    """Takes records, after it has failed with each of ``errors``."""

    def __init__(self, *errors: StorageError) -> None:
        self.errors = list(errors)
        self.names: list[str] = []
        self.troubles: list[str] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.writer = SideWriter(self.write, waiting_max=3, pause_s=0.0, end_s=0.05)

    async def write(self, topic: str, record: Header) -> None:
        """Take a record of the audit."""
        assert isinstance(record, ApiWrite)
        await self.answers.wait()
        self.troubles.append(self.writer.trouble)
        if self.errors:
            raise self.errors.pop(0)
        self.names.append(record.event_id)

    def put(self, *names: str) -> None:
        """Hand records over."""
        for name in names:
            self.writer.put(SYSTEM_AUDIT, record(name))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Write while the block runs, and what waits at its end."""
        work = asyncio.create_task(self.writer.run())
        try:
            yield
            await self.writer.end()
            assert not work.done()
        finally:
            work.cancel()
            await asyncio.wait({work})


async def test_record_is_tried_again_until_it_is_written() -> None:
    cluster = Cluster(StorageError("no answer"), StorageError("no leader"))
    async with cluster.running():
        cluster.put("a", "b")

    assert cluster.names == ["a", "b"]
    assert cluster.troubles == ["", "no answer", "no leader", ""]
    assert (cluster.writer.waiting, cluster.writer.lost, cluster.writer.trouble) == (0, 0, "")


@pytest.mark.parametrize("cause", [MessageSizeTooLargeError, TopicAuthorizationFailedError])
async def test_record_that_kafka_never_takes_does_not_hold_up_the_others(
    caplog: pytest.LogCaptureFixture, cause: type[KafkaError]
) -> None:
    refused = StorageError("records could not be written")
    refused.__cause__ = cause()
    cluster = Cluster(refused)
    async with cluster.running():
        cluster.put("large", "b")

    assert (cluster.names, cluster.writer.lost) == (["b"], 1)
    assert '"event_id":"large"' in caplog.text
    assert not cluster.writer.is_refused  # the next one was taken


async def test_refusal_is_told_until_a_record_is_taken() -> None:
    refused = StorageError("no right to write")
    refused.__cause__ = TopicAuthorizationFailedError()
    cluster = Cluster(refused)
    async with cluster.running():
        cluster.put("a")

    assert (cluster.writer.is_refused, cluster.writer.trouble) == (True, "no right to write")


async def test_what_comes_behind_the_end_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    cluster = Cluster()
    async with cluster.running():
        pass
    cluster.put("late")

    assert (cluster.writer.waiting, cluster.writer.lost) == (0, 1)
    assert '"event_id":"late"' in caplog.text


async def test_what_is_too_much_is_logged_and_does_not_hurt_who_hands_it_over(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = Cluster()
    cluster.put("a", "b", "c", "d")
    assert (cluster.writer.waiting, cluster.writer.lost) == (3, 1)
    assert '"event_id":"d"' in caplog.text

    async with cluster.running():
        pass

    assert cluster.names == ["a", "b", "c"]


async def test_end_comes_also_while_kafka_is_away(caplog: pytest.LogCaptureFixture) -> None:
    away = Cluster()
    away.answers.clear()
    async with away.running():
        away.put("a", "b")

    assert away.writer.lost == 2
    assert all(f'"event_id":"{name}"' in caplog.text for name in "ab")
