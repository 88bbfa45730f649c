"""The topics of a cluster as one log: places that mean the same to every process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas import topics as t
from streams.kafka.connection import Connection
from streams.kafka.log import KafkaLog
from streams.kafka.publisher import Outgoing, Publisher, outgoing
from streams.kafka.topics import ClusterTopics
from streams.log import Published
from tests.unit.web_run import START_NS, fill, position, submit, submitted, trade
from web.views.models import Views


@pytest.fixture
async def connection(own_bootstrap: str) -> Connection:
    """Give a cluster with the topics of the catalogue, empty where this module writes."""
    connection = Connection(bootstrap=own_bootstrap)
    await ClusterTopics(connection).apply()
    return connection


@asynccontextmanager
async def following(connection: Connection, history_max: int = 100_000) -> AsyncIterator[KafkaLog]:
    """Give a log that follows the cluster."""
    async with KafkaLog(connection, "run", lambda: START_NS, history_max=history_max) as log:
        await log.load(lambda _: None)
        running = asyncio.create_task(log.run())
        try:
            async with asyncio.timeout(60):
                yield log
        finally:
            running.cancel()
            await asyncio.wait({running})


async def write(connection: Connection, topic: str, numbers: list[int], partition: int = 1) -> None:
    """Write order events, numbered by their producer."""
    records = []
    for number in numbers:
        record: Any = submitted(submit(f"n-{number}"))
        record.producer, record.producer_seq = "stage", number
        records.append(outgoing(topic, record, partition))
    async with Publisher(connection) as publisher:
        await publisher.publish(records)


async def all_of(log: KafkaLog, topic: str, partition: int) -> list[tuple[int, str]]:
    """Return offset and order of all records, read page by page from the beginning."""
    found: list[Published] = []
    at, end = 0, log.end_offset(topic, partition)
    while at < end:
        page = await log.fetch(topic, partition, at, 100)
        found += page.records
        at = page.next_offset
    return [(item.offset, item.record.client_order_id) for item in found]  # type: ignore[attr-defined]


async def until_end(log: KafkaLog, topic: str, partition: int, offset: int) -> None:
    """Wait until the log has come so far."""
    while log.end_offset(topic, partition) < offset:  # noqa: ASYNC110 - it tells of records only
        await asyncio.sleep(0.02)


async def test_every_process_passes_over_the_same_repeated_records(connection: Connection) -> None:
    topic = t.ORDER_EVENTS
    await write(connection, topic, [*range(1, 1501)])
    # After a failure the producer writes some of it again: the same numbers at later offsets.
    await write(connection, topic, [*range(1401, 1601)])
    wanted = [(n - 1, f"n-{n}") for n in range(1, 1501)]
    wanted += [(n + 99, f"n-{n}") for n in range(1501, 1601)]
    async with following(connection) as early:
        told: list[Published] = []
        early.listen(told.extend)
        await write(connection, topic, [*range(1551, 1701)])
        await until_end(early, topic, 1, 1850)
        wanted += [(n + 149, f"n-{n}") for n in range(1601, 1701)]
        # One with everything in memory, one with almost nothing: the same.
        async with following(connection, history_max=40) as late:
            seen = [await all_of(log, topic, 1) for log in (early, late)]
            assert late.at_hand(topic, 1) > 1800
            assert early.at_hand(topic, 1) == 0

    assert seen == [wanted, wanted]
    assert [(item.offset, item.partition) for item in told] == [(at, 1) for at, _ in wanted[-100:]]


async def test_all_is_told_while_it_is_read_though_memory_keeps_the_newest(
    connection: Connection,
) -> None:
    """A position or an order that stands for long must not be lost to those that change often."""
    busy = [position(str(n), strategy_id="busy") for n in range(1, 201)]
    quiet = position("7", strategy_id="quiet")
    records = [outgoing(t.PORTFOLIO_POSITIONS, item) for item in (quiet, *busy)]
    async with Publisher(connection) as publisher:
        await publisher.publish(records)
    views = Views()
    async with KafkaLog(connection, "run", lambda: START_NS, history_max=40) as log:
        await log.load(views.apply)
        views.load(log)
        (place,) = [p for p in range(4) if log.end_offset(t.PORTFOLIO_POSITIONS, p)]
        assert log.at_hand(t.PORTFOLIO_POSITIONS, place) == 191

    held = {p.strategy_id: int(p.quantity) for p in views.portfolio.positions.values()}
    assert held == {"quiet": 7, "busy": 200}
    assert views.portfolio.results.begin.floor is None


async def test_epoch_is_the_same_in_every_process_and_changes_with_the_topic(
    connection: Connection,
) -> None:
    topic = t.REFERENCE_ACTIONS
    async with following(connection) as one, following(connection) as two:
        before = {name.name: one.epoch_of(name.name) for name in t.CATALOGUE}
        assert before == {name.name: two.epoch_of(name.name) for name in t.CATALOGUE}
        assert one.epoch == two.epoch
        epoch = one.epoch
    admin = AIOKafkaAdminClient(bootstrap_servers=connection.bootstrap)
    await admin.start()
    await admin.delete_topics([topic])
    while topic in await admin.list_topics():  # noqa: ASYNC110 - the cluster is asked
        await asyncio.sleep(0.1)
    await admin.close()
    await ClusterTopics(connection).apply()
    async with following(connection) as again:
        changed = [name for name, known in before.items() if again.epoch_of(name) != known]
        assert again.epoch != epoch

    assert changed == [topic]


async def test_what_retention_took_is_told(connection: Connection) -> None:
    topic = t.STRATEGY_INPUTS
    await write(connection, topic, [*range(1, 51)])
    admin = AIOKafkaAdminClient(bootstrap_servers=connection.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(topic, 1): RecordsToDelete(before_offset=30)})
    await admin.close()
    async with following(connection, history_max=4) as log:
        page = await log.fetch(topic, 1, 10, 100)

    assert (page.start, page.next_offset) == (30, 50)
    assert [item.offset for item in page.records] == [*range(30, 50)]


async def cluster_ends(log: KafkaLog, topic: str, partition: int, offset: int) -> None:
    """Wait until the log has heard from the cluster that a partition ends there."""
    while log.ends.of((topic, partition)) < offset:  # noqa: ASYNC110 - the cluster is asked
        await asyncio.sleep(0.02)


async def test_what_is_written_and_not_told_is_known(connection: Connection) -> None:
    topic = t.ORDER_FILLS
    async with KafkaLog(connection, "run", lambda: START_NS) as log, Publisher(connection) as out:
        await log.load(lambda _: None)
        # It asks where the topics end, but does not read them.
        asking = asyncio.create_task(log.ends.run())
        await out.publish([outgoing(topic, fill(str(n)), 2) for n in range(3)])
        async with asyncio.timeout(30):
            await cluster_ends(log, topic, 2, 3)
        asking.cancel()
        assert (log.written_offset(topic, 2), log.end_offset(topic, 2)) == (3, 0)
    async with following(connection) as log:
        await cluster_ends(log, topic, 2, 3)
        assert (log.written_offset(topic, 2), log.end_offset(topic, 2)) == (3, 3)


async def test_what_nobody_can_be_told_is_not_behind(connection: Connection) -> None:
    """A partition that retention has emptied, and one that ends with what cannot be read."""
    emptied, spoiled = t.STRATEGY_SIGNALS, t.ORDER_FILLS
    await write(connection, emptied, [1, 2, 3], partition=3)
    admin = AIOKafkaAdminClient(bootstrap_servers=connection.bootstrap)
    await admin.start()
    await admin.delete_records({TopicPartition(emptied, 3): RecordsToDelete(before_offset=3)})
    await admin.close()
    async with following(connection) as log, Publisher(connection) as out:
        (at,) = await out.publish([Outgoing(spoiled, b"", b"no record", 3)])
        await until_end(log, spoiled, 3, at + 1)
        for topic, end in ((emptied, 3), (spoiled, at + 1)):
            await cluster_ends(log, topic, 3, end)
            assert log.written_offset(topic, 3) == log.end_offset(topic, 3) == end
        assert log.refused == 1


async def test_place_that_is_not_written_yet_is_an_empty_page(connection: Connection) -> None:
    async with following(connection) as log:
        assert await log.fetch(t.RISK_DECISIONS, 3, 0, 10) == ([], 0, 0)


async def test_time_that_no_stage_takes_does_not_move_the_clock(connection: Connection) -> None:
    async with following(connection) as log, Publisher(connection) as publisher:
        before = log.end_offset(t.MARKET_EVENTS, 1)
        wild, sound = trade(1.0), trade(1.0)
        wild.ts_event_ns = 9_000_000_000_000_000_000
        await publisher.publish([outgoing(t.MARKET_EVENTS, item, 1) for item in (wild, sound)])
        await until_end(log, t.MARKET_EVENTS, 1, before + 2)
        assert log.now_ns() == sound.ts_event_ns
