"""Imports: whole or not at all, and each row once."""

from __future__ import annotations

from pathlib import Path

import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from infra.cli import app
from infra.data import open_whole
from schemas.errors import ConfigError, ConflictError, DataError, NotFoundError, StorageError
from streams.datasets import open_data
from streams.importing import SourceKind, import_files
from streams.journal.locking import FolderLock
from tests.unit.dataset_samples import QUOTES, TRADES, columns, write

BARS = "timestamp,symbol,open,high,low,close,volume\n"


def minute_bars(first: int, until: int) -> str:
    """Return bars of a day stamped by these minutes of it; the session is 13:30 to 20:00."""
    return "".join(
        f"2013-10-07T{minute // 60}:{minute % 60:02}:00Z,SPY,1,1,1,1,5\n"
        for minute in range(first, until)
    )


def snapshot(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder by name."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_an_import_keeps_every_row_and_a_second_one_adds_nothing(tmp_path: Path) -> None:
    source, into = write(tmp_path / "t.csv", TRADES + "x,SPY,1,1\n"), tmp_path / "set"
    seen: list[tuple[str, int]] = []
    first = import_files("csv", source, into, on_progress=lambda *done: seen.append(done))
    before = snapshot(into)
    second = import_files("csv", source, into)
    assert (first.rows_added, first.rows_present, first.quality.rows_rejected) == (7, 0, 1)
    assert (second.rows_added, second.rows_present, second.parts_added) == (0, 7, 0)
    assert snapshot(into) == before
    assert seen == [("t.csv", 8)]
    assert columns(open_data(str(into))) == columns(open_data(str(source)))
    assert Path(first.quality.reject_file).read_text().count("\n") == 2


def test_new_days_join_those_that_are_there(tmp_path: Path) -> None:
    into = tmp_path / "set"
    rows = [f"2013-10-{day:02},SPY,{day},{day},{day},{day},1\n" for day in (7, 8, 9, 10)]
    whole = open_data(str(write(tmp_path / "all.csv", BARS + "".join(rows))))
    import_files("csv", write(tmp_path / "b.csv", BARS + rows[1] + rows[2]), into)
    report = import_files("csv", write(tmp_path / "a.csv", BARS + "".join(rows)), into)
    assert (report.rows_added, report.rows_present) == (2, 2)
    assert columns(open_data(str(into))) == columns(whole)
    assert open_data(str(into)).inputs() == whole.inputs()
    assert len(list(into.glob("*/*.parquet"))) == 1
    again = import_files("csv", tmp_path / "b.csv", into)
    assert (again.rows_added, again.rows_present) == (0, 2)


def test_another_content_of_a_day_is_a_conflict_and_changes_nothing(tmp_path: Path) -> None:
    into = tmp_path / "set"
    import_files("csv", write(tmp_path / "t.csv", TRADES), into)
    before = snapshot(into)
    other = write(tmp_path / "u.csv", TRADES.replace("167.43", "167.44"))
    with pytest.raises(ConflictError, match=r"other trades of SPY.ARCX.*20131007"):
        import_files("csv", other, into)
    assert snapshot(into) == before


def test_kinds_and_symbols_of_several_imports_stand_together(tmp_path: Path) -> None:
    into = tmp_path / "set"
    import_files("csv", write(tmp_path / "in" / "t.csv", TRADES), into)
    import_files("csv", write(tmp_path / "q.csv", QUOTES), into)
    data = open_data(str(into))
    assert data.kinds == {"trade", "quote"}
    assert data.total() == 10
    assert open_data(str(into), symbols=["SPY"]).total() == 5


def test_a_folder_of_files_is_imported_as_one(tmp_path: Path) -> None:
    write(tmp_path / "in" / "a.csv", TRADES)
    write(tmp_path / "in" / "b.csv", QUOTES)
    assert import_files("csv", tmp_path / "in", tmp_path / "set").rows_added == 10
    with pytest.raises(NotFoundError, match="no files of this kind"):
        import_files("parquet", tmp_path / "in", tmp_path / "set")


def test_a_failed_import_leaves_the_old_state(tmp_path: Path) -> None:
    into = tmp_path / "set"
    import_files("csv", write(tmp_path / "t.csv", TRADES), into)
    before = snapshot(into)
    with pytest.raises(DataError):
        import_files("csv", write(tmp_path / "bad.csv", "timestamp,symbol,price\n"), into)
    assert snapshot(into) == before


def test_what_a_crash_left_behind_is_swept_up(tmp_path: Path) -> None:
    source, into = write(tmp_path / "t.csv", TRADES), tmp_path / "set"
    import_files("csv", source, into)
    before = snapshot(into)
    write(into / ".import-x" / "SPY.ARCX" / "trades.parquet", "half")
    write(into / "SPY.ARCX" / "trades-20131009.parquet", "moved, not indexed")
    assert open_data(str(into)).total() == 7
    import_files("csv", source, into)
    assert snapshot(into) == before


def test_two_imports_into_one_folder_do_not_mix(tmp_path: Path) -> None:
    source, into = write(tmp_path / "t.csv", TRADES), tmp_path / "set"
    into.mkdir()
    lock = FolderLock(into)
    with pytest.raises(StorageError):
        import_files("csv", source, into)
    lock.release()
    assert import_files("csv", source, into).rows_added == 7


def test_a_target_that_is_a_file_is_a_storage_error(tmp_path: Path) -> None:
    source = write(tmp_path / "t.csv", TRADES)
    with pytest.raises(StorageError, match="cannot be made"):
        import_files("csv", source, source)
    with pytest.raises(NotFoundError, match="no such file"):
        import_files("csv", tmp_path / "none.csv", tmp_path / "set")


def test_a_damaged_part_is_refused_on_reading(tmp_path: Path) -> None:
    into = tmp_path / "set"
    import_files("csv", write(tmp_path / "t.csv", TRADES), into)
    part = into / "SPY.ARCX" / "trades-20131007.parquet"
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(DataError, match="is damaged"):
        list(open_data(str(into)).batches())
    write(into / "dataset.json", "{")
    with pytest.raises(DataError, match="index of the data set cannot be read"):
        open_data(str(into))


KINDS: tuple[SourceKind, ...] = ("csv", "parquet")


@pytest.mark.parametrize("kind", KINDS)
def test_bars_stamped_by_their_start_close_one_interval_later(
    tmp_path: Path, kind: SourceKind
) -> None:
    rows = minute_bars(13 * 60 + 30, 20 * 60)
    by_end = write(tmp_path / "end.csv", BARS + rows)
    by_start = write(tmp_path / "start.csv", BARS.replace("timestamp", "start") + rows)
    files = {"end": by_end, "start": by_start}
    if kind == "parquet":
        for name, path in files.items():
            files[name] = tmp_path / f"{name}.parquet"
            pq.write_table(pcsv.read_csv(path), files[name])

    told = import_files(kind, files["end"], tmp_path / "a")
    asked = import_files(kind, files["end"], tmp_path / "b", is_bar_start=True)
    import_files(kind, files["start"], tmp_path / "c")

    # The first bar would end as the session opens, before anything traded in it.
    assert told.quality.bars_at_open == 1
    assert "--bar-start" in " ".join(told.quality.warnings())
    assert asked.quality.bars_at_open == 0
    a, b, c = (columns(open_data(str(tmp_path / name))) for name in "abc")
    assert b == c
    assert [ts - 60 * 10**9 for ts in b["bar.ts"]] == a["bar.ts"]


def test_bars_of_the_whole_day_are_no_sign_of_a_wrong_stamp(tmp_path: Path) -> None:
    source = write(tmp_path / "t.csv", BARS + minute_bars(13 * 60 + 25, 20 * 60 + 5))

    report = import_files("csv", source, tmp_path / "set")

    assert report.quality.bars_at_open == 0


def test_open_time_of_trades_is_no_question(tmp_path: Path) -> None:
    trades = write(tmp_path / "t.csv", TRADES)
    assert import_files("csv", trades, tmp_path / "set", is_bar_start=True).rows_added == 7


def daily_bars(*stamps: str) -> str:
    """Return a file with one bar of SPY for each stamp."""
    return BARS + "".join(f"{stamp},SPY,1,1,1,1,5\n" for stamp in stamps)


@pytest.mark.parametrize(
    "stamps",
    [
        ("2024-01-02T14:30:00Z", "2024-01-03T14:30:00Z", "2024-01-04T14:30:00Z"),
        # A clock that knows no summer time is an hour late in summer: within the session.
        ("2024-07-01T14:30:00Z", "2024-07-02T14:30:00Z", "2024-07-03T14:30:00Z"),
    ],
)
def test_daily_bars_that_end_before_their_session_are_told_at_import_and_at_a_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stamps: tuple[str, ...]
) -> None:
    source = write(tmp_path / "d.csv", daily_bars(*stamps))

    told = import_files("csv", source, tmp_path / "set").quality
    open_whole(str(source))

    assert told.bars_at_open == 3
    assert "--bar-start" in " ".join(told.warnings())
    assert "--bar-start" in caplog.text


def test_daily_bars_at_the_close_of_their_session_are_no_sign_of_a_wrong_stamp(
    tmp_path: Path,
) -> None:
    ends = daily_bars(
        "2024-07-01T20:00:00Z", "2024-07-02T20:00:00Z", "2024-07-03T17:00:00Z",
        "2024-07-08T20:00:00Z", "2024-07-09T20:00:00Z",
    )  # fmt: skip
    days = daily_bars("2024-07-02", "2024-07-03", "2024-07-05")

    for name, text in (("ends", ends), ("days", days)):
        source = write(tmp_path / f"{name}.csv", text)
        assert import_files("csv", source, tmp_path / name).quality.bars_at_open == 0


def test_daily_bars_that_end_before_their_close_are_told_whatever_others_do(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The same hour of UTC all year: at the close in summer, an hour before it in winter. On
    # 29 November the session closes at 18:00, so that bar is late, which tells nothing ahead.
    days = ("2013-10-31", "2013-11-01", "2013-11-04", "2013-11-05", "2013-11-29")
    source = write(tmp_path / "d.csv", daily_bars(*(f"{day}T20:00:00Z" for day in days)))

    told = import_files("csv", source, tmp_path / "set").quality
    open_whole(str(source))

    assert (told.days_early, told.bars_at_open) == (2, 0)
    assert told.first_early == "SPY.ARCX 2013-11-04T20:00:00Z"
    assert "2 daily bars end before the close" in " ".join(told.warnings())
    assert "2 daily bars end before the close" in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_interval_of_a_single_bar_may_be_said_on_the_command_line(
    tmp_path: Path, kind: SourceKind
) -> None:
    path = write(tmp_path / "t.csv", BARS + minute_bars(14 * 60, 14 * 60 + 1))
    if kind == "parquet":
        table = pcsv.read_csv(path)
        path = tmp_path / "t.parquet"
        pq.write_table(table, path)
    words = ["import", kind, str(path), "--into", str(tmp_path / "set")]

    with pytest.raises(DataError, match="--interval"):
        app(words, exit_on_error=False)
    app([*words, "--interval", "5m"], exit_on_error=False, result_action="return_value")

    assert open_data(str(tmp_path / "set")).intervals == {"5m"}


def test_symbols_that_are_not_known_get_the_calendar_that_is_named(tmp_path: Path) -> None:
    # Midnights of New York, with the clock change between them; 29 November closes early.
    stamps = ("2013-11-01T04:00:00Z", *(f"2013-11-{day:02}T05:00:00Z" for day in (4, 5, 6, 29)))
    text = daily_bars(*stamps).replace("SPY", "AAPL") + f"{stamps[0]},SPY,1,1,1,1,5\n"
    source, into = write(tmp_path / "d.csv", text), tmp_path / "set"

    words = ["import", "csv", str(source), "--into", str(into), "--calendar", "NYSE"]
    app(words, exit_on_error=False, result_action="return_value")

    data = open_data(str(into), symbols=["AAPL"])
    (aapl,) = (i for i in data.universe.instruments if i.symbol == "AAPL")
    assert (aapl.calendar, aapl.time_zone) == ("XNYS", "America/New_York")
    hours = [ts // 10**9 % 86_400 // 3600 for ts in columns(data)["bar.ts"]]
    assert hours == [20, 21, 21, 21, 18]


def test_bars_of_a_named_calendar_are_held_against_its_sessions(tmp_path: Path) -> None:
    stamps = (f"2024-07-0{day}T07:00:00Z" for day in (1, 2, 3))
    source = write(tmp_path / "d.csv", daily_bars(*stamps).replace("SPY", "SAP"))

    told = import_files("csv", source, tmp_path / "a", calendar="XETR").quality

    assert told.bars_at_open == 3
    assert import_files("csv", source, tmp_path / "b").quality.bars_at_open == 0


def test_a_calendar_that_there_is_not_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    source, into = write(tmp_path / "t.csv", TRADES), tmp_path / "set"

    with pytest.raises(NotFoundError, match=r"no such session calendar.*XNYZ.*XNYS, XLON") as found:
        import_files("csv", source, into, calendar="XNYZ")
    with pytest.raises(ConfigError, match="calendar is known"):
        import_files("lean", source, into, calendar="XNYS")

    assert found.value.field == "calendar"
    assert not into.exists()


@pytest.mark.parametrize(("first", "second"), [("", "XNYS"), ("XNYS", "")])
def test_another_calendar_of_an_instrument_that_is_there_is_a_conflict(
    tmp_path: Path, first: str, second: str
) -> None:
    into, text = tmp_path / "set", TRADES.replace("SPY", "AAPL")
    import_files("csv", write(tmp_path / "t.csv", text), into, calendar=first)
    before = snapshot(into)

    with pytest.raises(ConflictError, match=r"holds AAPL.XXXX with another calendar") as conflict:
        import_files("csv", tmp_path / "t.csv", into, calendar=second)

    assert conflict.value.field == "calendar"
    assert snapshot(into) == before
