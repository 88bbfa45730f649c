"""Rows to records and back."""

from __future__ import annotations

import numpy as np
import pytest

from schemas.columns import BarColumns, Columns, PriceColumns, QuoteColumns, TradeColumns
from schemas.envelope import Header
from schemas.errors import DataError, RecordError
from schemas.market_data import INTERVAL_NS, Bar, Trade, Watermark
from schemas.rows import records_from_table, table_from_records
from tests.unit import journal_samples as samples

UNIVERSE = samples.make_universe()


@pytest.mark.parametrize("table_type", [TradeColumns, QuoteColumns, BarColumns, PriceColumns])
def test_table_comes_back_from_its_records(table_type: type[Columns]) -> None:
    table = samples.make_table(table_type, 40)
    if isinstance(table, BarColumns):
        # Every other bar begins an interval before its end, of which its record says nothing.
        usual = table.ts - np.array(INTERVAL_NS)[table.interval]
        table.start = np.where(np.arange(len(table)) % 2, table.ts - 5, usual)
    records = records_from_table(UNIVERSE, table, slice(None))
    if isinstance(table, BarColumns):
        told = [record.start_ns for record in records]  # type: ignore[attr-defined]
        assert told == np.where(np.arange(len(table)) % 2, table.start, 0).tolist()
    other = samples.make_universe(samples.IDS[::-1], ())
    back = table_from_records(other, table.KIND, records)
    assert samples.plain(back, other) == samples.plain(table, UNIVERSE)
    assert records_from_table(other, back, slice(None)) == records


def test_record_is_named_by_source_instrument_and_sequence() -> None:
    table = samples.make_table(TradeColumns, 3)
    (record,) = records_from_table(UNIVERSE, table, np.array([2]))
    source = UNIVERSE.sources[table.source[2]]
    instrument = UNIVERSE.instruments[table.instrument[2]].instrument_id
    assert isinstance(record, Trade)
    assert record.event_id == f"{source}:{instrument}:2"
    assert (record.source, record.source_seq) == (source, 2)
    assert record.price == table.price[2]  # type: ignore[attr-defined]


def test_source_of_a_record_without_one_is_read_from_its_id() -> None:
    trade = samples.make_trade(7, source="", source_seq=0, event_id="my:feed:SPY.ARCX:7")
    universe = samples.make_universe()
    table = table_from_records(universe, "trade", [trade])
    assert universe.sources[table.source[0]] == "my:feed"
    assert table.seq.tolist() == [7]


def test_no_records_make_an_empty_table() -> None:
    table = table_from_records(UNIVERSE, "bar", [])
    assert isinstance(table, BarColumns)
    assert len(table) == 0


@pytest.mark.parametrize(
    ("kind", "record", "error", "text"),
    [
        ("trade", samples.make_trade(1, instrument_id="NO.WHERE"), DataError, "NO.WHERE"),
        ("trade", samples.make_trade(1, source="", event_id="abc"), RecordError, "abc"),
        ("quote", samples.make_trade(1), RecordError, "Quote"),
        ("trade", Watermark(ts_event_ns=1), RecordError, "Watermark"),
        (
            "bar",
            Bar(
                ts_event_ns=1,
                instrument_id="SPY.ARCX",
                source="s",
                interval="7m",
                open=1.0,
                high=1.0,
                low=1.0,
                close=1.0,
                volume=1.0,
                vwap=1.0,
                trade_count=1,
            ),
            RecordError,
            "7m",
        ),
    ],
)
def test_record_that_has_no_row_is_refused(
    kind: str, record: Header, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text):
        table_from_records(samples.make_universe(), kind, [record])
