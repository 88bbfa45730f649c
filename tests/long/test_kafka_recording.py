"""Topics recorded, published and replayed by the commands: exactly, and again after a kill."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from schemas.codec import decode, encode
from schemas.control import StrategySignal
from schemas.envelope import Header
from schemas.topics import (
    CATALOGUE,
    MARKET_BARS,
    MARKET_EVENTS,
    PORTFOLIO_ACCOUNTS,
    STRATEGY_SIGNALS,
    SYSTEM_SNAPSHOTS,
)
from streams.datasets.topics_folder import UNREADABLE_MARK, TopicsFolder, partition_folder
from streams.journal import JournalReader
from streams.kafka.connection import Connection
from streams.kafka.ranges import PlaceReader
from streams.kafka.reading import read_to_end
from tests.simulation.kafka_session import Commands

UNTIL = "2013-10-07T13:33:00Z"
SLICE = ("demo", "--to", UNTIL)
BACKTEST = (
    *("backtest", "--strategy", "momentum_crossover", "--on", "1s", "--param", "fast=3"),
    *("--param", "slow=8", "--cash", "100000", "--json"),
)

DUPLICATES = "millrace_duplicates_dropped_total"
DEFINITIONS = 2
"""Definitions of instruments that a recording begins with; the market stage reads none."""


@pytest.fixture
async def commands(own_bootstrap: str, tmp_path: Path) -> AsyncIterator[Commands]:
    """Give the command line against a broker whose topics exist."""
    commands = Commands(own_bootstrap, tmp_path)
    await commands.apply_topics()
    try:
        yield commands
    finally:
        commands.kill()


async def on_cluster(connection: Connection, topic: str) -> dict[tuple[int, int], bytes]:
    """Return what can be read of a topic, by partition and offset."""
    found: dict[tuple[int, int], bytes] = {}
    async for item in read_to_end(connection, topic):
        found[item.partition, item.offset] = plain(decode(topic, item.value))
    return found


def plain(record: Header) -> bytes:
    """Return a record without the name that readers give to what comes without."""
    fields = record.__struct_fields__
    return encode(msgspec.structs.replace(record, event_id="") if "event_id" in fields else record)


def recorded(folder: Path, topic: str) -> dict[tuple[int, int], bytes]:
    """Return what a recording holds of a topic, by partition and offset on Kafka."""
    topics = TopicsFolder(folder)
    return {
        (partition, offset): plain(record)
        for partition in range(topics.counts[topic])
        for group in topics.records(topic, partition)
        for offset, record in group
    }


async def grows(commands: Commands, records: int) -> None:
    """Wait until so many more records are on the topics."""
    begin = await commands.ends()
    async with asyncio.timeout(120):
        while await commands.ends() < begin + records:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_publishing_again_adds_nothing_and_is_replayed_as_the_data_set(
    commands: Commands,
) -> None:
    """First cut off, then whole, then once more."""
    first = commands.start("publish", *SLICE, "--speed", "10")
    await grows(commands, 100)
    first.popen.send_signal(signal.SIGINT)
    assert await first.ended() == 0
    assert int(first.text.split()[1].replace(",", "")) < 7_000
    await commands.run("publish", *SLICE, "--speed", "0")
    await commands.start_workers(1, "--stages", "market")
    (worker,) = commands.workers
    await commands.settled()
    bars = await on_cluster(commands.connection, MARKET_BARS)
    ends, duplicates = await commands.ends(), await worker.metric(DUPLICATES)
    assert bars
    assert duplicates > 0
    published = await commands.run("publish", *SLICE, "--speed", "0")
    count = int(published.split()[1].replace(",", ""))
    await worker.reaches(DUPLICATES, duplicates + count)
    await commands.settled()
    assert await on_cluster(commands.connection, MARKET_BARS) == bars
    again = await commands.ends() - ends
    assert again == await worker.metric(DUPLICATES) - duplicates + DEFINITIONS
    assert await worker.metric("millrace_gaps_total") == 0
    await commands.stop_workers()

    wanted = await backtest(commands, "--data", "demo", "--to", UNTIL)
    found = await backtest(commands, "--from-kafka", "--to", UNTIL)
    assert wanted["counts"]["orders.fills.v1"] > 10
    assert found["manifest"]["output_hash"] == wanted["manifest"]["output_hash"]
    later = ("--from", "2013-10-07T13:31:30Z", "--to", "2013-10-07T13:32:30Z")
    wanted = await backtest(commands, "--data", "demo", *later)
    found = await backtest(commands, "--from-kafka", *later)
    assert found["manifest"]["output_hash"] == wanted["manifest"]["output_hash"]
    recording = commands.folder / "recording"
    await commands.run("record", str(recording))
    found = await backtest(commands, "--data", str(recording), *later)
    assert found["manifest"]["output_hash"] == wanted["manifest"]["output_hash"]
    await check_offsets(commands)


async def backtest(commands: Commands, *arguments: str) -> dict[str, Any]:
    """Run a backtest; return its result."""
    text = await commands.run(*BACKTEST, *arguments)
    found: dict[str, Any] = json.loads(text.splitlines()[-1])
    return found


async def check_offsets(commands: Commands) -> None:
    """A range of offsets replays those records and no others."""
    found = await on_cluster(commands.connection, MARKET_EVENTS)
    first, stop = 0, 60
    ranges = ",".join(f"{partition}={first}:{stop}" for partition in range(4))
    done = await backtest(commands, "--from-kafka", "--offsets", ranges)
    rows = {value for (_, offset), value in found.items() if first <= offset < stop}
    data = [row for row in rows if b'"type":"trade"' in row or b'"type":"quote"' in row]
    assert sum(item["count"] for item in done["manifest"]["inputs"]) == len(data) > 0


async def test_recording_that_was_killed_goes_on_with_every_offset(commands: Commands) -> None:
    folder = commands.folder / "recording"
    recording = commands.start("record", str(folder), "--follow")
    publishing = commands.start("publish", *SLICE, "--speed", "10")
    journal = partition_folder(folder, MARKET_EVENTS, 0)
    async with asyncio.timeout(120):
        while sum(f.stat().st_size for f in journal.rglob("*.log")) < 20_000:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    recording.popen.kill()
    assert await recording.ended() == -signal.SIGKILL
    publishing.popen.send_signal(signal.SIGINT)
    await publishing.ended()
    assert len(recorded(folder, MARKET_EVENTS)) < len(
        await on_cluster(commands.connection, MARKET_EVENTS)
    )
    await commands.run("record", str(folder))
    for topic in CATALOGUE:
        if topic.name != SYSTEM_SNAPSHOTS:
            on_topic = await on_cluster(commands.connection, topic.name)
            assert recorded(folder, topic.name) == on_topic, topic.name
    assert (await commands.run("record", str(folder))).startswith("0 records")


async def test_recording_keeps_offsets_over_holes_and_unreadable_records(
    commands: Commands,
) -> None:
    """Holes are left by transactions, by retention and by what cannot be read."""
    await write(commands, PORTFOLIO_ACCOUNTS, [b"old"] * 3, transactional=False)
    await delete_before(commands, PORTFOLIO_ACCOUNTS, 3)
    good = [plain(signal_of(number)) for number in range(6)]
    await write(commands, STRATEGY_SIGNALS, good[:2], transactional=True)
    await write(commands, STRATEGY_SIGNALS, [b"poison", good[2], b"poison"], transactional=False)
    folder = commands.folder / "recording"
    topics = ("--topics", f"{STRATEGY_SIGNALS},{PORTFOLIO_ACCOUNTS}")
    await commands.run("record", str(folder), *topics)
    begin = min(o for p, o in recorded(folder, STRATEGY_SIGNALS) if p == 0)
    await write(commands, STRATEGY_SIGNALS, good[3:5], transactional=True)
    await write(commands, STRATEGY_SIGNALS, [b"poison", good[5]], transactional=False)
    await commands.run("record", str(folder), *topics)
    found = {o - begin: r for (p, o), r in recorded(folder, STRATEGY_SIGNALS).items() if p == 0}
    # Two, the marker of their transaction, poison, one, poison; and so on.
    assert found == dict(zip((0, 1, 4, 6, 7, 10), good, strict=True))
    unreadable = [
        mark[1]
        for entry in JournalReader(partition_folder(folder, STRATEGY_SIGNALS, 0)).entries()
        if not entry.topic and (mark := entry.mark())[0] == UNREADABLE_MARK
    ]
    assert [json.loads(item)["offset"] - begin for item in unreadable] == [3, 5, 9]
    assert recorded(folder, PORTFOLIO_ACCOUNTS) == {}
    assert (await commands.run("record", str(folder), *topics)).startswith("0 records")


def signal_of(number: int) -> StrategySignal:
    return StrategySignal(
        event_id="",
        ts_event_ns=1 + number,
        correlation_id="",
        causation_id="",
        strategy_id="s",
        instrument_id="X.XXXX",
        target=1.0,
        price=1.0,
    )


async def write(
    commands: Commands, topic: str, values: list[bytes], *, transactional: bool
) -> None:
    """Write to partition 0 of a topic, in a transaction or not."""
    producer = AIOKafkaProducer(
        bootstrap_servers=commands.connection.bootstrap,
        transactional_id="test" if transactional else None,
    )
    await producer.start()
    try:
        if transactional:
            async with producer.transaction():
                sent = [await producer.send_and_wait(topic, value, partition=0) for value in values]
            await marker_behind(commands, topic, sent[-1].offset)
        else:
            for value in values:
                await producer.send_and_wait(topic, value, partition=0)
    finally:
        await producer.stop()


async def marker_behind(commands: Commands, topic: str, offset: int) -> None:
    """Wait until the end of a transaction is marked: a broker says it is over before that."""
    async with PlaceReader(commands.connection) as reader, asyncio.timeout(60):
        while (await reader.ends([(topic, 0)]))[topic, 0] < offset + 2:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def delete_before(commands: Commands, topic: str, offset: int) -> None:
    """Take records as retention would."""
    admin = AIOKafkaAdminClient(bootstrap_servers=commands.connection.bootstrap)
    await admin.start()
    try:
        place = TopicPartition(topic, 0)
        await admin.delete_records({place: RecordsToDelete(before_offset=offset)})
    finally:
        await admin.close()
