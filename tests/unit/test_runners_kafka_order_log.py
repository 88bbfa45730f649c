"""The order log: what is kept, when it is written, and who finds out that a part is another's."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import pytest

from agents.runners.kafka.order_log import Note, OrderLog
from agents.runners.kafka.parts.part import Part
from agents.runners.kafka.stages import stage_specs
from agents.runners.kafka.worker import StageWorker
from schemas.codec import decode
from schemas.control import OrderLogEntry
from schemas.errors import ConfigError
from schemas.instruments import Universe
from schemas.topics import CATALOGUE, MARKET_EVENTS, SYSTEM_ORDER_LOG, VENUE_COMMANDS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher
from streams.kafka.ranges import Place, PlaceReader
from tests.kafka_case import CONFIG

COUNTS = {topic.name: topic.partitions for topic in CATALOGUE}


class Item(NamedTuple):
    """A record of a partition."""

    offset: int
    value: bytes


class FakeLog:
    """The partitions of the order log in memory."""

    def __init__(self) -> None:
        self.partitions: dict[int, list[bytes]] = {}
        self.first = 0
        self.published = 0

    async def publish(self, records: Sequence[Outgoing]) -> list[int]:
        """Append records; return their offsets."""
        self.published += 1
        offsets = []
        for record in records:
            held = self.partitions.setdefault(cast(int, record.partition), [])
            offsets.append(len(held))
            held.append(record.value)
        return offsets

    def entries(self, partition: int) -> list[OrderLogEntry]:
        """Return the notes of a partition, claims left out."""
        found = [decode(SYSTEM_ORDER_LOG, value) for value in self.partitions.get(partition, [])]
        return [e for e in found if isinstance(e, OrderLogEntry) and not e.is_claim]


class FakeReader:
    """One reader of it, with its own places."""

    def __init__(self, log: FakeLog) -> None:
        self._log = log
        self._partitions = log.partitions
        self._at: dict[Place, int] = {}

    async def put(self, places: Mapping[Place, int]) -> None:
        """Stand at these offsets."""
        self._at = dict(places)

    async def beginnings(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return the first offset that is left of each partition."""
        return dict.fromkeys(places, self._log.first)

    async def ends(self, places: Iterable[Place]) -> dict[Place, int]:
        """Return where the partitions end."""
        return {place: len(self._partitions.get(place[1], [])) for place in places}

    async def read(self, place: Place, stop: int) -> list[Item]:
        """Return what stands between its place and ``stop``."""
        start, self._at[place] = self._at[place], stop
        held = self._partitions.get(place[1], [])
        return [Item(offset, held[offset]) for offset in range(start, stop)]


def venue_part(partition: int) -> Part:
    return stage_specs(CONFIG, {}, {})["venue"].make(partition, Universe([]), COUNTS)


def order_log(log: FakeLog) -> OrderLog:
    return OrderLog(cast(PlaceReader, FakeReader(log)), cast(Publisher, log), COUNTS)


def ranges(entries: Sequence[OrderLogEntry]) -> list[tuple[str, int, int]]:
    return [(entry.topic, entry.first_offset, entry.last_offset) for entry in entries]


async def test_notes_wait_for_the_next_write_and_stay_as_they_were_cut() -> None:
    log, part = FakeLog(), venue_part(0)
    notes = order_log(log)
    await notes.claim([part])
    claims = log.published
    notes.note([Note(part, MARKET_EVENTS, 0, 0, 3)], 10.0)
    notes.note([Note(part, MARKET_EVENTS, 0, 4, 4), Note(part, VENUE_COMMANDS, 0, 0, 0)], 10.4)
    assert log.published == claims
    assert await notes.write() == []
    assert ranges(log.entries(0)) == [
        (MARKET_EVENTS, 0, 3),
        (MARKET_EVENTS, 4, 4),
        (VENUE_COMMANDS, 0, 0),
    ]
    assert log.published == claims + 1
    assert await notes.write() == []
    assert log.published == claims + 1, "nothing was kept, and something was written"


async def test_notes_wait_a_second_from_the_first_of_them() -> None:
    log, part = FakeLog(), venue_part(0)
    notes = order_log(log)
    await notes.claim([part])
    assert notes.wait_s(10.0) is None
    notes.note([Note(part, MARKET_EVENTS, 0, 0, 3)], 10.0)
    notes.note([Note(part, MARKET_EVENTS, 0, 4, 9)], 10.75)
    assert notes.wait_s(10.75) == 0.25
    assert notes.wait_s(12.0) == 0
    await notes.write()
    assert notes.wait_s(12.0) is None


async def test_who_lost_a_part_finds_out_when_it_writes() -> None:
    log, mine, theirs = FakeLog(), venue_part(0), venue_part(0)
    zombie, successor = order_log(log), order_log(log)
    await zombie.claim([mine])
    zombie.note([Note(mine, MARKET_EVENTS, 0, 0, 3)], 1.0)
    log_of_other = await successor.claim([theirs])
    assert log_of_other == {theirs.instance: []}, "what was not written is not known to others"
    assert await zombie.write() == [mine]
    # The note stands behind the other's claim with a lower epoch: it is void.
    assert [entry.epoch < theirs.epoch for entry in log.entries(0)] == [True]
    assert await successor.write() == []


async def test_a_claim_drops_what_was_kept_for_parts_that_are_gone() -> None:
    log, part = FakeLog(), venue_part(1)
    notes = order_log(log)
    await notes.claim([part])
    notes.note([Note(part, MARKET_EVENTS, 1, 0, 3)], 1.0)
    await notes.claim([venue_part(1)])
    assert notes.wait_s(5.0) is None


async def test_no_part_that_was_taken_over_is_saved_however_late_that_is_seen(
    tmp_path: Path,
) -> None:
    log, parts = FakeLog(), [venue_part(0), venue_part(1)]
    spec = stage_specs(CONFIG, {}, {})["venue"]
    worker = StageWorker(Connection(), spec, [], group="test", data_folder=str(tmp_path))
    worker._publisher = cast(Publisher, log)
    worker._order_log = order_log(log)
    await worker._order_log.claim(parts)
    worker.parts = {part.partition: part for part in parts}
    worker._order_log.note([Note(part, MARKET_EVENTS, 0, 0, 3) for part in parts], 1.0)
    await order_log(log).claim([venue_part(0), venue_part(1)])
    claimed = log.published
    # One write tells of both; the second is asked for behind it.
    await worker._revoked()
    assert log.published == claimed + 1, "the state of a part of another worker was published"
    assert [part for part in parts if not worker._order_log.is_lost(part)] == []


async def test_notes_that_were_deleted_are_missed_and_not_passed_over() -> None:
    log, part = FakeLog(), venue_part(0)
    notes = order_log(log)
    await notes.claim([part])
    notes.note([Note(part, MARKET_EVENTS, 0, 0, 3)], 1.0)
    await notes.write()
    log.first = part.log_offset
    await notes.claim([part])
    log.first = part.log_offset + 1
    with pytest.raises(ConfigError, match="needs records 3 to 3 of system"):
        await notes.claim([part])
