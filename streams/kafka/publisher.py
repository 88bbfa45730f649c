"""Writes records to Kafka: in batches, in order, acknowledged by all replicas or told as an error.

A key goes to the partition that Kafka's own clients choose (murmur2), so that records of foreign
producers and ours meet. The producer is idempotent: what the client sends again after a lost
acknowledgement is stored once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError, KafkaTimeoutError, UnknownTopicOrPartitionError
from aiokafka.partitioner import murmur2

from schemas.codec import encode
from schemas.envelope import Header
from schemas.errors import UnconfirmedError
from schemas.topics import goes_everywhere, key_of
from streams.kafka.connection import Connection, missing_topic
from streams.kafka.starting import failed, start_client, stop_client

_BATCH_BYTES = 262_144
_DEADLINE_S = 10.0


class Outgoing(NamedTuple):
    """A record on its way; ``partition`` of None is chosen by ``key``."""

    topic: str
    key: bytes
    value: bytes
    partition: int | None = None


def outgoing(topic: str, record: Header, partition: int | None = None) -> Outgoing:
    """Return a record of the catalogue as bytes, with the key that the catalogue names."""
    return Outgoing(topic, key_of(topic, record).encode(), encode(record), partition)


def addressed(topic: str, record: Header, counts: Mapping[str, int]) -> list[Outgoing]:
    """Return a record as often as it has to be written: once, or for every partition."""
    if goes_everywhere(topic, record):
        return [outgoing(topic, record, partition) for partition in range(counts[topic])]
    return [outgoing(topic, record)]


def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition of a key as Kafka's default partitioner chooses it."""
    chosen: int = (murmur2(key) & 0x7FFFFFFF) % partitions
    return chosen


class Publisher:
    """One producer; ``deadline_s`` bounds how long a group of records may take.

    Without one the client keeps records while no broker answers, and writes each once when one
    does. ``make_producer`` takes the arguments of aiokafka's.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        deadline_s: float | None = _DEADLINE_S,
        make_producer: Callable[..., Any] = AIOKafkaProducer,
    ) -> None:
        self._connection = connection
        self._deadline_s = deadline_s
        self._make_producer = make_producer
        self._producer: AIOKafkaProducer | None = None
        self._partitions: dict[str, int] = {}
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        """Connect; raises StorageError or ConfigError as ``start_client`` does."""
        self._producer = self._make_producer(
            **self._connection.client(),
            enable_idempotence=True,
            acks="all",
            max_batch_size=_BATCH_BYTES,
        )
        await start_client(self._producer, self._connection)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        if self._producer is not None:
            await stop_client(self._producer)

    async def publish(self, records: Sequence[Outgoing]) -> list[int]:
        """Write records and return their offsets, once all of them are acknowledged.

        Records of one partition keep their order. Raises StorageError if Kafka refuses them, and
        UnconfirmedError if it says nothing within the deadline: the client may go on to send them,
        and they come again when they are published again.
        """
        try:
            async with asyncio.timeout(self._deadline_s), self._lock:
                return await self._publish(records)
        except (KafkaError, OSError, TimeoutError) as error:
            found = failed(self._connection, "records could not be written to Kafka", error)
            if isinstance(error, (TimeoutError, KafkaTimeoutError)):
                raise UnconfirmedError(
                    found.message, field=found.field, value=found.value, remedy=found.remedy
                ) from error
            raise found from error

    async def _publish(self, records: Sequence[Outgoing]) -> list[int]:
        groups: dict[tuple[str, int], list[int]] = {}
        for index, item in enumerate(records):
            partition = item.partition
            if partition is None:
                partition = partition_of(item.key, await self._count(item.topic))
            groups.setdefault((item.topic, partition), []).append(index)
        offsets = [0] * len(records)
        await asyncio.gather(
            *(
                self._write(topic, partition, indexes, records, offsets)
                for (topic, partition), indexes in groups.items()
            )
        )
        return offsets

    async def _write(
        self,
        topic: str,
        partition: int,
        indexes: Sequence[int],
        records: Sequence[Outgoing],
        offsets: list[int],
    ) -> None:
        assert self._producer is not None  # entered before anything is published
        done = 0
        sent: list[tuple[int, asyncio.Future[object]]] = []
        while done < len(indexes):
            batch = self._producer.create_batch()
            first = done
            while done < len(indexes):
                item = records[indexes[done]]
                if batch.append(timestamp=None, key=item.key, value=item.value) is None:
                    break
                done += 1
            batch.close()
            future = await self._producer.send_batch(batch, topic, partition=partition)
            sent.append((first, future))
        for number, (first, future) in enumerate(sent):
            base = (await future).offset  # type: ignore[attr-defined]
            end = sent[number + 1][0] if number + 1 < len(sent) else len(indexes)
            for place in range(first, end):
                offsets[indexes[place]] = base + place - first

    async def counts(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many partitions each topic has; raises ConfigError for one that is missing."""
        try:
            async with asyncio.timeout(self._deadline_s):
                return {topic: await self._count(topic) for topic in topics}
        except (KafkaError, OSError, TimeoutError) as error:
            raise failed(self._connection, "topics cannot be looked up", error) from error

    async def _count(self, topic: str) -> int:
        count = self._partitions.get(topic)
        if count is None:
            assert self._producer is not None  # entered before anything is published
            try:
                found = await self._producer.partitions_for(topic)
            except UnknownTopicOrPartitionError as error:
                raise missing_topic(topic) from error
            count = self._partitions[topic] = len(found)
        return count
