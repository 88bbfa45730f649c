"""Bars that are stamped by their start: they end with their session, and no sooner than trading."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from schemas.columns import Ints
from schemas.instruments import Instrument
from streams.datasets import open_data
from streams.datasets.session_ends import ends_of_bars, ends_of_days
from streams.importing import import_files
from tests.unit.dataset_samples import columns, write

HOUR_NS = 3_600_000_000_000
BARS = "timestamp,symbol,open,high,low,close,volume\n"


def instrument(calendar: str) -> Instrument:
    """Return an instrument that trades in the sessions of ``calendar``."""
    return Instrument(
        ts_event_ns=0, instrument_id="A.XXXX", symbol="A", venue="XXXX", calendar=calendar
    )


def instants(*texts: str) -> Ints:
    """Return UTC times without their Z as ns."""
    return np.array(texts, "datetime64[ns]").astype(np.int64)


def ends_by_start(folder: Path, symbol: str, *starts: str) -> list[str]:
    """Return the ends of imported bars that are stamped by these starts."""
    text = BARS + "".join(f"{start}Z,{symbol},1,1,1,1,5\n" for start in starts)
    source = write(folder / "bars.csv", text)
    import_files("csv", source, folder / "set", is_bar_start=True)
    times = np.array(columns(open_data(str(folder / "set")))["bar.ts"], np.int64)
    return [str(time) for time in times.astype("datetime64[ns]").astype("datetime64[s]")]


def test_a_daily_bar_stamped_at_its_open_ends_as_its_session_closes(tmp_path: Path) -> None:
    ends = ends_by_start(
        tmp_path, "SPY",
        # A Monday before trading begins, two days at the open, of which 3 July is a half one,
        # and a stamp within the session.
        "2024-07-01T08:00", "2024-07-02T13:30", "2024-07-03T13:30", "2024-07-05T14:30",
        "2024-07-08T14:30", "2024-07-09T14:30",
    )  # fmt: skip

    assert ends == [
        "2024-07-01T20:00:00",
        "2024-07-02T20:00:00",
        "2024-07-03T17:00:00",
        "2024-07-05T20:00:00",
        "2024-07-08T20:00:00",
        "2024-07-09T20:00:00",
    ]


def test_a_daily_bar_of_no_session_is_rejected_with_the_reason(tmp_path: Path) -> None:
    days = ("2024-07-01", "2024-07-02", "2024-07-03", "2024-07-06")
    text = BARS + "".join(f"{day}T13:30:00Z,SPY,1,1,1,1,5\n" for day in days)

    report = import_files(
        "csv", write(tmp_path / "bars.csv", text), tmp_path / "set", is_bar_start=True
    )

    reason = "line 5: no session of the calendar of SPY opens within a day of the start"
    assert report.quality.first_reject == f"bars.csv, {reason}"
    assert report.quality.rows_kept == 3


def test_a_daily_bar_without_a_calendar_lasts_a_day(tmp_path: Path) -> None:
    timed = ends_by_start(tmp_path / "a", "ABC", "2024-07-02T13:30", "2024-07-03T13:30")
    days = ends_by_start(tmp_path / "b", "ABC", "2024-07-02T00:00", "2024-07-03T00:00")

    assert timed == ["2024-07-03T13:30:00", "2024-07-04T13:30:00"]
    # A microsecond before midnight, which is of the next day.
    assert days == ["2024-07-02T23:59:59", "2024-07-03T23:59:59"]


@pytest.mark.parametrize(
    ("start", "end"),
    [
        ("2024-07-02T14:30", "2024-07-02T15:30"),
        ("2024-07-02T19:30", "2024-07-02T20:00"),
        # The half day before Independence Day.
        ("2024-07-03T16:30", "2024-07-03T17:00"),
        # Before and after the session: other trading, of which the calendar knows nothing.
        ("2024-07-02T13:00", "2024-07-02T14:00"),
        ("2024-07-02T20:00", "2024-07-02T21:00"),
        ("2024-07-06T19:30", "2024-07-06T20:30"),
    ],
)
def test_an_hourly_bar_ends_no_later_than_the_session_in_which_it_begins(
    tmp_path: Path, start: str, end: str
) -> None:
    text = BARS + f"{start}:00Z,SPY,1,1,1,1,5\n"
    source = write(tmp_path / "bars.csv", text)
    import_files("csv", source, tmp_path / "set", interval="1h", is_bar_start=True)

    (found,) = columns(open_data(str(tmp_path / "set")))["bar.ts"]

    assert str(np.datetime64(found, "ns").astype("datetime64[m]")) == end


@pytest.mark.parametrize("calendar", ["24/7", "CMES"])
def test_bars_that_reach_into_a_session_that_opens_at_once_keep_their_length(
    calendar: str,
) -> None:
    # CMES opens at 23:00 UTC, as the day before closes; 24/7 at midnight.
    starts = instants("2024-01-03T22:30", "2024-01-03T23:30")

    assert (ends_of_bars(instrument(calendar), starts, HOUR_NS) - starts == HOUR_NS).all()
    ends, is_session = ends_of_days(instrument(calendar), starts)
    assert (ends - starts == 24 * HOUR_NS).all()
    assert is_session.all()


def test_bars_end_where_trading_around_the_clock_stops_for_the_week() -> None:
    friday = instants("2024-01-05T23:30")

    assert ends_of_bars(instrument("24/5"), friday, HOUR_NS) == instants("2024-01-06T00:00")
    ends, _ = ends_of_days(instrument("24/5"), friday)
    assert ends == instants("2024-01-06T00:00")


def test_bars_that_end_with_their_session_are_told_where_the_file_goes_on_after_it(
    tmp_path: Path,
) -> None:
    starts = ("18:30", "19:30", "20:30", "21:30")
    rows = "".join(f"2024-07-02T{start}:00Z,SPY,1,1,1,1,5\n" for start in starts)
    ends = "".join(
        f"2024-07-02T{start}:00Z,2024-07-02T{int(start[:2]) + 1}:30:00Z,SPY,1,1,1,1,5\n"
        for start in starts
    )
    cut = write(tmp_path / "cut.csv", BARS + rows)
    given = write(tmp_path / "given.csv", BARS.replace("timestamp", "start,timestamp") + ends)

    told = import_files("csv", cut, tmp_path / "a", is_bar_start=True).quality
    whole = import_files("csv", given, tmp_path / "b").quality

    assert told.bars_cut == 1
    assert "give their ends as `timestamp`" in " ".join(told.warnings())
    assert (whole.bars_cut, whole.warnings()) == (0, [])
    assert columns(open_data(str(tmp_path / "b")))["bar.ts"][1] % (24 * HOUR_NS) == 20.5 * HOUR_NS


def given(folder: Path, symbol: str, *times: tuple[str, str]) -> tuple[list[str], list[str]]:
    """Return the open instants, and the reasons of the rejected, of bars with start and end."""
    header = BARS.replace("timestamp", "start,timestamp")
    text = header + "".join(f"{start},{end},{symbol},1,1,1,1,5\n" for start, end in times)
    report = import_files("csv", write(folder / "given.csv", text), folder / "set").quality
    starts = np.array(columns(open_data(str(folder / "set")))["bar.start"], np.int64)
    rejects = Path(report.reject_file).read_text().splitlines()[1:] if report.reject_file else []
    opens = [str(time)[:16] for time in starts.astype("datetime64[ns]")]
    return opens, [reason for _, _, reason, _ in csv.reader(rejects)]


def test_a_start_that_is_not_before_its_end_is_rejected(tmp_path: Path) -> None:
    # Where the end says no more than its day, both are those of the session.
    starts, reasons = given(
        tmp_path, "SPY",
        ("2024-07-01T13:30:00Z", "2024-07-01T20:00:00Z"),
        ("2024-07-02T20:00:00Z", "2024-07-02T20:00:00Z"),
        ("2024-07-03T21:00:00Z", "2024-07-03T17:00:00Z"),
        ("noon", "2024-07-05T20:00:00Z"),
        ("2024-07-08T13:30:00Z", "2024-07-08"),
        ("2024-07-09", "2024-07-09"),
    )  # fmt: skip

    assert starts == ["2024-07-01T13:30", "2024-07-08T13:30", "2024-07-09T13:30"]
    assert reasons == ["the start is not before the end"] * 2 + ["unreadable start"]


@pytest.mark.parametrize(
    ("symbol", "opens"), [("SPY", "2024-07-01T13:30"), ("ABC", "2024-07-01T00:00")]
)
@pytest.mark.parametrize("is_backward", [False, True])
def test_a_start_of_a_plain_day_is_the_open_of_its_session(
    tmp_path: Path, symbol: str, opens: str, is_backward: bool
) -> None:
    days = [("2024-07-01", "2024-07-01T20:00:00Z"), ("2024-07-02", "2024-07-02T20:00:00Z")]

    starts, reasons = given(tmp_path, symbol, *(days[::-1] if is_backward else days))

    assert (starts, reasons) == ([opens, opens.replace("01T", "02T")], [])


def test_a_start_of_a_day_without_session_or_of_an_intraday_bar_is_rejected(
    tmp_path: Path,
) -> None:
    _, daily = given(
        tmp_path / "d", "SPY",
        ("2024-07-03", "2024-07-03T17:00:00Z"), ("2024-07-04", "2024-07-05T20:00:00Z"),
        ("2024-07-09", "2024-07-08T20:00:00Z"), ("2024-07-09", "2024-07-09T20:00:00Z"),
    )  # fmt: skip
    _, hourly = given(
        tmp_path / "h", "SPY",
        ("2024-07-02T14:30:00Z", "2024-07-02T15:30:00Z"), ("2024-07-02", "2024-07-02T16:30:00Z"),
    )  # fmt: skip

    assert daily == [
        "the start, 20240704, is no session of the calendar of SPY",
        "the start is not before the end",
    ]
    assert hourly == ["the start is a day without a time"]
