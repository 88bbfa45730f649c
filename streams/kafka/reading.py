"""Reads topics from their beginning to where they end now: reference data, snapshots.

What is written while it reads is left for the next time.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError

from streams.kafka.connection import FETCH_WAIT_MS, Connection, missing_topic
from streams.kafka.starting import failed, start_client, stop_client

_DEADLINE_S = 60.0
_POLL_MS = 500
_POLL_RECORDS = 4000


async def read_to_end(
    connection: Connection,
    topic: str,
    partitions: Sequence[int] | None = None,
    *,
    deadline_s: float = _DEADLINE_S,
) -> AsyncGenerator[Any, None]:
    """Yield the records of a topic, in the order of each partition, up to their present ends.

    Raises ConfigError for a topic that is not there, StorageError if Kafka gives nothing for
    ``deadline_s``, and what ``start_client`` raises. What is done with the records may take longer.
    """
    consumer = AIOKafkaConsumer(
        topic,
        **connection.client(),
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=FETCH_WAIT_MS,
    )
    loop = asyncio.get_running_loop()
    deadline = loop.time() + deadline_s
    try:
        await start_client(consumer, connection)
        async with asyncio.timeout_at(deadline):
            ends = await _ends(consumer, topic, partitions)
        while True:
            async with asyncio.timeout_at(deadline):
                places = await _positions(consumer, ends)
                if all(at >= end for at, end in places.values()):
                    break
                fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            for place, records in fetched.items():
                for record in records:
                    if place in ends and record.offset < ends[place]:
                        yield record
            if fetched:
                deadline = loop.time() + deadline_s
    except UnknownTopicOrPartitionError as error:
        raise missing_topic(topic) from error
    except (KafkaError, OSError, TimeoutError) as error:
        raise failed(connection, f"{topic} cannot be read from Kafka", error) from error
    finally:
        await stop_client(consumer)


async def _ends(
    consumer: AIOKafkaConsumer, topic: str, partitions: Sequence[int] | None
) -> dict[TopicPartition, int]:
    known = consumer.partitions_for_topic(topic)
    if not known:
        raise missing_topic(topic)
    places = [TopicPartition(topic, p) for p in sorted(known)]
    chosen = [place for place in places if partitions is None or place.partition in partitions]
    ends: dict[TopicPartition, int] = await consumer.end_offsets(chosen)
    return ends


async def _positions(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]
) -> dict[TopicPartition, tuple[int, int]]:
    """Return for each partition where the reader stands and where it ends.

    Compacted topics and transactions end with offsets that no record has, so positions count, not
    records.
    """
    return {place: (await consumer.position(place), end) for place, end in ends.items()}
