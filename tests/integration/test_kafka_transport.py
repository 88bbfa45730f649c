"""The transport of batches on a real broker: every record once, in order; commits reach the end."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import faust
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from faust.types import TP

from agents.runners.kafka.app import new_app
from agents.runners.kafka.transport import Positions
from streams.kafka.connection import Connection

Handle = Callable[[TP, list[Any]], Awaitable[None]]


async def new_topic(bootstrap: str, partitions: int, name: str = "", **settings: str) -> str:
    name = name or f"transport.{uuid.uuid4().hex[:8]}"
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    configs = {key.replace("_", "."): value for key, value in settings.items()}
    await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=configs)])
    await admin.close()
    return name


async def produce(
    bootstrap: str, topic: str, partition: int, values: range, **terms: Any
) -> AIOKafkaProducer:
    """Send numbers as texts; the producer is stopped unless it is transactional."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, **terms)
    await producer.start()
    if "transactional_id" in terms:
        await producer.begin_transaction()
    sent = [await producer.send(topic, b"%d" % value, partition=partition) for value in values]
    await asyncio.gather(*sent)
    if "transactional_id" not in terms:
        await producer.stop()
    return producer


@asynccontextmanager
async def reading(
    bootstrap: str,
    topic: str,
    handle: Handle,
    folder: Path,
    *,
    group: str = "",
    positions: Positions | None = None,
) -> AsyncIterator[faust.App]:
    """Run an agent that hands every batch to ``handle``."""
    connection = Connection(bootstrap=bootstrap)
    group = group or uuid.uuid4().hex
    app = new_app(group, connection, str(folder / uuid.uuid4().hex), positions)
    source = app.topic(topic, key_serializer="raw", value_serializer="raw", value_type=bytes)

    @app.agent(source, concurrency=1)
    async def read(stream: Any) -> None:
        async for event in stream.noack().events():
            await handle(event.message.tp, event.message.value.records)
            app.consumer.ack(event.message)

    await app.start()
    try:
        yield app
    finally:
        await app.stop()


async def committed(bootstrap: str, group: str, topic: str, partition: int) -> int | None:
    consumer = AIOKafkaConsumer(bootstrap_servers=bootstrap, group_id=group)
    await consumer.start()
    try:
        found: int | None = await consumer.committed(TopicPartition(topic, partition))
        return found
    finally:
        await consumer.stop()


class Seen:
    """Remembers what came, by partition, and tells when there is enough."""

    def __init__(self) -> None:
        self.values: dict[int, list[int]] = {}
        self.batches = 0
        self._more = asyncio.Event()

    async def __call__(self, tp: TP, records: list[Any]) -> None:
        """Take a batch."""
        self.batches += 1
        self.values.setdefault(tp.partition, []).extend(int(r.value) for r in records)
        self._more.set()

    @property
    def count(self) -> int:
        """How many records came."""
        return sum(len(values) for values in self.values.values())

    async def wait(self, count: int) -> None:
        """Wait until ``count`` records came."""
        async with asyncio.timeout(30):
            while self.count < count:
                self._more.clear()
                await self._more.wait()


async def reaches(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        # Kafka tells of commits and assignments to those alone who ask.
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.2)


async def test_every_record_comes_once_in_the_order_of_its_partition(
    bootstrap: str, tmp_path: Path
) -> None:
    topic = await new_topic(bootstrap, 3)
    for partition in range(3):
        await produce(bootstrap, topic, partition, range(5000))
    seen = Seen()
    async with reading(bootstrap, topic, seen, tmp_path):
        await seen.wait(15_000)
        await produce(bootstrap, topic, 1, range(5000, 5010))
        await seen.wait(15_010)
    assert seen.values == {0: [*range(5000)], 1: [*range(5010)], 2: [*range(5000)]}
    assert seen.batches < 1000


async def test_commits_pass_aborted_transactions_and_reach_the_end(
    bootstrap: str, tmp_path: Path
) -> None:
    topic = await new_topic(bootstrap, 1)
    for number in range(3):
        producer = await produce(
            bootstrap, topic, 0, range(10), transactional_id=f"{topic}-{number}"
        )
        await (producer.abort_transaction() if number == 1 else producer.commit_transaction())
        await producer.stop()
    seen, group = Seen(), uuid.uuid4().hex
    async with reading(bootstrap, topic, seen, tmp_path, group=group):
        await seen.wait(30)

        async def is_at_end() -> bool:
            # Each transaction ends with a marker that takes an offset and is no record.
            return await committed(bootstrap, group, topic, 0) == 32

        await reaches(is_at_end)


async def test_restart_goes_on_where_the_work_ended(bootstrap: str, tmp_path: Path) -> None:
    topic, group = await new_topic(bootstrap, 1), uuid.uuid4().hex
    await produce(bootstrap, topic, 0, range(100))
    first = Seen()
    async with reading(bootstrap, topic, first, tmp_path, group=group):
        await first.wait(100)

        async def is_committed() -> bool:
            return await committed(bootstrap, group, topic, 0) == 100

        await reaches(is_committed)
    await produce(bootstrap, topic, 0, range(100, 120))
    second = Seen()
    async with reading(bootstrap, topic, second, tmp_path, group=group):
        await second.wait(20)
    assert second.values == {0: [*range(100, 120)]}


async def test_batch_that_is_still_in_work_is_not_committed(bootstrap: str, tmp_path: Path) -> None:
    topic, group = await new_topic(bootstrap, 1), uuid.uuid4().hex
    await produce(bootstrap, topic, 0, range(10))
    release, started = asyncio.Event(), asyncio.Event()

    async def hang(*_: Any) -> None:
        started.set()
        await release.wait()

    async with reading(bootstrap, topic, hang, tmp_path, group=group):
        async with asyncio.timeout(20):
            await started.wait()
        await asyncio.sleep(1.5)  # three intervals of commits
        assert await committed(bootstrap, group, topic, 0) is None
        release.set()

        async def is_committed() -> bool:
            return await committed(bootstrap, group, topic, 0) == 10

        await reaches(is_committed)


async def test_positions_of_the_state_win_and_commits_wait_for_it(
    bootstrap: str, tmp_path: Path
) -> None:
    topic, group = await new_topic(bootstrap, 1), uuid.uuid4().hex
    await produce(bootstrap, topic, 0, range(50))
    asked: list[frozenset[TP]] = []

    async def positions(assigned: frozenset[TP]) -> dict[TP, int]:
        asked.append(assigned)
        return {TP(topic, 0): 20}

    seen = Seen()
    async with reading(bootstrap, topic, seen, tmp_path, group=group, positions=positions) as app:
        await seen.wait(30)
        await asyncio.sleep(1.2)
        assert await committed(bootstrap, group, topic, 0) is None
        app.consumer.commits.allow(TP(topic, 0), 40)  # type: ignore[attr-defined]

        async def is_committed() -> bool:
            return await committed(bootstrap, group, topic, 0) == 40

        await reaches(is_committed)
    assert seen.values == {0: [*range(20, 50)]}
    assert asked[0] == {TP(topic, 0)}


@pytest.mark.parametrize(
    ("at", "told"), [(20, "needs records 20 to 29"), (80, "ends at offset 50")]
)
async def test_place_that_the_log_does_not_have_is_told_not_passed_over(
    bootstrap: str, tmp_path: Path, at: int, told: str
) -> None:
    topic = await new_topic(bootstrap, 1)
    await produce(bootstrap, topic, 0, range(50))
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=30)})
    await admin.close()

    async def positions(assigned: frozenset[TP]) -> dict[TP, int]:
        return dict.fromkeys(assigned, at)

    seen = Seen()
    async with reading(bootstrap, topic, seen, tmp_path, positions=positions) as app:

        async def is_told() -> bool:
            return app.consumer.fault() is not None  # type: ignore[attr-defined]

        await reaches(is_told)
        assert told in str(app.consumer.fault())  # type: ignore[attr-defined]
    assert seen.count == 0


async def test_second_worker_takes_over_half_and_nothing_is_lost(
    bootstrap: str, tmp_path: Path
) -> None:
    topic, group = await new_topic(bootstrap, 4), uuid.uuid4().hex
    for partition in range(4):
        await produce(bootstrap, topic, partition, range(200))
    one, two = Seen(), Seen()
    async with reading(bootstrap, topic, one, tmp_path, group=group):
        await one.wait(800)
        async with reading(bootstrap, topic, two, tmp_path, group=group):

            async def shares() -> bool:
                for partition in range(4):
                    await produce(bootstrap, topic, partition, range(200, 201))
                return two.count > 0

            await reaches(shares)

            async def have_all() -> bool:
                await asyncio.sleep(0)
                seen = [set(s.values.get(p, [])) for p in range(4) for s in (one, two)]
                return sum(200 in values for values in seen) >= 4

            await reaches(have_all)
    for partition in range(4):
        values = one.values.get(partition, []) + two.values.get(partition, [])
        assert set(values) == {*range(201)}


async def test_partitions_that_nobody_knew_of_are_dealt_out_soon(
    bootstrap: str, tmp_path: Path
) -> None:
    # As on a broker that has just come back: the group has nothing, and no fault, to work on.
    topic, seen = f"transport.{uuid.uuid4().hex[:8]}", Seen()
    async with reading(bootstrap, topic, seen, tmp_path) as app:
        assert app.consumer.assignment() == set()
        await new_topic(bootstrap, 2, topic)
        for partition in range(2):
            await produce(bootstrap, topic, partition, range(10))
        await seen.wait(20)
    assert seen.values == {0: list(range(10)), 1: list(range(10))}
