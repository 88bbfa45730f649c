"""Small files of market data for the tests of data sets and importers.

And batches as plain values.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from schemas.columns import Columns, MarketBatch
from streams.datasets import DataSet

START_NS = 1_381_152_600_000_000_000  # 2013-10-07, 09:30 in New York
SECOND_NS = 1_000_000_000

TRADES = """timestamp,symbol,price,size
2013-10-07T13:30:00Z,SPY,167.42,100
2013-10-07T13:30:00Z,IBM,182.01,200
2013-10-07T13:30:00.5Z,SPY,167.43,300
2013-10-07T13:30:01Z,IBM,182.02,100
2013-10-07T13:30:00.75Z,SPY,167.41,50
2013-10-07T13:30:01Z,SPY,167.41,50
2013-10-08T13:30:00Z,SPY,166.00,10
"""

QUOTES = """time,ticker,bid_price,ask_price,bid_qty,ask_qty
1381152600000,IBM,182.00,182.02,100,200
1381152600000,IBM,182.01,182.02,100,100
1381152601000,IBM,182.01,182.03,100,300
"""


def write(path: Path, text: str) -> Path:
    """Write ``text`` to ``path`` and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def write_zip(path: Path, name: str, text: str) -> Path:
    """Write a zip of one file, as LEAN has them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, text)
    return path


def columns(data: DataSet, size: int = 65_536, **chosen: Any) -> dict[str, list[Any]]:
    """Return everything that the batches of ``data`` say as lists, names instead of codes."""
    out: dict[str, list[Any]] = {"clock": [], "records": []}
    offset = 0
    for batch in data.batches(size, **chosen):
        assert_offset(batch, offset)
        out["clock"] += batch.clock.tolist()
        out["records"] += [(offset + pos, topic, record) for pos, topic, record in batch.records]
        for table in (batch.trades, batch.quotes, batch.bars):
            _add(out, data, table, offset)
        offset += len(batch)
    return out


def assert_offset(batch: MarketBatch, offset: int) -> None:
    """Raise AssertionError unless ``batch`` begins at ``offset``."""
    if batch.first_offset != offset:
        raise AssertionError(f"a batch begins at {batch.first_offset}, not at {offset}")


def prices(data: DataSet, kind: str = "trades", name: str = "price") -> Sequence[float]:
    """Return one column of all rows."""
    return [float(v) for batch in data.batches() for v in getattr(getattr(batch, kind), name)]


def _add(out: dict[str, list[Any]], data: DataSet, table: Columns, offset: int) -> None:
    universe = data.universe
    for name in table.names():
        values = np.asarray(getattr(table, name)).tolist()
        if name == "pos":
            values = [offset + pos for pos in values]
        if name == "instrument":
            values = [universe.instruments[code].instrument_id for code in values]
        if name == "source":
            values = [universe.sources[code] for code in values]
        out.setdefault(f"{table.KIND}.{name}", []).extend(values)
