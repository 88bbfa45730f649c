"""Workers of two versions on one session: a rolling upgrade there and back, and where it ends."""

from __future__ import annotations

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete

from infra.identity import identity
from infra.kafka.session import known_instruments, manifests
from schemas.codec import decode
from schemas.control import StageSnapshot
from schemas.envelope import SCHEMA_VERSION, Header
from schemas.market_data import Trade
from schemas.topics import MARKET_EVENTS, SYSTEM_SNAPSHOTS
from streams.kafka.ranges import PlaceReader
from streams.kafka.reading import read_to_end
from tests.simulation.checker import check_session
from tests.simulation.kafka_session import RUN, Commands, Process, demo_events, parity

UNTIL = "2013-10-07T13:35:00Z"
NEXT = "next"


async def test_two_versions_work_side_by_side_and_each_ends_where_it_must(
    commands: Commands,
) -> None:
    await commands.apply_topics()
    publishing = commands.start("publish", "demo", "--to", UNTIL, "--speed", "10")
    old = commands.start_worker()
    await old.says("ready")
    await old.reaches("millrace_snapshots_total", 30)
    new = commands.start_worker(label=NEXT)
    await new.says("ready")
    await new.says(r"has snapshots of \S+ only, and this is \S+-next: it is rebuilt")
    await stop(commands, old)
    await commands.settled()
    old = commands.start_worker()
    await old.says("ready")
    assert await publishing.ended(300) == 0
    await commands.settled()
    # It had snapshots of its own and went on from them.
    assert "rebuilt" not in old.text
    await stop(commands, new)
    await commands.settled()
    await stop(commands, old)

    batch, fed = demo_events(UNTIL)
    checks = await check_session(commands.connection, RUN, batch, fed)
    assert [c for c in checks if c.breach not in ("", "there are no fills")] == []
    assert await parity(commands, RUN, "--from-kafka") > 2_000
    await check_records_of_both(commands)

    await check_newer_schema(commands)
    await check_retention(commands)


async def stop(commands: Commands, worker: Process) -> None:
    commands.workers.remove(worker)
    assert await worker.stop() == 0, worker.text


async def check_records_of_both(commands: Commands) -> None:
    """Hold the session to segments and snapshots of both versions."""
    segments = await manifests(commands.connection, RUN)
    mine, other = identity().code_hash, f"code-{NEXT}"
    assert [(s.segment, s.code_hash) for s in segments] == [(0, mine), (1, other), (2, mine)]
    assert len({s.config_hash for s in segments}) == 1
    found = {(s.instance, s.processor_version) for s in await snapshots(commands)}
    for instance in ("market/0", "venue/0", "account/0", "strategy/0", "reference/0"):
        versions = {version for name, version in found if name == instance}
        assert {version.endswith(f"-{NEXT}") for version in versions} == {True, False}


async def snapshots(commands: Commands) -> list[StageSnapshot]:
    found = []
    async for item in read_to_end(commands.connection, SYSTEM_SNAPSHOTS):
        record = decode(SYSTEM_SNAPSHOTS, item.value)
        assert isinstance(record, StageSnapshot)
        found.append(record)
    return found


async def check_newer_schema(commands: Commands) -> None:
    """A record that only the next version knows ends this one with its place and the remedy."""
    instrument = (await known_instruments(commands.connection))[0].instrument_id
    batch, _ = demo_events(UNTIL)
    newer: Header = Trade(
        schema_version=SCHEMA_VERSION + 1,
        ts_event_ns=int(batch.clock[-1]) + 1,
        instrument_id=instrument,
        price=100.0,
        size=1.0,
    )
    await commands.publish([(MARKET_EVENTS, newer)])
    old = commands.start_worker()
    commands.workers.remove(old)
    assert await old.ended(180) == 2
    assert f"schema_version={SCHEMA_VERSION + 1}" in old.text
    assert "upgrade Millrace" in old.text
    assert "Traceback" not in old.text
    new = commands.start_worker(label=NEXT)
    await new.says("ready")
    await commands.settled()
    await stop(commands, new)


async def check_retention(commands: Commands) -> None:
    """A version that would have to rebuild says what is missing; one with snapshots goes on."""
    async with PlaceReader(commands.connection) as reader:
        ends = await reader.ends([(MARKET_EVENTS, p) for p in range(4)])
    admin = AIOKafkaAdminClient(bootstrap_servers=commands.connection.bootstrap)
    await admin.start()
    try:
        await admin.delete_records(
            {TopicPartition(*place): RecordsToDelete(before_offset=e) for place, e in ends.items()}
        )
    finally:
        await admin.close()
    third = commands.start_worker(label="third")
    commands.workers.remove(third)
    assert await third.ended(180) == 2
    assert "cannot go on: it needs records 0 to" in third.text
    assert "which retention has taken" in third.text
    assert "Traceback" not in third.text
    new = commands.start_worker(label=NEXT)
    await new.says("ready")
    await commands.settled()
    await stop(commands, new)
