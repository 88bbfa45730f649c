"""The live feed of the one-process runner: what an adapter pushes, as the runner takes it.

The one place where the wall clock enters, and without its jumps (``steady_clock``). The time of the
feed is that clock less a lateness: how long a record may be on its way. When nothing newer arrives,
a watermark says that nothing older will follow, so that bars close, orders expire and data goes
stale in a quiet market too. A record that comes later all the same keeps its event time and does
not turn the clock back: the market stage corrects the bar and reports it, as it does in a replay.

Whatever enters is an input of the run and is journaled in the order in which it was taken:
watermarks, and dead letters too. So a replay of the journal, which asks no clock and no adapter,
gives the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from agents.runners.admission import Admission, shown
from agents.runners.steady_clock import SteadyClock, since_boot_ns
from schemas.columns import MarketBatch
from schemas.control import DeadLetter
from schemas.envelope import Header
from schemas.errors import ConfigError, ConflictError, RecordError, StorageError
from schemas.identifiers import source_id
from schemas.instruments import Universe
from schemas.market_data import Watermark
from schemas.topics import MARKET_EVENTS, SYSTEM_DEAD_LETTERS
from streams.journal.batches import records_piece, recut

_NS = 1_000_000_000
_MINUTE_NS = 60 * _NS
_QUEUE_EVENTS = 16_384
_BATCH_EVENTS = 4096
_LETTERS_A_MINUTE = 1000
_LETTER_BYTES = 4096
LATENESS_S = 1.0
_WATERMARK_INTERVAL_S = 1.0
_AHEAD_S = 5.0
_BEHIND_S = 86_400.0
_REFUSED_IN_A_ROW = 3


class LiveFeed:
    """Market events of an adapter: its ``Emit`` on one side, the runner's ``Feed`` on the other.

    ``source`` stands in the records, ``kinds`` are those the adapter announced, ``unselected`` the
    ids of instruments that it serves but the run does not use. ``now_ns`` is the wall clock (int64
    ns UTC), ``steady_ns`` one that does not jump, ``until_ns`` the end of the session calendars.
    ``on_arrival`` is called when there is something to poll, ``on_note`` with what the operator
    should know.

    ``emit`` waits while ``queue_events`` wait to be taken: the source is held back, nothing is
    dropped. Records may lie ``ahead_s`` before and ``behind_s`` behind the wall clock.
    """

    def __init__(
        self,
        universe: Universe,
        source: str,
        kinds: frozenset[str],
        *,
        now_ns: Callable[[], int],
        steady_ns: Callable[[], int] = since_boot_ns,
        until_ns: int,
        unselected: frozenset[str] = frozenset(),
        lateness_s: float = LATENESS_S,
        watermark_interval_s: float = _WATERMARK_INTERVAL_S,
        ahead_s: float = _AHEAD_S,
        behind_s: float = _BEHIND_S,
        queue_events: int = _QUEUE_EVENTS,
    ) -> None:
        if not 0 <= lateness_s < behind_s:
            raise ConfigError(
                "a feed cannot be this late",
                field="source.lateness_s",
                value=lateness_s,
                remedy=f"give seconds from 0 to less than {behind_s:g}",
            )
        self._universe = universe
        self._source = source
        self._wall_ns = SteadyClock(now_ns, steady_ns)
        self._wall_ns.on_note = self.note
        self._until_ns = until_ns
        self._unselected = unselected
        self._lateness_ns = round(lateness_s * _NS)
        self._interval_ns = round(watermark_interval_s * _NS)
        self._ahead_ns = round(ahead_s * _NS)
        self._admission = Admission(universe, kinds, ahead_s=ahead_s, behind_s=behind_s)
        self._queue: asyncio.Queue[tuple[str, Any]] = asyncio.Queue(queue_events)
        self._clock_ns = 0
        self._shown_ns = 0
        self._is_begun = False
        self._is_ended = False
        self._minute = 0
        self._letters = 0
        self._withheld = 0
        self._refused_in_a_row = 0
        self.on_arrival: Callable[[], None] = lambda: None
        self.on_note: Callable[[str], None] = lambda _: None
        self.played_events = 0
        self.unselected_events = 0
        self.refused = 0
        self.last_reason = ""

    # ---- the adapter's side

    async def __call__(self, record: Header) -> None:
        """Take a record of the adapter; waits while the queue is full."""
        instrument_id = getattr(record, "instrument_id", None)
        if isinstance(instrument_id, str) and instrument_id in self._unselected:
            self.unselected_events += 1
            return
        now_ns = self._wall_ns()
        try:
            taken = self._admission.admit(record, now_ns)
        except RecordError as error:
            await self.refuse(shown(record, _LETTER_BYTES), str(error))
            return
        self._refused_in_a_row = 0
        if taken.ts_event_ns >= now_ns - self._lateness_ns - self._ahead_ns:
            self._wall_ns.confirm()
        taken.ts_received_ns = now_ns
        await self._put(MARKET_EVENTS, taken)

    async def refuse(self, value: bytes, reason: str) -> None:
        """Take what cannot be used as a dead letter.

        Beyond 1,000 in a minute they are counted only, and the count follows as a letter of its
        own: a source gone wrong shall not fill the disk.
        """
        self.refused += 1
        self._refused_in_a_row += 1
        self.last_reason = reason
        if self._letters >= _LETTERS_A_MINUTE:
            self._withheld += 1
            return
        self._letters += 1
        letter = self._letter(value[:_LETTER_BYTES], reason, self._wall_ns())
        await self._put(SYSTEM_DEAD_LETTERS, letter)

    def again(self, record: Header) -> Header:
        """Take the record of a dead letter like one of the adapter; return it as it is taken.

        It has no source until ``poll`` numbers it. Raises RecordError for one that would be refused
        again, ConflictError behind the end of the feed, StorageError while the queue is full.
        """
        now_ns = self._wall_ns()
        taken = self._admission.admit(record, now_ns)
        if self._is_ended:
            raise ConflictError("the feed has ended", remedy="begin a new run for newer data")
        # What a sender says of where it comes from is not what it is numbered by here.
        for name in ("event_id", "source", "producer", "run_id"):
            setattr(taken, name, "")
        taken.source_seq = taken.producer_seq = 0
        taken.ts_received_ns = now_ns
        if self._queue.full():
            raise StorageError(
                "the feed's queue is full",
                field="topic",
                value=MARKET_EVENTS,
                remedy="try again later",
            )
        self._queue.put_nowait((MARKET_EVENTS, taken))
        self.on_arrival()
        return cast("Header", taken)

    def note(self, text: str) -> None:
        """Hand on what the adapter tells the operator."""
        self.on_note(text)

    def end(self) -> None:
        """Say that nothing will come any more."""
        self._is_ended = True

    def _letter(self, value: bytes, reason: str, now_ns: int) -> DeadLetter:
        return DeadLetter(
            event_id=f"{self._source}:refused:{now_ns}.{self.refused}",
            # A wrong record is no reason for time to move on; only a first one begins it.
            ts_event_ns=self._clock_ns or now_ns - self._lateness_ns,
            ts_received_ns=now_ns,
            topic=MARKET_EVENTS,
            partition=0,
            offset=self.played_events,
            reason=reason,
            value=value,
        )

    async def _put(self, topic: str, record: Any) -> None:
        await self._queue.put((topic, record))
        self.on_arrival()

    # ---- the runner's side

    @property
    def is_done(self) -> bool:
        """Whether the adapter has ended and everything was taken."""
        return self._is_ended and self._queue.empty()

    def now_ns(self) -> int:
        """Return the feed's time (int64 ns UTC), which never falls."""
        self._shown_ns = max(self._shown_ns, self._clock_ns, self._wall_ns() - self._lateness_ns)
        return self._shown_ns

    def jump(self) -> str:
        """Return how far the wall clock has jumped if that is not followed, else an empty text."""
        return self._wall_ns.jump()

    def fault(self, engine_ns: int) -> str:
        """Return why the data cannot be relied upon, an empty text if they can.

        ``engine_ns`` is the time that the engine has come to.
        """
        if self._refused_in_a_row >= _REFUSED_IN_A_ROW:
            return f"the last {self._refused_in_a_row:,} records were refused: {self.last_reason}"
        ahead_ns = engine_ns - self._wall_ns()
        if ahead_ns > self._ahead_ns:
            return (
                f"the engine's time is {ahead_ns / _NS:,.0f} s ahead of the clock and stands until"
                " then: the clock was wrong; wait, or begin a new session in another folder"
            )
        return ""

    def skip(self, events: int) -> None:
        """Number on behind ``events`` that the journal holds; what was missed does not come."""
        self.played_events += events
        self._is_begun = self._is_begun or events > 0

    def poll(self) -> MarketBatch | None:
        """Return what has arrived, or a watermark when it is due, in the order of arrival.

        Raises ConfigError when the run's session calendars are at their end.
        """
        items: list[tuple[str, Any]] = []
        while len(items) < _BATCH_EVENTS and not self._queue.empty():
            items.append(self._queue.get_nowait())
        wall_ns = self._wall_ns()
        self._number(items)
        self._begin_minute(items, wall_ns)
        if self._queue.empty() and not self._is_ended:
            self._add_watermark(items, wall_ns)
        if not items:
            return None
        batch = next(recut(self._universe, [records_piece(self._universe, items)], len(items)))
        self._clock_ns = max(self._clock_ns, int(batch.clock[-1]))
        return batch

    def _number(self, items: list[tuple[str, Any]]) -> None:
        """Give market events their place in the source: they are counted through the whole run."""
        for topic, record in items:
            if topic == MARKET_EVENTS:
                record.source, record.source_seq = self._source, self.played_events
                instrument_id = getattr(record, "instrument_id", "")
                record.event_id = source_id(self._source, instrument_id, self.played_events)
                self.played_events += 1
                self._is_begun = True

    def _begin_minute(self, items: list[tuple[str, Any]], wall_ns: int) -> None:
        """Allow dead letters again in a new minute; one says how many were withheld before."""
        minute = wall_ns // _MINUTE_NS
        if minute == self._minute:
            return
        if self._withheld:
            reason = f"{self._withheld} more were refused within a minute; see those before"
            items.append((SYSTEM_DEAD_LETTERS, self._letter(b"", reason, wall_ns)))
        self._minute, self._letters, self._withheld = minute, 0, 0

    def _add_watermark(self, items: list[tuple[str, Any]], wall_ns: int) -> None:
        """Add a watermark if the clock has fallen behind; before the first event there is none."""
        if wall_ns >= self._until_ns:
            raise ConfigError(
                "the session calendars of this run are at their end",
                field="ts_event_ns",
                value=wall_ns,
                remedy="begin a new session in another folder",
            )
        newest = max((record.ts_event_ns for _, record in items), default=0)
        promised_ns = wall_ns - self._lateness_ns
        if self._is_begun and promised_ns - max(newest, self._clock_ns) >= self._interval_ns:
            mark = (MARKET_EVENTS, Watermark(ts_event_ns=promised_ns, ts_received_ns=wall_ns))
            self._number([mark])
            items.append(mark)
