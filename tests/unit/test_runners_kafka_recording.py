"""What a recording of topics is as market history: without what workers refuse."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pytest

from agents.runners.kafka.parts.part import partition_of
from agents.runners.kafka.recording import Recorder
from schemas.codec import encode
from schemas.envelope import Header
from schemas.market_data import Trade, Watermark
from schemas.topics import CATALOGUE, MARKET_EVENTS, REFERENCE_INSTRUMENTS
from streams.datasets.recorded import RecordedDataSet
from streams.datasets.topics_folder import TopicsFolder
from tests.generated import START_NS, universe

COUNTS = {topic.name: topic.partitions for topic in CATALOGUE}
SHARE = "AA.XXXX"


class Given(NamedTuple):
    """A record as the client gives it."""

    offset: int
    value: bytes
    timestamp: int = START_NS // 1_000_000
    key: bytes = b""


def trade(seq: int, instrument_id: str = SHARE, price: float = 10.0) -> Trade:
    return Trade(
        source="s",
        source_seq=seq,
        ts_event_ns=START_NS + seq,
        instrument_id=instrument_id,
        price=price,
        size=1.0,
    )


def stranger() -> str:
    """Return an instrument that nobody has defined, of the share's partition."""
    home = partition_of(SHARE, COUNTS[MARKET_EVENTS])
    names = (f"Z{number}.XXXX" for number in range(1000))
    return next(name for name in names if partition_of(name, COUNTS[MARKET_EVENTS]) == home)


def record(folder: Path, *events: Header, is_history: bool) -> Recorder:
    """Record a definition and market events of one partition."""
    (instrument,) = universe(("AA",)).instruments
    defined = REFERENCE_INSTRUMENTS, partition_of(SHARE, COUNTS[REFERENCE_INSTRUMENTS])
    traded = MARKET_EVENTS, partition_of(SHARE, COUNTS[MARKET_EVENTS])
    places = [(topic, p) for topic in (defined[0], traded[0]) for p in range(COUNTS[topic])]
    recorder = Recorder(folder, places, COUNTS, is_history=is_history)
    for place, records in ((defined, [instrument]), (traded, events)):
        items: list[Header] = list(records)
        recorder.write(place, [Given(n, encode(item)) for n, item in enumerate(items)])
    recorder.close()
    return recorder


def prices(folder: Path) -> list[float]:
    topics = TopicsFolder(folder)
    known = topics.universe()
    return [price for batch in topics.market_batches(known) for price in batch.trades.price]


def test_history_is_without_what_workers_refuse_and_says_so(tmp_path: Path) -> None:
    recorder = record(
        tmp_path, trade(1), trade(2, stranger()), trade(3, price=1e300), trade(4, price=11.0),
        is_history=True,
    )  # fmt: skip
    assert prices(tmp_path) == [10.0, 11.0]
    count, first = recorder.left_out
    assert count == 2
    assert first is not None
    assert "is not known" in first.reason


def test_a_recording_keeps_everything_and_a_replay_passes_over_strangers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    recorder = record(tmp_path, trade(1), trade(2, stranger()), trade(3), is_history=False)
    assert recorder.left_out == (0, None)
    home = partition_of(SHARE, COUNTS[MARKET_EVENTS])
    kept = [r for group in TopicsFolder(tmp_path).records(MARKET_EVENTS, home) for _, r in group]
    assert [record.source_seq for record in kept] == [1, 2, 3]
    assert prices(tmp_path) == [10.0, 10.0]
    assert "its definition is not recorded" in caplog.text


def test_a_replay_begins_with_data_whatever_definitions_stand_in_front(tmp_path: Path) -> None:
    """They have no instant; with one in front a run would begin in 1970."""
    (instrument,) = universe(("AA",)).instruments
    mark = Watermark(source="s", source_seq=0, ts_event_ns=START_NS)
    record(tmp_path, instrument, mark, instrument, trade(1), trade(2), is_history=False)
    (batch,) = RecordedDataSet("recorded", tmp_path).batches()
    assert batch.clock.tolist() == [START_NS + 1, START_NS + 2]
