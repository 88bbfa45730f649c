"""A stage that gets nowhere ends with the reason; one that takes long to restore does not."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest

from agents.account.config import AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.config import EngineConfig
from agents.runners.kafka.arrivals import Arrival
from agents.runners.kafka.parts.part import Part
from agents.runners.kafka.stages import stage_specs
from agents.runners.kafka.worker import StageWorker
from schemas.errors import StorageError
from schemas.market_data import Watermark
from schemas.topics import MARKET_EVENTS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher, outgoing
from streams.kafka.topics import ClusterTopics
from tests.generated import universe

SPEC = stage_specs(
    EngineConfig(accounts=AccountStageConfig(accounts=()), market=MarketConfig(intervals=("1m",))),
    {},
    {},
)["market"]
REQUEST_TIMEOUT_S = 7.0


@pytest.fixture
async def connection(own_bootstrap: str) -> Connection:
    """Give a connection to a cluster with the topics of the catalogue and a record to take."""
    connection = Connection(bootstrap=own_bootstrap, request_timeout_s=REQUEST_TIMEOUT_S)
    assert await ClusterTopics(connection).apply() == []
    async with Publisher(connection, deadline_s=60) as publisher:
        mark = Watermark(source="test", source_seq=1, ts_event_ns=1)
        await publisher.publish([outgoing(MARKET_EVENTS, mark, 0)])
    return connection


class Stuck(StageWorker):
    """Takes records and does not come back."""

    async def _take(self, arrivals: Sequence[Arrival]) -> None:
        await asyncio.Event().wait()


class Slow(StageWorker):
    """Needs longer to restore its parts than a request to Kafka may take."""

    async def _restored(self, partitions: set[int]) -> dict[int, Part]:
        if partitions:
            await asyncio.sleep(REQUEST_TIMEOUT_S + 3)
        return await super()._restored(partitions)


def started(kind: type[StageWorker], connection: Connection, folder: Path) -> StageWorker:
    return kind(
        connection,
        SPEC,
        universe(("AA",)).instruments,
        group=uuid.uuid4().hex,
        data_folder=str(folder),
        stall_timeout_s=4.0 if kind is Stuck else 60.0,
    )


async def test_stage_that_gets_nowhere_tells_so_and_ends(
    connection: Connection, tmp_path: Path
) -> None:
    worker = started(Stuck, connection, tmp_path)
    with pytest.raises(StorageError, match=r"the market stage has got nowhere for 4 s, with \d"):
        async with asyncio.timeout(120):
            await worker.run()
    assert worker.is_over
    assert worker.standstill_s > 4
    failures = worker.meters.registry.get_sample_value(
        "millrace_failures_total", {"stage": "market"}
    )
    assert failures == 1


async def test_long_restore_is_waited_for(connection: Connection, tmp_path: Path) -> None:
    worker = started(Slow, connection, tmp_path)
    running = asyncio.create_task(worker.run())
    try:
        async with asyncio.timeout(120):
            while not any(part.offsets for part in worker.parts.values()):
                assert not running.done()
                await asyncio.sleep(0.1)
        assert worker.is_ready
    finally:
        worker.stop()
        await running


async def test_worker_without_a_partition_is_ready(connection: Connection, tmp_path: Path) -> None:
    """As the fifth of four, or all but one of the reference stage."""
    group = uuid.uuid4().hex
    workers = [
        StageWorker(
            connection,
            SPEC,
            universe(("AA",)).instruments,
            group=group,
            data_folder=str(tmp_path / str(number)),
        )
        for number in range(5)
    ]
    running = [asyncio.create_task(worker.run()) for worker in workers]
    try:
        async with asyncio.timeout(120):
            while sorted(len(w.parts) for w in workers) != [0, 1, 1, 1, 1] or not all(
                w.is_ready for w in workers
            ):
                for task in running:
                    assert not task.done()
                await asyncio.sleep(0.1)
    finally:
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)
