"""Writing to a real broker: order, offsets, keys as foreign clients place them, errors in time."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from schemas.codec import decode
from schemas.errors import ConfigError, StorageError
from schemas.market_data import Trade
from schemas.topics import MARKET_EVENTS, SYSTEM_SNAPSHOTS, TOPIC_BY_NAME
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing, partition_of
from streams.kafka.reading import read_to_end
from streams.kafka.topics import settings_of


async def new_topic(bootstrap: str, partitions: int, settings: dict[str, str] | None = None) -> str:
    name = f"publisher.{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=settings)])
    await admin.close()
    return name


async def read(bootstrap: str, topic: str, count: int) -> dict[int, list[bytes]]:
    """Return the first ``count`` values, by partition."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest")
    await consumer.start()
    try:
        found: dict[int, list[bytes]] = {}
        async with asyncio.timeout(20):
            while sum(map(len, found.values())) < count:
                record = await consumer.getone()
                found.setdefault(record.partition, []).append(record.value)
        return found
    finally:
        await consumer.stop()


async def test_order_and_offsets_hold_over_many_batches(bootstrap: str) -> None:
    topic = await new_topic(bootstrap, 2)
    values = [b"%d" % i + b"." * 1000 for i in range(1500)]  # six batches a partition
    async with Publisher(Connection(bootstrap=bootstrap)) as publisher:
        first = await publisher.publish(
            [Outgoing(topic, b"k", v, i % 2) for i, v in enumerate(values)]
        )
        second = await publisher.publish([Outgoing(topic, b"k", b"last", 0)])
        assert await publisher.publish([]) == []
    assert first == [i // 2 for i in range(1500)]
    assert second == [750]
    assert await read(bootstrap, topic, 1501) == {0: [*values[::2], b"last"], 1: values[1::2]}


async def test_keys_go_where_kafkas_own_partitioner_sends_them(bootstrap: str) -> None:
    topic = await new_topic(bootstrap, 7)
    keys = [f"INSTRUMENT-{i}".encode() for i in range(40)]
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        sent = [await producer.send_and_wait(topic, b"theirs", key=key) for key in keys]
    finally:
        await producer.stop()
    assert [partition_of(key, 7) for key in keys] == [meta.partition for meta in sent]

    async with Publisher(Connection(bootstrap=bootstrap)) as publisher:
        await publisher.publish([Outgoing(topic, key, b"ours") for key in keys])
    found = await read(bootstrap, topic, 80)
    assert all(
        sorted(v) == [b"ours"] * (len(v) // 2) + [b"theirs"] * (len(v) // 2) for v in found.values()
    )


async def test_record_carries_the_key_of_the_catalogue() -> None:
    trade = Trade(ts_event_ns=1, instrument_id="IBM.XNYS", price=1.0, size=1.0)
    item = outgoing(MARKET_EVENTS, trade)
    assert (item.key, item.partition) == (b"IBM.XNYS", None)
    assert decode(MARKET_EVENTS, item.value) == trade


async def test_missing_topic_is_told(bootstrap: str) -> None:
    connection = Connection(bootstrap=bootstrap, request_timeout_s=1)
    async with Publisher(connection) as publisher:
        with pytest.raises(ConfigError, match="does not have this topic"):
            await publisher.publish([Outgoing("no-such-topic", b"", b"x")])


async def test_record_that_kafka_refuses_is_an_error(bootstrap: str) -> None:
    topic = await new_topic(bootstrap, 1)
    async with Publisher(Connection(bootstrap=bootstrap)) as publisher:
        with pytest.raises(StorageError, match="could not be written"):
            await publisher.publish([Outgoing(topic, b"", b"x" * 2_000_000, 0)])
        assert await publisher.publish([Outgoing(topic, b"", b"small", 0)]) == [0]


async def test_state_larger_than_kafkas_default_is_written_and_read(bootstrap: str) -> None:
    wanted = settings_of(TOPIC_BY_NAME[SYSTEM_SNAPSHOTS])
    topic = await new_topic(bootstrap, 1, wanted)
    connection, value = Connection(bootstrap=bootstrap), b"x" * 5_000_000
    async with Publisher(connection) as publisher:
        assert await publisher.publish([Outgoing(topic, b"k", value, 0)]) == [0]
    assert [item.value async for item in read_to_end(connection, topic)] == [value]


async def test_no_broker_is_told_within_the_deadline() -> None:
    with pytest.raises(StorageError, match="does not answer"):
        async with Publisher(Connection(bootstrap="127.0.0.1:1")):
            pass
