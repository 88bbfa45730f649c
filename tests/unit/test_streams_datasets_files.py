"""Bad files and rows: one clear error or a line in the reject file, never silence."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import DataError, StorageError
from streams.datasets import open_data
from streams.datasets.csv_files import read_csv
from streams.datasets.ingest import Ingest
from streams.datasets.parquet_files import read_parquet
from streams.datasets.quality import QualityReport, RejectFile
from tests.unit.dataset_samples import columns, write

HEADER = "timestamp,symbol,price,size\n"
BARS = "timestamp,symbol,open,high,low,close,volume\n"


def ingested(tmp_path: Path, text: str) -> tuple[QualityReport, list[str]]:
    """Return the report and the lines of the reject file of a CSV text."""
    folder = tmp_path / "set"
    ingest = Ingest(folder, RejectFile(folder))
    read_csv(ingest, write(tmp_path / "t.csv", text))
    ingest.finish()
    rejects = folder / "rejects.csv"
    return ingest.quality, rejects.read_text().splitlines()[1:] if rejects.exists() else []


def test_bad_rows_are_rejected_with_line_reason_and_text(tmp_path: Path) -> None:
    text = HEADER + (
        "1381152600,SPY,167.42,100\n"
        "1381152601,SPY,nan,100\n"
        "1381152602,SPY,-1,100\n"
        "\n"
        "1381152603,SPY,0,100\n"
        "1381152604,SPY,167.42,-5\n"
        "yesterday,SPY,167.42,5\n"
        "1381152605,,167.42,5\n"
        "1381152606,SPY\n"
        "1381152607,SPY,167.42,2e15\n"
        f"1381152607,{'S' * 65},167.42,7\n"
        "1381152607,SPY,167.42,7\n"
    )
    quality, rejects = ingested(tmp_path, text)
    assert sorted(rejects, key=lambda line: int(line.split(",")[1])) == [
        't.csv,3,price is not a number,"1381152601,SPY,nan,100"',
        't.csv,4,price is not positive,"1381152602,SPY,-1,100"',
        't.csv,6,price is not positive,"1381152603,SPY,0,100"',
        't.csv,7,size is negative,"1381152604,SPY,167.42,-5"',
        't.csv,8,unreadable timestamp,"yesterday,SPY,167.42,5"',
        't.csv,9,no symbol,"1381152605,,167.42,5"',
        't.csv,10,2 fields instead of 4,"1381152606,SPY"',
        't.csv,11,size is too large,"1381152607,SPY,167.42,2e15"',
        f't.csv,12,the symbol has more than 64 characters,"1381152607,{"S" * 65},167.42,7"',
    ]
    assert (quality.rows_read, quality.rows_kept, quality.rows_rejected) == (11, 2, 9)


def test_rejected_rows_keep_their_ordinals(tmp_path: Path) -> None:
    text = HEADER + "1381152600,SPY,x,1\n1381152600,SPY,1,1\n"
    found = columns(open_data(str(write(tmp_path / "t.csv", text))))
    assert found["trade.seq"] == [20131007 * 10**10 + 1]


def test_ticks_running_backwards_stay_in_file_order_and_are_counted(tmp_path: Path) -> None:
    text = HEADER + "1381152605,SPY,1.1,1\n1381152600,SPY,1.2,1\n1381152606,SPY,1.3,1\n"
    quality, _ = ingested(tmp_path, text)
    found = columns(open_data(str(tmp_path / "t.csv")), 1)
    assert quality.out_of_order == 1
    assert found["trade.price"] == [1.1, 1.2, 1.3]
    assert [clock // 10**9 - 1381152600 for clock in found["clock"]] == [5, 5, 6]


def test_bars_running_backwards_are_refused_with_their_line(tmp_path: Path) -> None:
    text = BARS + "1381152660,SPY,1,1,1,1,1\n1381152720,SPY,1,1,1,1,1\n1381152600,SPY,1,1,1,1,1\n"
    with pytest.raises(DataError, match=r"t.csv, line 4: the time of a bar of SPY runs backwards"):
        ingested(tmp_path, text)


def test_a_second_bar_of_one_instant_and_an_open_bar_are_rejected(tmp_path: Path) -> None:
    text = BARS + (
        "1381152660,SPY,1,1,1,1,1\n1381152720,SPY,1,1,1,1,1\n"
        "1381152720,SPY,1,1,1,1,1\n1381152780,SPY,3,2,1,1,1\n"
    )
    quality, rejects = ingested(tmp_path, text)
    assert (quality.rows_kept, quality.rows_rejected, quality.duplicates) == (2, 2, 1)
    assert [line.split(",")[2] for line in rejects] == [
        "a second bar of one instant",
        "high and low do not enclose open and close",
    ]


def test_noteworthy_rows_are_kept_and_counted(tmp_path: Path) -> None:
    text = HEADER + (
        "1381152600,SPY,100.00005,1\n1381152600,SPY,100.00005,1\n"
        "1381153300,SPY,150,1\n1381239600,SPY,150,1\n"
    )
    quality, _ = ingested(tmp_path, text)
    assert (quality.rows_kept, quality.duplicates, quality.gaps) == (4, 1, 1)
    assert quality.longest_gap_ns == 700 * 10**9
    assert (quality.jumps, quality.off_grid) == (1, 2)
    quotes = "ts,symbol,bid,ask,bid_size,ask_size\n1,SPY,2,1,1,1\n2,SPY,1,1,1,1\n3,SPY,0,1,0,1\n"
    quality, _ = ingested(tmp_path / "q", quotes)
    assert (quality.crossed_quotes, quality.locked_quotes, quality.rows_kept) == (1, 1, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty or has no header"),
        (HEADER, "has no usable row"),
        ("timestamp,symbol,price\n1,SPY,2\n", "no column size, which trades need"),
        ("symbol,price,size\nSPY,1,2\n", "no column timestamp"),
        ("timestamp,price,size\n1,1,2\n", "has no column symbol"),
        ("a,b\n1,2\n", "neither trades, quotes nor bars"),
        ("timestamp,symbol,price,size,Price\n1,SPY,1,1,1\n", "two columns of one name"),
        (
            "timestamp,symbol,price,size,seq\n1,SPY,1,1,1\n",
            "only one of the columns source and seq",
        ),
        (HEADER + "2013-10-07T09:30:00,SPY,1,1\n", "it has no offset.*append Z"),
        (HEADER + "noon,SPY,1,1\n", "timestamp cannot be read.*'noon'"),
        (
            HEADER + "1,SPY,x,1\n",
            r"no usable row.*1 of 1 rows were bad \(t.csv, line 2: price",
        ),
        (HEADER + "1,SPY,1e300,1\n", "price scale"),
        (HEADER + "1,SPY,1674200,1\n", "t.csv: a price of SPY is far too high.*1/10,000"),
        (BARS + "1,SPY,1,1,1,1,1\n", "interval of the bars cannot be told"),
    ],
)
def test_an_unusable_file_is_refused_with_what_is_wrong(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        ingested(tmp_path, text)
    assert caught.value.field
    assert caught.value.remedy


def test_timestamps_of_another_unit_than_the_first_are_rejected(tmp_path: Path) -> None:
    text = HEADER + "1381152600,SPY,1,1\n1381152600000,SPY,1,1\n"
    quality, rejects = ingested(tmp_path, text)
    assert quality.rows_kept == 1
    assert "unreadable timestamp" in rejects[0]


@pytest.mark.parametrize("factor", [1, 1000, 10**6, 10**9])
def test_the_unit_of_integer_timestamps_follows_from_their_magnitude(
    tmp_path: Path, factor: int
) -> None:
    text = HEADER + f"{1381152600 * factor},SPY,1,1\n"
    data = open_data(str(write(tmp_path / "t.csv", text)))
    assert data.range()[0] == 1381152600 * 10**9


def test_impossible_instants_cost_their_row_only(tmp_path: Path) -> None:
    text = HEADER + (
        "2013-10-07T13:30:00Z,SPY,1,1\n2013-13-07T13:30:00Z,SPY,1,1\n"
        "2013-10-07t09:30:00.25-04:00,SPY,1,1\n"
    )
    quality, rejects = ingested(tmp_path, text)
    assert quality.rows_kept == 2
    assert rejects[0].startswith("t.csv,3,unreadable timestamp")


def test_integers_with_a_plus_sign_cost_their_row_only(tmp_path: Path) -> None:
    header = HEADER.replace("\n", ",source,seq\n")
    quality, rejects = ingested(
        tmp_path,
        header + "1381152600,SPY,+1,1,x,1\n+1381152601,SPY,1,1,x,2\n1381152602,SPY,1,1,x,+3\n",
    )
    assert quality.rows_kept == 1
    assert [line.split(",")[1:3] for line in rejects] == [
        ["3", "unreadable timestamp"],
        ["4", "seq is not an integer"],
    ]


def test_a_day_without_session_is_rejected(tmp_path: Path) -> None:
    text = (
        "date,symbol,open,high,low,close,volume\n2013-10-05,SPY,1,1,1,1,1\n"
        "2013-10-07,SPY,1,1,1,1,1\n"
    )
    quality, rejects = ingested(tmp_path, text)
    assert quality.rows_kept == 1
    assert "20131005 is no session of the calendar of SPY" in rejects[0]


def test_text_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "t.parquet", "hello")
    with pytest.raises(DataError, match=r"t.parquet cannot be read as Parquet"):
        read_parquet(Ingest(tmp_path, RejectFile(tmp_path)), path)


def test_a_file_of_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"name it \.csv, \.parquet or \.zip"):
        open_data(str(write(tmp_path / "t.xlsx", "hello")))


def test_a_folder_that_cannot_be_written_gives_a_storage_error(tmp_path: Path) -> None:
    blocked = write(tmp_path / "file", "")
    ingest = Ingest(blocked / "set", RejectFile(blocked / "set"))
    read_csv(ingest, write(tmp_path / "t.csv", HEADER + "1,SPY,1,1\n"))
    with pytest.raises(StorageError, match="check free space"):
        ingest.finish()


def test_a_missing_interval_is_answered_with_those_there_are() -> None:
    with pytest.raises(DataError, match="it has 1d"):
        open_data("daily", interval="1m")


def test_rows_written_out_in_pieces_make_the_same_set(tmp_path: Path) -> None:
    """Many more rows than may wait, in several blocks of the reader, on two days of two symbols."""
    days = ("2013-10-07T13:30", "2013-10-08T13:30")
    rows = [
        f"{days[i % 2]}:00Z,{'SPY' if i % 3 else 'IBM'},{100 + i % 7},1\n" for i in range(300_000)
    ]
    path = write(tmp_path / "t.csv", HEADER + "".join(rows))
    ingest = Ingest(tmp_path / "set", RejectFile(tmp_path / "set"), waiting_rows_max=50_000)
    read_csv(ingest, path)
    ingest.finish()
    pieced = open_data(str(tmp_path / "set"))
    assert pieced.inputs() == open_data(str(path)).inputs()
    assert not list((tmp_path / "set").glob("piece-*"))


@pytest.mark.parametrize("interval", ["5m", "1h", "1d"])
def test_interval_longer_than_the_step_between_bars_is_refused(
    tmp_path: Path, interval: str
) -> None:
    rows = "".join(f"2013-10-07T14:{minute:02}:00Z,SPY,1,1,1,1,5\n" for minute in range(10))
    path = str(write(tmp_path / "t.csv", BARS + rows))

    with pytest.raises(DataError, match="bars 60 s apart cannot be of this interval"):
        open_data(path, interval=interval)
    # Shorter ones than the step leave gaps: bars in which nothing traded may be left out.
    assert open_data(path, interval="1s").total() == open_data(path, interval="1m").total() == 10


def test_a_bar_with_a_price_far_from_its_neighbours_is_told(tmp_path: Path) -> None:
    text = (
        "date,symbol,open,high,low,close,volume\n"
        "2002-12-19,IBM,79.8,80.2,79.1,79.9,1\n2002-12-20,IBM,80,80.7,79.4,79.8,1\n"
        "2002-12-23,IBM,159.58,159.58,79.44,80.46,1\n2002-12-24,IBM,80.2,80.4,45,79.6,1\n"
        # The price moves and stays: a jump, which is told as such.
        "2002-12-26,IBM,120,121,119,120,1\n2002-12-27,IBM,120,121,119,120,1\n"
    )
    quality, _ = ingested(tmp_path, text)
    assert (quality.rows_kept, quality.spikes, quality.jumps) == (6, 2, 1)
    (told,) = [warning for warning in quality.warnings() if "high or low" in warning]
    first = "IBM.XNYS 2002-12-23T21:00:00Z, 159.58 beside closes of 79.8 and 80.46"
    assert told.startswith("2 bars")
    assert first in told
    # A split halves the price: nothing about that day is far from its own close.
    halved = text.splitlines()[0] + "\n2002-12-19,IBM,80,81,79,80,1\n2002-12-20,IBM,40,41,39,40,1\n"
    assert ingested(tmp_path / "split", halved)[0].spikes == 0
