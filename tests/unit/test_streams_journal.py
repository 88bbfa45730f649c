"""The journal gives back what was written, whatever the cut, sealed or not."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.columns import MarketBatch, TradeColumns
from schemas.envelope import Header
from schemas.errors import DataError, JournalError, NotFoundError
from schemas.instruments import Instrument
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    MARKET_INDICATORS,
    REFERENCE_INSTRUMENTS,
)
from streams.journal import JournalReader, JournalWriter, Kind, encode_group, seal_folder
from tests.unit import journal_samples as samples

UNIVERSE = samples.make_universe()
TOPICS = (MARKET_EVENTS, MARKET_BARS, MARKET_INDICATORS, ACCOUNT_INPUTS)


@given(made=samples.writes(UNIVERSE), segment_bytes=st.sampled_from((700, 3_000, 1 << 28)))
@settings(max_examples=60)
def test_journal_reads_back_what_was_written_in_rows_and_sealed(
    made: list[samples.Write], segment_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples.write_journal(folder, UNIVERSE, made, segment_bytes=segment_bytes, is_sealing=False)
        other = samples.make_universe(samples.IDS[::-1], ("file", "other", "feed"))
        rows = samples.contents(JournalReader(folder), other)
        assert [(kind, content) for _, kind, _, _, content in rows] == samples.written(
            made, UNIVERSE
        )
        assert [index for index, *_ in rows] == list(range(len(made)))
        events = samples.market_events(JournalReader(folder), other, 5, frozenset())

        seal_folder(folder)

        assert not list(folder.glob("*.log"))
        reader = JournalReader(folder)
        assert samples.contents(reader, other) == rows
        assert samples.market_events(reader, UNIVERSE, 7, frozenset()) == events


@given(made=samples.writes(UNIVERSE), segment_bytes=st.sampled_from((700, 1 << 28)))
@settings(max_examples=40)
def test_read_gives_each_topic_in_order_of_its_offsets(
    made: list[samples.Write], segment_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples.write_journal(folder, UNIVERSE, made, segment_bytes=segment_bytes, is_sealing=False)
        reader = JournalReader(folder)
        whole: dict[str, list[tuple[int, Header]]] = {}
        for topic in TOPICS:
            whole[topic] = reader.read(topic, 0, 10_000)
            assert [offset for offset, _ in whole[topic]] == list(
                range(reader.next_offsets.get(topic, 0))
            )
            single = [reader.read(topic, offset, 1)[0] for offset, _ in whole[topic]]
            assert single == whole[topic]
        seal_folder(folder)
        sealed = JournalReader(folder)
        for topic in TOPICS:
            assert sealed.read(topic, 0, 10_000) == whole[topic]
            assert sealed.read(topic, 3, 4) == whole[topic][3:7]


@given(made=samples.writes(UNIVERSE), size=st.integers(1, 40))
@settings(max_examples=40)
def test_market_batches_say_the_same_for_every_size(made: list[samples.Write], size: int) -> None:
    topics = frozenset((ACCOUNT_INPUTS,))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        samples.write_journal(folder, UNIVERSE, made)
        reader = JournalReader(folder)
        events = samples.market_events(reader, UNIVERSE, size, topics)
        assert events == samples.market_events(reader, UNIVERSE, 10_000, topics)
        clocks = [clock for clock, _ in events]
        assert clocks == sorted(clocks)
        wanted = sum(reader.next_offsets.get(t, 0) for t in (MARKET_EVENTS, ACCOUNT_INPUTS))
        assert len(events) == wanted


def test_single_trades_read_as_columns_equal_the_table_they_came_from(tmp_path: Path) -> None:
    table = samples.make_table(TradeColumns, 100)
    with JournalWriter.open(tmp_path / "table", run_id="r") as writer:
        writer.append_table(MARKET_EVENTS, UNIVERSE, table)
    records = JournalReader(tmp_path / "table").read(MARKET_EVENTS, 0, 1_000)
    with JournalWriter.open(tmp_path / "records", run_id="r") as writer:
        for _, record in records:
            writer.append_group(encode_group([(MARKET_EVENTS, record)]))
    (batch,) = JournalReader(tmp_path / "records").market_batches(UNIVERSE)
    assert samples.plain(batch.trades, UNIVERSE) == samples.plain(table, UNIVERSE)


def test_market_batches_place_other_topics_where_they_were_consumed(tmp_path: Path) -> None:
    instrument = Instrument(instrument_id="X.Y", symbol="X", venue="Y", ts_event_ns=5_000)
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(1))]))
        writer.append_group(encode_group([(REFERENCE_INSTRUMENTS, instrument)]))
        writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(2))]))
    reader = JournalReader(tmp_path)
    (batch,) = reader.market_batches(UNIVERSE, with_topics=frozenset((REFERENCE_INSTRUMENTS,)))
    assert batch.records == [(1, REFERENCE_INSTRUMENTS, instrument)]
    assert batch.trades.pos.tolist() == [0, 2]
    assert batch.clock.tolist() == [1_001, 5_000, 5_000]
    (alone,) = reader.market_batches(UNIVERSE)
    assert alone.clock.tolist() == [1_001, 1_002]
    assert reader.universe().index("X.Y") == 0


def test_sealed_columns_are_mapped_not_copied(tmp_path: Path) -> None:
    table = samples.make_table(TradeColumns, 1_000)
    samples.write_journal(tmp_path, UNIVERSE, [samples.Write(Kind.COLUMNS, MARKET_EVENTS, table)])
    seal_folder(tmp_path)
    (batch,) = JournalReader(tmp_path).market_batches(UNIVERSE)
    assert not batch.trades.price.flags.owndata
    assert not batch.trades.price.flags.writeable


def test_entry_asked_for_another_kind_says_which_it_is(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        writer.append_mark("m", b"1")
    entry = JournalReader(tmp_path).entry(0)
    with pytest.raises(JournalError, match="kind='MARK'"):
        entry.records()


def test_instrument_missing_from_the_universe_is_named(tmp_path: Path) -> None:
    table = samples.make_table(TradeColumns, 20)
    samples.write_journal(tmp_path, UNIVERSE, [samples.Write(Kind.COLUMNS, MARKET_EVENTS, table)])
    universe = samples.make_universe(samples.IDS[:1])
    with pytest.raises(DataError, match=r"XNAS|XCME"):
        JournalReader(tmp_path).entry(0).table(universe)
    for name in samples.IDS[1:]:
        universe.add(Instrument(instrument_id=name, symbol=name, venue="", ts_event_ns=0))
    read = JournalReader(tmp_path).entry(0).table(universe)
    assert samples.plain(read, universe) == samples.plain(table, UNIVERSE)


def test_universe_that_grows_while_writing_is_followed(tmp_path: Path) -> None:
    universe = samples.make_universe(samples.IDS[:1], ())
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        for number, name in enumerate(samples.IDS):
            universe.add(Instrument(instrument_id=name, symbol="", venue="", ts_event_ns=0))
            source = universe.source_index(f"source-{number}")
            row = samples.make_table(TradeColumns, 1, number)
            row.instrument = np.array([number], np.int32)
            row.source = np.array([source], np.int32)
            writer.append_table(MARKET_EVENTS, universe, row)
    found = [record for _, record in JournalReader(tmp_path).read(MARKET_EVENTS, 0, 10)]
    assert [getattr(record, "instrument_id", "") for record in found] == list(samples.IDS)
    assert [record.source for record in found] == ["source-0", "source-1", "source-2"]


def test_last_mark_is_found_across_segments(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r", segment_bytes=2_000) as writer:
        for number in range(5):
            writer.append_mark("snapshot", b"%d" % number)
        for number in range(40):
            writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(number))]))
    reader = JournalReader(tmp_path)
    assert len(list(tmp_path.glob("segment-*"))) > 2
    assert reader.last_mark("snapshot") == (4, b"4")
    assert reader.last_mark("other") is None
    assert [entry.index for entry in reader.entries(43)] == [43, 44]
    assert reader.locate(MARKET_EVENTS, 39) == 44


def test_last_mark_is_found_when_it_closed_its_segment(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r", segment_bytes=300) as writer:
        for number in range(4):
            writer.append_mark("snapshot", bytes([number]) * 400)
            assert writer.marks == {"snapshot": number}
    assert len(list(tmp_path.glob("segment-*"))) == 5
    assert JournalReader(tmp_path).last_mark("snapshot") == (3, b"\3" * 400)


def test_reader_follows_a_writer_at_work_through_rolling_and_sealing(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r", segment_bytes=1_000) as writer:
        writer.append_mark("start", b"")
        writer.flush()
        reader = JournalReader(tmp_path)
        entries = reader.entries()
        assert next(entries).kind is Kind.MARK
        seen = []
        for number in range(30):
            writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(number))]))
            writer.flush()
            seen.append(next(entries).index)
            assert reader.read(MARKET_EVENTS, number, 5)[0][0] == number
        assert seen == list(range(1, 31))
        assert next(entries, None) is None


def test_folder_without_a_journal_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=str(tmp_path)):
        JournalReader(tmp_path)


def test_entry_beyond_the_end_is_not_found(tmp_path: Path) -> None:
    samples.write_journal(tmp_path, UNIVERSE, [samples.Write(Kind.MARK, "m", b"x")])
    with pytest.raises(NotFoundError, match="1 entries"):
        JournalReader(tmp_path).entry(1)


def test_empty_writes_leave_no_entry(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        writer.append_group(encode_group([]))
        writer.append_table(MARKET_EVENTS, UNIVERSE, TradeColumns.empty())
        writer.append_batch(UNIVERSE, MarketBatch(UNIVERSE, np.empty(0, np.int64)))
        assert writer.next_entry == 0
    assert list(JournalReader(tmp_path).entries()) == []
