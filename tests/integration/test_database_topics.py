"""The topics of a real Kafka reach the database once, whatever was written twice."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from schemas.codec import encode
from schemas.envelope import Header
from schemas.topics import MARKET_EVENTS, key_of
from streams.database.connecting import Database
from streams.database.queries import StoredHistory
from streams.database.sinks import Sink
from streams.database.tables import FLOW_BY_SOURCE, SERIES_BY_SOURCE, STORED_TOPICS
from streams.database.topics import TopicsSource
from streams.history import Window
from streams.kafka.connection import Connection
from streams.kafka.topics import ClusterTopics
from tests.database_case import Servers
from tests.kafka_case import one_process_run

Records = list[tuple[str, Header]]


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[Database]:
    """Give a database of its own, of the plain tier: what is below is shown elsewhere."""
    found = Database(await servers.new_database("plain"))
    yield found
    await found.close()


async def write(bootstrap: str, records: Records, *, first_number: int, is_twice: bool) -> None:
    """Write records as workers do: numbered by producer and partition; some of them again."""
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap)
    await producer.start()
    try:
        for number, (topic, record) in enumerate(records, first_number):
            key = key_of(topic, record).encode()
            numbered = record
            if topic != MARKET_EVENTS:
                numbered = msgspec.structs.replace(
                    record, producer="worker", producer_seq=number + 1
                )
            await producer.send(topic, encode(numbered), key=key)
            if is_twice and topic != MARKET_EVENTS and number % 3 == 0:
                await producer.send(topic, encode(numbered), key=key)
        await producer.flush()
    finally:
        await producer.stop()


def expected(records: Records) -> dict[str, int]:
    """Return how many rows each table should have."""
    found: Counter[str] = Counter()
    for topic, record in records:
        table = SERIES_BY_SOURCE.get((topic, type(record))) or FLOW_BY_SOURCE.get(
            (topic, type(record))
        )
        if table is not None:
            found[table.relation] += 1
    return dict(found)


async def stored(database: Database, run_id: str) -> dict[str, int]:
    """Return how many rows each table has, as counted."""
    async with database.reading() as connection:
        names = await connection.fetch(
            "SELECT DISTINCT split_part(relation, '/', 1) AS name FROM spans WHERE run_id = $1",
            run_id,
        )
        return {
            row["name"]: await connection.fetchval(
                f"SELECT count(*) FROM {row['name']} WHERE run_id = $1", run_id
            )
            for row in names
        }


async def test_topics_are_stored_once_and_gone_on_with(
    own_bootstrap: str, database: Database
) -> None:
    connection = Connection(bootstrap=own_bootstrap)
    await ClusterTopics(connection).apply()
    run = one_process_run()
    records: Records = [(MARKET_EVENTS, event) for event in run.events]
    records += [
        (topic, record)
        for topic, made in run.made.items()
        if topic in STORED_TOPICS
        for record in made
    ]
    half = len(records) // 2
    await write(own_bootstrap, records[:half], first_number=0, is_twice=True)

    first = Sink(database, TopicsSource(connection, "k"), time.time_ns)
    await first.drain()
    assert await stored(database, "k") == expected(records[:half])

    await write(own_bootstrap, records[half:], first_number=half, is_twice=True)
    second = Sink(database, TopicsSource(connection, "k"), time.time_ns)
    await second.drain()

    found = await stored(database, "k")
    assert found == expected(records)
    assert {"trades", "quotes", "bars", "orders", "fills", "positions"} <= found.keys()
    assert (second.state.rejected, second.state.gaps) == (0, 0)
    page = await StoredHistory(database).trades(Window("k", limit=5), "AA.XXXX")
    assert len(page.items) == 5

    # What cannot be read is kept aside, with the reason, and holds nobody up.
    producer = AIOKafkaProducer(bootstrap_servers=own_bootstrap)
    await producer.start()
    await producer.send_and_wait(MARKET_EVENTS, b"{no json")
    await producer.stop()
    third = Sink(database, TopicsSource(connection, "k"), time.time_ns)
    await third.drain()
    assert third.state.rejected == 1
    async with database.reading() as reader:
        reasons = await reader.fetch("SELECT reason, body FROM sink_rejects")
    assert [bytes(row["body"]) for row in reasons] == [b"{no json"]
