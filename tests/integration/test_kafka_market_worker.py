"""The market stage on a real Kafka: bars as in one process, through restarts and takeovers."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path

import msgspec
import pytest

from agents.account.config import AccountStageConfig
from agents.market.config import MarketConfig
from agents.market.stage import MarketStage
from agents.runners.config import EngineConfig
from agents.runners.kafka.stages import stage_specs
from agents.runners.kafka.worker import StageWorker
from infra.kafka.session import known_instruments
from schemas.codec import decode
from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.errors import StorageError
from schemas.instruments import Universe
from schemas.rows import records_from_table
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    REFERENCE_INSTRUMENTS,
    SYSTEM_DEAD_LETTERS,
)
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing
from streams.kafka.reading import read_to_end
from streams.kafka.topics import ClusterTopics
from tests.generated import DAY_NS, trades, universe

CONFIG = MarketConfig(intervals=("1m",))
SPEC = stage_specs(EngineConfig(accounts=AccountStageConfig(accounts=()), market=CONFIG), {}, {})[
    "market"
]
COUNT = 20_000


@pytest.fixture
async def connection(own_bootstrap: str) -> Connection:
    """Give a connection to a cluster with the topics of the catalogue."""
    connection = Connection(bootstrap=own_bootstrap)
    assert await ClusterTopics(connection).apply() == []
    return connection


class Market:
    """Trades of instruments of this test alone, and what they must give.

    Each is of a day of its own, since time goes on in a partition whatever the instrument.
    """

    days = count()

    def __init__(self, instruments: int = 3) -> None:
        shift_ns = 2 * DAY_NS * next(self.days)
        run = uuid.uuid4().hex[:6].upper()
        self.universe = universe(tuple(f"{run}{i}" for i in range(instruments)))
        self.records: list[Header] = []
        self.bars: dict[str, bytes] = {}
        for index, instrument in enumerate(self.universe.instruments):
            alone = Universe([instrument])
            made = trades(alone, COUNT // instruments, seed=index, days=1)
            made.trades.ts = made.trades.ts + shift_ns
            batch = MarketBatch(alone, made.clock + shift_ns, trades=made.trades)
            self.records += records_from_table(alone, batch.trades, slice(None))
            self._expect(alone, batch)
        self.records.sort(key=lambda record: record.ts_event_ns)  # type: ignore[attr-defined]

    def _expect(self, alone: Universe, batch: MarketBatch) -> None:
        made = MarketStage(alone, CONFIG, {}).process(batch)
        for record in records_from_table(alone, made.bars, slice(None)):
            self.bars[record.event_id] = content(record)  # type: ignore[attr-defined]

    async def publish(self, connection: Connection, records: Sequence[Header]) -> None:
        """Publish the definitions, then ``records``."""
        async with Publisher(connection) as publisher:
            await publisher.publish(
                [outgoing(REFERENCE_INSTRUMENTS, i) for i in self.universe.instruments]
            )
            await publisher.publish([outgoing(MARKET_EVENTS, record) for record in records])

    async def found(self, connection: Connection, topic: str) -> list[tuple[int, Header]]:
        """Return what is on a topic of these instruments, with the partition."""
        ids = {i.instrument_id for i in self.universe.instruments}
        return [
            (item.partition, record)
            async for item in read_to_end(connection, topic)
            if getattr(record := decode(topic, item.value), "instrument_id", "") in ids
        ]

    async def check(self, connection: Connection, *, is_once: bool) -> None:
        """Compare the bars on the cluster with those of the one-process run.

        Without ``is_once`` some may have come again, the same to the byte.
        """
        bars = [record for _, record in await self.found(connection, MARKET_BARS)]
        by_id: dict[str, bytes] = {}
        for bar in bars:
            name, now = bar.event_id, content(bar)  # type: ignore[attr-defined]
            assert by_id.setdefault(name, now) == now
        # The last bars are open until something later comes.
        missing = self.bars.keys() - by_id.keys()
        assert not missing
        different = {
            name: (self.bars[name], value)
            for name, value in by_id.items()
            if name in self.bars and self.bars[name] != value
        }
        assert different == {}
        if is_once:
            assert len(bars) == len(by_id)


def content(record: Header) -> bytes:
    """Return a record without what its transport added."""
    return msgspec.json.encode(msgspec.structs.replace(record, producer="", producer_seq=0))


async def started(
    connection: Connection, group: str, folder: Path, snapshot_interval_s: float = 0.2
) -> StageWorker:
    """Return a worker that knows the instruments on the cluster; it does not run yet."""
    return StageWorker(
        connection,
        SPEC,
        await known_instruments(connection),
        group=group,
        data_folder=str(folder / uuid.uuid4().hex),
        snapshot_interval_s=snapshot_interval_s,
    )


@asynccontextmanager
async def working(connection: Connection, group: str, folder: Path) -> AsyncIterator[StageWorker]:
    worker = await started(connection, group, folder)
    task = asyncio.create_task(worker.run())
    try:
        yield worker
    finally:
        worker.stop()
        await task


async def reaches(market: Market, connection: Connection, bars: int) -> None:
    async with asyncio.timeout(60):
        while True:
            found = await market.found(connection, MARKET_BARS)
            if len({record.event_id for _, record in found}) >= bars:  # type: ignore[attr-defined]
                return
            await asyncio.sleep(0.3)


async def test_bars_are_those_of_the_one_process_run(
    connection: Connection, tmp_path: Path
) -> None:
    market = Market()
    await market.publish(connection, market.records)
    async with working(connection, uuid.uuid4().hex, tmp_path):
        await reaches(market, connection, len(market.bars))
    await market.check(connection, is_once=True)
    prices = await market.found(connection, ACCOUNT_INPUTS)
    partitions = {partition for partition, _ in prices}
    assert partitions == {0, 1, 2, 3}
    assert len({r.event_id for _, r in prices}) * 4 == len(prices)  # type: ignore[attr-defined]


async def test_restart_goes_on_from_the_state(connection: Connection, tmp_path: Path) -> None:
    market, group = Market(), uuid.uuid4().hex
    half = len(market.records) // 2
    await market.publish(connection, market.records[:half])
    async with working(connection, group, tmp_path):
        await reaches(market, connection, len(market.bars) // 3)
    await market.publish(connection, market.records[half:])
    async with working(connection, group, tmp_path):
        await reaches(market, connection, len(market.bars))
    await market.check(connection, is_once=False)


async def test_poison_goes_to_the_dead_letters_and_the_partition_goes_on(
    connection: Connection, tmp_path: Path
) -> None:
    market = Market(1)
    key = market.universe.instruments[0].instrument_id.encode()
    await market.publish(connection, market.records[:100])
    async with Publisher(connection) as publisher:
        await publisher.publish([Outgoing(MARKET_EVENTS, key, b"{poison")])
    await market.publish(connection, market.records[100:])
    async with working(connection, uuid.uuid4().hex, tmp_path):
        await reaches(market, connection, len(market.bars))
    await market.check(connection, is_once=True)
    letters = [
        decode(SYSTEM_DEAD_LETTERS, item.value)
        async for item in read_to_end(connection, SYSTEM_DEAD_LETTERS)
        if item.value is not None
    ]
    assert any(letter.value == b"{poison" for letter in letters)  # type: ignore[attr-defined]


async def test_failure_ends_the_worker_with_its_reason(
    connection: Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: object) -> list[int]:
        await asyncio.sleep(0)
        raise StorageError("the cluster is full", remedy="make room")

    market = Market(1)
    await market.publish(connection, market.records[:100])
    worker = await started(connection, uuid.uuid4().hex, tmp_path)
    monkeypatch.setattr(worker._publisher, "publish", refuse)
    with pytest.raises(StorageError, match="full"):
        async with asyncio.timeout(30):
            await worker.run()
