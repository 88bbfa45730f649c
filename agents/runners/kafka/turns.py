"""Batches on their way through a worker: what is waiting, and what a part makes of its share.

A turn takes all that waits, up to the size of one poll. The queue is bounded: a full one holds up
whoever reads from Kafka, and so the fetcher.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from agents.runners.kafka.app import POLL_RECORDS_MAX
from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.parts.part import Output, Part
from schemas.errors import NewerSchemaError, StorageError
from schemas.topics import MARKET_EVENTS, SYSTEM_DEAD_LETTERS
from streams.kafka.publisher import Outgoing, outgoing
from streams.kafka.ranges import Place

_WAITING_MAX = 16


class Arrival(NamedTuple):
    """Records of one partition; ``message`` is Faust's, or None if they came outside the group."""

    place: Place
    records: Sequence[Any]
    message: Any = None


class Job(NamedTuple):
    """What a part has to consume next."""

    part: Part
    place: Place
    records: Sequence[Any]


class Result(NamedTuple):
    """What a part made of it, and the same as it goes out, dead letters behind it.

    ``error`` ends the work behind what is in front of the record it is about.
    """

    made: Sequence[Output]
    out: Sequence[Outgoing]
    error: NewerSchemaError | None = None


class Arrivals:
    """The batches that wait for their turn."""

    def __init__(self) -> None:
        self._waiting: deque[Arrival] = deque()
        self._has_arrived = asyncio.Event()
        self._has_room = asyncio.Event()

    async def put(self, arrival: Arrival) -> None:
        """Let a batch wait; holds its reader up while too many are waiting."""
        while len(self._waiting) >= _WAITING_MAX:
            self._has_room.clear()
            await self._has_room.wait()
        self._waiting.append(arrival)
        self._has_arrived.set()

    async def any(self) -> None:
        """Return when something is waiting."""
        await self._has_arrived.wait()

    def take(self) -> list[Arrival]:
        """Return the batches of the next turn."""
        chosen: list[Arrival] = []
        size = 0
        while self._waiting and size < POLL_RECORDS_MAX:
            chosen.append(self._waiting.popleft())
            size += len(chosen[-1].records)
        if not self._waiting:
            self._has_arrived.clear()
        self._has_room.set()
        return chosen

    def drop_followed(self) -> None:
        """Drop what came outside the group: it is read anew."""
        kept = [arrival for arrival in self._waiting if arrival.message is not None]
        self._waiting.clear()
        self._waiting.extend(kept)


def process(job: Job, counts: Mapping[str, int]) -> Result:
    """Let a part consume records; return what has to be published."""
    part, (topic, partition), arrived = job
    try:
        taken = take_records(topic, partition, arrived, part.universe, counts[topic])
    except NewerSchemaError as error:
        # However the batch was cut, what stands in front of the record is done.
        head = [item for item in arrived if item.offset < error.offset]
        done = process(job._replace(records=head), counts) if head else Result((), ())
        return done._replace(error=error)
    made = part.take(topic, partition, taken.records, arrived[-1].offset + 1)
    out = [outgoing(item.topic, item.record, item.partition) for item in made]
    if topic != MARKET_EVENTS or part.STAGE == "market":
        # Several stages read market events; one of them tells of what cannot be read.
        out += [outgoing(SYSTEM_DEAD_LETTERS, letter) for letter in taken.letters]
    return Result(made, out)


def check_place(part: Part, place: Place, start: int, at: int) -> None:
    """Hold a part to consuming everything; raises StorageError for a gap in front of a batch."""
    if start > at:
        raise StorageError(
            f"{part.instance} would miss records {at} to {start - 1} of {place[0]}/{place[1]}",
            field="offset",
            value=start,
            remedy="restart the worker; if retention took the records, rebuild",
        )
