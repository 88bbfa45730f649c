"""Sealed segments: complete, verified, readable by others."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from schemas.columns import TradeColumns
from schemas.errors import JournalError, StorageError
from schemas.topics import MARKET_EVENTS
from streams.journal import JournalReader, JournalWriter, Kind, encode_group, seal_folder
from tests.unit import journal_samples as samples

UNIVERSE = samples.make_universe()


def make_sealed(folder: Path) -> Path:
    """Write and seal a journal of all kinds of entries; return its sealed segment."""
    kinds = (Kind.BATCH, Kind.RECORDS, Kind.COLUMNS, Kind.MARK)
    made = [samples.make_write(kind, 9, seed, UNIVERSE) for seed, kind in enumerate(kinds)]
    samples.write_journal(folder, UNIVERSE, made)
    (sealed,) = seal_folder(folder)
    return sealed


def test_every_file_of_a_sealed_segment_is_verified(tmp_path: Path) -> None:
    sealed = make_sealed(tmp_path)
    files = sorted(sealed.iterdir())
    names = "bar entries marks quote records seal.json spans trade"
    assert [f.name.removesuffix(".arrow") for f in files] == names.split()
    for file in files:
        content = file.read_bytes()
        for broken in (content[:-1], b"", content[:99] + bytes([content[99] ^ 8]) + content[100:]):
            file.write_bytes(broken)
            with pytest.raises(JournalError, match=file.name):
                samples.contents(JournalReader(tmp_path), UNIVERSE)
        file.write_bytes(content)
    assert len(samples.contents(JournalReader(tmp_path), UNIVERSE)) == 4


def test_missing_file_of_a_sealed_segment_is_named(tmp_path: Path) -> None:
    sealed = make_sealed(tmp_path)
    (sealed / "trade.arrow").unlink()
    with pytest.raises(StorageError, match=r"trade\.arrow"):
        samples.contents(JournalReader(tmp_path), UNIVERSE)


def test_missing_segment_is_named(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r", segment_bytes=500) as writer:
        for number in range(20):
            writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(number))]))
    sealed = tmp_path / "segment-00000001.sealed"
    sealed.rename(tmp_path / "elsewhere")
    with pytest.raises(JournalError, match="segment-00000001"):
        JournalReader(tmp_path)


def test_closed_segment_cut_at_an_entry_is_noticed_by_every_way_of_reading(tmp_path: Path) -> None:
    log = tmp_path / "segment-00000000.log"
    with JournalWriter.open(tmp_path, run_id="r", segment_bytes=900, is_sealing=False) as writer:
        writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(0))]))
        writer.flush()
        begin = log.read_bytes()
        for number in range(1, 20):
            writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(number))]))
    log.write_bytes(begin)
    with pytest.raises(JournalError, match="segment-00000000"):
        list(JournalReader(tmp_path).entries())
    with pytest.raises(JournalError, match="segment-00000000"):
        JournalReader(tmp_path).read(MARKET_EVENTS, 0, 100)


def test_records_of_a_sealed_segment_are_readable_with_arrow_alone(tmp_path: Path) -> None:
    samples.write_journal(
        tmp_path, UNIVERSE, [samples.Write(Kind.RECORDS, "", samples.make_items(20))]
    )
    (sealed,) = seal_folder(tmp_path)
    rows = pa.ipc.open_file(str(sealed / "records.arrow")).read_all().to_pylist()
    items = JournalReader(tmp_path).entry(0).records()
    assert [row["topic"] for row in rows] == [topic for topic, _ in items]
    assert [row["event_id"] for row in rows] == [getattr(r, "event_id", "") for _, r in items]
    for topic in {topic for topic, _ in items}:
        offsets = [row["offset"] for row in rows if row["topic"] == topic]
        assert offsets == list(range(len(offsets)))


def test_offsets_of_records_within_a_sealed_batch_are_those_of_read(tmp_path: Path) -> None:
    batch = samples.make_batch(UNIVERSE, 12)
    samples.write_journal(tmp_path, UNIVERSE, [samples.Write(Kind.BATCH, MARKET_EVENTS, batch)])
    (sealed,) = seal_folder(tmp_path)
    rows = pa.ipc.open_file(str(sealed / "records.arrow")).read_all().to_pylist()
    reader = JournalReader(tmp_path)
    assert len(rows) == 12
    for row in rows:
        ((offset, record),) = reader.read(row["topic"], row["offset"], 1)
        assert offset == row["offset"]
        assert getattr(record, "event_id", "") == row["event_id"]


def test_row_log_left_beside_its_sealed_form_is_removed_by_the_next_writer(tmp_path: Path) -> None:
    table = samples.make_table(TradeColumns, 5)
    write = samples.Write(Kind.COLUMNS, MARKET_EVENTS, table)
    samples.write_journal(tmp_path, UNIVERSE, [write])
    log = tmp_path / "segment-00000000.log"
    content = log.read_bytes()
    seal_folder(tmp_path)
    log.write_bytes(content)
    assert len(list(JournalReader(tmp_path).entries())) == 1
    samples.write_journal(tmp_path, UNIVERSE, [write])
    assert not log.exists()
    assert JournalReader(tmp_path).next_offsets == {MARKET_EVENTS: 10}


def test_torn_log_is_not_sealed_and_left_as_it_is(tmp_path: Path) -> None:
    samples.write_journal(tmp_path, UNIVERSE, [samples.Write(Kind.MARK, "m", b"123")])
    log = tmp_path / "segment-00000000.log"
    content = log.read_bytes()[:-1]
    log.write_bytes(content)
    with pytest.raises(JournalError, match="torn"):
        seal_folder(tmp_path)
    assert log.read_bytes() == content
    assert not list(tmp_path.glob("*.seal*"))


def test_folder_with_a_writer_is_not_sealed(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r"), pytest.raises(StorageError, match="process"):
        seal_folder(tmp_path)


def test_segment_that_cannot_be_sealed_stays_readable_and_is_reported(tmp_path: Path) -> None:
    (tmp_path / "segment-00000000.sealing").write_text("in the way")
    with JournalWriter.open(tmp_path, run_id="r", segment_bytes=900) as writer:
        for number in range(10):
            writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(number))]))
    assert isinstance(writer.sealing_error, StorageError)
    assert "segment-00000000.log" in str(writer.sealing_error)
    assert (tmp_path / "segment-00000000.log").exists()
    assert len(JournalReader(tmp_path).read(MARKET_EVENTS, 0, 100)) == 10


def test_rolling_seals_what_is_closed(tmp_path: Path) -> None:
    with JournalWriter.open(tmp_path, run_id="r", segment_bytes=900) as writer:
        for number in range(30):
            writer.append_group(encode_group([(MARKET_EVENTS, samples.make_trade(number))]))
    assert writer.sealing_error is None
    logs = sorted(tmp_path.glob("*.log"))
    sealed = sorted(tmp_path.glob("*.sealed"))
    assert len(logs) == 1
    assert len(sealed) >= 3
    assert JournalReader(tmp_path).read(MARKET_EVENTS, 0, 100)[-1][0] == 29
