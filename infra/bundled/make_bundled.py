"""Make the bundled data sets from LEAN's sample data.

Run as ``python -m infra.bundled.make_bundled SOURCE``.

SOURCE is the folder ``equity/usa`` of that data. ``demo`` has IBM's trades and quotes and SPY's
trades of 7 October 2013 from 09:30 to 16:00 New York time, cut off at ``DEMO_END``; rows keep the
ids of the whole day. ``daily`` has all daily bars of both with their corporate actions. The same
source gives the same rows again.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import ZoneInfo

from schemas.columns import Columns
from streams.datasets.ingest import Ingest, write_series
from streams.datasets.lean import read_lean
from streams.datasets.quality import RejectFile
from streams.datasets.store import Index, read_part, write_index
from streams.datasets.stored import StoredDataSet

_NEW_YORK = ZoneInfo("America/New_York")
DEMO_START = datetime(2013, 10, 7, 9, 30, tzinfo=_NEW_YORK)
DEMO_END = datetime(2013, 10, 7, 16, 0, tzinfo=_NEW_YORK)
DEMO_FILES = (
    "tick/ibm/20131007_trade.zip",
    "tick/ibm/20131007_quote.zip",
    "tick/spy/20131007_trade.zip",
)


def make_demo(source: Path, target: Path) -> None:
    """Write the demo set below ``target``."""
    start_ns, end_ns = (round(t.timestamp()) * 10**9 for t in (DEMO_START, DEMO_END))
    with TemporaryDirectory() as scratch:
        whole = Path(scratch)
        _ingest(whole, [source / file for file in DEMO_FILES])
        data = StoredDataSet("whole", whole)
        index = Index(instruments=data.universe.instruments)
        for part in data.parts():

            def rows(tables: Iterator[Columns]) -> Iterator[Columns]:
                for table in tables:
                    yield table.take((table.ts >= start_ns) & (table.ts < end_ns))

            series = (part.kind, part.instrument_id, part.interval)
            tables = rows(read_part(whole, part, data.universe))
            index.parts.append(write_series(target, part.file, series, tables, data.universe))
        write_index(target, index)


def make_daily(source: Path, target: Path) -> None:
    """Write the set of daily bars below ``target``."""
    _ingest(target, [source / "daily" / "ibm.zip", source / "daily" / "spy.zip"])


def _ingest(folder: Path, files: list[Path]) -> None:
    ingest = Ingest(folder, RejectFile(folder))
    for file in files:
        read_lean(ingest, file)
    ingest.finish()


def main() -> None:
    """Make both sets beside this file."""
    source, here = Path(sys.argv[1]), Path(__file__).resolve().parent
    for name, make in (("demo", make_demo), ("daily", make_daily)):
        shutil.rmtree(here / name, ignore_errors=True)
        make(source, here / name)


if __name__ == "__main__":
    main()
