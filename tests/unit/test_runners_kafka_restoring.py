"""What a part goes on from when programs of several versions, or retention, were there before."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec
import pytest

from agents.runners.kafka.parts.part import Part
from agents.runners.kafka.restoring import (
    Saved,
    check_kept,
    check_reached,
    check_tail,
    learned_instruments,
    packed,
    restore_newest,
    unpacked,
)
from agents.strategy.builtin import BUILTIN
from schemas.codec import encode
from schemas.control import StageSnapshot
from schemas.envelope import SCHEMA_VERSION
from schemas.errors import ConfigError, RecordError, StorageError
from schemas.topics import CATALOGUE, MARKET_EVENTS, SYSTEM_SNAPSHOTS, key_of
from tests.kafka_bus import Bus, Consumer, Makers, consumers, drain, makers
from tests.kafka_case import CONFIG, LATE, Run, one_process_run

IDS = {topic.name: f"id of {topic.name}" for topic in CATALOGUE}


@pytest.fixture(scope="module")
def run() -> Run:
    return one_process_run()


@pytest.fixture(scope="module")
def make(run: Run) -> Makers:
    return makers(CONFIG, run.universe, BUILTIN)


@pytest.fixture(scope="module")
def everyone(run: Run, make: Makers) -> list[Consumer]:
    """Give all parts behind the whole day, with what each has consumed and made."""
    bus = Bus()
    everyone = consumers(bus, make)
    for event in run.events:
        bus.feed(event)
    drain(everyone, random.Random(3))
    return everyone


def saved(
    part: Part,
    version: str = "",
    state: bytes | None = None,
    schema: int = 1,
    ids: Mapping[str, str] = IDS,
) -> Saved:
    """Return a snapshot of a part as a program of ``version`` would have written it."""
    version = version or part.VERSION
    record = StageSnapshot(
        ts_event_ns=1,
        schema_version=schema,
        stage=part.STAGE,
        instance=part.instance,
        processor_version=version,
        offsets=dict(part.offsets),
        states={part.STAGE: msgspec.Raw(part.snapshot() if state is None else state)},
        topic_ids=dict(ids),
    )
    return Saved(key_of(SYSTEM_SNAPSHOTS, record).encode(), encode(record))


def part_of(everyone: list[Consumer], stage: str) -> Consumer:
    return next(c for c in everyone if stage == c.part.STAGE and len(c.consumed) > 3)


def test_part_goes_on_from_its_own_version_whatever_others_wrote(
    everyone: list[Consumer], make: Makers
) -> None:
    for stage in make:
        part = part_of(everyone, stage).part
        fresh = make[stage](part.partition)
        found = [saved(part), saved(part, "later-9", b'{"other":"form"}')]
        assert restore_newest(found, [fresh], IDS) == {part.instance}
        assert fresh.snapshot() == part.snapshot()


def test_part_of_another_version_is_rebuilt_word_for_word(
    everyone: list[Consumer], make: Makers, caplog: pytest.LogCaptureFixture
) -> None:
    for stage in make:
        consumer = part_of(everyone, stage)
        fresh = make[stage](consumer.part.partition)
        found = [saved(consumer.part, "earlier-1", b'{"other":"form"}')]
        assert restore_newest(found, [fresh], IDS) == {fresh.instance}
        assert fresh.offsets == {}
        assert f"{fresh.instance} has snapshots of earlier-1 only" in caplog.text
        for consumed, made in zip(consumer.consumed, consumer.made, strict=True):
            again = consumer.repeat(fresh, consumed)
            assert [encode(o.record) for o in again] == [encode(o.record) for o in made]
        assert fresh.snapshot() == consumer.part.snapshot()


def test_snapshot_of_a_newer_schema_is_that_of_another_version(
    everyone: list[Consumer], make: Makers
) -> None:
    part = part_of(everyone, "market").part
    fresh = make["market"](part.partition)
    assert restore_newest([saved(part, schema=SCHEMA_VERSION + 1)], [fresh], IDS) == {part.instance}
    assert fresh.offsets == {}


def test_changed_state_under_an_unchanged_version_is_told(
    everyone: list[Consumer], make: Makers
) -> None:
    part = part_of(everyone, "venue").part
    with pytest.raises(RecordError, match="change VERSION"):
        restore_newest(
            [saved(part, state=b'{"other":"form"}')], [make["venue"](part.partition)], IDS
        )


def test_state_of_a_topic_that_was_deleted_and_made_anew_is_refused(
    everyone: list[Consumer], make: Makers
) -> None:
    part = part_of(everyone, "market").part
    remade = {**IDS, MARKET_EVENTS: "another id"}
    with pytest.raises(ConfigError, match=r"market/. cannot go on: market\.events\.v1 was deleted"):
        restore_newest([saved(part)], [make["market"](part.partition)], remade)
    # Programs of before wrote no ids.
    fresh = make["market"](part.partition)
    assert restore_newest([saved(part, ids={})], [fresh], remade) == {part.instance}


def test_part_without_snapshots_has_not_begun(everyone: list[Consumer], make: Makers) -> None:
    other = part_of(everyone, "market").part
    fresh = make["market"]((other.partition + 1) % 4)
    assert restore_newest([saved(other)], [fresh], IDS) == set()


def test_new_part_begins_where_records_are_and_one_that_had_begun_misses_none(
    make: Makers,
) -> None:
    place = (MARKET_EVENTS, 0)
    fresh = make["market"](0)
    check_kept({fresh: {place}}, {place: 700}, set())
    assert fresh.offsets == {f"{MARKET_EVENTS}/0": 700}
    check_kept({fresh: {place}}, {place: 700}, {"market/0"})
    with pytest.raises(ConfigError, match=r"market/0 .* records 700 to 899 of market\.events"):
        check_kept({fresh: {place}}, {place: 900}, {"market/0"})
    rebuilt = make["market"](0)
    with pytest.raises(ConfigError, match="records 0 to 699"):
        check_kept({rebuilt: {place}}, {place: 700}, {"market/0"})


def test_partition_that_lost_what_was_consumed_is_told(make: Makers) -> None:
    place = (MARKET_EVENTS, 0)
    part = make["market"](0)
    part.offsets[f"{MARKET_EVENTS}/0"] = 1000
    check_reached({part: {place}}, {place: 1000})
    with pytest.raises(StorageError, match=r"ends at offset 900, but records up to 999 were"):
        check_reached({part: {place}}, {place: 900})


def test_what_has_to_be_consumed_again_has_to_be_there() -> None:
    place = (MARKET_EVENTS, 2)
    check_tail("venue/2", {place: 50}, {place: 50})
    with pytest.raises(ConfigError, match=r"venue/2 .* records 50 to 59 .* retention"):
        check_tail("venue/2", {place: 50}, {place: 60})


def test_large_state_is_packed_and_comes_back_to_the_byte() -> None:
    small, large = b'{"orders":[]}', b'{"orders":[' + b'{"id":"order"},' * 100_000 + b"0]}"
    assert bytes(packed(small)) == small
    assert len(bytes(packed(large))) < len(large) // 20
    assert [unpacked(packed(state)) for state in (small, large)] == [small, large]


def test_packed_state_that_cannot_be_read_is_told(everyone: list[Consumer], make: Makers) -> None:
    part = part_of(everyone, "venue").part
    with pytest.raises(RecordError, match="change VERSION"):
        restore_newest(
            [saved(part, state=b'"bm90IHBhY2tlZA=="')], [make["venue"](part.partition)], IDS
        )


def test_definitions_of_the_market_stage_are_found_in_any_version_of_its_snapshots(
    everyone: list[Consumer],
) -> None:
    market = part_of(everyone, "market").part
    account = part_of(everyone, "account").part
    spoiled = [
        saved(market, "of another kind", b'{"instruments":7}'),
        saved(market, "packed badly", b'"AAAA"'),
        saved(market, "newer", schema=SCHEMA_VERSION + 1),
        Saved(b"market|market/0|x", b"{"),
    ]
    assert learned_instruments([*spoiled, saved(account)]) == []
    found = learned_instruments([*spoiled, saved(market, "older")])
    assert [item.symbol for item in found] == [LATE]
