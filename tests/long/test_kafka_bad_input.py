"""Poison on every stage's input: told with its place and reason, and everything else goes on."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError

from agents.runners.kafka.parts.part import partition_of
from infra.kafka.node import Node
from schemas.codec import decode, encode
from schemas.commands import SubmitOrder
from schemas.enums import Side
from schemas.market_data import Quote, Trade, Watermark
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    ORDER_EVENTS,
    ORDER_FILLS,
    REFERENCE_INSTRUMENTS,
    STRATEGY_INPUTS,
    SYSTEM_DEAD_LETTERS,
    VENUE_COMMANDS,
)
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing
from streams.kafka.reading import read_to_end
from streams.kafka.topics import TIME_SETTING
from tests.generated import universe
from tests.integration.command_line import BOUND_S, Background, millrace, refusal
from tests.integration.conftest import JARS

SHARES = universe(("AA", "BB")).instruments
SHARE = SHARES[0].instrument_id
MINUTE_NS = 60_000_000_000
OPENING_NS = 1_700_000_040_000_000_000
DEEP = b'{"type":"trade","x":' + b"[" * 50_000 + b"]" * 50_000 + b"}"

POISON: dict[str, tuple[bytes | None, str]] = {
    "no JSON": (b"{nonsense", "cannot be read"),
    "two values in one": (b"{}{}", "cannot be read"),
    "another type": (b"[1, 2]", "cannot be read"),
    "an unknown tag": (b'{"type":"nobody"}', "cannot be read"),
    "a field of a wrong type": (b'{"type":"trade","ts_event_ns":"noon"}', "cannot be read"),
    "empty": (b"", "cannot be read"),
    "a tombstone": (None, "tombstone"),
    "no UTF-8": (b'{"type":"\xff\xfe"}', "cannot be read"),
    "NaN": (b'{"type":"trade","price":NaN}', "cannot be read"),
    "nesting": (DEEP, ""),
    "beyond the limit of a value": (b'{"x":"' + b"y" * 300_000 + b'"}', "bytes"),
}
"""Values that no stage can use, and a word of the reason."""

INPUTS = (MARKET_EVENTS, MARKET_BARS, ACCOUNT_INPUTS, STRATEGY_INPUTS, VENUE_COMMANDS)

SETTINGS = f"""
[kafka]
kinds = ["trade", "quote"]

[[strategies]]
name = "buy_and_hold"
symbols = ["{SHARES[1].symbol}"]
on = "1m"
"""


class Cluster(NamedTuple):
    """A cluster with definitions and settings of a session."""

    connection: Connection
    settings: Path

    def words(self, *words: str) -> tuple[object, ...]:
        """Return a command that is about this cluster."""
        return (*words, "--config", self.settings, "--bootstrap", self.connection.bootstrap)

    async def records(self, topic: str) -> list[Any]:
        """Return what is on a topic, as far as it is a record."""
        poison = {value for value, _ in POISON.values()}
        return [
            decode(topic, item.value)
            async for item in read_to_end(self.connection, topic)
            if item.value and item.value not in poison
        ]

    async def until(self, topic: str, count: int) -> list[Any]:
        """Wait until so many records are on a topic."""
        async with asyncio.timeout(BOUND_S):
            while True:
                found = await self.records(topic)
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.3)

    async def write(self, *records: Outgoing) -> list[int]:
        """Write records; return their offsets."""
        async with Publisher(self.connection) as publisher:
            return await publisher.publish(records)

    async def trade(self, minute: int) -> None:
        """Write a minute of trading, and that it is over."""
        ts_ns = OPENING_NS + minute * MINUTE_NS
        out = []
        for item in SHARES:
            name = item.instrument_id
            trade = Trade(ts_event_ns=ts_ns, instrument_id=name, price=100.0, size=10.0)
            quote = Quote(
                ts_event_ns=ts_ns, instrument_id=name, bid_price=99.99, ask_price=100.01,
                bid_size=100.0, ask_size=100.0,
            )  # fmt: skip
            out += [outgoing(MARKET_EVENTS, trade), outgoing(MARKET_EVENTS, quote)]
        mark = Watermark(ts_event_ns=ts_ns + MINUTE_NS, source="clock", source_seq=minute + 1)
        out += [outgoing(MARKET_EVENTS, mark, partition) for partition in range(4)]
        await self.write(*out)


@pytest.fixture
async def cluster(own_bootstrap: str, tmp_path: Path) -> Cluster:
    return await prepared(own_bootstrap, tmp_path)


@pytest.fixture
async def fresh_cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    node = Node(tmp_path / "node", jars=JARS)
    try:
        yield await prepared(node.start().address, tmp_path)
    finally:
        node.kill()


async def prepared(bootstrap: str, folder: Path) -> Cluster:
    """Return a cluster with topics and definitions."""
    settings = folder / "millrace.toml"
    settings.write_text(SETTINGS)
    found = Cluster(Connection(bootstrap=bootstrap), settings)
    assert millrace(*found.words("topics", "apply")).returncode == 0
    await found.write(*(outgoing(REFERENCE_INSTRUMENTS, item) for item in SHARES))
    return found


async def allow_large_records(connection: Connection, topic: str) -> None:
    """Let a topic have records that the catalogue's brokers would refuse."""
    admin = AIOKafkaAdminClient(**connection.client())
    await admin.start()
    try:
        # What is not named here goes back to the broker's default.
        kept = {
            "max.message.bytes": "20000000",
            "cleanup.policy": "delete",
            TIME_SETTING: "LogAppendTime",
        }
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, kept)])
    finally:
        await admin.close()


async def write_large(connection: Connection, topic: str, partition: int, size: int) -> int:
    """Write one value of that many bytes; return its offset."""
    producer = AIOKafkaProducer(**connection.client(), max_request_size=2 * size)
    await producer.start()
    try:
        value = b'{"x":"' + b"y" * size + b'"}'
        return int((await producer.send_and_wait(topic, value, partition=partition)).offset)
    finally:
        await producer.stop()


def order(minute: int, name: str) -> SubmitOrder:
    """Return a market order of the account."""
    ts_ns = OPENING_NS + minute * MINUTE_NS
    return SubmitOrder(
        name, ts_ns, name, "", "paper", "", name, SHARE, Side.BUY, Decimal(1),
        decision_price=100.0, decision_ts_ns=ts_ns,
    )  # fmt: skip


async def test_poison_on_every_input_is_told_and_all_stages_go_on(
    cluster: Cluster, tmp_path: Path
) -> None:
    # Where the account, the strategy and its instrument live, so that every stage reads it.
    homes = {
        MARKET_EVENTS: partition_of(SHARES[1].instrument_id, 4),
        MARKET_BARS: partition_of(SHARES[1].instrument_id, 4),
        ACCOUNT_INPUTS: partition_of("paper", 4),
        STRATEGY_INPUTS: partition_of("buy_and_hold", 4),
        VENUE_COMMANDS: partition_of(SHARE, 4),
    }
    with pytest.raises(MessageSizeTooLargeError):
        # A broker as it comes takes a megabyte.
        await write_large(cluster.connection, MARKET_EVENTS, 0, 10_000_000)
    await allow_large_records(cluster.connection, MARKET_EVENTS)
    words = cluster.words("worker")
    with Background(tmp_path / "worker.log", *words) as worker:
        worker.until("ready")
        await cluster.trade(0)
        await cluster.until(MARKET_BARS, 2)
        wanted: dict[tuple[str, int, int], str] = {}
        for topic in INPUTS:
            bad = [Outgoing(topic, b"k", v, homes[topic]) for v, _ in POISON.values()]  # type: ignore[arg-type]
            for at, (_, word) in zip(await cluster.write(*bad), POISON.values(), strict=True):
                wanted[topic, homes[topic], at] = word
        home = homes[MARKET_EVENTS]
        at = await write_large(cluster.connection, MARKET_EVENTS, home, 10_000_000)
        wanted[MARKET_EVENTS, home, at] = "10,000,008 bytes"

        await cluster.trade(1)
        await cluster.write(outgoing(ACCOUNT_INPUTS, order(2, "first")))
        await cluster.until(ORDER_EVENTS, 2)
        await cluster.trade(3)
        await cluster.until(MARKET_BARS, 6)
        letters = await cluster.until(SYSTEM_DEAD_LETTERS, len(wanted))
        by_place = {(item.topic, item.partition, item.offset): item for item in letters}
        assert set(by_place) == set(wanted)
        assert [p for p, word in wanted.items() if word not in by_place[p].reason] == []
        await cluster.until(ORDER_FILLS, 1)
        assert worker.stop() == 0
    assert "Traceback" not in worker.said()

    listed = millrace(*cluster.words("deadletter", "list"))
    assert len(listed.stdout.splitlines()) == len(wanted)
    name = f"{MARKET_EVENTS}/{home}/{at}"
    shown = json.loads(millrace(*cluster.words("deadletter", "show", name)).stdout)
    assert (shown["offset"], shown["partition"]) == (at, home)
    again = millrace(*cluster.words("deadletter", "retry", "--all"))
    assert again.returncode == 1
    assert "written again" not in again.stdout
    assert len(await cluster.records(SYSTEM_DEAD_LETTERS)) == len(wanted)

    parity = millrace(*cluster.words("parity", "--from-kafka"))
    assert parity.returncode == 0, parity.stdout + parity.stderr
    assert parity.stdout.splitlines()[-1].endswith(" 0 differences")
    recording = tmp_path / "recording"
    assert millrace(*cluster.words("record", str(recording))).returncode == 0
    recorded = millrace("parity", recording)
    assert recorded.stdout.splitlines()[-1] == parity.stdout.splitlines()[-1]
    assert recorded.returncode == 0


async def test_definition_that_cannot_be_used_keeps_no_session_from_starting(
    fresh_cluster: Cluster, tmp_path: Path
) -> None:
    cluster = fresh_cluster
    endless = encode(SHARES[0]).replace(b'"AA', b'"CC')[:-1] + b',"price_increment":"NaN"}'
    for value in (b"{nonsense", endless):
        await cluster.write(Outgoing(REFERENCE_INSTRUMENTS, b"CC.XXXX", value))
    words = cluster.words("worker", "--stages", "venue")
    with Background(tmp_path / "venue.log", *words) as worker:
        worker.until("ready")
        assert worker.stop() == 0
    line = refusal(*words, "--run", "another")
    assert "the topics of this cluster belong to the session kafka" in line
    assert "--run kafka" in line
    reasons = [
        item.reason
        for item in await cluster.records(SYSTEM_DEAD_LETTERS)
        if item.topic == REFERENCE_INSTRUMENTS
    ]
    assert len(reasons) >= 2
    assert any("increment" in reason for reason in reasons)


@pytest.mark.parametrize("stage", ["market", "account"])
async def test_record_of_a_newer_schema_version_stops_the_stage_behind_the_good_ones(
    cluster: Cluster, tmp_path: Path, stage: str
) -> None:
    topic, key = (MARKET_EVENTS, SHARE) if stage == "market" else (ACCOUNT_INPUTS, "paper")
    home = partition_of(key, 4)
    words = cluster.words("worker", "--stages", stage)
    (at,) = await cluster.write(
        Outgoing(topic, key.encode(), b'{"type":"of tomorrow","schema_version":2}', home)
    )
    for _ in range(2):  # A restart does not get past it either.
        with Background(tmp_path / f"{stage}.log", *words) as worker:
            assert worker.wait() == 2
        last = worker.said().splitlines()[-1]
        assert f"offset {at} of {topic}/{home} has a newer schema version" in last
        assert "upgrade Millrace" in last
        assert "Traceback" not in worker.said()
    letters = await cluster.records(SYSTEM_DEAD_LETTERS)
    assert (topic, home, at) not in {(item.topic, item.partition, item.offset) for item in letters}
    line = refusal(*cluster.words("record", str(tmp_path / "recording")))
    assert "newer schema version" in line
