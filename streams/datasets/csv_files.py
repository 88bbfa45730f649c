"""CSV files with a header line, read as a stream.

The columns are those of ``streams.datasets.tabular``.

A timestamp is RFC 3339 with offset, an integer (s, ms, us or ns since 1970 by magnitude, one unit
for the whole file), or for daily bars a day (yyyy-mm-dd or yyyymmdd).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from schemas.errors import DataError
from streams.datasets.csv_text import text_tables, unreadable
from streams.datasets.ingest import Ingest
from streams.datasets.parsing import TableParser
from streams.datasets.store import disk_error
from streams.datasets.table_rows import TableRows
from streams.datasets.tabular import layout_of


def read_csv(
    ingest: Ingest,
    path: Path,
    *,
    symbols: Sequence[str] | None = None,
    interval: str | None = None,
    is_bar_start: bool = False,
) -> None:
    """Hand the rows of a CSV file to ``ingest``; ``is_bar_start``: bars are stamped by their start.

    Raises DataError if the file cannot be read as a whole: empty, no header, a column missing, no
    readable timestamp.
    """
    file = path.name
    ingest.begin_file(file)
    header = _header(path)
    layout = layout_of(file, header, symbols, is_bar_start)
    parser = TableParser(file, layout, symbols)
    rows = TableRows(ingest, file, layout.kind, interval)
    for table in text_tables(ingest, file, path, header, header_lines=1):
        rows.add(parser.block(table))
    rows.finish()


def _header(path: Path) -> list[str]:
    """Return the names of the first line; raises DataError if there are none."""
    try:
        with path.open("rb") as file:
            head = file.readline(1 << 20)
        names = head.decode("utf-8-sig").strip().split(",")
    except OSError as error:
        raise disk_error("cannot be read", path, error) from error
    except UnicodeDecodeError as error:
        raise unreadable(path.name, error) from error
    if not head.strip():
        raise DataError(
            f"{path.name} is empty or has no header",
            field="file",
            value=str(path),
            remedy="the first line must name the columns",
        )
    return [name.strip().strip('"') for name in names]
