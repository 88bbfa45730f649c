"""Dead letters on the cluster: found, looked at, and sent again from the record they are about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from agents.runners.kafka.incoming import take_records
from infra.kafka.session import known_instruments
from schemas.codec import decode
from schemas.control import DeadLetter
from schemas.errors import ConflictError, MillraceError, NotFoundError
from schemas.instruments import Universe
from schemas.topics import SYSTEM_DEAD_LETTERS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher
from streams.kafka.ranges import PlaceReader
from streams.kafka.reading import read_to_end


class Retry(NamedTuple):
    """What became of a letter: ``offset`` of the record that was written, or why there is none."""

    letter: DeadLetter
    offset: int | None
    reason: str = ""


async def dead_letters(connection: Connection) -> list[DeadLetter]:
    """Return every dead letter once, in the order of the topic."""
    found: dict[str, DeadLetter] = {}
    async for item in read_to_end(connection, SYSTEM_DEAD_LETTERS):
        try:
            record = decode(SYSTEM_DEAD_LETTERS, item.value or b"")
        except MillraceError:
            continue  # what others wrote there is no letter of ours
        if isinstance(record, DeadLetter):
            found.setdefault(record.event_id, record)
    return list(found.values())


async def find_letters(connection: Connection, names: Sequence[str]) -> list[DeadLetter]:
    """Return letters by id, or by topic/partition/offset; raises NotFoundError for one unknown."""
    known = await dead_letters(connection)
    by_name = {item.event_id: item for item in known}
    by_name |= {f"{item.topic}/{item.partition}/{item.offset}": item for item in known}
    for name in names:
        if name not in by_name:
            raise NotFoundError(
                "there is no such dead letter",
                field="letter",
                value=name,
                remedy="`millrace deadletter list` shows them as topic/partition/offset",
            )
    return [by_name[name] for name in names]


async def retry_letters(connection: Connection, letters: Sequence[DeadLetter]) -> list[Retry]:
    """Write the records of letters again, each to its partition, if they can be used by now."""
    universe = Universe(await known_instruments(connection))
    done = []
    async with PlaceReader(connection) as reader, Publisher(connection) as publisher:
        for letter in letters:
            try:
                record = await _original(reader, letter)
            except MillraceError as error:
                done.append(Retry(letter, None, str(error)))
                continue
            still = take_records(letter.topic, letter.partition, [record], universe).letters
            if still:
                done.append(Retry(letter, None, still[0].reason))
                continue
            again = Outgoing(letter.topic, record.key or b"", record.value, letter.partition)
            (offset,) = await publisher.publish([again])
            done.append(Retry(letter, offset))
    return done


async def _original(reader: PlaceReader, letter: DeadLetter) -> Any:
    place = (letter.topic, letter.partition)
    first, end = (await reader.beginnings([place]))[place], (await reader.ends([place]))[place]
    if not first <= letter.offset < end:
        raise ConflictError(
            "the record is on the topic no more",
            field="offset",
            value=letter.offset,
            remedy="ask its source for it again",
        )
    await reader.put({place: letter.offset})
    found = await reader.read(place, letter.offset + 1)
    if not found:
        raise ConflictError(
            "the record was compacted away",
            field="offset",
            value=letter.offset,
            remedy="ask its source for it again",
        )
    return found[0]
