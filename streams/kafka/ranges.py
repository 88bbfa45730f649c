"""Reads named stretches of partitions, and follows partitions without a group.

For readers that keep their own place: recovery in recorded order, the order log, data that several
parts of one worker want.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Any, Self

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.errors import StorageError
from streams.kafka.connection import FETCH_WAIT_MS, Connection, missing_topic
from streams.kafka.starting import failed, start_client, stop_client

_POLL_MS = 200
_POLL_RECORDS = 4000
_FETCH_BYTES = 4 * 1024 * 1024
_DEADLINE_S = 60.0
_REMEDY = "start it (`millrace kafka start`); if retention took the records, rebuild"
_GONE = "start again: it is then told what is missing, and whether the work can go on"

Place = tuple[str, int]


class PlaceReader:
    """A client without a group; it stands where it was put and reads on from there."""

    def __init__(self, connection: Connection, *, deadline_s: float = _DEADLINE_S) -> None:
        self._connection = connection
        self._deadline_s = deadline_s
        self._consumer: AIOKafkaConsumer | None = None

    async def __aenter__(self) -> Self:
        """Connect; raises StorageError or ConfigError as ``start_client`` does."""
        self._consumer = AIOKafkaConsumer(
            **self._connection.client(),
            enable_auto_commit=False,
            # An offset that retention took is an error to be told, not a jump to somewhere else.
            auto_offset_reset="none",
            max_partition_fetch_bytes=_FETCH_BYTES,
            fetch_max_wait_ms=FETCH_WAIT_MS,
        )
        await start_client(self._consumer, self._connection)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Disconnect."""
        if self._consumer is not None:
            await stop_client(self._consumer)

    async def put(self, places: Mapping[Place, int]) -> None:
        """Stand at these offsets, and read these partitions only."""
        consumer = self._started()
        consumer.assign([TopicPartition(*place) for place in places])
        for place, offset in places.items():
            consumer.seek(TopicPartition(*place), offset)

    async def counts(self, topics: Iterable[str]) -> dict[str, int]:
        """Return how many partitions each topic has; raises ConfigError for one that is missing."""
        try:
            async with asyncio.timeout(self._deadline_s):
                # What the client itself knows is of assigned topics alone.
                known = await self._started()._client.fetch_all_metadata()
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._failed(error) from error
        found: dict[str, int] = {}
        for topic in topics:
            partitions = known.partitions_for_topic(topic)
            if not partitions:
                raise missing_topic(topic)
            found[topic] = len(partitions)
        return found

    async def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset that the next record of each partition will have."""
        try:
            async with asyncio.timeout(self._deadline_s):
                found = await self._started().end_offsets([TopicPartition(*p) for p in places])
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._failed(error) from error
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def beginnings(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the offset of the first record that each partition still has, or its end."""
        try:
            async with asyncio.timeout(self._deadline_s):
                found = await self._started().beginning_offsets(
                    [TopicPartition(*p) for p in places]
                )
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._failed(error) from error
        return {(tp.topic, tp.partition): offset for tp, offset in found.items()}

    async def waiting(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return how many offsets of each partition are not yet read, as the last answer had it."""
        consumer = self._started()
        found = dict.fromkeys(places, 0)
        for place in found:
            partition = TopicPartition(*place)
            if partition in consumer.assignment():
                end = consumer.highwater(partition) or 0
                found[place] = max(end - await consumer.position(partition), 0)
        return found

    async def read(self, place: Place, stop: int) -> list[Any]:
        """Return the records from where the reader stands up to offset ``stop`` (exclusive).

        Raises StorageError if they do not come within the deadline, or are there no more.
        """
        consumer, partition = self._started(), TopicPartition(*place)
        out: list[Any] = []
        try:
            async with asyncio.timeout(self._deadline_s):
                while (at := await consumer.position(partition)) < stop:
                    fetched = await consumer.getmany(
                        partition, timeout_ms=_POLL_MS, max_records=min(stop - at, _POLL_RECORDS)
                    )
                    for record in fetched.get(partition, ()):
                        if record.offset < stop:
                            out.append(record)
                        else:
                            # A hole hid the end: what lies behind it is for the next time.
                            consumer.seek(partition, record.offset)
        except (KafkaError, OSError, TimeoutError) as error:
            raise self._failed(error) from error
        return out

    async def follow(self) -> dict[Place, list[Any]]:
        """Return what has come to any of the partitions; waits a moment if nothing has."""
        try:
            fetched = await self._started().getmany(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
        except (KafkaError, OSError) as error:
            raise self._failed(error) from error
        return {(tp.topic, tp.partition): records for tp, records in fetched.items() if records}

    def _started(self) -> AIOKafkaConsumer:
        assert self._consumer is not None  # entered before anything is read
        return self._consumer

    def _failed(self, error: BaseException) -> StorageError:
        is_gone = isinstance(error, OffsetOutOfRangeError)
        what = "records cannot be read from Kafka"
        return failed(self._connection, what, error, _GONE if is_gone else _REMEDY)
