"""Opening, continuing, tearing and refusing."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.columns import MarketBatch, TradeColumns
from schemas.errors import (
    ConflictError,
    InvariantError,
    JournalError,
    RecordError,
    StorageError,
)
from schemas.topics import MARKET_BARS, MARKET_EVENTS
from streams.journal import JournalReader, JournalWriter, Kind, encode_group, seal_folder
from tests.unit import journal_samples as samples

UNIVERSE = samples.make_universe()


def log_file(folder: Path) -> Path:
    return folder / "segment-00000000.log"


def write_two(folder: Path, last: samples.Write) -> int:
    """Write two entries, return where the last one begins."""
    with JournalWriter.open(folder, run_id=samples.RUN) as writer:
        first = samples.make_write(Kind.COLUMNS, 3, 0, UNIVERSE)
        samples.append(writer, UNIVERSE, first)
        writer.flush()
        start = log_file(folder).stat().st_size
        samples.append(writer, UNIVERSE, last)
    return start


@pytest.mark.parametrize("kind", [Kind.RECORDS, Kind.COLUMNS, Kind.BATCH, Kind.MARK])
def test_tail_torn_at_any_byte_is_cut_and_all_before_it_kept(tmp_path: Path, kind: Kind) -> None:
    last = samples.make_write(kind, 2, 1, UNIVERSE)
    start = write_two(tmp_path / "whole", last)
    content = log_file(tmp_path / "whole").read_bytes()
    kept = samples.contents(JournalReader(tmp_path / "whole"), UNIVERSE)[:1]
    folder = tmp_path / "torn"
    folder.mkdir()
    for size in range(start + 1, len(content)):
        log_file(folder).write_bytes(content[:size])
        reader = JournalReader(folder)
        assert samples.contents(reader, UNIVERSE) == kept
        assert reader.torn_tail is not None
        with JournalWriter.open(folder, run_id=samples.RUN, sync_interval_s=None) as writer:
            assert writer.recovered == (log_file(folder), start, size - start)
            assert writer.next_entry == 1
            samples.append(writer, UNIVERSE, last)
        assert log_file(folder).read_bytes() == content


def test_tail_of_zeros_after_a_power_cut_is_cut(tmp_path: Path) -> None:
    start = write_two(tmp_path, samples.make_write(Kind.RECORDS, 2, 1, UNIVERSE))
    content = log_file(tmp_path).read_bytes()
    log_file(tmp_path).write_bytes(content[:start] + bytes(len(content) - start + 4096))
    with JournalWriter.open(tmp_path, run_id=samples.RUN) as writer:
        assert writer.recovered == (log_file(tmp_path), start, len(content) - start + 4096)
    assert log_file(tmp_path).read_bytes() == content[:start]


def test_flipped_byte_before_the_last_entry_is_damage_wherever_it_is(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id=samples.RUN) as writer:
        writer.append_mark("first", b"1")
        writer.flush()
        start = log_file(tmp_path).stat().st_size
        writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(1))]))
        writer.flush()
        stop = log_file(tmp_path).stat().st_size
        writer.append_mark("last", b"1")
    content = log_file(tmp_path).read_bytes()
    for place in range(start, stop):
        broken = bytearray(content)
        broken[place] ^= 0x40
        log_file(tmp_path).write_bytes(broken)
        with pytest.raises(JournalError, match=f"at byte {start}"):
            list(JournalReader(tmp_path).entries())
        with pytest.raises(JournalError, match=r"segment-00000000\.log"):
            JournalWriter.open(tmp_path, run_id=samples.RUN)
    log_file(tmp_path).write_bytes(content)
    assert len(list(JournalReader(tmp_path).entries())) == 3


@given(made=samples.writes(UNIVERSE), cut=st.integers(0, 8), is_sealed=st.booleans())
@settings(max_examples=40)
def test_writer_that_goes_on_leaves_the_journal_of_one_that_never_stopped(
    made: list[samples.Write], cut: int, is_sealed: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        whole, parts = Path(name, "whole"), Path(name, "parts")
        samples.write_journal(whole, UNIVERSE, made)
        samples.write_journal(parts, UNIVERSE, made[:cut])
        if is_sealed:
            seal_folder(parts)
        samples.write_journal(parts, UNIVERSE, made[cut:])
        reader = JournalReader(parts)
        assert samples.contents(reader, UNIVERSE) == samples.contents(
            JournalReader(whole), UNIVERSE
        )
        assert reader.next_offsets == JournalReader(whole).next_offsets


def test_second_writer_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with (
        JournalWriter.open(tmp_path, run_id="r"),
        pytest.raises(StorageError, match=r"written by process \d+"),
    ):
        JournalWriter.open(tmp_path, run_id="r")
    JournalWriter.open(tmp_path, run_id="r").close()


def test_folder_of_another_run_is_a_conflict(tmp_path: Path) -> None:
    JournalWriter.open(tmp_path, run_id="one").close()
    with pytest.raises(ConflictError, match="one"):
        JournalWriter.open(tmp_path, run_id="two")


def test_closed_writer_refuses(tmp_path: Path) -> None:
    writer = JournalWriter.open(tmp_path, run_id="r")
    writer.close()
    writer.close()
    with pytest.raises(StorageError, match="closed"):
        writer.append_mark("m", b"")


def test_unknown_topic_is_refused_and_nothing_is_counted(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        with pytest.raises(RecordError, match="no-such-topic"):
            writer.append_group(encode_group([("no-such-topic", samples.make_trade(1))]))
        assert writer.next_offsets == {}
        assert writer.next_entry == 0


def test_batch_whose_clock_breaks_the_rule_is_refused(tmp_path: Path) -> None:
    table = samples.make_trades(5)
    table.ts = np.arange(5)
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        batch = MarketBatch(UNIVERSE, np.array([0, 1, 7, 3, 4]), trades=table)
        with pytest.raises(InvariantError, match="position 2"):
            writer.append_batch(UNIVERSE, batch)
        gap = MarketBatch(UNIVERSE, np.arange(6), trades=table)
        with pytest.raises(InvariantError, match="positions"):
            writer.append_batch(UNIVERSE, gap)
        assert writer.next_entry == 0


def test_clock_carried_into_a_batch_is_kept(tmp_path: Path) -> None:
    table = samples.make_trades(3)
    table.ts = np.array([5, 6, 20])
    clock = np.array([10, 10, 20])
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        writer.append_batch(UNIVERSE, MarketBatch(UNIVERSE, clock, trades=table, first_offset=9))
    batch = JournalReader(tmp_path).entry(0).batch(UNIVERSE)
    assert batch.clock.tolist() == [10, 10, 20]
    assert batch.first_offset == 9


def test_sync_happens_when_its_interval_has_passed(tmp_path: Path) -> None:
    times = iter([0.0, 0.5, 1.5, 1.5, 1.7, 9.0, 9.0])
    asked: list[float] = []

    def monotonic_s() -> float:
        asked.append(next(times))
        return asked[-1]

    with JournalWriter.open(
        tmp_path, run_id="r", sync_interval_s=1.0, monotonic_s=monotonic_s
    ) as writer:
        for _ in range(3):
            writer.append_mark("m", b"")
            writer.flush()
        # A sync reads the clock once more: after 1.5 s only.
        assert asked == [0.0, 0.5, 1.5, 1.5, 1.7]


def test_offsets_count_rows_and_records_alike(tmp_path: Path) -> None:
    table = samples.make_table(TradeColumns, 7)
    with JournalWriter.open(tmp_path, run_id="r") as writer:
        writer.append_table(MARKET_EVENTS, UNIVERSE, table)
        writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(1))] * 2))
        assert writer.next_offsets == {MARKET_EVENTS: 9}
        bars = samples.make_write(Kind.COLUMNS, 4, 2, UNIVERSE)
        samples.append(writer, UNIVERSE, bars)
        assert writer.next_offsets == {MARKET_EVENTS: 9, MARKET_BARS: 4}


def test_group_of_too_many_topics_is_refused() -> None:
    items = [(f"topic-{number}", samples.make_trade(number)) for number in range(256)]
    with pytest.raises(RecordError, match="256"):
        encode_group(items)
