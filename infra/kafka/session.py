"""A session on Kafka: what all its workers must agree on, kept on the cluster.

The first worker writes the manifest to ``system.runs.v1``: configuration, calendars' range, and the
instruments known by then. Every other worker, and every restart, works by that manifest, so parts
that move from worker to worker stay what they were. Of two first workers the one that stands first
on the topic decides. The topics belong to that session for ever: snapshots, order log and numbers
of producers name stages, not sessions, so another one would go on from its state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import msgspec

from agents.runners.config import EngineConfig
from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.stage_rule import KAFKA_MODE
from agents.runners.kafka.stages import StageSpec, stage_specs
from agents.runners.parity import engine_config
from agents.runners.replay import manifest_of
from agents.strategy.api import Strategy
from infra.composition import compose
from infra.config_changes import changes
from infra.feeds import LiveSource
from infra.identity import identity
from infra.origin import with_origin
from infra.settings import Settings
from schemas.codec import decode
from schemas.control import DeadLetter, RunManifest
from schemas.errors import ConfigError, ConflictError, NotFoundError
from schemas.identifiers import content_hash
from schemas.instruments import Instrument
from schemas.sessions import SessionTable
from schemas.topics import (
    REFERENCE_INSTRUMENTS,
    REFERENCE_TOPICS,
    SYSTEM_DEAD_LETTERS,
    SYSTEM_RUNS,
)
from streams.calendars import SessionTables
from streams.kafka.connection import Connection
from streams.kafka.publisher import Publisher, outgoing
from streams.kafka.ranges import PlaceReader
from streams.kafka.reading import read_to_end

MODE = KAFKA_MODE
_FIRST_NS = 946_684_800_000_000_000
_AHEAD_NS = 365 * 86_400_000_000_000


class Session(NamedTuple):
    """Everything that stages of a session are made of."""

    manifest: RunManifest
    config: EngineConfig
    instruments: list[Instrument]
    sessions: Mapping[str, SessionTable]
    classes: dict[str, type[Strategy]]

    @property
    def run_id(self) -> str:
        """The name of the session; its consumer groups begin with it."""
        return self.manifest.run_id

    def specs(self) -> dict[str, StageSpec]:
        """Return the stages of the session."""
        offsets = self.manifest.reference_offsets
        return stage_specs(self.config, self.sessions, self.classes, offsets)


async def known_instruments(connection: Connection) -> list[Instrument]:
    """Return the newest usable definition of each instrument on the cluster, by id."""
    return (await read_instruments(connection))[0]


async def read_instruments(connection: Connection) -> tuple[list[Instrument], list[DeadLetter]]:
    """Return the newest definition of each instrument, by id, and those that cannot be used."""
    newest: dict[str, Instrument] = {}
    letters: list[DeadLetter] = []
    async for item in read_to_end(connection, REFERENCE_INSTRUMENTS):
        if item.value is None:
            continue  # a definition that was withdrawn
        place = (REFERENCE_INSTRUMENTS, item.partition)
        taken = take_records(*place, [item], None, item.partition + 1)
        letters += taken.letters
        for _, record in taken.records:
            assert isinstance(record, Instrument)  # the topic's only type
            newest[record.instrument_id] = record
    return [newest[name] for name in sorted(newest)], letters


async def manifests(connection: Connection, run_id: str) -> list[RunManifest]:
    """Return the manifests of a session's segments, in the order of the topic."""
    return [record for record in await _all_manifests(connection) if record.run_id == run_id]


async def _all_manifests(connection: Connection) -> list[RunManifest]:
    found: list[RunManifest] = []
    async for item in read_to_end(connection, SYSTEM_RUNS):
        record = decode(SYSTEM_RUNS, item.value) if item.value is not None else None
        if isinstance(record, RunManifest) and record.mode == MODE:
            found.append(record)
    return found


async def begun(connection: Connection, run_id: str) -> list[RunManifest]:
    """Return the manifests of a session; raises ConflictError if the topics are of another one."""
    found = await _all_manifests(connection)
    if found and found[0].run_id != run_id:
        raise ConflictError(
            f"the topics of this cluster belong to the session {found[0].run_id}",
            field="kafka.run",
            value=run_id,
            remedy=f"go on with it (--run {found[0].run_id}), or delete the topics of the catalogue"
            " and run `millrace topics apply`: a new session needs empty ones",
        )
    # One that lost the race to be the first has left a manifest of its own.
    return [record for record in found if record.run_id == run_id]


async def join_session(
    connection: Connection, settings: Settings, now_ns: Callable[[], int]
) -> Session:
    """Begin the session that the settings name, or join it.

    Raises ConflictError if it was begun with another configuration or the topics are those of
    another session, ConfigError if the cluster knows no instrument yet, and StorageError or
    ConfigError for a cluster that cannot be used.
    """
    run_id = settings.kafka.run
    known = await begun(connection, run_id)
    letters: list[DeadLetter] = []
    if known:
        instruments, offsets = known[0].instruments, known[0].reference_offsets
    else:
        # The offsets first: what is defined meanwhile is told twice, and not lost.
        offsets = await _reference_ends(connection)
        instruments, letters = await read_instruments(connection)
    session = _compose(settings, instruments, offsets, known[0] if known else None, now_ns)
    if known and known[-1].code_hash == session.manifest.code_hash:
        return session
    async with Publisher(connection) as publisher:
        mine = msgspec.structs.replace(session.manifest, segment=len(known))
        # Two first workers say different things: each has an id of its own.
        name = f"run:{run_id}:{len(known)}:{content_hash(msgspec.json.encode(mine))}"
        mine = msgspec.structs.replace(mine, event_id=name)
        await publisher.publish([outgoing(SYSTEM_DEAD_LETTERS, letter) for letter in letters])
        await publisher.publish([outgoing(SYSTEM_RUNS, mine)])
    first = (await begun(connection, run_id))[0]
    return _compose(settings, first.instruments, first.reference_offsets, first, now_ns)


async def _reference_ends(connection: Connection) -> dict[str, int]:
    """Return where the reference topics, of one partition each, end now."""
    async with PlaceReader(connection) as reader:
        ends = await reader.ends([(topic, 0) for topic in REFERENCE_TOPICS])
    return {topic: ends[topic, 0] for topic in REFERENCE_TOPICS}


def _compose(
    settings: Settings,
    instruments: list[Instrument],
    reference_offsets: dict[str, int],
    known: RunManifest | None,
    now_ns: Callable[[], int],
) -> Session:
    if not instruments:
        raise ConfigError(
            "the cluster knows no instrument",
            field="reference.instruments.v1",
            value=0,
            remedy="publish definitions, or a recording with `millrace publish`, first",
        )
    first_ns, until_ns = _FIRST_NS, now_ns() + _AHEAD_NS
    if known is not None:
        first_ns, until_ns = known.inputs[0].first_ts_ns, known.inputs[0].last_ts_ns
    source = LiveSource(
        "kafka",
        instruments,
        settings.kafka.kinds,
        (),
        first_ns=first_ns,
        until_ns=until_ns,
        kinds_of=settings.kafka.kinds_of,
    )
    setup = compose(settings, source, symbols=list(settings.source.symbols) or None)
    manifest = manifest_of(setup.config, setup.inputs, identity(), settings.kafka.run, MODE)
    manifest = msgspec.structs.replace(
        with_origin(manifest, setup.classes),
        instruments=list(instruments),
        reference_offsets=reference_offsets,
    )
    if known is not None:
        begun, asked = engine_config(known), engine_config(manifest)
        if begun != asked:
            told = changes(begun, asked)
            raise ConflictError(
                f"the session on this cluster was begun with another configuration: {told}",
                field="kafka.run",
                value=known.run_id,
                remedy="use the settings it was begun with, or a new kafka.run on empty topics",
            )
        manifest = msgspec.structs.replace(manifest, inputs=known.inputs)
    tables = SessionTables(first_ns, until_ns)
    return Session(manifest, setup.config, list(instruments), tables, setup.classes)


def session_of(
    known: list[RunManifest], run_id: str, classes: dict[str, type[Strategy]]
) -> Session:
    """Return a session from its manifests alone; raises NotFoundError if there are none."""
    if not known:
        raise NotFoundError(
            "there is no such session on the cluster",
            field="kafka.run",
            value=run_id,
            remedy="`millrace worker` begins one; --run or kafka.run names it",
        )
    first = known[0]
    span = first.inputs[0]
    tables = SessionTables(span.first_ts_ns, span.last_ts_ns)
    return Session(first, engine_config(first), list(first.instruments), tables, classes)
