"""A worker of one stage: a Faust agent over the stage's topics, with state in snapshots.

For each batch of a partition: decode, process, note its place in the order log if the stage has
several inputs, publish what follows and have it acknowledged, and only then call the batch
finished. Where nothing follows, the note may wait for the next one. Now and then the state of a
part is published with the offsets it stands at; after a restart, or when another worker takes over,
the work goes on from there and repeats word for word what had been published behind it.

A failure ends the worker: it finishes no batch any more, so nothing is committed past the failure,
and ``run`` raises what happened.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from aiokafka.errors import KafkaError
from faust.types import TP

from agents.runners.kafka.app import POLL_RECORDS_MAX, REBALANCE_TIMEOUT_S, new_app
from agents.runners.kafka.arrivals import Arrival, Result, Waiting, consume, jobs_of
from agents.runners.kafka.meters import Meters
from agents.runners.kafka.order_log import Note, OrderLog, SupersededError, superseded
from agents.runners.kafka.parts.part import Part
from agents.runners.kafka.progress import Progress, stalled, stuck
from agents.runners.kafka.restoring import (
    Snapshots,
    check_places,
    check_tail,
    first_offsets,
    followed_from,
)
from agents.runners.kafka.stages import StageSpec
from schemas.control import OrderLogEntry
from schemas.errors import MillraceError
from schemas.instruments import Instrument, Universe
from schemas.topics import CATALOGUE, MARKET_EVENTS, SYSTEM_SNAPSHOTS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher, outgoing
from streams.kafka.ranges import Place, PlaceReader
from streams.kafka.starting import ended, has_ended

_SNAPSHOT_INTERVAL_S = 10.0
_STALL_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 15.0
_FAILED_STOP_TIMEOUT_S = 5.0
_WATCH_S = 1.0
_SILENCE_S = 5.0

_log = logging.getLogger(__name__)


class StageWorker:
    """One stage over the partitions that the group gives this worker.

    ``group`` begins the name of the consumer group. ``is_ready`` tells whether the parts that it
    was given are restored, ``is_over`` whether ``run`` has ended. ``now_ns`` is the wall clock, for
    meters and watch alone.
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
        stall_timeout_s: float = _STALL_TIMEOUT_S,
        meters: Meters | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.spec = spec
        self.meters = meters or Meters()
        self.meters.begin(spec.name)
        self.is_ready = False
        self.is_over = False
        self._now_ns = now_ns
        self._stall_timeout_s = stall_timeout_s
        self._progress = Progress(spec.name, self.meters)
        self.app = new_app(
            f"{group}-{spec.name}", connection, data_folder, self._positions, self._revoked
        )
        self.parts: dict[int, Part] = {}
        self._connection = connection
        self._instruments = list(instruments)
        self._interval_s = snapshot_interval_s
        self._publisher = Publisher(connection)
        self._reader = PlaceReader(connection)
        self._follower = PlaceReader(connection)
        self._counts: dict[str, int] = {}
        self._order_log = OrderLog(self._reader, self._publisher, self._counts)
        self._snapshots = Snapshots(connection)
        self._saved_at_s: dict[int, float] = {}
        self._following: asyncio.Task[None] | None = None
        self._followed: Set[Place] = frozenset()
        self._waiting = Waiting()
        self._lock = asyncio.Lock()
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None
        self._is_sound = True
        self._revocations = 0
        self._lost: tuple[float, SupersededError] | None = None
        source = self.app.topic(
            *spec.topics, key_serializer="raw", value_serializer="raw", value_type=bytes
        )
        self.app.agent(source, name=spec.name, concurrency=1)(self._consume)

    def stop(self) -> None:
        """Ask ``run`` to end."""
        self._stop.set()

    @staticmethod
    def _now_s() -> float:
        """Return the event loop's time, for waits alone (s)."""
        return asyncio.get_running_loop().time()

    async def run(self) -> None:
        """Work until ``stop``; raises what ended the work before."""
        self._progress.made()
        try:
            await self._run()
        except (KafkaError, OSError, TimeoutError) as error:
            raise ended(self._connection, self.spec.name, error) from error
        finally:
            self.is_over = True

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            for client in (self._publisher, self._reader, self._follower):
                await stack.enter_async_context(client)
            self._counts |= await self._publisher.counts(topic.name for topic in CATALOGUE)
            working = asyncio.create_task(self._run_turns())
            starting = asyncio.create_task(self._start())
            try:
                await self._watch(starting)
                await self._end_well()
            finally:
                await self._end(working, starting)
        if self._failure is not None:
            raise self._failure

    async def _start(self) -> None:
        """Start the app; it has started when its first partitions are restored, if it gets any."""
        try:
            await self.app.start()
        except Exception as error:  # noqa: BLE001 - it is raised by run
            self._fail(error)

    async def _end_well(self) -> None:
        """Save all parts, unless a failure has left it open what they are."""
        if self._failure is not None:
            return
        async with asyncio.timeout(_STOP_TIMEOUT_S), self._lock:
            await self._follow({})
            if self._is_sound:
                for part in list(self.parts.values()):
                    await self._save(part)

    async def _end(self, working: asyncio.Task[None], starting: asyncio.Task[None]) -> None:
        """Stop everything; what a stalled turn holds is not waited for."""
        self._stop.set()
        self.is_ready = False
        for task in (working, starting):
            task.cancel()
        # After a failure there is nothing to save, and somebody waits for its reason.
        timeout_s = _STOP_TIMEOUT_S if self._failure is None else _FAILED_STOP_TIMEOUT_S
        for step in (lambda: asyncio.wait({working, starting}), self._unfollow, self.app.stop):
            if not await has_ended(step(), timeout_s):
                self._fail(stuck(self.spec.name, timeout_s))

    def _fail(self, error: BaseException) -> None:
        if self._failure is None:
            self._failure = error
            self.meters.failures.labels(self.spec.name).inc()
        self._stop.set()

    # ---- progress

    async def _watch(self, starting: asyncio.Task[None]) -> None:
        """Measure until ``stop``; fail when nothing goes on although there is something to do."""
        while not self._stop.is_set():
            waiting = 0
            if not starting.done():
                self._progress.made()  # the steps of a start have deadlines of their own
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._stall_timeout_s):
                    waiting = await self._count_waiting()
                    if not waiting and not self._lock.locked() and self._is_heard():
                        self._progress.made()
            if fault := self.app.consumer.fault():  # type: ignore[attr-defined]
                self._fail(ended(self._connection, self.spec.name, fault))
            self.meters.standstill_seconds.labels(self.spec.name).set(self.standstill_s)
            if self.spec.name == "account":
                self.meters.show_breakers(part.breaker_states for part in self.parts.values())
            if self.standstill_s > self._stall_timeout_s:
                self._fail(stalled(self.spec.name, self._stall_timeout_s, waiting))
            now_s = self._now_s()
            if self._lost and now_s - self._lost[0] > REBALANCE_TIMEOUT_S:
                # The group still counts on this worker for a part that another works on.
                self._fail(self._lost[1])
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S):
                    await self._stop.wait()

    @property
    def standstill_s(self) -> float:
        """For how long nothing has gone on although there is something to do (s)."""
        return self._progress.standstill_s

    def _is_heard(self) -> bool:
        """Return whether Kafka has answered lately; nothing can wait where nobody is asked."""
        consumer: Any = self.app.consumer
        heard_ms = consumer.heard_ms() if self._assigned() else None
        return heard_ms is None or self._now_ns() / 1e9 - heard_ms / 1e3 < _SILENCE_S

    async def _count_waiting(self) -> int:
        """Return how many records the parts have not taken, and show it."""
        waiting = sum([await self._measure(tp) for tp in self._assigned()])
        followed = {place for part in self.parts.values() for place in part.follows}
        self._progress.keep_lag({*self._assigned(), *followed})
        for place, unread in (await self._follower.waiting(followed)).items():
            waiting += (count := unread + self._waiting.count(place))
            self._progress.show_lag(place, count, self._now_ns())
        return waiting

    def _assigned(self) -> list[TP]:
        parts = sorted(self.parts) if self.is_ready else ()
        return [TP(topic, p) for p in parts for topic in self.spec.topics]

    async def _measure(self, tp: TP) -> int:
        """Return how many records of a partition are not yet taken."""
        part = self.parts.get(tp.partition)
        consumer: Any = self.app.consumer
        if part is None or tp not in consumer.assignment():
            return 0
        waiting = 0
        end = consumer.highwater(tp)
        # Behind the last record there may be a transaction's marker, which nobody ever takes.
        if end and (not consumer.commits.is_idle(tp) or await consumer.position(tp) < end):
            waiting = max(end - part.offsets.get(f"{tp.topic}/{tp.partition}", 0), 0)
        self._progress.show_lag((tp.topic, tp.partition), waiting, self._now_ns())
        return waiting

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
            await self._waiting.put(Arrival(message.tp, message.value.records, message))

    async def _run_turns(self) -> None:
        """Work on what is waiting, for ever; after a failure nothing more is taken."""
        try:
            while True:
                await self._waiting.wait(self._order_log.wait_s(self._now_s()))
                async with self._turn():
                    await self._take(self._waiting.next(POLL_RECORDS_MAX))
        except Exception as error:  # noqa: BLE001 - it is raised by run
            # Faust would restart the agent behind the batch.
            self._fail(error)

    async def _take(self, arrivals: Sequence[Arrival]) -> None:
        """Let parts consume batches, and publish what follows.

        All that is waiting is noted in one go, and so are the outputs published: the turn costs two
        round trips to Kafka, however many partitions it is of, and none if nothing follows from it.
        The parts work on while the note is on its way; only the outputs have to wait for it.
        """
        began_s = self._now_s()
        arrivals = [arrival for arrival in arrivals if not self._is_stale(arrival)]
        jobs = jobs_of(arrivals, self.parts)
        if self.spec.is_recorded:
            self._order_log.note(
                [Note(part, *place, new[0].offset, new[-1].offset) for part, place, new in jobs],
                began_s,
            )
        results: list[Result] = []
        noting: asyncio.Task[list[Part]] | None = None
        if self._order_log.wait_s(began_s) == 0:
            noting = asyncio.create_task(self._write_notes())
        try:
            for job in jobs:
                await asyncio.sleep(0)
                results.append(self._process(*job))
                if results[-1].out and noting is None:
                    noting = asyncio.create_task(self._write_notes())
                if results[-1].error is not None:
                    break
        finally:
            lost = await noting if noting is not None else []
        # The last result may have ended the work in front of other jobs.
        done = [pair for pair in zip(jobs, results, strict=False) if pair[0].part not in lost]
        await self._publish([result for _, result in done])
        for job, _ in done:
            self._progress.see(job.part, job.place, job.records, began_s, self._now_ns())
        for arrival in arrivals:
            if arrival.message is not None:
                self.app.consumer.ack(arrival.message)
        now_s = self._now_s()
        for part in {job.part.partition: job.part for job, _ in done}.values():
            if now_s - self._saved_at_s.setdefault(part.partition, now_s) >= self._interval_s:
                await self._save(part)
        followed = followed_from(self.parts.values())
        if followed.keys() != self._followed:
            await self._follow(followed)

    def _is_stale(self, arrival: Arrival) -> bool:
        """Return whether a batch was fetched before a rebalance, or for a part that is gone.

        Its partition was sought anew since.
        """
        message = arrival.message
        return message is not None and (
            message.generation_id != self.app.consumer_generation_id
            or arrival.place[1] not in self.parts
        )

    async def _write_notes(self) -> list[Part]:
        """Write down what was consumed; return parts that another worker has."""
        lost = await self._order_log.write()
        for part in lost:
            self._lose(part, superseded(part))
        return lost

    def _lose(self, part: Part, error: SupersededError) -> None:
        """Let go of a part that another worker has; the group will tell so in a moment."""
        _log.warning("%s", error)
        self.parts.pop(part.partition, None)
        self._lost = self._lost or (self._now_s(), error)

    def _process(self, part: Part, place: Place, arrived: Sequence[Any]) -> Result:
        """Let a part consume records; return what has to be published."""
        # Several stages read market events; one of them tells of what cannot be read.
        tells = place[0] != MARKET_EVENTS or self.spec.name == "market"
        return consume(part, place, arrived, self._counts[place[0]], self.meters, tells=tells)

    async def _publish(self, results: Sequence[Result]) -> None:
        """Publish what parts made and have it acknowledged."""
        out = [item for result in results for item in result.out]
        if out:
            await self._publisher.publish(out)
        for made, sent, _ in results:
            self.meters.see_outputs(self.spec.name, made, self._now_ns())
            self.meters.dead_letters.labels(self.spec.name).inc(len(sent) - len(made))
        for result in results:
            if result.error is not None:
                raise result.error

    # ---- inputs outside the group

    async def _follow(self, places: Mapping[Place, int]) -> None:
        """Follow these partitions from now on, and no others; needs the lock."""
        task, self._following = self._following, None
        self._followed = places.keys()
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        # What is waiting was read from where the follower stood before.
        self._waiting.drop_followed()
        if places:
            await self._follower.put(places)
            self._following = asyncio.create_task(self._run_follower())

    async def _unfollow(self) -> None:
        async with self._lock:
            await self._follow({})

    async def _run_follower(self) -> None:
        try:
            while True:
                for place, records in (await self._follower.follow()).items():
                    await self._waiting.put(Arrival(place, records))
        except Exception as error:  # noqa: BLE001 - it is raised by run
            self._fail(error)

    # ---- state

    async def _save(self, part: Part) -> None:
        """Publish the state of a part, then allow commits up to where it stands.

        What it consumed is noted first: a state that no note explains may not go on.
        """
        await self._write_notes()
        if self._order_log.is_lost(part):
            return
        snapshot = self._snapshots.of(part)
        value = outgoing(SYSTEM_SNAPSHOTS, snapshot)
        await self._publisher.publish([value])
        self.meters.snapshots.labels(self.spec.name).inc()
        self.meters.snapshot_bytes.labels(self.spec.name, part.partition).set(len(value.value))
        self._saved_at_s[part.partition] = self._now_s()
        if self.spec.is_recorded:
            self._order_log.forget(list(self.parts.values()))
        for topic in self.spec.topics:
            offset = snapshot.offsets.get(f"{topic}/{part.partition}")
            if offset is not None:
                commits = self.app.consumer.commits  # type: ignore[attr-defined]
                commits.allow(TP(topic, part.partition), offset)

    async def _positions(self, assigned: frozenset[TP]) -> dict[TP, int]:
        """Take up the state of the assigned partitions; what has none begins at the beginning."""
        revocations = self._revocations
        async with self._lock:
            await self._follow({})
            if self._stop.is_set() or revocations != self._revocations:
                # They were taken again meanwhile: a claim now would be against their new owner.
                return {}
            self.is_ready = False
            self._lost = None
            self.meters.rebalances.labels(self.spec.name).inc()
            try:
                self.parts = await self._restored({tp.partition for tp in assigned})
            except Exception as error:
                self._fail(error)
                raise
            await self._follow(followed_from(self.parts.values()))
            self._progress.made()
            self.is_ready = True
            return {
                tp: self.parts[tp.partition].offsets.get(f"{tp.topic}/{tp.partition}", 0)
                for tp in assigned
            }

    async def _revoked(self) -> None:
        """Save what others are about to take over, so that they need not repeat it."""
        self._revocations += 1
        async with self._lock:
            await self._follow({})
            if self._stop.is_set():
                return
            try:
                for part in list(self.parts.values()):
                    await self._save(part)
            except MillraceError as error:
                self._fail(error)
            self.parts = {}

    async def _restored(self, partitions: set[int]) -> dict[int, Part]:
        """Return the parts as their snapshots and the order log left them."""
        parts = {
            p: self.spec.make(p, Universe(self._instruments), self._counts)
            for p in sorted(partitions)
        }
        begun = await self._snapshots.restore(parts.values())
        self._saved_at_s = {}
        tails: dict[str, list[OrderLogEntry]] = {}
        if self.spec.is_recorded and parts:
            tails = await self._order_log.claim(list(parts.values()))
            begun |= {instance for instance, tail in tails.items() if tail}
        for part in parts.values():
            await self._repeat(part, tails.get(part.instance, []))
        if tails:
            self._order_log.forget(list(parts.values()))
        await check_places(self._connection, parts.values(), self.spec.topics, begun)
        return parts

    async def _repeat(self, part: Part, tail: Sequence[OrderLogEntry]) -> None:
        """Consume again what was consumed behind the snapshot, in the recorded order."""
        if not (starts := first_offsets(tail)):
            return
        began_s = self._now_s()
        async with PlaceReader(self._connection) as reader:
            check_tail(part.instance, starts, await reader.beginnings(starts))
            await reader.put(starts)
            for entry in tail:
                place = (entry.topic, entry.partition)
                if arrived := await reader.read(place, entry.last_offset + 1):
                    await self._publish([self._process(part, place, arrived)])
                # A rebuild may take long, and goes on all the while.
                self._progress.made()
        if self._now_s() - began_s > self._interval_s:
            await self._save(part)
