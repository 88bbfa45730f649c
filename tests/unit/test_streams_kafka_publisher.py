"""What a publisher says of records that Kafka refuses, and of those it says nothing about."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiokafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError

from schemas.errors import StorageError, UnconfirmedError
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher

RECORD = Outgoing("topic", b"key", b"value", 0)


class Batch:
    """Takes whatever it is given."""

    def append(self, **_: Any) -> object:
        """Take a record."""
        return object()

    def close(self) -> None:
        """Be done."""


class Producer:
    """A client whose cluster answers every batch with ``error``, or never."""

    def __init__(self, error: KafkaError | None) -> None:
        self.client = self
        self._error = error

    async def start(self) -> None:
        """Connect."""

    async def stop(self) -> None:
        """Disconnect."""

    async def close(self) -> None:
        """Disconnect."""

    def create_batch(self) -> Batch:
        """Return an empty batch."""
        return Batch()

    async def send_batch(self, batch: Batch, topic: str, *, partition: int) -> Any:
        """Return what the cluster's answer will be."""
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if self._error is not None:
            answer.set_exception(self._error)
        return answer


async def said(error: KafkaError | None) -> StorageError:
    """Return what a publisher says when the cluster answers so."""
    made = Publisher(Connection(), deadline_s=0.01, make_producer=lambda **_: Producer(error))
    async with made as publisher:
        with pytest.raises(StorageError, match="could not be written") as caught:
            await publisher.publish([RECORD])
    return caught.value


@pytest.mark.parametrize("error", [None, KafkaTimeoutError()])
async def test_records_that_nobody_confirms_may_be_stored(error: KafkaError | None) -> None:
    assert isinstance(await said(error), UnconfirmedError)


async def test_records_that_kafka_refuses_are_not_stored() -> None:
    assert type(await said(MessageSizeTooLargeError())) is StorageError
