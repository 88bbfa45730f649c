"""All stages on a real Kafka: the day of the one-process run, with workers that come and go."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from agents.runners.kafka.cluster_log import ClusterLog
from agents.runners.kafka.rerun import rerun_session
from agents.runners.kafka.restoring import places_of
from agents.runners.kafka.stages import stage_specs
from agents.runners.kafka.worker import StageWorker
from agents.strategy.builtin import BUILTIN
from infra.kafka.letters import dead_letters
from infra.kafka.node import Node
from schemas.codec import decode
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument
from schemas.topics import (
    CATALOGUE,
    MARKET_BARS,
    MARKET_EVENTS,
    ORDER_FILLS,
    PORTFOLIO_POSITIONS,
    REFERENCE_INSTRUMENTS,
    STRATEGY_SIGNALS,
    SYSTEM_SNAPSHOTS,
    TOPIC_BY_NAME,
)
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, addressed, outgoing, partition_of
from streams.kafka.ranges import Place, PlaceReader
from streams.kafka.reading import read_to_end
from streams.kafka.topics import ClusterTopics
from tests.integration.conftest import JARS
from tests.kafka_case import CONFIG, Run, by_id, check_books, define, one_process_run

SPECS = stage_specs(CONFIG, {}, BUILTIN)
LOST = {
    4: ("market",),
    5: ("reference", "reference"),
    7: ("venue",),
    10: ("account",),
    13: ("strategy",),
}
"""Whose workers are lost behind which piece of the day.

Those of the reference stage go in front of the piece with a definition, which has to wait for
others; the definitions of the beginning are there by then.
"""


@pytest.fixture(scope="module")
def run() -> Run:
    return one_process_run()


@pytest.fixture
async def connection(tmp_path: Path) -> AsyncIterator[Connection]:
    """Give an empty broker with the topics of the catalogue."""
    node = Node(tmp_path / "node", jars=JARS)
    running = node.start()
    try:
        connection = Connection(bootstrap=running.address)
        assert await ClusterTopics(connection).apply() == []
        yield connection
    finally:
        node.kill()


class Cluster:
    """Workers of every stage that can be started and stopped one by one."""

    def __init__(self, connection: Connection, run: Run, folder: Path) -> None:
        self.connection = connection
        self.run = run
        self._folder = folder
        self._group = uuid.uuid4().hex
        self.workers: list[tuple[StageWorker, asyncio.Task[None]]] = []

    def start(self, stage: str) -> None:
        """Start a worker of a stage."""
        worker = StageWorker(
            self.connection,
            SPECS[stage],
            self.run.universe.instruments,
            group=self._group,
            data_folder=str(self._folder / uuid.uuid4().hex),
            snapshot_interval_s=0.5,
        )
        self.workers.append((worker, asyncio.create_task(worker.run())))

    async def lose(self, stage: str) -> None:
        """Let the oldest worker of a stage end without a word: no last snapshot."""
        names = [worker.spec.name for worker, _ in self.workers]
        _, task = self.workers.pop(names.index(stage))
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    async def stop(self) -> None:
        """End all workers; raises what ended one before."""
        for worker, _ in self.workers:
            worker.stop()
        await asyncio.gather(*(task for _, task in self.workers))

    async def feed(self, events: list[Header]) -> None:
        """Publish market events; definitions go through the reference stage."""
        async with Publisher(self.connection) as publisher:
            counts = await publisher.counts([MARKET_EVENTS])
            out: list[Outgoing] = []
            for event in events:
                if isinstance(event, Instrument):
                    await publisher.publish(out)
                    out = []
                    await define(self.connection, event)
                else:
                    out += addressed(MARKET_EVENTS, event, counts)
            await publisher.publish(out)

    async def records(self, topic: str) -> list[Header]:
        """Return what is on a topic, each producer's record once."""
        found: list[Header] = []
        marks: dict[tuple[int, str], int] = {}
        every: dict[tuple[int, str, int], bytes] = {}
        async for item in read_to_end(self.connection, topic):
            record = decode(topic, item.value)
            key = (item.partition, record.producer)
            # What comes again says the same, to the byte.
            number = (*key, record.producer_seq)
            assert every.setdefault(number, item.value) == item.value
            if record.producer_seq > marks.get(key, 0):
                assert record.producer_seq == marks.get(key, 0) + 1
                marks[key] = record.producer_seq
                found.append(record)
        return found

    async def settled(self) -> None:
        """Wait until every part of every stage has consumed all that its inputs hold.

        Called in the middle of a day too: where workers begin late, all orders would else come
        after the last event, and none would be filled.
        """
        async with asyncio.timeout(120), PlaceReader(self.connection) as reader:
            before: dict[Place, int] = {}
            while True:
                ends = await self._ends(reader)
                if ends == before and self._is_done(ends):
                    return
                before = ends
                for _, task in self.workers:
                    if task.done():
                        await task
                await asyncio.sleep(0.5)

    async def _ends(self, reader: PlaceReader) -> dict[Place, int]:
        return await reader.ends([(t.name, p) for t in CATALOGUE for p in range(t.partitions)])

    def _is_done(self, ends: dict[Place, int]) -> bool:
        parts = {p.instance: p for worker, _ in self.workers for p in worker.parts.values()}
        wanted = {
            f"{stage}/{partition}"
            for stage, spec in SPECS.items()
            for partition in range(TOPIC_BY_NAME[spec.topics[0]].partitions)
        }
        return parts.keys() == wanted and all(
            part.offsets.get(f"{topic}/{partition}", 0) == ends[topic, partition]
            for part in parts.values()
            for topic, partition in places_of(part, SPECS[part.STAGE].topics)
        )

    async def check(self) -> None:
        """Hold what is on the topics to the one-process run and to itself."""
        # First of all: what is missing elsewhere may stand here, with the reason.
        letters = await dead_letters(self.connection)
        assert [(item.topic, item.partition, item.offset, item.reason) for item in letters] == []
        for topic in (MARKET_BARS, STRATEGY_SIGNALS):
            made = [r for r in await self.records(topic) if not isinstance(r, CorporateAction)]
            assert by_id(made) == by_id(self.run.made[topic])
        fills = await self.records(ORDER_FILLS)
        assert fills
        check_books(fills, await self.records(PORTFOLIO_POSITIONS), self.run.actions)
        async with Publisher(self.connection) as publisher:
            counts = await publisher.counts(topic.name for topic in CATALOGUE)
        log = ClusterLog(self.connection, self.run.universe.instruments, counts)
        found = await rerun_session(log, SPECS.values(), self.run.universe.instruments)
        assert [item for item in found if item.differences] == []
        assert sum(item.compared for item in found) > len(self.run.made[MARKET_BARS])


@pytest.fixture
async def cluster(connection: Connection, run: Run, tmp_path: Path) -> AsyncIterator[Cluster]:
    cluster = Cluster(connection, run, tmp_path)
    async with Publisher(connection) as publisher:
        instruments = run.universe.instruments
        await publisher.publish([outgoing(REFERENCE_INSTRUMENTS, item) for item in instruments])
    try:
        yield cluster
    finally:
        await cluster.stop()


async def delete_snapshots(connection: Connection) -> None:
    """Take every part's state away; what it consumed and in which order stays."""
    keys = [item.key async for item in read_to_end(connection, SYSTEM_SNAPSHOTS) if item.value]
    assert keys
    async with AIOKafkaProducer(**connection.client()) as producer:
        for key in set(keys):
            partition = partition_of(key, TOPIC_BY_NAME[SYSTEM_SNAPSHOTS].partitions)
            await producer.send_and_wait(SYSTEM_SNAPSHOTS, None, key, partition)


async def test_a_worker_of_each_stage_runs_the_day(cluster: Cluster, run: Run) -> None:
    for stage in SPECS:
        cluster.start(stage)
    for number, start in enumerate(range(0, len(run.events), 300)):
        await cluster.feed(run.events[start : start + 300])
        await asyncio.sleep(0.2)
        if number == 5:
            await cluster.settled()
        if number == 7:
            await cluster.settled()
            await cluster.stop()
            cluster.workers.clear()
            await delete_snapshots(cluster.connection)
            for stage in SPECS:
                cluster.start(stage)
    await cluster.settled()
    await cluster.check()


async def test_three_workers_share_the_partitions_of_all_inputs_alike(
    cluster: Cluster, run: Run
) -> None:
    for _ in range(3):
        cluster.start("venue")
    await cluster.feed(run.events[:20])
    async with asyncio.timeout(30):
        # Kafka tells of assignments to those alone who ask.
        while True:
            await asyncio.sleep(0.2)
            shares = [sorted(worker.parts) for worker, _ in cluster.workers]
            if sorted(map(len, shares)) == [1, 1, 2] and sorted(p for s in shares for p in s) == [
                0,
                1,
                2,
                3,
            ]:
                break
    for worker, _ in cluster.workers:
        assigned = {(tp.topic, tp.partition) for tp in worker.app.consumer.assignment()}
        assert assigned == {(t, p) for t in SPECS["venue"].topics for p in worker.parts}


async def test_workers_are_lost_and_others_go_on(cluster: Cluster, run: Run) -> None:
    for stage in (*SPECS, *SPECS):
        cluster.start(stage)
    pieces = [run.events[start : start + 200] for start in range(0, len(run.events), 200)]
    for number, piece in enumerate(pieces):
        await cluster.feed(piece)
        await asyncio.sleep(0.3)
        if number in (5, 8):
            await cluster.settled()
        for stage in LOST.get(number, ()):
            await cluster.lose(stage)
            cluster.start(stage)
    await cluster.settled()
    await cluster.check()
