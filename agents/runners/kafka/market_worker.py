"""A worker of the market stage: a Faust agent over ``market.events``, with state in snapshots.

For each batch of a partition: decode, process, publish and have it acknowledged, and only then call
the batch finished. Now and then the state of a partition is published with the offset it stands at;
after a restart, or when another worker takes over, the work goes on from there and repeats word for
word what had been published behind it.

A failure ends the worker: it finishes no batch any more, so nothing is committed past the failure,
and ``run`` raises what happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from faust.types import TP

from agents.market.config import MarketConfig
from agents.runners.kafka.app import new_app
from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.market import VERSION, MarketPartition, Output
from schemas.codec import decode
from schemas.control import StageSnapshot
from schemas.instruments import Instrument, Universe
from schemas.sessions import SessionTable
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_EVENTS,
    REFERENCE_INSTRUMENTS,
    SYSTEM_DEAD_LETTERS,
    SYSTEM_SNAPSHOTS,
    TOPIC_BY_NAME,
)
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing
from streams.kafka.reading import read_to_end

STAGE = "market"
_SNAPSHOT_INTERVAL_S = 10.0
_STOP_TIMEOUT_S = 15.0


async def known_instruments(connection: Connection) -> list[Instrument]:
    """Return the newest definition of each instrument on the cluster, by id."""
    newest: dict[str, Instrument] = {}
    async for item in read_to_end(connection, REFERENCE_INSTRUMENTS):
        if item.value is not None:
            record = decode(REFERENCE_INSTRUMENTS, item.value)
            assert isinstance(record, Instrument)  # the topic's only type
            newest[record.instrument_id] = record
    return [newest[name] for name in sorted(newest)]


class MarketWorker:
    """The market stage over the partitions that the group gives this worker.

    ``group`` begins the name of the consumer group: two systems on one cluster need two.
    """

    def __init__(
        self,
        connection: Connection,
        universe: Universe,
        config: MarketConfig,
        sessions: Mapping[str, SessionTable],
        *,
        group: str,
        data_folder: str,
        snapshot_interval_s: float = _SNAPSHOT_INTERVAL_S,
    ) -> None:
        self.app = new_app(f"{group}-{STAGE}", connection, data_folder, self._positions)
        self._connection = connection
        self._make = (universe, config, sessions)
        self._universe = universe
        self._interval_s = snapshot_interval_s
        self._publisher = Publisher(connection)
        self._partitions: dict[TP, MarketPartition] = {}
        self._saved_at_s: dict[TP, float] = {}
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        source = self.app.topic(
            MARKET_EVENTS, key_serializer="raw", value_serializer="raw", value_type=bytes
        )
        self.app.agent(source, name=STAGE, concurrency=1)(self._consume)

    def stop(self) -> None:
        """Ask ``run`` to end."""
        self._stop.set()

    async def run(self) -> None:
        """Work until ``stop``; raises what ended the work before."""
        async with self._publisher:
            await self.app.start()
            try:
                await self._stop.wait()
                if self._failure is None:
                    for tp in list(self._partitions):
                        await self._save(tp)
            finally:
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await self.app.stop()
        if self._failure is not None:
            raise self._failure

    # ---- batches

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            try:
                await self._handle(message.tp, message.value)
            except Exception as error:  # noqa: BLE001 - it is raised by run
                # Faust would call the batch finished and restart the agent.
                self._failure = error
                self._stop.set()
                await asyncio.Event().wait()
            self.app.consumer.ack(message)

    async def _handle(self, tp: TP, arrived: Any) -> None:
        stage = self._partitions[tp]
        taken = take_records(tp.topic, tp.partition, arrived, self._universe)
        made = stage.take(taken.records, arrived[-1].offset + 1)
        letters = [outgoing(SYSTEM_DEAD_LETTERS, letter) for letter in taken.letters]
        await self._publisher.publish([*_addressed(made), *letters])
        now_s = asyncio.get_running_loop().time()
        if now_s - self._saved_at_s.setdefault(tp, now_s) >= self._interval_s:
            await self._save(tp)

    # ---- state

    async def _save(self, tp: TP) -> None:
        """Publish the state of a partition, then allow commits up to where it stands."""
        stage = self._partitions[tp]
        snapshot = StageSnapshot(
            event_id=f"snapshot:{stage.instance}:{stage.next_offset}",
            ts_event_ns=max(stage.clock_ns, 0),
            stage=STAGE,
            instance=stage.instance,
            processor_version=VERSION,
            offsets={f"{tp.topic}/{tp.partition}": stage.next_offset},
            states={STAGE: msgspec.Raw(stage.snapshot())},
        )
        offset = stage.next_offset
        await self._publisher.publish([outgoing(SYSTEM_SNAPSHOTS, snapshot)])
        self._saved_at_s[tp] = asyncio.get_running_loop().time()
        self.app.consumer.commits.allow(tp, offset)  # type: ignore[attr-defined]

    async def _positions(self, assigned: frozenset[TP]) -> dict[TP, int]:
        """Take up the state of the assigned partitions; what has none begins at the beginning."""
        wanted = {f"{STAGE}/{tp.partition}": tp for tp in assigned}
        newest: dict[TP, StageSnapshot] = {}
        async for item in read_to_end(self._connection, SYSTEM_SNAPSHOTS):
            record = decode(SYSTEM_SNAPSHOTS, item.value) if item.value is not None else None
            if isinstance(record, StageSnapshot) and record.instance in wanted:
                newest[wanted[record.instance]] = record
        self._partitions = {}
        self._saved_at_s = {}
        for tp in sorted(assigned):
            stage = self._partitions[tp] = MarketPartition(tp.partition, *self._make)
            if tp in newest and newest[tp].processor_version == VERSION:
                stage.restore(bytes(newest[tp].states[STAGE]))
        return {tp: stage.next_offset for tp, stage in self._partitions.items()}


def _addressed(made: Sequence[Output]) -> list[Outgoing]:
    """Return outputs with their partitions: reference prices go to every one, others by key."""
    out: list[Outgoing] = []
    for topic, record in made:
        if topic == ACCOUNT_INPUTS:
            # Any account may hold the instrument.
            partitions = range(TOPIC_BY_NAME[topic].partitions)
            out += [outgoing(topic, record, partition) for partition in partitions]
        else:
            out.append(outgoing(topic, record))
    return out
