"""Who shows or stores market data leaves out exactly what the stages make dead letters of."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.parts.part import partition_of
from agents.runners.kafka.stage_rule import StageRule
from schemas.codec import encode
from schemas.control import RunManifest
from schemas.envelope import SCHEMA_VERSION
from schemas.instruments import Universe
from schemas.market_data import Bar, Watermark
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    REFERENCE_INSTRUMENTS,
    SYSTEM_RUNS,
)
from streams.kafka.partition_window import PartitionWindow
from streams.kafka.reading_rule import Usable
from tests.unit.account_records import cancel
from tests.unit.test_runners_kafka_incoming import HOME, NOW_NS, ODD, PARTITIONS, Given, ibm, trade
from tests.unit.web_run import instrument

NEW = next(
    item
    for item in (instrument(f"N{n}", "XNYS") for n in range(100))
    if partition_of(item.instrument_id, PARTITIONS) == HOME
)
OF_NEW = trade(instrument_id=NEW.instrument_id)
DEFINED = encode(NEW)
CHANGED = encode(msgspec.structs.replace(NEW, currency="EUR"))
MANIFEST = RunManifest(event_id="run:1", ts_event_ns=NOW_NS, mode="kafka", instruments=[ibm()])


def take(rule: StageRule, *values: bytes, topic: str = MARKET_EVENTS, start: int = 0) -> Usable:
    items = [Given(start + i, value) for i, value in enumerate(values)]
    return rule.take(topic, HOME, items, PARTITIONS)


def offsets(found: Usable) -> tuple[list[int], list[int]]:
    return [at for at, _ in found.records], [at for at, _ in found.refused]


VALUES = st.sampled_from([trade(), trade(source="a"), OF_NEW, DEFINED, CHANGED, *ODD])


@given(st.lists(VALUES, max_size=60), st.sets(st.integers(0, 60)))
def test_rule_refuses_what_stages_refuse_for_every_cut(values: list[bytes], cuts: set[int]) -> None:
    items = [Given(i, value) for i, value in enumerate(values)]
    stages = take_records(MARKET_EVENTS, HOME, items, Universe([ibm()]), PARTITIONS)
    # What the cluster has defined by now does not count in front of its definition.
    rule = StageRule([ibm()], [NEW])
    records: list[int] = []
    refused: list[tuple[int, str]] = []
    for first, last in pairwise(sorted({0, len(items), *(c for c in cuts if c < len(items))})):
        found = rule.take(MARKET_EVENTS, HOME, items[first:last], PARTITIONS)
        records += offsets(found)[0]
        refused += found.refused
    assert records == [at for at, _ in stages.records]
    assert refused == [(letter.offset, letter.reason) for letter in stages.letters]


def test_records_come_as_they_were_written() -> None:
    (((_, record),), _) = take(StageRule([ibm()]), trade())
    assert encode(record) == trade()
    found = take(StageRule([ibm()]), *[trade()] * 20)
    assert {encode(record) for _, record in found.records} == {trade()}


def test_wrong_partition_is_refused() -> None:
    found = StageRule([ibm()]).take(
        MARKET_EVENTS, (HOME + 1) % PARTITIONS, [Given(0, trade())], PARTITIONS
    )
    assert "belongs to partition" in found.refused[0][1]


def test_reading_from_the_middle_knows_what_the_cluster_has_defined() -> None:
    assert offsets(take(StageRule([ibm()]), OF_NEW, start=7)) == ([], [7])
    assert offsets(take(StageRule([ibm()], [NEW]), OF_NEW, start=7)) == ([7], [])


def test_unknown_instruments_pass_until_a_session_begins() -> None:
    rule = StageRule()
    huge = trade(price=1e300)
    assert offsets(take(rule, trade(), OF_NEW, ODD[3])) == ([0, 1], [2])
    # Definitions that come meanwhile bound the numbers.
    take(rule, encode(ibm()), topic=REFERENCE_INSTRUMENTS)
    assert offsets(take(rule, trade(), huge, OF_NEW, start=3)) == ([3, 5], [4])
    take(rule, encode(MANIFEST), topic=SYSTEM_RUNS)
    assert offsets(take(rule, trade(), huge, OF_NEW, start=6)) == ([6], [7, 8])
    assert offsets(take(rule, DEFINED, OF_NEW, start=9)) == ([9, 10], [])


def test_backtest_begins_no_session() -> None:
    rule = StageRule()
    take(rule, encode(msgspec.structs.replace(MANIFEST, mode="backtest")), topic=SYSTEM_RUNS)
    assert offsets(take(rule, OF_NEW)) == ([0], [])


def test_definition_on_its_own_topic_counts_once_it_stands_among_the_events() -> None:
    rule = StageRule([ibm()])
    take(rule, trade())
    take(rule, DEFINED, topic=REFERENCE_INSTRUMENTS)
    assert offsets(take(rule, OF_NEW, DEFINED, OF_NEW, start=1)) == ([2, 3], [1])


def test_stretch_in_front_teaches_nothing() -> None:
    rule = StageRule([ibm()])
    take(rule, trade(), start=10)
    past = [Given(0, DEFINED), Given(1, OF_NEW), Given(2, trade(price=1e300))]
    found = rule.take(MARKET_EVENTS, HOME, past, PARTITIONS, is_past=True)
    assert offsets(found) == ([0, 1], [2])
    assert offsets(take(rule, OF_NEW, start=11)) == ([], [11])


def test_record_of_a_newer_schema_version_is_refused_alone() -> None:
    newer = trade(schema_version=SCHEMA_VERSION + 1)
    found = take(StageRule([ibm()]), trade(), newer, trade(), ODD[0])
    assert offsets(found) == ([0, 2], [1, 3])
    assert "newer schema version" in found.refused[0][1]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, ""),
        ({"high": 1e300}, "beyond exact numbers"),
        ({"source": ""}, "source is empty"),
        ({"interval": "7m"}, "interval is"),
    ],
)
def test_bars_are_held_to_what_stages_take(fields: dict[str, Any], reason: str) -> None:
    bar = Bar(
        event_id="b",
        source="market/0",
        ts_event_ns=NOW_NS,
        instrument_id="IBM.XNYS",
        interval="1m",
        open=1.0,
        high=1.0,
        low=1.0,
        close=1.0,
        volume=1.0,
        vwap=1.0,
        trade_count=1,
    )
    changed = encode(msgspec.structs.replace(bar, **fields))
    found = take(StageRule([ibm()]), changed, topic=MARKET_BARS)
    assert [reason in why for _, why in found.refused] == [True] * bool(reason)


def test_commands_are_left_to_the_stages() -> None:
    nameless = encode(msgspec.structs.replace(cancel(), event_id=""))
    assert offsets(take(StageRule([ibm()]), nameless, b"{", topic=ACCOUNT_INPUTS)) == ([0], [1])


# ---- the window over it


def window(start: int = 0, kept: int = 100) -> PartitionWindow:
    rule = StageRule([ibm()])
    return PartitionWindow(MARKET_EVENTS, HOME, start, kept, partitions=PARTITIONS, rule=rule)


def test_window_has_none_of_what_is_refused_nor_has_who_reads_it_again() -> None:
    items = [Given(i, value) for i, value in enumerate([trade(), *ODD, OF_NEW, DEFINED, OF_NEW])]
    items.append(Given(len(items), None))
    held = window()
    fresh = held.take(items, len(items))
    last = len(items) - 2
    assert [item.offset for item in fresh] == [0, 8, last - 1, last]
    assert held.refused == len(ODD)
    assert held.read(0, 100) == held.taken(items) == fresh


def test_refused_record_does_not_use_up_its_producers_number() -> None:
    numbered: Any = {"producer": "feed", "producer_seq": 1}
    values = [trade(price=1e300, **numbered), trade(**numbered), trade(**numbered)]
    items = [Given(i, value) for i, value in enumerate(values)]
    held = window()
    assert [item.offset for item in held.take(items, 3)] == [1]
    assert held.refused == 1
    assert [item.offset for item in held.taken(items)] == [1]


def test_stretch_in_front_of_the_window_is_held_to_the_rule() -> None:
    held = window(start=2)
    items = [Given(i, v) for i, v in enumerate([trade(), trade(price=1e300), ODD[3], trade()])]
    held.take(items[2:], 4)
    assert [item.offset for item in held.taken(items)] == [0, 3]
    assert held.refused == 1


def test_watermark_is_taken_everywhere() -> None:
    mark = Given(0, encode(Watermark(ts_event_ns=NOW_NS)))
    for partition in range(PARTITIONS):
        assert offsets(StageRule([]).take(MARKET_EVENTS, partition, [mark], PARTITIONS))[0] == [0]
