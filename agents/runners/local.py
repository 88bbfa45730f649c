"""The one-process runner: the whole pipeline live over a journal, with a log port for the web app.

Input comes from a feed (market events) and from ``publish`` (commands of clients). Each turn takes
what is due, journals it, runs the engine, journals what came out, flushes, and only then tells
listeners and those who wait for their command: what is acknowledged is on disk. After a kill the
journal's last snapshot and the inputs behind it bring back the same state, and the feed goes on
behind the last event that was journaled.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import numpy as np

from agents.runners.engine import Engine, Outputs
from agents.runners.live_feed import LiveFeed
from agents.runners.recorder import FINISH, Recorder
from agents.runners.replay import MANIFEST
from schemas.columns import MarketBatch
from schemas.control import RunManifest
from schemas.envelope import Header
from schemas.errors import ConflictError, MillraceError, StorageError, UnconfirmedError
from schemas.rows import records_from_table
from schemas.topics import (
    REFERENCE_ACTIONS,
    REFERENCE_INSTRUMENTS,
    SYSTEM_RUNS,
)
from streams.journal import EPOCH_MARK, JournalReader, JournalWriter, events_of
from streams.log import Listener, Page, Published, page_of

_TURN_S = 0.02
_QUEUE_MAX = 10_000
_PUBLISH_TIMEOUT_S = 5.0
_SLICE_EVENTS = 4096
_JOURNAL_PER_SNAPSHOT = 2
"""So many bytes of everything else for one of snapshots; a restart goes through them again."""


class Feed(Protocol):
    """Market events as they become due."""

    def skip(self, events: int) -> None:
        """Pass over the first ``events`` events: a run that was killed has consumed them."""
        ...

    def poll(self) -> MarketBatch | None:
        """Return the events that are due now, None if there are none."""
        ...

    @property
    def is_done(self) -> bool:
        """Whether no event will ever come again."""
        ...

    def now_ns(self) -> int:
        """Return the feed's time (int64 ns UTC): the wall clock, or the place in the recording."""
        ...


class _Command(NamedTuple):
    topic: str
    record: Header
    done: asyncio.Future[None]


class LocalRunner:
    """Runs an engine over a feed and a journal; is the ``Log`` of everything in front of it."""

    def __init__(
        self,
        engine: Engine,
        feed: Feed,
        folder: Path,
        manifest: RunManifest,
        *,
        snapshot_interval_s: float = 10.0,
        sync_interval_s: float = 1.0,
    ) -> None:
        self.engine = engine
        self.feed = feed
        self.folder = folder
        self.run_id = manifest.run_id
        self.epoch = ""
        self.recovered_events = 0
        self.is_finished = False
        self._manifest = manifest
        self._snapshot_interval_s = snapshot_interval_s
        self._snapshot_at_s = 0.0
        self._snapshot_bytes = 0
        self._saved_at_bytes = 0
        self._listeners: list[Listener] = []
        self._queue: deque[_Command] = deque()
        self._stop = asyncio.Event()
        self._wake = asyncio.Event()
        self._is_held = False
        self._is_broken = False
        self._side: list[tuple[str, Header]] = []
        self._fed: list[tuple[Header, asyncio.Future[None]]] = []
        self._writer = JournalWriter.open(
            folder, run_id=self.run_id, sync_interval_s=sync_interval_s
        )
        self.recorder = Recorder(self._writer, engine.universe)
        self.torn_tail = self._writer.recovered
        self._reader: JournalReader | None = None
        self._recover()
        found = self._journal().last_mark(EPOCH_MARK)
        # Journals from before there were epochs have the run's name.
        self.epoch = found[1].decode() if found is not None else manifest.run_id

    def _recover(self) -> None:
        if not self._writer.next_entry or MANIFEST not in self._writer.marks:
            # The manifest comes last: a run that has one has its instruments too.
            instruments = self.engine.universe.instruments
            self._writer.append_mark(EPOCH_MARK, uuid.uuid4().hex.encode())
            self.recorder.write_side([(REFERENCE_INSTRUMENTS, item) for item in instruments])
            self.recorder.write_side([(SYSTEM_RUNS, self._manifest)])
            self._writer.append_mark(MANIFEST, msgspec.json.encode(self._manifest))
            self._writer.flush()
            return
        self._writer.flush()
        self.is_finished = self.recorder.recover(
            self.folder, self.engine.restore, self.engine.process, self.engine.finish
        )
        # A recording plays corporate actions among its events; only it brings them.
        actions = self.recorder.offsets.get(REFERENCE_ACTIONS, 0)
        self.recovered_events = self.recorder.market_events + actions
        self.feed.skip(self.recovered_events)
        self._writer.flush()

    # ---- the log port

    async def publish(self, topic: str, record: Header) -> None:
        """Put a record into the run's input; returns when it is journaled and handled.

        Raises StorageError when the queue is full, the run is over or the journal cannot take it,
        UnconfirmedError if it failed with this record under way, TimeoutError after the deadline.
        """
        if len(self._queue) >= _QUEUE_MAX or self.is_stopped:
            raise StorageError(
                "the run takes no more commands",
                field="topic",
                value=topic,
                remedy="try again later",
            )
        command = _Command(topic, record, asyncio.get_running_loop().create_future())
        self._queue.append(command)
        self.wake()
        async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
            await command.done

    async def feed_again(self, record: Header) -> None:
        """Put a market event of a dead letter into the live feed; returns like ``publish``.

        Raises RecordError for one that the feed refuses, ConflictError where no live feed runs, and
        what ``publish`` raises.
        """
        if not isinstance(self.feed, LiveFeed):
            raise ConflictError(
                "the run plays a recording, whose market events are what they were",
                remedy="put the event into the data of a new run",
            )
        if self._is_held or self.is_stopped:
            raise StorageError("the run takes no more events", remedy="try again later")
        done = asyncio.get_running_loop().create_future()
        self._fed.append((self.feed.again(record), done))
        self.wake()
        async with asyncio.timeout(_PUBLISH_TIMEOUT_S):
            await done

    def publish_side(self, topic: str, record: Header) -> None:
        """Put a record that no stage reads (a backtest's result) into the log."""
        self._side.append((topic, record))

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every group of records once it is journaled."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def epoch_of(self, topic: str) -> str:
        """Return the journal's one epoch."""
        return self.epoch

    def partitions(self, topic: str) -> int:
        """Return 1: the journal is one sequence."""
        return 1

    def read(self, topic: str, offset: int, limit: int, partition: int = 0) -> list[Published]:
        """Return up to ``limit`` records of a topic from ``offset`` on."""
        found = self._journal().read(topic, offset, limit)
        return [Published(topic, 0, at, record) for at, record in found]

    def _journal(self) -> JournalReader:
        if self._reader is None:
            self._reader = JournalReader(self.folder)
        return self._reader

    def at_hand(self, topic: str, partition: int = 0) -> int:
        """Return 0: the journal has everything."""
        return 0

    async def fetch(self, topic: str, partition: int, offset: int, limit: int) -> Page:
        """Return up to ``limit`` records of a topic from ``offset`` on."""
        return page_of(self, topic, partition, offset, limit)

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset that the next record of ``topic`` will have."""
        return self._writer.next_offsets.get(topic, 0)

    def written_offset(self, topic: str, partition: int = 0) -> int:
        """Return the end: what is journaled is told in the same turn."""
        return self.end_offset(topic, partition)

    def now_ns(self) -> int:
        """Return the run's time: the feed's, and never less than the engine has come to."""
        return max(self.feed.now_ns(), self.engine.clock_ns)

    # ---- running

    async def run(self) -> None:
        """Take turns until ``stop`` is called; raises StorageError when the journal fails."""
        loop = asyncio.get_running_loop()
        self._snapshot_at_s = loop.time() + self._snapshot_interval_s
        try:
            while not self._stop.is_set():
                self._wake.clear()
                worked = self.turn()
                if loop.time() >= self._snapshot_at_s:
                    if self._is_worth_a_snapshot():
                        self.save()
                    self._snapshot_at_s = loop.time() + self._snapshot_interval_s
                if not worked:
                    try:
                        async with asyncio.timeout(_TURN_S):
                            await self._wake.wait()
                    except TimeoutError:
                        continue
                else:
                    await asyncio.sleep(0)
            self._write_side()  # what was said on the way out
        finally:
            self._refuse_waiting()
            self.close()

    def hold(self) -> None:
        """Take no more events, but whatever else is said: the end is near."""
        self._is_held = True

    def stop(self) -> None:
        """Ask the runner to end after the present turn."""
        self._stop.set()
        self.wake()

    @property
    def is_stopped(self) -> bool:
        """Whether the run takes no more turns."""
        return self._stop.is_set() or not self._writer.is_open

    def wake(self) -> None:
        """Take the next turn at once: there is something to do."""
        self._wake.set()

    def turn(self) -> bool:
        """Take what is due through the pipeline; return whether there was anything."""
        batch = None if self._is_held else self.feed.poll()
        commands = [self._queue.popleft() for _ in range(len(self._queue))]
        refusal: MillraceError = StorageError(
            "the run has ended before it took the command", remedy="try again after it started"
        )
        try:
            self._write_side()
            if batch is not None:
                for start in range(0, len(batch), _SLICE_EVENTS):
                    self._take(batch.slice(start, min(start + _SLICE_EVENTS, len(batch))))
            if commands:
                refusal = UnconfirmedError("the run has ended while it took the command")
                self._take(self._batch_of(commands))
        except Exception:
            self._is_broken = True
            # Whatever ends the run, nobody waits for it: their commands are in no queue any more.
            for command in commands:
                if not command.done.done():
                    command.done.set_exception(refusal)
            raise
        for command in commands:
            if not command.done.done():
                command.done.set_result(None)
        self._answer_fed()
        return batch is not None or bool(commands)

    def _answer_fed(self) -> None:
        """Tell those whose market event was in a turn: the feed has numbered it."""
        if self._fed:
            waiting, self._fed = self._fed, []
            for record, done in waiting:
                if not record.source:
                    self._fed.append((record, done))
                elif not done.done():
                    done.set_result(None)

    def _write_side(self) -> None:
        if self._side:
            side, self._side = self._side, []
            before = dict(self._writer.next_offsets)
            self.recorder.write_side(side)
            self._writer.flush()
            self._tell(None, Outputs(side, []), before)

    def _batch_of(self, commands: Sequence[_Command]) -> MarketBatch:
        """Return commands as a batch; each is an event of its own, the clock never falls."""
        times = [max(getattr(c.record, "ts_event_ns", 0), self.engine.clock_ns) for c in commands]
        clock = np.maximum.accumulate(np.array(times, np.int64))
        for command, ts in zip(commands, clock.tolist(), strict=True):
            msgspec.structs.force_setattr(command.record, "ts_event_ns", ts)
        records = [(i, c.topic, c.record) for i, c in enumerate(commands)]
        return MarketBatch(
            self.engine.universe, clock, records=records, first_offset=self.engine.events
        )

    def _take(self, batch: MarketBatch) -> None:
        if int(batch.clock[0]) < self.engine.clock_ns:
            # A command was stamped later than events that come only now: time does not run
            # backwards.
            batch.clock = np.maximum(batch.clock, self.engine.clock_ns)
        before = dict(self._writer.next_offsets)
        self.recorder.consume(batch)
        outputs = self.engine.process(batch)
        self.recorder.write(outputs)
        self._writer.flush()
        self._tell(batch, outputs, before)

    def _tell(self, batch: MarketBatch | None, outputs: Outputs, offsets: dict[str, int]) -> None:
        """Hand what was journaled to the listeners, as single records with their offsets."""
        if not self._listeners:
            return
        published: list[Published] = []
        next_offsets = dict(offsets)

        def add(topic: str, record: Header) -> None:
            offset = next_offsets.get(topic, 0)
            next_offsets[topic] = offset + 1
            published.append(Published(topic, 0, offset, record))

        if batch is not None:
            for topic, record in events_of(batch, self.engine.universe):
                add(topic, record)
        for topic, rows in outputs.tables:
            for record in records_from_table(self.engine.universe, rows, slice(None)):
                add(topic, record)
        for topic, record in outputs.records:
            add(topic, record)
        for listener in list(self._listeners):
            listener(published)

    # ---- ending

    def save(self) -> None:
        """Append a snapshot, from which a restart goes on."""
        begin = self._writer.appended_bytes
        self.recorder.snapshot(self.engine.snapshot())
        self._writer.flush()
        self._saved_at_bytes = self._writer.appended_bytes
        self._snapshot_bytes = self._saved_at_bytes - begin

    def _is_worth_a_snapshot(self) -> bool:
        """Return whether so much was journaled since the last one that another is a small part.

        A day's orders make a state of tens of megabytes: written every few seconds beside a quiet
        market it would be nearly all of the journal, and hold the engine up each time.
        """
        since_bytes = self._writer.appended_bytes - self._saved_at_bytes
        return since_bytes > _JOURNAL_PER_SNAPSHOT * self._snapshot_bytes

    def finish(self) -> str:
        """End the run: open bars leave, accounts are valued. Return the hash of all outputs.

        A run that was finished before it was killed is not finished twice.
        """
        assert self.recorder.hasher is not None  # a live run is always hashed
        if self.is_finished:
            return self.recorder.hasher.hexdigest()
        before = dict(self._writer.next_offsets)
        self._writer.append_mark(FINISH, b"{}")
        outputs = self.engine.finish()
        self.recorder.write(outputs)
        self._writer.flush()
        self.is_finished = True
        self._tell(None, outputs, before)
        return self.recorder.hasher.hexdigest()

    def _refuse_waiting(self) -> None:
        for command in self._queue:
            if not command.done.done():
                command.done.set_exception(
                    StorageError("the run is stopping", remedy="try again after it started")
                )
        self._queue.clear()
        for record, done in self._fed:
            if not done.done():
                done.set_exception(
                    UnconfirmedError("the run has ended while it took the event")
                    if record.source
                    else StorageError("the run is stopping", remedy="try again after it started")
                )
        self._fed.clear()

    def close(self) -> None:
        """Save the state and close the journal; safe to call twice.

        The state of a run that an error ended is that of half a batch: it is not saved, and a
        restart comes to the same place by the journal.
        """
        writer = self._writer
        if writer.is_open:
            try:
                if not (self.is_finished or self._is_broken):
                    self.save()
            finally:
                writer.close()
