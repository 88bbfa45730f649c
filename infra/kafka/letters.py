"""Dead letters on the cluster: found, looked at, and sent again from the record they are about."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple

from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.usable import STAGE_INPUTS, home_of
from infra.kafka.session import known_instruments
from schemas.codec import decode, encode
from schemas.control import DeadLetter
from schemas.errors import (
    ConflictError,
    MillraceError,
    NotFoundError,
    RecordError,
    StorageError,
)
from schemas.instruments import Universe
from schemas.retries import written_again
from schemas.topics import SYSTEM_DEAD_LETTERS, key_of
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher
from streams.kafka.ranges import PlaceReader
from streams.kafka.reading import read_to_end

_RESEND_TIMEOUT_S = 20.0


class Retry(NamedTuple):
    """What became of a letter: where its record was written again, or why it was not."""

    letter: DeadLetter
    offset: int | None
    reason: str = ""
    partition: int | None = None


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
    """Write the records of letters again, each to its partition, if they can be used by now.

    One that stood on another partition than its key's goes to its key's. They stand behind all that
    has come since.
    """
    universe = Universe(await known_instruments(connection))
    done = []
    async with PlaceReader(connection) as reader, Publisher(connection) as publisher:
        for letter in letters:
            try:
                again = await _looked_at(letter, reader, publisher, universe)
            except MillraceError as error:
                done.append(Retry(letter, None, str(error)))
                continue
            done.append(await _written(letter, again, publisher))
    return done


async def resend(connection: Connection, letter: DeadLetter) -> str:
    """Write the record of one letter again; return why it still cannot be used, empty if written.

    Raises ConflictError if the topic keeps the record no more, StorageError if the cluster does not
    answer in time.
    """
    limit = asyncio.timeout(_RESEND_TIMEOUT_S)
    try:
        async with limit:
            universe = Universe(await known_instruments(connection))
            async with PlaceReader(connection) as reader, Publisher(connection) as publisher:
                again = await _looked_at(letter, reader, publisher, universe)
                return (await _written(letter, again, publisher)).reason
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise StorageError(
            f"the cluster did not answer within {_RESEND_TIMEOUT_S:g} s",
            field="bootstrap",
            value=connection.bootstrap,
            remedy="try again later",
        ) from error


async def _looked_at(
    letter: DeadLetter, reader: PlaceReader, publisher: Publisher, universe: Universe
) -> Outgoing | str:
    count = (await publisher.counts([letter.topic]))[letter.topic]
    return _again(letter, await _original(reader, letter), universe, count)


async def _written(letter: DeadLetter, again: Outgoing | str, publisher: Publisher) -> Retry:
    if isinstance(again, str):
        return Retry(letter, None, again)
    (offset,) = await publisher.publish([again])
    return Retry(letter, offset, partition=again.partition)


def _again(letter: DeadLetter, arrived: Any, universe: Universe, count: int) -> Outgoing | str:
    """Return the record of a letter as it is to be written, or why it still cannot be used."""
    topic = letter.topic
    try:
        record = decode(topic, arrived.value or b"")
        home = home_of(topic, record, count) if topic in STAGE_INPUTS else None
    except RecordError:
        record, home = None, None
    target = letter.partition if home is None else home
    still = take_records(topic, target, [arrived], universe, count).letters
    if still:
        return still[0].reason
    assert record is not None  # else it were still a letter
    key = arrived.key or b""
    if home is not None:
        key = key_of(topic, record).encode()
    return Outgoing(topic, key, encode(written_again(letter.event_id, record)), target)


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
