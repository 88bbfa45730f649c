"""Poison on a partition: told with its place and reason, the rest goes on; a second chance."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

import pytest
from msgspec.structs import replace

from agents.runners.kafka.worker import StageWorker
from infra.kafka.letters import dead_letters, find_letters, resend, retry_letters
from schemas.codec import decode, encode
from schemas.errors import NotFoundError
from schemas.topics import MARKET_BARS, MARKET_EVENTS, REFERENCE_INSTRUMENTS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing, partition_of
from streams.kafka.reading import read_to_end
from streams.kafka.topics import ClusterTopics
from tests.generated import universe
from tests.integration.test_kafka_pipeline import SPECS
from tests.kafka_case import data

POISON = {
    "no JSON": b"{nonsense",
    "two values": b"{}{}",
    "another type": b"[1, 2]",
    "an unknown tag": b'{"type": "nobody"}',
    "empty": b"",
    "not text": b"\xff\xfe\x00",
}


async def until_letters(connection: Connection, count: int) -> None:
    async with asyncio.timeout(30):
        # A topic tells of its records to those alone who read it.
        while len(await dead_letters(connection)) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.3)


@pytest.fixture
async def connection(own_bootstrap: str) -> Connection:
    connection = Connection(bootstrap=own_bootstrap)
    await ClusterTopics(connection).apply()
    return connection


async def test_poison_becomes_letters_and_the_partition_goes_on(
    connection: Connection, tmp_path: Path
) -> None:
    instruments, _, events = data(40)
    # An instrument that nobody has defined, of the same partition.
    home = partition_of(b"AA.XXXX", 4)
    names = (f"Z{number}" for number in range(100))
    name = next(item for item in names if partition_of(f"{item}.XXXX".encode(), 4) == home)
    unknown = universe((name,)).instruments[0]
    stray = next(e for e in events if getattr(e, "instrument_id", "") == "AA.XXXX")
    async with Publisher(connection) as publisher:
        await publisher.publish(
            [outgoing(REFERENCE_INSTRUMENTS, item) for item in instruments.instruments]
        )
        (at,) = await publisher.publish([outgoing(MARKET_EVENTS, stray)])
        assert at == 0
        bad = [Outgoing(MARKET_EVENTS, b"AA.XXXX", value) for value in POISON.values()]
        await publisher.publish(bad)
        foreign = encode(stray).replace(b"AA.XXXX", unknown.instrument_id.encode())
        key = b"AA.XXXX"
        await publisher.publish([Outgoing(MARKET_EVENTS, key, foreign)])
        await publisher.publish([outgoing(MARKET_EVENTS, event) for event in events])
        # A watermark closes the last bars.
        await publisher.publish([outgoing(MARKET_EVENTS, events[-1], p) for p in range(4)])
    worker = StageWorker(
        connection,
        SPECS["market"],
        instruments.instruments,
        group=uuid.uuid4().hex,
        data_folder=str(tmp_path),
    )
    task = asyncio.create_task(worker.run())
    try:
        await until_letters(connection, len(POISON) + 1)
    finally:
        worker.stop()
        await task
    letters = await dead_letters(connection)
    assert [item.offset for item in letters] == [*range(1, len(POISON) + 2)]
    assert {item.topic for item in letters} == {MARKET_EVENTS}
    assert all(item.reason for item in letters)
    assert letters[0].value == b"{nonsense"
    assert "publish its definition" in letters[-1].reason
    bars = [item async for item in read_to_end(connection, MARKET_BARS)]
    assert bars

    by_place = f"{MARKET_EVENTS}/{letters[-1].partition}/{letters[-1].offset}"
    assert await find_letters(connection, [by_place]) == [letters[-1]]
    with pytest.raises(NotFoundError, match="no such dead letter"):
        await find_letters(connection, ["nothing"])
    refused = await retry_letters(connection, letters)
    assert [item.offset for item in refused] == [None] * len(letters)
    async with Publisher(connection) as publisher:
        await publisher.publish([outgoing(REFERENCE_INSTRUMENTS, unknown)])
    (again,) = await retry_letters(connection, letters[-1:])
    assert again.offset is not None
    assert again.offset > letters[-1].offset

    # As the API does it, for one letter: what still cannot be used, what can, what was numbered.
    assert await resend(connection, letters[0])
    assert await resend(connection, letters[-1]) == ""
    numbered = Outgoing(MARKET_EVENTS, key, encode(replace(stray, producer="p", producer_seq=1)))
    async with Publisher(connection) as publisher:
        (at,) = await publisher.publish([numbered])
    letter = replace(letters[-1], offset=at)
    assert await resend(connection, letter) == ""
    *_, last = [
        item
        async for item in read_to_end(connection, MARKET_EVENTS)
        if item.partition == letter.partition
    ]
    # Its number is the letter's own: a second retry is one that readers know.
    name = f"retry:{letter.event_id}"
    wanted = replace(stray, event_id=name, producer=name, producer_seq=1)
    assert decode(MARKET_EVENTS, last.value or b"") == wanted
