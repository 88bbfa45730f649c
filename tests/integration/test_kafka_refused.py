"""What the stages refuse of market data is in no answer of the API and in no table."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from agents.runners.kafka.parts.part import partition_of
from infra.kafka.reading_rule import StageRules
from schemas.control import RunManifest
from schemas.topics import MARKET_EVENTS, REFERENCE_INSTRUMENTS, SYSTEM_RUNS, TOPIC_BY_NAME
from streams.database.connecting import Database
from streams.database.sinks import Sink
from streams.database.topics import TopicsSource
from streams.kafka.connection import Connection
from streams.kafka.log import KafkaLog
from streams.kafka.publisher import Outgoing, Publisher, outgoing
from streams.kafka.topics import ClusterTopics
from streams.log import Published
from tests.database_case import Servers
from tests.unit.web_run import START_NS, instrument, trade

PARTITIONS = TOPIC_BY_NAME[MARKET_EVENTS].partitions
OLD = instrument("IBM", "XNYS")
HOME = partition_of(OLD.instrument_id, PARTITIONS)
NEW, STRANGE, *_ = (
    item
    for item in (instrument(f"S{n}", "XNYS") for n in range(100))
    if partition_of(item.instrument_id, PARTITIONS) == HOME
)
MANIFEST = RunManifest(event_id="run:1", ts_event_ns=1, mode="kafka", instruments=[OLD])


@pytest.fixture
async def database(servers: Servers) -> AsyncIterator[Database]:
    """Give a database of its own."""
    found = Database(await servers.new_database("plain"))
    yield found
    await found.close()


def traded(price: float, of: str = OLD.instrument_id, at: int = HOME, **fields: Any) -> Outgoing:
    """Return a trade on its way."""
    record = msgspec.structs.replace(trade(price), instrument_id=of, **fields)
    return outgoing(MARKET_EVENTS, record, at)


def market() -> list[Outgoing]:
    """Return market events of which 1.0, 5.0, the definition and 7.0 are good."""
    ahead_ns = time.time_ns() + 3 * 86_400_000_000_000
    return [
        traded(1.0),
        traded(1e300),
        traded(2.0, ts_event_ns=ahead_ns),
        traded(3.0, NEW.instrument_id),
        traded(4.0, at=(HOME + 1) % PARTITIONS),
        traded(5.0),
        outgoing(MARKET_EVENTS, NEW, HOME),
        traded(7.0, NEW.instrument_id),
    ]


def prices_of(found: list[Any]) -> list[float]:
    """Return the prices of the trades among published records."""
    return [item.record.price for item in found if hasattr(item.record, "price")]


async def test_what_the_stages_refuse_is_nowhere(own_bootstrap: str, database: Database) -> None:
    connection = Connection(bootstrap=own_bootstrap)
    await ClusterTopics(connection).apply()

    def sink() -> Sink:
        source = TopicsSource(connection, "r", make_rule=StageRules(connection).make)
        return Sink(database, source, time.time_ns)

    async with Publisher(connection) as out:
        await out.publish([outgoing(SYSTEM_RUNS, MANIFEST)])
        await out.publish(market())
        await sink().drain()
        await check_log(connection, kept=100, wanted=[1.0, 5.0, 7.0])
        # Another one goes on in the middle, and knows what was defined there from its own topic.
        await out.publish([outgoing(REFERENCE_INSTRUMENTS, NEW)])
        await out.publish([traded(8.0, NEW.instrument_id), traded(9.0, STRANGE.instrument_id)])
    second = sink()
    await second.drain()
    assert second.state.rejected == 1
    async with database.reading() as reader:
        stored = await reader.fetch("SELECT price FROM trades ORDER BY price")
        rejects = await reader.fetch("SELECT reason, body FROM sink_rejects ORDER BY reason")
    assert [row["price"] for row in stored] == [1.0, 5.0, 7.0, 8.0]
    wanted = ("instrument S", "instrument S", "price is 1e+300", "the key ", "ts_event_ns is ")
    for row, beginning in zip(rejects, wanted, strict=True):
        assert row["reason"].startswith(beginning)
        assert b'"trade"' in bytes(row["body"])
    # A window of one record: what stands in front of it was not read in its order, so a trade
    # passes that stood in front of the definition.
    await check_log(connection, kept=1, wanted=[1.0, 3.0, 5.0, 7.0, 8.0])


async def check_log(connection: Connection, *, kept: int, wanted: list[float]) -> None:
    """Hold the log to these prices: as it tells of them, in memory and by offset."""
    rule = await StageRules(connection).make()
    told: list[Published] = []
    most = kept * PARTITIONS
    async with KafkaLog(connection, "run", lambda: START_NS, history_max=most, rule=rule) as log:
        await log.load(told.extend)
        page = await log.fetch(MARKET_EVENTS, HOME, 0, 100)
        at_hand = log.at_hand(MARKET_EVENTS, HOME)
        window = log.read(MARKET_EVENTS, at_hand, 100, HOME)
        assert log.read(MARKET_EVENTS, 0, 100, (HOME + 1) % PARTITIONS) == []
    assert prices_of(page.records) == wanted
    assert prices_of(window) == prices_of(told) == (wanted if kept > 1 else [])
    assert (at_hand == 0) == (kept > 1)
