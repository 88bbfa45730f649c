"""Bytes of a partition: what is taken, what becomes a dead letter, and that no cut changes it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.runners.kafka.incoming import VALUE_MAX_BYTES, Taken, take_records
from agents.runners.kafka.parts.part import partition_of
from schemas.codec import encode
from schemas.control import RunManifest
from schemas.envelope import SCHEMA_VERSION
from schemas.errors import NewerSchemaError
from schemas.instruments import Instrument, Universe
from schemas.market_data import Quote, Trade, Watermark
from schemas.topics import ACCOUNT_INPUTS, MARKET_EVENTS, SYSTEM_RUNS
from tests.unit.account_records import cancel, kill
from tests.unit.web_run import instrument

NOW_MS = 1_381_152_600_000
NOW_NS = NOW_MS * 1_000_000
PARTITIONS = 4
HOME = partition_of("IBM.XNYS", PARTITIONS)


class Given(NamedTuple):
    """A record as the client gives it."""

    offset: int
    value: bytes | None
    key: bytes | None = b"IBM.XNYS"
    timestamp: int = NOW_MS


def universe() -> Universe:
    return Universe([ibm()])


def ibm() -> Instrument:
    return instrument("IBM", "XNYS")


def trade(ts_ns: int = NOW_NS, **fields: object) -> bytes:
    known = {"instrument_id": "IBM.XNYS", "price": 182.0, "size": 100.0, **fields}
    return encode(Trade(ts_event_ns=ts_ns, **known))  # type: ignore[arg-type]


def take(*values: bytes | None, topic: str = MARKET_EVENTS, partition: int = HOME) -> Taken:
    arrived = [Given(10 + i, value) for i, value in enumerate(values)]
    return take_records(topic, partition, arrived, universe(), PARTITIONS)


def test_records_come_in_order_with_their_offsets() -> None:
    quote = Quote(
        ts_event_ns=NOW_NS,
        instrument_id="IBM.XNYS",
        bid_price=1.0,
        ask_price=2.0,
        bid_size=1.0,
        ask_size=1.0,
    )
    taken = take(trade(), encode(quote), encode(Watermark(ts_event_ns=NOW_NS)))
    assert [(offset, type(record)) for offset, record in taken.records] == [
        (10, Trade),
        (11, Quote),
        (12, Watermark),
    ]
    assert taken.letters == []


def test_event_without_a_source_is_named_by_its_place() -> None:
    (((_, record),), _) = take(trade())
    assert isinstance(record, Trade)
    assert (record.source, record.source_seq) == (f"kafka/{HOME}", 10)
    assert record.event_id == f"kafka/{HOME}:IBM.XNYS:10"


def test_event_with_a_source_keeps_it() -> None:
    (((_, record),), _) = take(trade(source="lean", source_seq=77))
    assert isinstance(record, Trade)
    assert record.event_id == "lean:IBM.XNYS:77"


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone"),
        (b"", "cannot be read"),
        (b"not json", "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[]", "cannot be read"),
        (trade() + trade(), "cannot be read"),
        (trade().replace(b"182.0", b'"dear"'), "price"),
        (trade().replace(b"182.0", b"NaN"), "cannot be read"),
        (trade().replace(b'"trade"', b'"rumor"'), "cannot be read"),
        (b'{"x":"' + b"y" * VALUE_MAX_BYTES + b'"}', "bytes"),
        (trade().replace(b"182.0", b"182.0" + b" " * VALUE_MAX_BYTES), "bytes"),
        (trade()[:-1] + b',"x":' + b"[" * 500 + b"]" * 500 + b"}", "nested"),
        (trade()[:-1] + b',"x":' + b'{"a":' * 10**5 + b"1" + b"}" * 10**5 + b"}", "bytes"),
        (trade()[:-1] + b',"x":' + b"[" * 10**5 + b"]" * 10**5 + b"}", "nested"),
        (trade(instrument_id="\xe9\u202e" * 500), "…"),
        (trade(price=1e300), "beyond exact numbers"),
        (trade(source="a").replace(b"}", b',"source_seq":9223372036854775808}'), "source_seq"),
        (trade(0), "ns since 1970"),
        (trade(-5), "ns since 1970"),
        (trade(NOW_NS + 2 * 86_400_000_000_000), "more than a day after"),
    ],
)
def test_poison_becomes_a_dead_letter_and_its_neighbors_go_on(
    value: bytes | None, reason: str
) -> None:
    taken = take(trade(), value, trade())
    assert len(encode(taken.letters)) < 10_000
    assert [offset for offset, _ in taken.records] == [10, 12]
    (letter,) = taken.letters
    assert reason in letter.reason
    assert (letter.topic, letter.partition, letter.offset) == (MARKET_EVENTS, HOME, 11)
    assert letter.event_id == f"dead:{MARKET_EVENTS}:{HOME}:11"
    assert letter.key == "IBM.XNYS"
    assert len(letter.value) <= 4096
    assert (value or b"").startswith(letter.value)


def test_unknown_instrument_is_refused_where_it_belongs() -> None:
    home = partition_of("XYZ.XXXX", PARTITIONS)
    taken = take(trade(instrument_id="XYZ.XXXX"), partition=home)
    assert taken.records == []
    assert "reference.instruments" in taken.letters[0].reason


@pytest.mark.parametrize("partition", [p for p in range(PARTITIONS) if p != HOME])
def test_event_on_another_partition_than_its_key_s_names_the_partitioner(partition: int) -> None:
    taken = take(trade(), encode(Watermark(ts_event_ns=NOW_NS)), partition=partition)
    assert [type(record) for _, record in taken.records] == [Watermark]
    (letter,) = taken.letters
    assert f"IBM.XNYS belongs to partition {HOME} of 4, not to {partition}" in letter.reason
    assert "murmur2_random" in letter.reason


def test_command_on_another_partition_than_its_account_s_is_refused() -> None:
    command = encode(cancel())
    home = partition_of(cancel().account_id, PARTITIONS)
    assert len(take(command, topic=ACCOUNT_INPUTS, partition=home).records) == 1
    taken = take(command, topic=ACCOUNT_INPUTS, partition=(home + 1) % PARTITIONS)
    assert "murmur2" in taken.letters[0].reason


def test_record_for_all_accounts_is_taken_on_every_partition() -> None:
    halt = encode(kill("CANCEL_ALL"))
    for partition in range(PARTITIONS):
        assert len(take(halt, topic=ACCOUNT_INPUTS, partition=partition).records) == 1


@pytest.mark.parametrize(
    "value",
    [
        trade(schema_version=SCHEMA_VERSION + 1),
        trade(schema_version=SCHEMA_VERSION + 1).replace(b"182.0", b'"another form"'),
    ],
)
def test_record_of_a_newer_schema_version_stops_the_reading(value: bytes) -> None:
    with pytest.raises(NewerSchemaError, match="newer schema version") as caught:
        take(trade(), b"{poison", value, trade())
    assert caught.value.offset == 12
    assert f"offset 12 of {MARKET_EVENTS}/{HOME}" in str(caught.value)


def test_brackets_in_text_are_no_nesting() -> None:
    taken = take(trade(condition="[{" * 500 + '"' * 9 + "\\"))
    assert taken.letters == []


def test_what_no_stage_reads_may_be_of_any_size() -> None:
    manifest = encode(RunManifest(ts_event_ns=0, config={"text": "x" * 2_000_000}))
    assert len(take(manifest, topic=SYSTEM_RUNS, partition=0).records) == 1


def test_letter_of_an_unreadable_key_can_be_written() -> None:
    (letter,) = take_records(
        MARKET_EVENTS, 0, [Given(1, None, key=b"\xff")], universe(), PARTITIONS
    ).letters
    assert encode(letter)


def test_record_of_another_topic_is_refused_there() -> None:
    taken = take(trade(), topic=ACCOUNT_INPUTS)
    assert taken.records == []
    assert len(taken.letters) == 1


def test_commands_are_taken_as_they_are() -> None:
    command = cancel(source="web")
    home = partition_of(command.account_id, PARTITIONS)
    (((offset, record),), _) = take(encode(command), topic=ACCOUNT_INPUTS, partition=home)
    assert (offset, record) == (10, command)


VALUES = st.sampled_from(
    [trade(), trade(NOW_NS + 1), None, b"{", trade(instrument_id="no"), trade(source="a")]
)


@given(st.lists(VALUES, max_size=20), st.sets(st.integers(0, 20)))
def test_every_cut_takes_and_refuses_the_same(values: list[bytes | None], cuts: set[int]) -> None:
    items = [Given(i, value) for i, value in enumerate(values)]
    whole = take_records(MARKET_EVENTS, HOME, items, universe(), PARTITIONS)
    records, letters = [], []
    for first, last in pairwise(sorted({0, len(items), *(c for c in cuts if c < len(items))})):
        part = take_records(MARKET_EVENTS, HOME, items[first:last], universe(), PARTITIONS)
        records += part.records
        letters += part.letters
    assert (records, letters) == (whole.records, whole.letters)


ODD = (
    trade(price=1e300),
    trade(size=-1e300),
    trade(0),
    trade(NOW_NS + 2 * 86_400_000_000_000),
    trade(source="a", source_seq=2**63),
    trade(source="a", source_seq=-(2**63) - 1),
    trade(instrument_id="no"),
    encode(Watermark(ts_event_ns=NOW_NS)),
    b"{",
)


@given(st.integers(16, 40), st.sampled_from([trade(), trade(source="a", source_seq=7), *ODD]))
def test_many_at_once_are_taken_as_one_by_one(count: int, other: bytes) -> None:
    items = [Given(i, trade(NOW_NS + i)) for i in range(count)]
    items[count // 2] = Given(count // 2, other)
    whole = take_records(MARKET_EVENTS, HOME, items, universe(), PARTITIONS)
    alone = [take_records(MARKET_EVENTS, HOME, [item], universe(), PARTITIONS) for item in items]
    assert whole.records == [record for taken in alone for record in taken.records]
    assert whole.letters == [letter for taken in alone for letter in taken.letters]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_record_among_many_is_doubted(odd: bytes) -> None:
    values = [trade(NOW_NS + i) for i in range(20)]
    taken = take(*values, odd, *values)
    is_taken = b"Watermark" in odd or b"watermark" in odd
    assert (len(taken.letters), len(taken.records)) == ((0, 41) if is_taken else (1, 40))
