"""Batches that wait for their turn, and what parts have to do with them."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.meters import Meters
from agents.runners.kafka.parts.part import Output, Part
from schemas.errors import NewerSchemaError, StorageError
from schemas.topics import SYSTEM_DEAD_LETTERS
from streams.kafka.publisher import Outgoing, outgoing
from streams.kafka.ranges import Place

_WAITING_MAX = 16

_log = logging.getLogger(__name__)


class Arrival(NamedTuple):
    """Records of one partition; ``message`` is Faust's, or None if they came outside the group."""

    place: Place
    records: Sequence[Any]
    message: Any = None


class Job(NamedTuple):
    """What a part has to consume next."""

    part: Part
    place: Place
    records: list[Any]

    @property
    def next_offset(self) -> int:
        """Where the part goes on behind it."""
        if self.records:
            return int(self.records[-1].offset) + 1
        return self.part.offsets.get(f"{self.place[0]}/{self.place[1]}", 0)


class Result(NamedTuple):
    """What a part made of it, and the same as it goes out, dead letters behind it."""

    made: Sequence[Output]
    out: Sequence[Outgoing]
    error: NewerSchemaError | None = None


class Waiting:
    """A bounded queue of batches, of which a turn takes as many as it may."""

    def __init__(self) -> None:
        self._held: deque[Arrival] = deque()
        self._has_arrived = asyncio.Event()
        self._has_room = asyncio.Event()

    async def put(self, arrival: Arrival) -> None:
        """Let a batch wait for its turn; holds its reader up while too many are waiting."""
        while len(self._held) >= _WAITING_MAX:
            self._has_room.clear()
            await self._has_room.wait()
        self._held.append(arrival)
        self._has_arrived.set()

    async def wait(self, timeout_s: float | None = None) -> None:
        """Wait until there is something, at most ``timeout_s``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._has_arrived.wait()

    def next(self, size_max: int) -> list[Arrival]:
        """Return the batches of the next turn: what is waiting, about ``size_max`` records."""
        chosen: list[Arrival] = []
        size = 0
        while self._held and size < size_max:
            chosen.append(self._held.popleft())
            size += len(chosen[-1].records)
        if not self._held:
            self._has_arrived.clear()
        self._has_room.set()
        return chosen

    def drop_followed(self) -> None:
        """Drop what came outside the group."""
        kept = [arrival for arrival in self._held if arrival.message is not None]
        self._held.clear()
        self._held.extend(kept)

    def count(self, place: Place) -> int:
        """Return how many records of a partition are waiting."""
        return sum(len(arrival.records) for arrival in self._held if arrival.place == place)


def jobs_of(arrivals: Sequence[Arrival], parts: Mapping[int, Part]) -> list[Job]:
    """Return what each part has to do: each record once, what came of a partition in one go."""
    jobs: dict[tuple[int, Place], Job] = {}
    for place, arrived, message in arrivals:
        having = [part for part in parts.values() if place in part.follows]
        if message is not None:
            having = [parts[place[1]]]
        for part in having:
            job = jobs.get((part.partition, place)) or Job(part, place, [])
            at = job.next_offset
            if message is not None:
                check_place(part, place, message.value.start, at)
            job.records.extend(item for item in arrived if item.offset >= at)
            if job.records:
                jobs[part.partition, place] = job
    return list(jobs.values())


def check_place(part: Part, place: Place, start: int, at: int) -> None:
    """Hold a part to consuming everything; raises StorageError for a gap in front of a batch."""
    if start > at:
        raise StorageError(
            f"{part.instance} would miss records {at} to {start - 1} of {place[0]}/{place[1]}",
            field="offset",
            value=start,
            remedy="restart the worker; if retention took the records, rebuild",
        )


def consume(
    part: Part,
    place: Place,
    arrived: Sequence[Any],
    partitions: int,
    meters: Meters,
    *,
    tells: bool,
) -> Result:
    """Let a part consume records of one of ``partitions``; return what has to be published.

    ``tells``: what cannot be read becomes dead letters here.
    """
    topic, partition = place
    try:
        taken = take_records(topic, partition, arrived, part.universe, partitions)
    except NewerSchemaError as error:
        # However the batch was cut, what stands in front of the record is done.
        head = [item for item in arrived if item.offset < error.offset]
        done = Result((), ())
        if head:
            done = consume(part, place, head, partitions, meters, tells=tells)
        return done._replace(error=error)
    duplicates = part.duplicates
    made = part.take(topic, partition, taken.records, arrived[-1].offset + 1)
    out = [outgoing(item.topic, item.record, item.partition) for item in made]
    if tells:
        out += [outgoing(SYSTEM_DEAD_LETTERS, letter) for letter in taken.letters]
    meters.duplicates.labels(part.STAGE).inc(part.duplicates - duplicates)
    meters.gaps.labels(part.STAGE).inc(len(part.gaps))
    for gap in part.gaps:
        _log.warning("%s: records of %s are missing in front of %d (after %d)",
                     gap.source, gap.producer, gap.seen, gap.last)  # fmt: skip
    part.gaps.clear()
    return Result(made, out)
