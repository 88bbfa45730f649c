"""Bytes of a partition: what is taken, what becomes a dead letter, and that no cut changes it."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.runners.kafka.incoming import VALUE_MAX_BYTES, Taken, take_records
from schemas.codec import encode
from schemas.instruments import Instrument, Universe
from schemas.market_data import Quote, Trade, Watermark
from schemas.topics import ACCOUNT_INPUTS, MARKET_EVENTS
from tests.unit.account_records import cancel
from tests.unit.web_run import instrument

NOW_MS = 1_381_152_600_000
NOW_NS = NOW_MS * 1_000_000


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


def take(*values: bytes | None, topic: str = MARKET_EVENTS) -> Taken:
    return take_records(
        topic, 2, [Given(10 + i, value) for i, value in enumerate(values)], universe()
    )


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
    assert (record.source, record.source_seq) == ("kafka/2", 10)
    assert record.event_id == "kafka/2:IBM.XNYS:10"


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
        (trade(schema_version=99), "newer schema version"),
        (trade(instrument_id="XYZ.XXXX"), "reference.instruments"),
        (trade(0), "ns since 1970"),
        (trade(-5), "ns since 1970"),
        (trade(NOW_NS + 2 * 86_400_000_000_000), "more than a day after"),
    ],
)
def test_poison_becomes_a_dead_letter_and_its_neighbors_go_on(
    value: bytes | None, reason: str
) -> None:
    taken = take(trade(), value, trade())
    assert [offset for offset, _ in taken.records] == [10, 12]
    (letter,) = taken.letters
    assert reason in letter.reason
    assert (letter.topic, letter.partition, letter.offset) == (MARKET_EVENTS, 2, 11)
    assert letter.event_id == f"dead:{MARKET_EVENTS}:2:11"
    assert letter.key == "IBM.XNYS"
    assert len(letter.value) <= 4096
    assert (value or b"").startswith(letter.value)


def test_letter_of_an_unreadable_key_can_be_written() -> None:
    (letter,) = take_records(MARKET_EVENTS, 0, [Given(1, None, key=b"\xff")], universe()).letters
    assert encode(letter)


def test_record_of_another_topic_is_refused_there() -> None:
    taken = take(trade(), topic=ACCOUNT_INPUTS)
    assert taken.records == []
    assert len(taken.letters) == 1


def test_commands_are_taken_as_they_are() -> None:
    command = cancel(source="web")
    (((offset, record),), _) = take(encode(command), topic=ACCOUNT_INPUTS)
    assert (offset, record) == (10, command)


VALUES = st.sampled_from(
    [trade(), trade(NOW_NS + 1), None, b"{", trade(instrument_id="no"), trade(source="a")]
)


@given(st.lists(VALUES, max_size=20), st.sets(st.integers(0, 20)))
def test_every_cut_takes_and_refuses_the_same(values: list[bytes | None], cuts: set[int]) -> None:
    items = [Given(i, value) for i, value in enumerate(values)]
    whole = take_records(MARKET_EVENTS, 1, items, universe())
    records, letters = [], []
    for first, last in pairwise(sorted({0, len(items), *(c for c in cuts if c < len(items))})):
        part = take_records(MARKET_EVENTS, 1, items[first:last], universe())
        records += part.records
        letters += part.letters
    assert (records, letters) == (whole.records, whole.letters)
