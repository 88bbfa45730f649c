"""A worker of one stage: a Faust agent over the stage's topics, with state in snapshots.

For each batch of a partition: decode, note its place in the order log if the stage has several
inputs, process, publish and have it acknowledged, and only then call the batch finished. Now and
then the state of a part is published with the offsets it stands at; after a restart, or when
another worker takes over, the work goes on from there and repeats word for word what had been
published behind it.

A failure ends the worker: it finishes no batch any more, so nothing is committed past the failure,
and ``run`` raises what happened.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import msgspec
from faust.types import TP

from agents.runners.kafka.app import new_app
from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.order_log import OrderLog
from agents.runners.kafka.parts.part import Output, Part
from agents.runners.kafka.parts.strategy import StrategyPart
from agents.runners.kafka.stages import StageSpec
from schemas.codec import decode
from schemas.control import OrderLogEntry, StageSnapshot
from schemas.errors import StorageError
from schemas.instruments import Instrument, Universe
from schemas.topics import (
    CATALOGUE,
    MARKET_EVENTS,
    REFERENCE_INSTRUMENTS,
    SYSTEM_DEAD_LETTERS,
    SYSTEM_SNAPSHOTS,
)
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing
from streams.kafka.ranges import Place, PlaceReader
from streams.kafka.reading import read_to_end

_SNAPSHOT_INTERVAL_S = 10.0
_STOP_TIMEOUT_S = 15.0

_log = logging.getLogger(__name__)


async def known_instruments(connection: Connection) -> list[Instrument]:
    """Return the newest definition of each instrument on the cluster, by id."""
    newest: dict[str, Instrument] = {}
    async for item in read_to_end(connection, REFERENCE_INSTRUMENTS):
        if item.value is not None:
            record = decode(REFERENCE_INSTRUMENTS, item.value)
            assert isinstance(record, Instrument)  # the topic's only type
            newest[record.instrument_id] = record
    return [newest[name] for name in sorted(newest)]


class StageWorker:
    """One stage over the partitions that the group gives this worker.

    ``group`` begins the name of the consumer group: two systems on one cluster need two.
    """

    def __init__(
        self,
        connection: Connection,
        spec: StageSpec,
        instruments: Sequence[Instrument],
        *,
        group: str,
        data_folder: str,
        snapshot_interval_s: float = _SNAPSHOT_INTERVAL_S,
    ) -> None:
        self.spec = spec
        self.app = new_app(f"{group}-{spec.name}", connection, data_folder, self._positions)
        self.parts: dict[int, Part] = {}
        self._connection = connection
        self._instruments = list(instruments)
        self._interval_s = snapshot_interval_s
        self._publisher = Publisher(connection)
        self._reader = PlaceReader(connection)
        self._follower = PlaceReader(connection)
        self._counts: dict[str, int] = {}
        self._order_log: OrderLog | None = None
        self._saved_at_s: dict[int, float] = {}
        self._following: asyncio.Task[None] | None = None
        self._lock = asyncio.Lock()
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_sound = True
        source = self.app.topic(
            *spec.topics, key_serializer="raw", value_serializer="raw", value_type=bytes
        )
        self.app.agent(source, name=spec.name, concurrency=1)(self._consume)

    def stop(self) -> None:
        """Ask ``run`` to end."""
        self._stop.set()

    async def run(self) -> None:
        """Work until ``stop``; raises what ended the work before."""
        async with AsyncExitStack() as stack:
            for client in (self._publisher, self._reader, self._follower):
                await stack.enter_async_context(client)
            self._counts = await self._publisher.counts(topic.name for topic in CATALOGUE)
            self._order_log = OrderLog(self._reader, self._publisher, self._counts)
            try:
                await self.app.start()
                await self._stop.wait()
                async with self._lock:
                    await self._follow({})
                    if self._is_sound:
                        for part in self.parts.values():
                            await self._save(part)
            finally:
                self._stop.set()
                async with self._lock:
                    await self._follow({})
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await self.app.stop()
        if self._failure is not None:
            raise self._failure

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error
        self._stop.set()

    # ---- batches

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Let one batch at a time have the parts, and none any more once the work has ended.

        A batch that breaks off has changed a part and not published all that follows: what the
        part would make next would stand behind a gap.
        """
        async with self._lock:
            if not self._stop.is_set():
                try:
                    yield
                except BaseException:
                    self._is_sound = False
                    self._stop.set()
                    raise
                return
        await asyncio.Event().wait()

    async def _consume(self, stream: Any) -> None:
        async for event in stream.noack().events():
            message = event.message
            tp = message.tp
            try:
                async with self._turn():
                    if message.generation_id != self.app.consumer_generation_id:
                        # Fetched before a rebalance; its partition was sought anew since.
                        continue
                    part = self.parts[tp.partition]
                    _check_place(part, tp, message.value.start)
                    await self._take([part], tp, message.value.records)
            except Exception as error:  # noqa: BLE001 - it is raised by run
                # Faust would restart the agent behind the batch.
                self._fail(error)
                await asyncio.Event().wait()
            self.app.consumer.ack(message)

    async def _take(self, parts: Sequence[Part], place: Place, arrived: Sequence[Any]) -> None:
        """Let parts consume records of one partition, and publish what follows."""
        topic, partition = place
        for part in parts:
            start = part.offsets.get(f"{topic}/{partition}", 0)
            fresh = [item for item in arrived if item.offset >= start]
            if not fresh:
                continue
            if self.spec.is_recorded:
                assert self._order_log is not None  # made before anything arrives
                first, last = fresh[0].offset, fresh[-1].offset
                await self._order_log.note(part, topic, partition, first, last)
            await self._work(part, place, fresh)
            now_s = asyncio.get_running_loop().time()
            if now_s - self._saved_at_s.setdefault(part.partition, now_s) >= self._interval_s:
                await self._save(part)

    async def _work(self, part: Part, place: Place, arrived: Sequence[Any]) -> None:
        topic, partition = place
        taken = take_records(topic, partition, arrived, part.universe)
        made = part.take(topic, partition, taken.records, arrived[-1].offset + 1)
        out = [_sent(item) for item in made]
        if topic != MARKET_EVENTS or self.spec.name == "market":
            # Several stages read market events; one of them tells of what cannot be read.
            out += [outgoing(SYSTEM_DEAD_LETTERS, letter) for letter in taken.letters]
        if out:
            await self._publisher.publish(out)
        for gap in part.gaps:
            _log.warning("%s: records of %s are missing in front of %d (after %d)",
                         gap.source, gap.producer, gap.seen, gap.last)  # fmt: skip
        part.gaps.clear()

    # ---- inputs outside the group

    async def _follow(self, places: Mapping[Place, int]) -> None:
        """Follow these partitions from now on, and no others; needs the lock."""
        task, self._following = self._following, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if places:
            await self._follower.put(places)
            self._following = asyncio.create_task(self._run_follower())

    async def _run_follower(self) -> None:
        try:
            while True:
                for place, records in (await self._follower.follow()).items():
                    async with self._turn():
                        await self._take(self._followers(place), place, records)
        except Exception as error:  # noqa: BLE001 - it is raised by run
            self._fail(error)

    def _followers(self, place: Place) -> list[Part]:
        return [part for part in self.parts.values() if place in _follows(part)]

    # ---- state

    async def _save(self, part: Part) -> None:
        """Publish the state of a part, then allow commits up to where it stands."""
        snapshot = StageSnapshot(
            event_id=f"snapshot:{part.instance}:{sum(part.offsets.values())}",
            ts_event_ns=max(part.clock_ns, 0),
            stage=part.STAGE,
            instance=part.instance,
            processor_version=part.VERSION,
            offsets=dict(part.offsets),
            states={part.STAGE: msgspec.Raw(part.snapshot())},
        )
        await self._publisher.publish([outgoing(SYSTEM_SNAPSHOTS, snapshot)])
        self._saved_at_s[part.partition] = asyncio.get_running_loop().time()
        if self._order_log is not None and self.spec.is_recorded:
            self._order_log.forget(list(self.parts.values()))
        for topic in self.spec.topics:
            offset = snapshot.offsets.get(f"{topic}/{part.partition}")
            if offset is not None:
                commits = self.app.consumer.commits  # type: ignore[attr-defined]
                commits.allow(TP(topic, part.partition), offset)

    async def _positions(self, assigned: frozenset[TP]) -> dict[TP, int]:
        """Take up the state of the assigned partitions; what has none begins at the beginning."""
        async with self._lock:
            await self._follow({})
            if self._stop.is_set():
                return {}
            try:
                self.parts = await self._restored({tp.partition for tp in assigned})
            except Exception as error:
                self._fail(error)
                raise
            places: dict[Place, int] = {}
            for part in self.parts.values():
                for place in _follows(part):
                    at = part.offsets.get(f"{place[0]}/{place[1]}", 0)
                    places[place] = min(at, places.get(place, at))
            await self._follow(places)
            return {
                tp: self.parts[tp.partition].offsets.get(f"{tp.topic}/{tp.partition}", 0)
                for tp in assigned
            }

    async def _restored(self, partitions: set[int]) -> dict[int, Part]:
        """Return the parts as their snapshots and the order log left them."""
        parts = {
            p: self.spec.make(p, Universe(self._instruments), self._counts)
            for p in sorted(partitions)
        }
        by_instance = {part.instance: part for part in parts.values()}
        newest: dict[str, StageSnapshot] = {}
        async for item in read_to_end(self._connection, SYSTEM_SNAPSHOTS):
            record = decode(SYSTEM_SNAPSHOTS, item.value) if item.value is not None else None
            if isinstance(record, StageSnapshot) and record.instance in by_instance:
                newest[record.instance] = record
        for instance, snapshot in newest.items():
            part = by_instance[instance]
            if snapshot.processor_version == part.VERSION:
                part.restore(bytes(snapshot.states[part.STAGE]))
        self._saved_at_s = {}
        if self.spec.is_recorded and parts:
            assert self._order_log is not None  # made before the app starts
            tails = await self._order_log.claim(list(parts.values()))
            for part in parts.values():
                await self._repeat(part, tails[part.instance])
            self._order_log.forget(list(parts.values()))
        return parts

    async def _repeat(self, part: Part, tail: Sequence[OrderLogEntry]) -> None:
        """Consume again what was consumed behind the snapshot, in the recorded order."""
        starts: dict[Place, int] = {}
        for entry in tail:
            starts.setdefault((entry.topic, entry.partition), entry.first_offset)
        if not starts:
            return
        async with PlaceReader(self._connection) as reader:
            await reader.put(starts)
            for entry in tail:
                place = (entry.topic, entry.partition)
                arrived = await reader.read(place, entry.last_offset + 1)
                if arrived:
                    await self._work(part, place, arrived)


def _check_place(part: Part, place: Place, start: int) -> None:
    """Hold a part to consuming everything; raises StorageError for a gap in front of a batch."""
    at = part.offsets.get(f"{place[0]}/{place[1]}", 0)
    if start > at:
        raise StorageError(
            f"{part.instance} would miss records {at} to {start - 1} of {place[0]}/{place[1]}",
            field="offset",
            value=start,
            remedy="restart the worker; if retention took the records, rebuild",
        )


def _sent(item: Output) -> Outgoing:
    return outgoing(item.topic, item.record, item.partition)


def _follows(part: Part) -> frozenset[Place]:
    return part.follows if isinstance(part, StrategyPart) else frozenset()
