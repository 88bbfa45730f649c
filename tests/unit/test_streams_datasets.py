"""Data sets: one order and the same values for every format and every cut."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from schemas.columns import merge
from schemas.enums import CorporateActionKind
from schemas.errors import DataError, NotFoundError
from schemas.instruments import CorporateAction
from schemas.topics import REFERENCE_ACTIONS, REFERENCE_INSTRUMENTS
from streams.datasets import BUNDLED, open_data
from streams.datasets.known import instrument_of
from streams.importing import import_files
from streams.journal import JournalWriter, encode_group
from tests.unit.dataset_samples import QUOTES, SECOND_NS, START_NS, TRADES, columns, write


def test_trades_of_two_symbols_come_in_the_order_of_their_running_times(tmp_path: Path) -> None:
    data = open_data(str(write(tmp_path / "t.csv", TRADES)))
    found = columns(data)
    assert found["trade.instrument"] == [
        "IBM.XNYS",
        "SPY.ARCX",
        "SPY.ARCX",
        "SPY.ARCX",
        "IBM.XNYS",
        "SPY.ARCX",
        "SPY.ARCX",
    ]
    assert found["trade.price"] == [182.01, 167.42, 167.43, 167.41, 182.02, 167.41, 166.0]
    assert found["clock"] == sorted(found["clock"])
    assert found["trade.source"] == ["trades"] * 7
    spy = [
        s for s, i in zip(found["trade.seq"], found["trade.instrument"], strict=True) if i[0] == "S"
    ]
    first = 20131007 * 10**10
    assert spy == [first, first + 1, first + 2, first + 3, 20131008 * 10**10]


def test_batches_say_the_same_for_every_size(tmp_path: Path) -> None:
    data = open_data(str(write(tmp_path / "t.csv", TRADES)))
    whole = columns(data)
    assert [columns(data, size) for size in (1, 2, 3, 5, 7)] == [whole] * 5


def test_merged_batches_equal_the_merge_of_whole_tables() -> None:
    data = open_data("demo")
    tables = []
    for symbol, kind in (("IBM", "trades"), ("SPY", "trades"), ("IBM", "quotes")):
        batches = data.batches(10**7, symbols=[symbol], end_ns=START_NS + 600 * SECOND_NS)
        (batch,) = batches
        table = getattr(batch, kind)
        tables.append(table.moved(np.arange(len(table))))
    wanted = merge(data.universe, tables)
    (found,) = data.batches(10**7, end_ns=START_NS + 600 * SECOND_NS)
    assert np.array_equal(found.clock, wanted.clock)
    for name in found.quotes.names():
        assert np.array_equal(getattr(found.quotes, name), getattr(wanted.quotes, name))
    for name in found.trades.names():
        assert np.array_equal(getattr(found.trades, name), getattr(wanted.trades, name))


def test_csv_parquet_import_and_journal_give_the_same_columns_and_hashes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", TRADES)
    typed = pcsv.read_csv(path)
    pq.write_table(typed, tmp_path / "t.parquet")
    import_files("csv", path, tmp_path / "imported")
    from_csv = open_data(str(path))
    with JournalWriter.open(tmp_path / "run", run_id="r", sync_interval_s=None) as journal:
        instruments = from_csv.universe.instruments
        journal.append_group(encode_group([(REFERENCE_INSTRUMENTS, i) for i in instruments]))
        for batch in from_csv.batches(3):
            journal.append_batch(from_csv.universe, batch)
        journal.flush()
    others = [open_data(str(tmp_path / name)) for name in ("t.parquet", "imported", "run")]
    assert [columns(other) for other in others] == [columns(from_csv)] * 3
    assert [other.inputs() for other in others] == [from_csv.inputs()] * 3
    assert [other.total() for other in others] == [7, 7, 7]
    low, high = START_NS + 1, START_NS + 3 * SECOND_NS
    wanted = columns(from_csv, start_ns=low, end_ns=high, symbols=["SPY"])
    assert [columns(o, start_ns=low, end_ns=high, symbols=["SPY"]) for o in others] == [wanted] * 3
    assert [o.total(low, high, ["SPY"]) for o in others] == [3, 3, 3]


def test_arrow_timestamps_and_dictionary_symbols_read_like_text(tmp_path: Path) -> None:
    table = pa.table(
        {
            "ts": pa.array([START_NS // 1000, START_NS // 1000 + 5], pa.timestamp("us", "UTC")),
            "symbol": pa.array(["SPY", "SPY"]).dictionary_encode(),
            "price": pa.array([Decimal("167.42"), Decimal("167.43")]),
            "qty": pa.array([1, 2], pa.int32()),
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    found = columns(open_data(str(tmp_path / "t.parquet")))
    assert found["trade.ts"] == [START_NS, START_NS + 5000]
    assert found["trade.price"] == [167.42, 167.43]
    assert found["trade.size"] == [1.0, 2.0]


def test_source_and_sequence_of_a_file_win(tmp_path: Path) -> None:
    text = "timestamp,symbol,price,size,source,seq\n2013-10-07T13:30:00Z,SPY,167.42,1,feed,77\n"
    found = columns(open_data(str(write(tmp_path / "t.csv", text))))
    assert (found["trade.source"], found["trade.seq"]) == (["feed"], [77])


def test_quotes_are_known_by_other_column_names(tmp_path: Path) -> None:
    data = open_data(str(write(tmp_path / "q.csv", QUOTES)))
    found = columns(data)
    assert data.kinds == {"quote"}
    assert found["quote.bid"] == [182.0, 182.01, 182.01]
    assert found["quote.ask_size"] == [200.0, 100.0, 300.0]
    assert found["quote.ts"] == [START_NS, START_NS, START_NS + SECOND_NS]


def test_daily_bars_of_days_stand_at_the_close_of_their_session(tmp_path: Path) -> None:
    text = (
        "date,open,high,low,close,volume\n2013-07-02,1,2,1,2,10\n"
        "2013-07-03,1,2,1,2,10\n2013-07-05,1,2,1,2,9\n"
    )
    data = open_data(str(write(tmp_path / "d.csv", text)), symbols=["SPY"])
    found = columns(data)
    hours = [(ts // SECOND_NS) % 86_400 / 3600 for ts in found["bar.ts"]]
    assert data.intervals == {"1d"}
    assert hours == [20.0, 17.0, 20.0]  # 3 July is a half day.
    unknown = open_data(str(tmp_path / "d.csv"), symbols=["ABC"])
    midnight = columns(unknown)["bar.ts"][0]
    # Just before midnight, which is of the next day: a range of days would leave that out.
    assert midnight == 1_372_809_600 * SECOND_NS - 1_000
    start_ns = (1_372_809_600 - 86_400) * SECOND_NS
    day = unknown.inputs(start_ns=start_ns, end_ns=1_372_809_600 * SECOND_NS - 1)
    assert [item.count for item in day] == [1]


@pytest.mark.parametrize("kind", [pa.date32(), pa.timestamp("ns"), pa.timestamp("ms", "UTC")])
def test_days_in_parquet_are_daily_bars(tmp_path: Path, kind: pa.DataType) -> None:
    days = pa.array([date(2013, 7, 2), date(2013, 7, 3)]).cast(kind)
    values = {name: [1.0, 2.0] for name in ("open", "high", "low", "close", "volume")}
    pq.write_table(
        pa.table({"date": days, "symbol": ["SPY", "SPY"], **values}), tmp_path / "d.parquet"
    )
    data = open_data(str(tmp_path / "d.parquet"))
    hours = [(ts // SECOND_NS) % 86_400 / 3600 for ts in columns(data)["bar.ts"]]
    assert (set(data.intervals), hours) == ({"1d"}, [20.0, 17.0])


def test_minute_bars_are_known_by_their_spacing(tmp_path: Path) -> None:
    rows = "".join(f"{1381152660 + 60 * i},SPY,1,2,1,2,10\n" for i in range(3))
    data = open_data(
        str(write(tmp_path / "m.csv", "ts,symbol,open,high,low,close,volume\n" + rows))
    )
    found = columns(data)
    assert data.intervals == {"1m"}
    assert found["bar.start"][0] == START_NS
    assert found["bar.vwap"][0] == (2.0 + 1.0 + 2.0) / 3


def test_an_open_time_column_stamps_bars_at_their_close(tmp_path: Path) -> None:
    text = "open_time,symbol,open,high,low,close,volume\n1381152600,SPY,1,2,1,2,10\n"
    data = open_data(str(write(tmp_path / "m.csv", text)), interval="5m")
    assert data.range() == (START_NS + 300 * SECOND_NS,) * 2


def test_the_grid_of_an_unknown_symbol_follows_from_its_prices(tmp_path: Path) -> None:
    text = (
        "ts,symbol,price,size\n1381152600,AA,1.25,1\n1381152600,BB,1.255,1\n1381152600,SPY,1.25,1\n"
    )
    data = open_data(str(write(tmp_path / "t.csv", text)))
    increments = {i.instrument_id: str(i.price_increment) for i in data.universe.instruments}
    assert increments == {"AA.XXXX": "0.01", "BB.XXXX": "0.0001", "SPY.ARCX": "0.0001"}


@pytest.mark.parametrize(
    ("symbol", "instrument_id"),
    [("ibm", "IBM.XNYS"), ("IBM.XNYS", "IBM.XNYS"), ("BRK.B", "BRK.B.XXXX"), ("A.XNAS", "A.XNAS")],
)
def test_a_symbol_becomes_an_instrument_id(symbol: str, instrument_id: str) -> None:
    assert instrument_of(symbol).instrument_id == instrument_id


def test_an_unknown_symbol_is_answered_with_those_there_are() -> None:
    with pytest.raises(NotFoundError, match=r"'MSFT'.*it has IBM, SPY"):
        open_data("daily", symbols=["MSFT"])


def test_an_empty_range_is_answered_with_the_range_there_is() -> None:
    data = open_data("daily")
    with pytest.raises(DataError, match=r"1998-01-02T21:00:00Z to 2021-"):
        data.batches(start_ns=0, end_ns=1)
    with pytest.raises(DataError, match="no data in this range"):
        data.inputs(start_ns=0, end_ns=1)


def test_an_unknown_data_set_is_answered_with_the_bundled_names(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="demo or daily"):
        open_data("nothing")
    with pytest.raises(NotFoundError, match="holds no data set"):
        open_data(str(tmp_path))


def test_every_bundled_set_opens_and_counts_its_events() -> None:
    for name in BUNDLED:
        data = open_data(name)
        assert sum(len(batch) for batch in data.batches()) == data.total()
        assert data.universe.sources == sorted(data.universe.sources)
    assert open_data("demo").kinds == {"trade", "quote"}


def test_ibm_split_of_may_1999_stands_before_the_first_bar_after_it() -> None:
    data = open_data("daily", symbols=["IBM"])
    actions = data.actions(symbols=["IBM"])
    (split,) = [a for a in actions if a.kind is CorporateActionKind.SPLIT]
    assert split.ratio == 2
    for size in (1, 1000):
        seen = None
        for batch in data.batches(size):
            for pos, topic, record in batch.records:
                if record is split or record == split:
                    assert topic == REFERENCE_ACTIONS
                    seen = batch.first_offset + pos
            if (
                seen is not None
                and len(batch.bars)
                and seen < batch.first_offset + batch.bars.pos[-1]
            ):
                row = int(np.searchsorted(batch.bars.pos + batch.first_offset, seen))
                assert batch.bars.close[row] == 116.06
                break
        assert seen is not None


@pytest.mark.parametrize("symbol", ["IBM", "SPY"])
def test_reinvested_dividends_reproduce_the_price_factor(symbol: str) -> None:
    """A price factor is the product of 1 - dividend / close over all later dividends."""
    data = open_data("daily", symbols=[symbol])
    closes = [
        (ts, c) for b in data.batches() for ts, c in zip(b.bars.ts, b.bars.close, strict=True)
    ]
    times = np.array([ts for ts, _ in closes])
    product = 1.0
    for action in data.actions():
        assert isinstance(action, CorporateAction)
        if action.kind is CorporateActionKind.DIVIDEND:
            before = closes[int(np.searchsorted(times, action.ts_event_ns)) - 1][1]
            product *= 1 - float(action.amount) / before
    wanted = {"IBM": 0.6209650, "SPY": 0.6566606}[symbol]
    last = {"IBM": 1.0, "SPY": 1.0}[symbol]
    assert product == pytest.approx(wanted / last, rel=1e-3)


@pytest.mark.parametrize("symbols", [None, ["SPY"]])
def test_journal_without_market_data_is_refused_as_that(
    tmp_path: Path, symbols: list[str] | None
) -> None:
    with JournalWriter.open(tmp_path, run_id="r", sync_interval_s=None) as journal:
        journal.append_mark("finish", b"{}")
    with pytest.raises(DataError, match="holds no market data") as caught:
        open_data(str(tmp_path), symbols=symbols)
    assert "a backtest does not keep" in caught.value.remedy
