"""Files of bars that stand newest first, as many vendors deliver them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.csv as pcsv
import pyarrow.parquet as pq
import pytest

from schemas.errors import DataError
from streams.datasets import open_data
from streams.datasets.ingest import Ingest
from streams.datasets.quality import RejectFile
from streams.datasets.table_rows import TableRows
from streams.datasets.tabular import Block
from streams.importing import SourceKind, import_files
from tests.unit.dataset_samples import columns, write

HEADER = "timestamp,symbol,open,high,low,close,volume\n"
KINDS: tuple[SourceKind, ...] = ("csv", "parquet")


def minutes(symbol: str, count: int) -> list[str]:
    """Return minute bars of a symbol, oldest first, whose prices tell them apart."""
    return [
        f"{1381152660 + 60 * i},{symbol}" + f",{i % 1000 + 1}" * 4 + ",5\n" for i in range(count)
    ]


def source(folder: Path, name: str, rows: list[str], kind: SourceKind = "csv") -> Path:
    """Write rows of bars as a file of a kind."""
    path = write(folder / f"{name}.csv", HEADER + "".join(rows))
    if kind == "parquet":
        table = pcsv.read_csv(path)
        path = folder / f"{name}.parquet"
        pq.write_table(table, path)
    return path


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [3, 150_000])  # the latter is more than one block
def test_bars_newest_first_are_those_of_the_file_the_other_way_round(
    tmp_path: Path, kind: SourceKind, count: int
) -> None:
    rows = minutes("SPY", count)
    import_files(kind, source(tmp_path, "forth", rows, kind), tmp_path / "a")
    import_files(kind, source(tmp_path, "back", rows[::-1], kind), tmp_path / "b")

    # The index has the hash of every part's content.
    assert (tmp_path / "a/dataset.json").read_bytes() == (tmp_path / "b/dataset.json").read_bytes()
    assert columns(open_data(str(tmp_path / "a"))) == columns(open_data(str(tmp_path / "b")))


def test_symbols_one_after_another_each_newest_first_are_read(tmp_path: Path) -> None:
    spy, ibm = minutes("SPY", 4), minutes("IBM", 3)
    forth = open_data(str(source(tmp_path, "forth", spy + ibm)))
    back = open_data(str(source(tmp_path, "back", spy[::-1] + ibm[::-1])))

    assert columns(back) == columns(forth)
    assert back.inputs() == forth.inputs()


def test_plain_days_newest_first_end_with_their_sessions(tmp_path: Path) -> None:
    rows = [f"2024-07-{day:02},SPY,{day},{day},{day},{day},1\n" for day in (1, 2, 3, 5)]
    forth = open_data(str(source(tmp_path, "forth", rows)))
    back = open_data(str(source(tmp_path, "back", rows[::-1])))

    assert columns(back) == columns(forth)
    assert back.inputs() == forth.inputs()


def test_bars_newest_first_may_be_stamped_by_their_start_too(tmp_path: Path) -> None:
    rows = [f"2024-07-02T{hour}:30:00Z,SPY,1,1,1,1,5\n" for hour in range(19, 13, -1)]
    import_files("csv", source(tmp_path, "back", rows), tmp_path / "set", is_bar_start=True)

    found = columns(open_data(str(tmp_path / "set")))["bar.ts"]

    assert found == sorted(found)
    assert found[-1] // 10**9 % 86_400 == 20 * 3600


def test_bad_rows_of_a_file_newest_first_keep_their_lines_and_words(tmp_path: Path) -> None:
    rows = minutes("SPY", 4)[::-1]
    rows[1] = rows[1].replace("SPY,3,", "SPY,x,")
    rows.insert(3, "noon,SPY,1,1,1,1,5\n")
    report = import_files("csv", source(tmp_path, "back", rows), tmp_path / "set").quality

    assert (report.rows_kept, report.rows_rejected) == (3, 2)
    assert Path(report.reject_file).read_text().splitlines()[1:] == [
        'back.csv,5,unreadable timestamp,"noon,SPY,1,1,1,1,5"',
        f'back.csv,3,open is not a number,"{rows[1].strip()}"',
    ]


def test_bars_in_no_order_at_all_are_refused_with_file_line_and_remedy(tmp_path: Path) -> None:
    rows = minutes("SPY", 4)
    path = str(source(tmp_path, "mixed", [rows[1], rows[3], rows[0], rows[2]]))

    with pytest.raises(DataError, match=r"mixed.csv, line 4: the time of a bar.*oldest or newest"):
        open_data(path)


def test_one_bar_alone_is_refused_with_the_option_that_helps(tmp_path: Path) -> None:
    path = source(tmp_path, "one", minutes("SPY", 1))

    with pytest.raises(DataError, match=r"one.csv: the interval.*one bar only.*--interval"):
        import_files("csv", path, tmp_path / "set")
    report = import_files("csv", path, tmp_path / "set", interval="1m")
    assert report.rows_added == 1


def test_more_bars_newest_first_than_may_wait_are_refused(tmp_path: Path) -> None:
    rows = TableRows(Ingest(tmp_path, RejectFile(tmp_path)), "t.csv", "bar", None, 2)
    block = Block(
        symbols=["SPY"], code=np.zeros(3, np.int32), ts=np.array([3, 2, 1]) * 10**9,
        day=np.zeros(3, np.int64), values={}, line=np.arange(3), text=str, reasons={},
        unplaced=set(),
    )  # fmt: skip

    with pytest.raises(DataError, match=r"t.csv: .* too many.*over 2.*sort the file by time"):
        rows.add(block)
