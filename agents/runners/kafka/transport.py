"""A Faust transport whose event is a batch of records of one partition.

Faust hands over one record an event: a hop between two threads, two tasks and several locks each.
Here the value of an event is what the fetcher had for a partition, so that this cost is paid once
for thousands. Delivery, membership and assignment stay Faust's; what may be
committed is told by ``Commits``, not by upstream's gap bookkeeping.

``register`` makes the URL scheme ``millrace://`` known.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from typing import Any, ClassVar, NamedTuple, cast

from aiokafka import AIOKafkaConsumer
from aiokafka.consumer.group_coordinator import GroupCoordinator
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import KafkaError
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage, Message
from mode.threads import ServiceThread
from mode.utils.futures import maybe_async, notify

from agents.runners.kafka.commits import Commits
from agents.runners.kafka.restoring import cut_short, taken
from schemas.errors import MillraceError
from streams.kafka.connection import FETCH_WAIT_MS

SCHEME = "millrace"

Positions = Callable[[frozenset[TP]], Awaitable[Mapping[TP, int]]]
"""Tells where to go on in partitions that were just assigned, of those whose state is known."""

Revoked = Callable[[], Awaitable[None]]
"""Is awaited before partitions are taken away."""

_COMMIT_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """Records of one partition; ``start`` is where the reader stood before them.

    The first of them may be further on: compaction and aborted transactions leave holes.
    """

    start: int
    records: Sequence[Any]


def register() -> None:
    """Make ``millrace://host:port`` a broker URL of Faust."""
    TRANSPORTS.aliases[SCHEME] = f"{__name__}:Transport"


class _Client(driver.AIOKafkaConsumerThread):
    """The client, in the loop of its worker; a failed commit is tried again, not taken for the end.

    Upstream gives the client a thread and a loop of its own, so that handlers may block. Ours come
    back after one batch, and every fetch would cost four changes of thread, each of which may wait
    for the interpreter's lock until a busy loop lets go of it.
    """

    wait_for_shutdown = False

    def __init__(self, consumer: Any, **arguments: Any) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(consumer, loop=loop, thread_loop=loop, **arguments)

    async def start(self) -> None:
        """Start in this loop."""
        self._thread_started.set()
        await self._default_start()

    async def stop(self) -> None:
        """Stop in this loop."""
        await super(ServiceThread, self).stop()

    async def on_stop(self) -> None:
        """Leave the group and disconnect."""
        await self.on_thread_stop()

    def _stopped_set(self) -> None:
        self._stopped.set()

    async def _stop_children(self) -> None:
        await self._default_stop_children()

    async def _stop_futures(self) -> None:
        await self._default_stop_futures()

    async def _stop_exit_stacks(self) -> None:
        await self._default_stop_exit_stacks()

    async def crash(self, exc: BaseException) -> None:
        """Tell those who depend on it."""
        await super(ServiceThread, self).crash(exc)

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **terms: Any) -> Any:
        """Call what upstream would have called in the thread."""
        return await maybe_async(fun(*args, **terms))

    def _create_worker_consumer(self, transport: Any) -> AIOKafkaConsumer:
        """Return the client, with settings that upstream does not offer.

        Without tables upstream deals them out one by one: a stage with two inputs would get
        partition 0 of one here and of the other there. Its fetches wait 1.5 s.
        """
        consumer = super()._create_worker_consumer(transport)
        consumer._partition_assignment_strategy = [RangePartitionAssignor]
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        consumer = self._ensure_consumer()
        assigned = self.assignment()
        wanted = {
            driver.ensure_aiokafka_TP(tp): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
            if tp in assigned
        }
        if not wanted:
            return False
        try:
            # Where nobody knows the group's coordinator the client waits for it without an end.
            async with asyncio.timeout(_COMMIT_TIMEOUT_S):
                await consumer.commit(wanted)
        except (KafkaError, OSError) as error:  # a late one is an OSError
            _log.warning("offsets were not committed, and will be again: %r", error)
            return False
        return True


class Consumer(driver.Consumer):
    """Gives batches, and commits what is finished."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        transport = cast(Transport, self.transport)
        self.commits: Commits[TP] = Commits(is_held=transport.positions is not None)
        self._dropped: set[TP] = set()
        self._granted: frozenset[TP] | None = None
        self._fault: MillraceError | None = None

    def fault(self) -> BaseException | None:
        """Return what keeps the records from coming for good; None if nothing does.

        Upstream's client tells of a lost right alone to those who ask it for records itself.
        """
        client: Any = cast(Any, self._thread)._consumer
        coordinator = getattr(client, "_coordinator", None)
        if (
            isinstance(coordinator, GroupCoordinator)
            and not coordinator._coordination_task.cancelled()
        ):
            try:
                coordinator.check_errors()
            except (KafkaError, OSError) as error:
                return error
        reason = self.app.crash_reason
        if reason is not None and not isinstance(reason, MillraceError | KafkaError | OSError):
            # Nothing of ours: Faust lost what it stands on, and a restart may mend it.
            reason = KafkaError(f"Faust gave up: {reason!r}")
        return self._fault or reason

    def _new_consumer_thread(self) -> driver.AIOKafkaConsumerThread:
        return _Client(self, beacon=self.beacon)

    # ---- batches

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Message]]:  # noqa: ASYNC109 - Faust's signature
        """Yield what was fetched: one message for each partition, its value a ``Batch``."""
        await self._fetch_again()
        generation = self.app.consumer_generation_id
        fetched, active = await self._wait_next_records(timeout)
        if fetched is None or self.should_stop:
            return
        for tp, records in fetched.items():
            if not await self._follows(tp, records[0].offset):
                continue
            if (
                not self.flow_active
                or generation != self.app.consumer_generation_id
                or (active is not None and tp not in active and tp not in self._buffered_partitions)
            ):
                # A rebalance began. What was fetched may lie before or behind its seeks.
                self._dropped.add(tp)
                continue
            position = self._read_offset[tp]
            wanted = [r for r in records if position is None or r.offset >= position]
            if wanted:
                self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
                self.commits.take(tp, wanted[0].offset, wanted[-1].offset)
                yield tp, self._message(tp, Batch(position or 0, wanted))
                self._read_offset[tp] = wanted[-1].offset + 1

    async def _follows(self, tp: TP, first: int) -> bool:
        """Return whether records that begin at an offset follow what was read before.

        When the cluster does not have the wanted offset any more, or not yet again, the client
        goes back to the first that there is without a word. Where there are no records at some
        offsets (compaction, transactions) the log itself still reaches from one to the other.
        """
        at = self._read_offset[tp]
        if not at or at == first or tp not in self.assignment():
            return True
        client: Any = cast(Any, self._thread)._consumer
        place, source = driver.ensure_aiokafka_TP(tp), f"{tp.topic}/{tp.partition}"
        try:
            begin = (await client.beginning_offsets([place]))[place]
            end = (await client.end_offsets([place]))[place]
        except (KafkaError, OSError) as error:
            _log.warning("what follows in %s is not known, and is asked again: %r", source, error)
            self._dropped.add(tp)
            return False
        if begin > at:
            self._fault = taken(self.app.conf.id, source, at, begin)
        elif end < at:
            self._fault = cut_short(source, at, end)
        return self._fault is None

    def on_buffer_full(self, tp: TP) -> None:
        """Do nothing: a full buffer holds the fetcher back by itself.

        Upstream fetches the other partitions alone then, and waits for them up to a second while
        this one has room again.
        """

    def on_buffer_drop(self, tp: TP) -> None:
        """Do nothing; see ``on_buffer_full``."""

    async def _fetch_again(self) -> None:
        """Go back for what was fetched and dropped: the client takes it for delivered."""
        if not self._dropped:
            return
        if not self.flow_active:
            await self.wait(self.can_resume_flow)  # type: ignore[arg-type]
        for tp in self._dropped & set(self.assignment()):
            await self._seek(tp, self._read_offset[tp] or 0)
        self._dropped.clear()

    def _message(self, tp: TP, batch: Batch) -> ConsumerMessage:
        last = batch.records[-1]
        return ConsumerMessage(
            tp.topic,
            tp.partition,
            last.offset,
            last.timestamp / 1000.0,
            last.timestamp_type,
            None,
            None,
            cast(bytes, batch),
            None,
            0,
            0,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    def heard_ms(self) -> int | None:
        """Return when the cluster last answered a fetch (ms UTC), None if nothing is fetched."""
        client: Any = cast(Any, self._thread)._consumer
        if client is None:
            return None
        found = [client.last_poll_timestamp(tp) for tp in client.assignment()]
        return max((at for at in found if at is not None), default=None)

    # ---- what may be committed

    def ack(self, message: Message) -> bool:
        """Note that a batch is finished."""
        if message.acked:
            return False
        message.acked = True
        self._unacked_messages.discard(message)
        self.commits.finish(message.tp, message.offset)
        self._n_acked += 1
        notify(self._waiting_for_ack)
        return True

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return (tp for tp in self.commits if topics is None or tp in topics or tp.topic in topics)

    def _filter_committable_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        due = ((tp, self.commits.due(tp)) for tp in tps)
        return {tp: offset for tp, offset in due if offset is not None}

    async def _commit_offsets(
        self, offsets: Mapping[TP, int], start_new_transaction: bool = True
    ) -> bool:
        assigned = self.assignment()
        wanted = {tp: offset for tp, offset in offsets.items() if tp in assigned}
        if not wanted or not await self._commit(wanted):
            return False
        for tp, offset in wanted.items():
            self.commits.confirm(tp, offset)
        self.app.monitor.on_tp_commit(wanted)
        return True

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: what lies between two batches has no records."""

    # ---- where to go on

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Remember what was given: what Faust does next may come after it was taken again."""
        self._granted = frozenset(assigned)
        await super().on_partitions_assigned(assigned, generation_id)
        positions = cast(Transport, self.transport).positions
        if positions is not None and not assigned:
            # Faust seeks nowhere then; but having nothing to do is a state as well.
            await positions(frozenset())

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Let the state be saved, then forget what was in work: others do it now."""
        hook = cast(Transport, self.transport).revoked
        self._granted = None
        if hook is not None:
            await hook()
        await super().on_partitions_revoked(revoked)
        for tp in revoked:
            self.commits.forget(tp)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Go to where each partition goes on: its state's position, else the committed offset.

        A partition that has neither goes on at the first record whose work is not finished.
        """
        found: dict[TP, int] = dict(await super().seek_to_committed())
        assigned = frozenset(self.assignment())
        places = {tp: at for tp in assigned if (at := self.commits.restart(tp)) is not None}
        for tp in [tp for tp in places if found.get(tp)]:
            del places[tp]
        positions = cast(Transport, self.transport).positions
        if positions is not None and self._granted is not None:
            places.update(await positions(self._granted))
            assigned &= frozenset(self.assignment())
        for tp in assigned:
            self.commits.forget(tp)
        for tp, offset in places.items():
            await self._seek(tp, offset)
            found[tp] = offset
        return found


class Transport(driver.Transport):
    """Faust's aiokafka transport with the consumer of batches.

    ``positions`` of None restarts at committed offsets; else commits wait until ``Commits.allow``.
    ``revoked`` may save state.
    """

    Consumer: ClassVar[Any] = Consumer
    positions: Positions | None = None
    revoked: Revoked | None = None
