"""Which interval the bars of a file have, and what is told of those that stand further apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from infra.data import open_whole
from schemas.errors import DataError
from streams.datasets import open_data
from streams.datasets.spacing import Spacing, length_text
from streams.importing import import_files
from tests.unit.dataset_samples import START_NS, write

BARS = "timestamp,symbol,open,high,low,close,volume\n"
MINUTE = 60
HOUR = 3600


def bars(symbol: str, seconds: Iterable[int]) -> list[str]:
    """Return bars of a symbol that stand so many seconds after the open of 2013-10-07."""
    return [f"{START_NS // 10**9 + second},{symbol},10,11,9,10,5\n" for second in seconds]


def minutes_then_quarters() -> list[str]:
    """Return half an hour of minutes and then an hour and a half of quarters of one symbol."""
    quarters = range(30 * MINUTE, 120 * MINUTE, 15 * MINUTE)
    return bars("IBM", range(0, 30 * MINUTE, MINUTE)) + bars("IBM", quarters)


@pytest.mark.parametrize(("ibm", "spy"), [(30, 8), (30, 100), (300, 4)])
@pytest.mark.parametrize("is_backward", [False, True])
def test_symbols_of_different_intervals_in_one_file_are_refused(
    tmp_path: Path, ibm: int, spy: int, is_backward: bool
) -> None:
    rows = bars("IBM", range(0, ibm * MINUTE, MINUTE))
    rows += bars("SPY", range(0, spy * 5 * MINUTE, 5 * MINUTE))
    path = write(tmp_path / "mixed.csv", BARS + "".join(rows[::-1] if is_backward else rows))

    with pytest.raises(DataError, match=r"mixed.csv: bars of .* apart in a file of") as caught:
        import_files("csv", path, tmp_path / "set", is_bar_start=True)
    with pytest.raises(DataError):
        open_data(str(path))

    assert caught.value.field == "interval"
    assert "split the file by interval" in caught.value.remedy
    # An interval that is asked for may leave out bars, but not let them overlap.
    with pytest.raises(DataError, match=r"do not overlap|cannot be of this interval"):
        open_data(str(path), interval="5m")
    told = import_files("csv", path, tmp_path / "set", interval="1m", is_bar_start=True).quality
    assert told.first_uneven == "bars of SPY stand 5m apart in a file of 1m bars"


def test_a_symbol_of_another_interval_is_found_long_after_the_beginning(tmp_path: Path) -> None:
    rows = bars("IBM", range(0, 90_000 * MINUTE, MINUTE)) + bars("SPY", range(0, 10 * HOUR, HOUR))
    path = write(tmp_path / "t.csv", BARS + "".join(rows))

    with pytest.raises(DataError, match="bars of SPY stand 1h apart in a file of 1m bars"):
        open_data(str(path))


def test_an_interval_that_is_asked_for_and_shorter_than_the_step_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path / "t.csv", BARS + "".join(bars("SPY", range(0, 6 * HOUR, HOUR))))

    told = import_files("csv", path, tmp_path / "set", interval="1m", is_bar_start=True).quality
    open_whole(str(path), interval="1m")

    assert "SPY stand 1h apart in a file of 1m bars" in " ".join(told.warnings())
    assert "SPY stand 1h apart in a file of 1m bars" in caplog.text


def test_bars_that_change_to_a_longer_interval_are_told(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", BARS + "".join(minutes_then_quarters()))

    told = import_files("csv", path, tmp_path / "set", is_bar_start=True).quality

    assert told.first_uneven == "6 bars of IBM stand 15m apart in a file of 1m bars"


def test_weeks_are_no_days(tmp_path: Path) -> None:
    days = (7, 14, 21, 28)
    rows = "".join(f"2013-10-{day:02},IBM,10,11,9,10,5\n" for day in days)
    path = write(tmp_path / "t.csv", BARS + rows)

    with pytest.raises(DataError, match="bars of IBM stand 7d apart in a file of 1d bars"):
        open_data(str(path))


def days(dates: pd.DatetimeIndex) -> str:
    """Return bars of XYZ on these days."""
    return BARS + "".join(f"{day:%Y-%m-%d},XYZ,10,11,9,10,5\n" for day in dates)


@pytest.mark.parametrize(
    ("frequency", "count", "length"),
    [
        ("MS", 36, "about 31d"),
        ("ME", 13, "about 31d"),
        ("MS", 12, "31d"),
        ("BME", 13, "about 30d"),
        ("BMS", 13, "about 30d"),
        ("QE", 13, "about 91d"),
        ("W-FRI", 60, "7d"),
        ("W-FRI", 4, "7d"),
        ("YS", 8, "365d"),
    ],
)
@pytest.mark.parametrize("is_backward", [False, True])
def test_bars_of_more_than_a_day_are_no_days(
    tmp_path: Path, frequency: str, count: int, length: str, is_backward: bool
) -> None:
    dates = pd.date_range("2010-01-01", periods=count, freq=frequency)
    path = write(tmp_path / "t.csv", days(dates[::-1] if is_backward else dates))

    for run in (open_data, lambda p: import_files("csv", Path(p), tmp_path / "set")):
        with pytest.raises(DataError, match=f"bars of XYZ stand {length} apart") as caught:
            run(str(path))
        assert (caught.value.field, caught.value.value) == ("interval", "1d")
        assert caught.value.remedy.startswith("bars of more than a day cannot be used")
        assert caught.value.remedy.endswith("--interval 1d")

    told = import_files("csv", path, tmp_path / "set", interval="1d").quality
    assert told.first_uneven == f"bars of XYZ stand {length} apart in a file of 1d bars"


def test_weeks_with_a_holiday_now_and_then_are_no_days(tmp_path: Path) -> None:
    dates = pd.date_range("2010-01-01", periods=60, freq="W-FRI").to_series()
    dates.iloc[::7] -= pd.Timedelta(days=1)
    path = write(tmp_path / "t.csv", days(pd.DatetimeIndex(dates)))

    with pytest.raises(DataError, match="bars of XYZ stand about 7d apart in a file of 1d bars"):
        open_data(str(path))


def test_instants_a_month_apart_are_refused_with_a_remedy(tmp_path: Path) -> None:
    dates = pd.date_range("2010-01-01", periods=24, freq="BME")
    rows = "".join(f"{day:%Y-%m-%d}T21:00:00Z,XYZ,10,11,9,10,5\n" for day in dates)

    with pytest.raises(DataError, match="cannot be told from their spacing") as caught:
        open_data(str(write(tmp_path / "t.csv", BARS + rows)))

    assert caught.value.remedy.startswith("bars of more than a day cannot be used")


@pytest.mark.parametrize(("frequency", "count"), [("BMS", 5), ("BME", 12), ("QE", 4)])
def test_few_bars_that_may_be_of_more_than_a_day_are_told(
    tmp_path: Path, frequency: str, count: int
) -> None:
    dates = pd.date_range("2010-01-01", periods=count, freq=frequency)
    path = write(tmp_path / "t.csv", days(dates))

    told = import_files("csv", path, tmp_path / "set").quality

    assert told.first_uneven.startswith("bars of XYZ stand about ")


@pytest.mark.parametrize("seed", range(5))
def test_shares_with_a_few_bars_on_any_days_are_daily_beside_a_dense_one(
    tmp_path: Path, seed: int
) -> None:
    random = np.random.default_rng(seed)
    business = pd.bdate_range("2020-01-01", periods=int(random.integers(40, 600)))
    rows = [f"{day:%Y-%m-%d},DENSE,10,11,9,10,5\n" for day in business]
    for name in range(100):
        some = random.choice(len(business), int(random.integers(4, 30)), replace=False)
        rows += [f"{day:%Y-%m-%d},T{name},10,11,9,10,5\n" for day in business[np.sort(some)]]
    path = write(tmp_path / "t.csv", BARS + "".join(sorted(rows)))

    assert open_data(str(path)).intervals == {"1d"}


@pytest.mark.parametrize(("weeks", "is_refused"), [(4, False), (12, False), (13, True)])
def test_weeks_beside_daily_bars_are_refused_if_they_are_no_chance(
    tmp_path: Path, weeks: int, is_refused: bool
) -> None:
    text = days(pd.bdate_range("2010-01-01", periods=60)).replace("XYZ", "DAILY")
    weekly = pd.date_range("2010-01-01", periods=weeks, freq="W-FRI")
    path = write(tmp_path / "t.csv", text + days(weekly).removeprefix(BARS))

    if is_refused:
        with pytest.raises(DataError, match="bars of XYZ stand 7d apart in a file of 1d bars"):
            open_data(str(path))
        return
    told = import_files("csv", path, tmp_path / "set").quality
    assert told.first_uneven == "bars of XYZ stand 7d apart in a file of 1d bars"


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2, 0.5])
@pytest.mark.parametrize("seed", range(5))
def test_share_that_trades_once_in_a_while_has_daily_bars(
    tmp_path: Path, share: float, seed: int
) -> None:
    business = pd.bdate_range("2010-01-01", periods=1500)
    is_traded = np.random.default_rng(seed).random(len(business)) < share
    path = write(tmp_path / "t.csv", days(business[is_traded]))

    assert open_data(str(path)).intervals == {"1d"}


def test_gap_of_daily_bars_is_no_interval_but_months_before_days_are_told(tmp_path: Path) -> None:
    business = pd.bdate_range("2010-01-01", periods=400)
    gapped = write(tmp_path / "gap.csv", days(business.delete(slice(100, 250))))
    months = pd.date_range("2005-01-01", periods=48, freq="BMS")
    mixed = write(tmp_path / "mixed.csv", days(months.append(business)))

    plain = import_files("csv", gapped, tmp_path / "a").quality
    told = import_files("csv", mixed, tmp_path / "b").quality

    assert plain.first_uneven == ""
    assert told.first_uneven == "49 bars of XYZ stand over 4d apart in a file of 1d bars"


def test_thin_trading_daily_bars_and_nights_are_nothing_odd(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    thin = np.unique(random.integers(0, 20_000, 16_000)) * MINUTE
    hours = [day * 24 * HOUR + hour * HOUR for day in range(4) for hour in range(7)]
    days = [f"2013-{day},IBM,10,11,9,10,5\n" for day in ("11-27", "11-29", "12-02", "12-03")]
    files = {"thin": bars("SPY", thin.tolist()), "hours": bars("SPY", hours), "days": days}

    for name, rows in files.items():
        path = write(tmp_path / f"{name}.csv", BARS + "".join(rows))
        told = import_files("csv", path, tmp_path / name).quality
        assert (told.uneven, told.first_uneven) == (0, "")


def test_bars_that_are_missing_more_often_than_not_are_told(tmp_path: Path) -> None:
    minutes = (0, 1, 3, 4, 7, 9, 14, 16, 17, 20, 22, 30)
    path = write(tmp_path / "t.csv", BARS + "".join(bars("SPY", (60 * m for m in minutes))))

    told = import_files("csv", path, tmp_path / "set", interval="1m").quality

    assert told.first_uneven == "most bars of SPY stand over 1m apart in a file of 1m bars"


@pytest.mark.parametrize("old", [3, 200])
def test_a_short_last_block_of_a_file_newest_first_settles_nothing(
    tmp_path: Path, old: int
) -> None:
    # Parquet comes in blocks of 65,536 rows: the last one of the file newest first holds nothing
    # but the oldest bars, which stand an hour apart.
    rows = bars("BTC", [*range(-old * HOUR, 0, HOUR), *range(0, 65_536 * MINUTE, MINUTE)])
    for name, ordered in (("forth", rows), ("back", rows[::-1])):
        table = pcsv.read_csv(write(tmp_path / f"{name}.csv", BARS + "".join(ordered)))
        pq.write_table(table, tmp_path / f"{name}.parquet")

    a = import_files("parquet", tmp_path / "forth.parquet", tmp_path / "a", is_bar_start=True)
    b = import_files("parquet", tmp_path / "back.parquet", tmp_path / "b", is_bar_start=True)

    assert open_data(str(tmp_path / "b")).intervals == {"1m"}
    # The index has the hash of every part's content.
    assert (tmp_path / "a/dataset.json").read_bytes() == (tmp_path / "b/dataset.json").read_bytes()
    assert a.quality.warnings() == b.quality.warnings()
    assert bool(a.quality.uneven) is (old == 200)


def test_steps_are_counted_alike_however_rows_come_in_blocks() -> None:
    times = np.cumsum([60] * 20 + [300] * 5 + [60] * 20 + [900] * 4, dtype=np.int64) * 10**9
    told = set()
    for size in (1, 2, 3, 7, len(times)):
        spacing = Spacing("1m")
        for first in range(0, len(times), size):
            spacing.add(times[first : first + size])
        told.add(spacing.oddity("t.csv", "SPY", is_asked=False))

    assert told == {"6 bars of SPY stand 5m apart in a file of 1m bars"}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "90s"), (1800, "30m"), (14_400, "4h"), (604_800, "7d"), (0.5, "0.5s")],
)
def test_a_length_is_written_like_an_interval(seconds: float, text: str) -> None:
    assert length_text(int(seconds * 10**9)) == text
