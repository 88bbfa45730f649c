"""Comparing two journals: what is counted, and what the first difference says."""

from __future__ import annotations

from pathlib import Path

from schemas.columns import TradeColumns
from schemas.envelope import Header
from schemas.market_data import IndicatorValue
from schemas.topics import MARKET_EVENTS, MARKET_INDICATORS
from streams.journal import JournalReader, JournalWriter, Kind, compare, encode_group, seal_folder
from streams.journal.compare import CHAIN_LENGTH_MAX
from tests.unit import journal_samples as samples

UNIVERSE = samples.make_universe()
TOPICS = (MARKET_EVENTS, MARKET_INDICATORS)


def make_value(number: int, cause: str, value: float = 1.0) -> IndicatorValue:
    return IndicatorValue(f"i{number}", 1_000 + number, "", cause, samples.IDS[0], "x", [value])


def make_reader(folder: Path, items: samples.Items, group: int = 3) -> JournalReader:
    with JournalWriter.open(folder, run_id=folder.name) as writer:
        for start in range(0, len(items), group):
            writer.append_group(encode_group(items[start : start + group]))
    return JournalReader(folder)


def chain(count: int) -> samples.Items:
    """Return a trade and ``count`` values, each caused by the one before."""
    trade = samples.make_trade(1)
    items: samples.Items = [(MARKET_EVENTS, trade)]
    for number in range(count):
        cause = trade.event_id if number == 0 else f"i{number - 1}"
        items.append((MARKET_INDICATORS, make_value(number, cause)))
    return items


def test_equal_journals_have_no_differences_whatever_run_and_receive_time(tmp_path: Path) -> None:
    ours: samples.Items = [(MARKET_EVENTS, samples.make_trade(n, run_id="a")) for n in range(9)]
    theirs: samples.Items = [
        (MARKET_EVENTS, samples.make_trade(n, run_id="b", ts_received_ns=n)) for n in range(9)
    ]
    found = compare(
        make_reader(tmp_path / "a", ours), make_reader(tmp_path / "b", theirs, 2), TOPICS
    )
    assert found == (9, 0, 0, 0, None)


def test_changed_record_is_the_first_difference_with_its_causes(tmp_path: Path) -> None:
    items = chain(4)
    changed = list(items)
    changed[3] = (MARKET_INDICATORS, make_value(2, "i1", 2.0))
    reader = make_reader(tmp_path / "a", items)
    found = compare(reader, make_reader(tmp_path / "b", changed), TOPICS)
    assert found[:4] == (5, 1, 0, 0)
    first = found.first_difference
    assert first is not None
    assert (first.topic, first.offset) == (MARKET_INDICATORS, 2)
    assert (first.value_a, first.value_b) == (items[3][1], changed[3][1])
    assert first.causes == [items[2][1], items[1][1], items[0][1]]


def test_missing_and_extra_records_are_counted_and_the_rest_still_compared(tmp_path: Path) -> None:
    items: samples.Items = [(MARKET_EVENTS, samples.make_trade(n)) for n in range(10)]
    theirs = items[:2] + items[3:7] + [(MARKET_EVENTS, samples.make_trade(99))] + items[7:]
    found = compare(make_reader(tmp_path / "a", items), make_reader(tmp_path / "b", theirs), TOPICS)
    assert found[:4] == (9, 2, 1, 1)
    assert found.first_difference is not None
    assert found.first_difference[:4] == (MARKET_EVENTS, 2, items[2][1], None)


def test_records_in_another_order_are_differences(tmp_path: Path) -> None:
    items: samples.Items = [(MARKET_EVENTS, samples.make_trade(n)) for n in range(4)]
    swapped = [items[1], items[0], *items[2:]]
    found = compare(
        make_reader(tmp_path / "a", items), make_reader(tmp_path / "b", swapped), TOPICS
    )
    assert found[:4] == (4, 2, 0, 0)


def test_longer_journal_has_extra_records(tmp_path: Path) -> None:
    items: samples.Items = [(MARKET_EVENTS, samples.make_trade(n)) for n in range(4)]
    found = compare(
        make_reader(tmp_path / "a", items[:3]), make_reader(tmp_path / "b", items), TOPICS
    )
    assert found[:4] == (3, 1, 0, 1)


def test_first_difference_is_the_first_in_the_journal_not_in_the_alphabet(tmp_path: Path) -> None:
    ours: samples.Items = [
        (MARKET_INDICATORS, make_value(0, "")),
        (MARKET_EVENTS, samples.make_trade(1)),
    ]
    theirs: samples.Items = [
        (MARKET_INDICATORS, make_value(0, "", 3.0)),
        (MARKET_EVENTS, samples.make_trade(1, price=1.0)),
    ]
    found = compare(
        make_reader(tmp_path / "a", ours, 1), make_reader(tmp_path / "b", theirs, 1), TOPICS
    )
    assert found.differences == 2
    assert found.first_difference is not None
    assert found.first_difference.topic == MARKET_INDICATORS


def test_chain_of_causes_is_bounded(tmp_path: Path) -> None:
    items = chain(15)
    reader = make_reader(tmp_path / "a", items)
    found = compare(reader, make_reader(tmp_path / "b", items[:-1]), TOPICS)
    assert found.first_difference is not None
    causes: list[Header] = [record for _, record in items[-2:-12:-1]]
    assert found.first_difference.causes == causes
    assert len(causes) == CHAIN_LENGTH_MAX


def test_cause_that_is_a_row_of_a_table_is_found(tmp_path: Path) -> None:
    table = samples.make_table(TradeColumns, 30)
    write = samples.Write(Kind.COLUMNS, MARKET_EVENTS, table)
    samples.write_journal(tmp_path / "a", UNIVERSE, [write])
    cause = JournalReader(tmp_path / "a").read(MARKET_EVENTS, 17, 1)[0][1]
    event_id = getattr(cause, "event_id", "")
    value: samples.Items = [(MARKET_INDICATORS, make_value(1, event_id))]
    samples.write_journal(tmp_path / "a", UNIVERSE, [samples.Write(Kind.RECORDS, "", value)])
    samples.write_journal(tmp_path / "b", UNIVERSE, [write])
    seal_folder(tmp_path / "b")
    found = compare(JournalReader(tmp_path / "a"), JournalReader(tmp_path / "b"), TOPICS)
    assert found[:4] == (30, 1, 1, 0)
    assert found.first_difference is not None
    assert found.first_difference.causes == [cause]
