"""Reading a topic to its end on a real broker."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.errors import ConfigError, StorageError
from streams.kafka.connection import Connection
from streams.kafka.reading import read_to_end


async def new_topic(bootstrap: str, partitions: int) -> str:
    name = f"reading.{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1)])
    await admin.close()
    return name


async def values(bootstrap: str, topic: str, *partitions: int) -> list[bytes]:
    connection = Connection(bootstrap=bootstrap)
    async with asyncio.timeout(30):
        return [r.value async for r in read_to_end(connection, topic, partitions or None)]


async def test_all_records_of_all_or_of_chosen_partitions(bootstrap: str) -> None:
    topic = await new_topic(bootstrap, 3)
    assert await values(bootstrap, topic) == []
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for number in range(9):
            await producer.send_and_wait(topic, b"%d" % number, partition=number % 3)
    finally:
        await producer.stop()
    assert sorted(await values(bootstrap, topic)) == [b"%d" % n for n in range(9)]
    assert await values(bootstrap, topic, 1) == [b"1", b"4", b"7"]


async def test_end_that_is_no_record_is_reached(bootstrap: str) -> None:
    topic = await new_topic(bootstrap, 1)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, transactional_id=topic)
    await producer.start()
    try:
        async with producer.transaction():
            await producer.send(topic, b"a")
    finally:
        await producer.stop()
    assert await values(bootstrap, topic) == [b"a"]


async def test_missing_topic_and_missing_broker_are_told(bootstrap: str) -> None:
    with pytest.raises(ConfigError, match="does not have this topic"):
        await values(bootstrap, "no-such-topic")
    with pytest.raises(StorageError, match="nobody who listens"):
        await values("127.0.0.1:1", "any")
