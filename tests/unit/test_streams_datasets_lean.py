"""LEAN files: what their rows become, checked against hand-worked values."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from schemas.enums import CorporateActionKind
from schemas.errors import DataError, NotFoundError
from streams.calendars import sessions
from streams.datasets import open_data
from streams.datasets.factor_files import read_factor_file
from streams.datasets.known import instrument_of
from tests.unit.dataset_samples import SECOND_NS, START_NS, columns, write, write_zip

FACTORS = "20130104,0.49,0.5,1\n20130705,0.49,0.5,100\n20131004,0.5,0.5,99.5\n20501231,1,1,0\n"


def lean(tmp_path: Path) -> Path:
    """Return a small folder as LEAN has it."""
    root = tmp_path / "equity" / "usa"
    ticks = "34200000,1674200,100,P,0,0\n34200000,1674200,100,P,0,0\n34200001,1674350,5,Q,0,1\n"
    write_zip(root / "tick/spy/20131007_trade.zip", "20131007_spy_Trade_Tick.csv", ticks)
    quotes = (
        "34200000,1820000,100,0,0,P,1,0\n34200001,0,0,1820200,300,Q,1,0\n"
        "34200002,1820100,200,0,0,Q,1,0\n"
    )
    write_zip(root / "tick/ibm/20131007_quote.zip", "20131007_ibm_Quote_Tick.csv", quotes)
    minutes = "34200000,1674200,1674300,1674100,1674200,3197\n"
    write_zip(root / "minute/spy/20131007_trade.zip", "20131007_spy_minute_trade.csv", minutes)
    daily = (
        "20130705 00:00,1000000,1000000,1000000,1000000,10\n"
        "20130708 00:00,500000,500000,500000,500000,20\n"
    )
    write_zip(root / "daily/spy.zip", "spy.csv", daily)
    return root


def test_trades_keep_every_row_in_file_order(tmp_path: Path) -> None:
    found = columns(open_data(str(lean(tmp_path) / "tick/spy/20131007_trade.zip")))
    assert found["trade.price"] == [167.42, 167.42, 167.435]
    assert found["trade.size"] == [100.0, 100.0, 5.0]
    assert found["trade.ts"] == [START_NS, START_NS, START_NS + 1_000_000]
    assert [seq % 10**10 for seq in found["trade.seq"]] == [0, 1, 2]


def test_one_sided_quotes_become_full_ones(tmp_path: Path) -> None:
    found = columns(open_data(str(lean(tmp_path) / "tick/ibm/20131007_quote.zip")))
    assert found["quote.bid"] == [182.0, 182.0, 182.01]
    assert found["quote.bid_size"] == [100.0, 100.0, 200.0]
    assert found["quote.ask"] == [0.0, 182.02, 182.02]
    assert found["quote.ask_size"] == [0.0, 300.0, 300.0]


def test_bars_are_stamped_at_their_close(tmp_path: Path) -> None:
    root = lean(tmp_path)
    minute = columns(open_data(str(root / "minute/spy/20131007_trade.zip")))
    assert (minute["bar.start"], minute["bar.ts"]) == ([START_NS], [START_NS + 60 * SECOND_NS])
    daily = columns(open_data(str(root / "daily/spy.zip")))
    table = sessions("XNYS", "2013-07-05", "2013-07-08")
    assert daily["bar.ts"] == table.close_ns.tolist()
    assert daily["bar.start"] == table.open_ns.tolist()


def test_hourly_bars_are_told_from_daily_ones(tmp_path: Path) -> None:
    rows = "20131007 09:00,10000,10000,10000,10000,1\n20131007 10:00,10000,10000,10000,10000,1\n"
    data = open_data(str(write_zip(tmp_path / "hour/aa.zip", "aa.csv", rows)))
    assert data.intervals == {"1h"}
    assert columns(data)["bar.ts"][0] == START_NS + 1800 * SECOND_NS


def test_a_folder_gives_all_its_files_merged_and_symbols_choose(tmp_path: Path) -> None:
    root = lean(tmp_path)
    assert open_data(str(root)).total() == 9
    chosen = open_data(str(root), symbols=["IBM"])
    assert (chosen.total(), set(chosen.kinds)) == (3, {"quote"})
    with pytest.raises(NotFoundError, match="it has IBM, SPY"):
        open_data(str(root), symbols=["MSFT"])


def test_a_factor_file_gives_splits_and_dividends_at_the_next_open(tmp_path: Path) -> None:
    path = write(tmp_path / "spy.csv", FACTORS)
    first, split, dividend = read_factor_file(path, instrument_of("SPY"))
    table = sessions("XNYS", "2013-07-08", "2013-10-07")
    assert first.amount == Decimal("2.000000")
    assert first.ts_event_ns == table.open_ns[0]
    assert (split.kind, split.ratio) == (CorporateActionKind.SPLIT, Decimal(2))
    assert dividend.amount == Decimal("49.750000")
    assert split.ts_event_ns == dividend.ts_event_ns == table.open_ns[-1]


def test_a_reverse_split_by_three_is_exact(tmp_path: Path) -> None:
    rows = "20130104,1,3.0000003,1\n20130705,1,3.0000003,100\n20501231,1,1,0\n"
    (split,) = read_factor_file(write(tmp_path / "spy.csv", rows), instrument_of("SPY"))
    assert abs(split.ratio * 3 - 1) < Decimal("1e-20")


def test_a_split_explains_a_jump(tmp_path: Path) -> None:
    root = lean(tmp_path)
    jumping = open_data(str(root / "daily/spy.zip"))
    factors = "20130104,1,0.5,1\n20130705,1,0.5,100\n20501231,1,1,0\n"
    write(root / "factor_files/spy.csv", factors)
    explained = open_data(str(root / "daily/spy.zip"))
    reports = [getattr(data, "quality").jumps for data in (jumping, explained)]  # noqa: B009
    assert reports == [1, 0]
    assert [action.ratio for action in explained.actions()] == [2]


@pytest.mark.parametrize(
    ("line", "field"),
    [("x,1,1,1", "line"), ("20130705,0,1,1", "line"), ("20131399,1,1,1", "day"), ("1,2", "line")],
)
def test_a_bad_line_of_a_factor_file_is_refused(tmp_path: Path, line: str, field: str) -> None:
    with pytest.raises(DataError) as caught:
        read_factor_file(write(tmp_path / "spy.csv", line + "\n"), instrument_of("SPY"))
    assert caught.value.field == field


def test_corrupt_zips_are_refused(tmp_path: Path) -> None:
    path = lean(tmp_path) / "tick/spy/20131007_trade.zip"
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match=r"20131007_trade.zip is no whole zip"):
        open_data(str(path))
    data[60] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DataError, match="is no whole zip"):
        open_data(str(path))


def test_a_zip_with_another_layout_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "20131007_quote.zip", "20131007_spy_minute_quote.csv", "1,2\n")
    with pytest.raises(DataError, match="none of the LEAN files that can be read"):
        open_data(str(path))


def test_bad_rows_do_not_move_the_state_of_a_quote(tmp_path: Path) -> None:
    rows = (
        "1,10000,1,0,0,P,1,0\n2,x,1,0,0,P,1,0\n3,-5,1,0,0,P,1,0\n"
        "4,0,0,20000,1,P,1,0\n5,0,0,0,0,P,1,0\n"
    )
    path = write_zip(tmp_path / "20131007_quote.zip", "20131007_aa_Quote_Tick.csv", rows)
    found = columns(open_data(str(path)))
    assert found["quote.bid"] == [1.0, 1.0]
    assert found["quote.ask"] == [0.0, 2.0]
    assert [seq % 10**10 for seq in found["quote.seq"]] == [0, 3]
