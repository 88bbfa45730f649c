"""What a part goes on from: its newest snapshot of this version, or the log from the start.

Workers of two versions may take turns on a part, as in a rolling upgrade. Each goes on from the
newest snapshot that its own version wrote; where there is none, the part is rebuilt from the
beginning of its inputs and says everything again, word for word. That needs the inputs: where
retention took records that a part still has to read, nothing may go on from there.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import NamedTuple

import msgspec

from agents.runners.kafka.parts.market import MarketPart
from agents.runners.kafka.parts.part import Part
from schemas.codec import decode
from schemas.control import OrderLogEntry, StageSnapshot
from schemas.errors import ConfigError, NewerSchemaError, RecordError, StorageError
from schemas.instruments import Instrument
from schemas.topics import CATALOGUE, SYSTEM_ORDER_LOG, SYSTEM_SNAPSHOTS
from streams.kafka.connection import Connection
from streams.kafka.ranges import Place, PlaceReader
from streams.kafka.reading import read_to_end
from streams.kafka.topic_ids import topic_ids

_PLAIN_MAX_BYTES = 65_536
_log = logging.getLogger(__name__)


def packed(state: bytes) -> msgspec.Raw:
    """Return a part's state as it stands in a snapshot: a large one compressed, as base64."""
    if len(state) <= _PLAIN_MAX_BYTES:
        return msgspec.Raw(state)
    return msgspec.Raw(msgspec.json.encode(zlib.compress(state, 1)))


def unpacked(value: msgspec.Raw) -> bytes:
    """Return the state that ``packed`` took; raises DecodeError or zlib.error for anything else."""
    state = bytes(value)
    if not state.startswith(b'"'):
        return state
    return zlib.decompress(msgspec.json.decode(state, type=bytes))


class Saved(NamedTuple):
    """A snapshot as it stands on its topic."""

    key: bytes
    value: bytes


class Snapshots:
    """The states of a worker's parts on the cluster, tied to the topics that they were made from.

    An offset says nothing about a topic that was deleted and made anew: its records would be passed
    over up to where the old one had been read.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._topic_ids: dict[str, str] = {}

    async def restore(self, parts: Iterable[Part]) -> set[str]:
        """Restore parts as ``restore_newest`` does; return the instances that had begun.

        Raises ConfigError if a topic is another one than before.
        """
        found = await topic_ids(self._connection, [topic.name for topic in CATALOGUE])
        check_same("this worker", self._topic_ids, found)
        self._topic_ids = found
        return restore_newest(await read_snapshots(self._connection), parts, found)

    def of(self, part: Part) -> StageSnapshot:
        """Return the state of a part as it goes on its topic."""
        read = {source.rpartition("/")[0] for source in part.offsets}
        if part.log_offset:
            read.add(SYSTEM_ORDER_LOG)
        return StageSnapshot(
            event_id=f"snapshot:{part.instance}:{sum(part.offsets.values())}",
            ts_event_ns=max(part.clock_ns, 0),
            stage=part.STAGE,
            instance=part.instance,
            processor_version=part.VERSION,
            offsets=dict(part.offsets),
            states={part.STAGE: packed(part.snapshot())},
            topic_ids={name: self._topic_ids[name] for name in sorted(read)},
        )


def check_same(reader: str, known: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise ConfigError if a topic that somebody has read has another id now."""
    for topic, topic_id in known.items():
        if found[topic] != topic_id:
            raise ConfigError(
                f"{reader} cannot go on: {topic} was deleted and made anew since it was read",
                field="topic_id",
                value=found[topic],
                remedy="begin a new session (kafka.run) on empty topics",
            )


async def read_snapshots(connection: Connection) -> list[Saved]:
    """Return what the snapshot topic holds, the newest of each key."""
    newest: dict[bytes, Saved] = {}
    async for item in read_to_end(connection, SYSTEM_SNAPSHOTS):
        key = item.key or b""
        newest.pop(key, None)
        if item.value is not None:
            newest[key] = Saved(key, item.value)
    return list(newest.values())


class _Learned(msgspec.Struct):
    """What of a part's state every version has."""

    instruments: list[Instrument] = []


def learned_instruments(saved: Iterable[Saved]) -> list[Instrument]:
    """Return the definitions that the market stage has met among the events, of all versions.

    A snapshot that cannot be read is passed over: who goes on from it says so.
    """
    found: list[Instrument] = []
    for key, value in saved:
        if not key.startswith(f"{MarketPart.STAGE}|".encode()):
            continue
        with suppress(RecordError, msgspec.DecodeError, zlib.error, KeyError):
            record = decode(SYSTEM_SNAPSHOTS, value)
            assert isinstance(record, StageSnapshot)  # the topic's only type
            state = unpacked(record.states[MarketPart.STAGE])
            found += msgspec.json.decode(state, type=_Learned).instruments
    return found


def restore_newest(
    saved: Iterable[Saved], parts: Iterable[Part], ids: Mapping[str, str]
) -> set[str]:
    """Restore parts from snapshots of their own version; return the instances that had begun.

    A part that had begun and has no such snapshot stays as it is new, to be rebuilt. Raises
    ConfigError if a snapshot is of topics with other ids.
    """
    by_instance = {part.instance: part for part in parts}
    mine: set[str] = set()
    others: dict[str, str] = {}
    for key, value in saved:
        # The key is stage|instance|version: it can be read even where the value cannot.
        instance = key.decode(errors="replace").split("|")[1:2]
        part = by_instance.get(instance[0]) if instance else None
        if part is None:
            continue
        try:
            record = decode(SYSTEM_SNAPSHOTS, value)
        except NewerSchemaError as error:
            others[part.instance] = f"schema version {error.value}"
            continue
        assert isinstance(record, StageSnapshot)  # the topic's only type
        check_same(part.instance, record.topic_ids, ids)
        if record.processor_version == part.VERSION:
            _restore(part, record)
            mine.add(part.instance)
        else:
            others[part.instance] = record.processor_version
    for instance_id in sorted(others.keys() - mine):
        _log.warning(
            "%s has snapshots of %s only, and this is %s: it is rebuilt from its inputs",
            instance_id,
            others[instance_id],
            by_instance[instance_id].VERSION,
        )
    return mine | others.keys()


def _restore(part: Part, snapshot: StageSnapshot) -> None:
    try:
        part.restore(unpacked(snapshot.states[part.STAGE]))
    except (msgspec.DecodeError, zlib.error, KeyError) as error:
        raise RecordError(
            f"the snapshot of {part.instance} is of this version and cannot be read: {error}",
            field="processor_version",
            value=snapshot.processor_version,
            remedy="change VERSION of the part when its state changes; it is rebuilt then",
        ) from error


def places_of(part: Part, topics: Iterable[str]) -> set[Place]:
    """Return all partitions that a part reads, those of ``topics`` by its own number."""
    return {*((topic, part.partition) for topic in topics), *part.follows}


def followed_from(parts: Iterable[Part]) -> dict[Place, int]:
    """Return where the partitions outside the group have to be read from, for all parts."""
    places: dict[Place, int] = {}
    for part in parts:
        for place in part.follows:
            at = part.offsets.get(f"{place[0]}/{place[1]}", 0)
            places[place] = min(at, places.get(place, at))
    return places


def first_offsets(tail: Iterable[OrderLogEntry]) -> dict[Place, int]:
    """Return where each partition stands at first in what has to be consumed again."""
    starts: dict[Place, int] = {}
    for entry in tail:
        starts.setdefault((entry.topic, entry.partition), entry.first_offset)
    return starts


async def check_places(
    connection: Connection, having: Iterable[Part], topics: Iterable[str], begun: set[str]
) -> None:
    """Hold parts to what the partitions that they read have now; see the checks."""
    parts = {part: places_of(part, topics) for part in having}
    wanted = {place for places in parts.values() for place in places}
    if not wanted:
        return
    async with PlaceReader(connection) as reader:
        check_kept(parts, await reader.beginnings(wanted), begun)
        check_reached(parts, await reader.ends(wanted))


def check_kept(
    parts: Mapping[Part, Iterable[Place]], beginnings: Mapping[Place, int], begun: set[str]
) -> None:
    """Hold parts to the records that their places still have; ``beginnings`` tells the first.

    A part that begins does so at the first record that is there. Raises ConfigError if one that
    had begun would have to read what retention took.
    """
    for part, places in parts.items():
        for topic, partition in places:
            source = f"{topic}/{partition}"
            at, first = part.offsets.get(source, 0), beginnings[topic, partition]
            if at >= first:
                continue
            if part.instance in begun:
                raise taken(part.instance, source, at, first)
            part.offsets[source] = first


def check_reached(parts: Mapping[Part, Iterable[Place]], ends: Mapping[Place, int]) -> None:
    """Raise StorageError if a part has consumed more of a partition than there is.

    A new leader may know of less for a moment, so a restart may mend it.
    """
    for part, places in parts.items():
        for topic, partition in places:
            source = f"{topic}/{partition}"
            at, end = part.offsets.get(source, 0), ends[topic, partition]
            if at > end:
                raise cut_short(source, at, end)


def cut_short(source: str, at: int, end: int) -> StorageError:
    """Return the error of a partition that has lost records which were consumed."""
    return StorageError(
        f"{source} ends at offset {end}, but records up to {at - 1} were consumed: Kafka has lost"
        " what it had acknowledged, and what comes under those offsets now would be passed over",
        field="offset",
        value=end,
        remedy="bring back the replica that has them, or begin a new session (kafka.run) on empty"
        " topics; several replicas and kafka.min_in_sync_replicas keep this from happening",
    )


def check_tail(instance: str, starts: Mapping[Place, int], beginnings: Mapping[Place, int]) -> None:
    """Raise ConfigError if retention took what a part has to consume again."""
    for (topic, partition), at in starts.items():
        if at < beginnings[topic, partition]:
            raise taken(instance, f"{topic}/{partition}", at, beginnings[topic, partition])


def taken(instance: str, source: str, at: int, first: int) -> ConfigError:
    """Return the error of a part that would have to read what retention took."""
    return ConfigError(
        f"{instance} cannot go on: it needs records {at} to {first - 1} of {source}, which"
        " retention has taken",
        field="offset",
        value=first,
        remedy="run the version whose snapshots are there, or begin a new session (kafka.run) on"
        " empty topics; keep inputs longer than a worker may be away",
    )
