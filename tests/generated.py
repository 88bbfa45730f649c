"""Generated market data for tests and benchmarks.

Geometric walks on a 0.01 grid, increasing times.
"""

from __future__ import annotations

import csv
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.columns import Columns, MarketBatch, QuoteColumns, TradeColumns, merge
from schemas.enums import CorporateActionKind
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.topics import REFERENCE_ACTIONS

DAY_NS = 86_400_000_000_000
START_NS = 1_699_920_000_000_000_000  # 2023-11-14, midnight UTC


def universe(symbols: tuple[str, ...] = ("GEN",)) -> Universe:
    """Return a universe of instruments that trade around the clock."""
    return Universe(
        [
            Instrument(ts_event_ns=0, instrument_id=f"{s}.XXXX", symbol=s, venue="XXXX")
            for s in symbols
        ]
    )


def trades(instruments: Universe, count: int, seed: int = 1, days: int = 20) -> MarketBatch:
    """Return ``count`` trades of the first instrument over ``days`` days as one batch."""
    rng = np.random.default_rng(seed)
    price = np.round(100 * np.exp(np.cumsum(rng.standard_normal(count) * 1e-4)), 2)
    ts = START_NS + np.sort(rng.integers(0, days * DAY_NS, count)) + np.arange(count)
    nothing = np.zeros(count, np.int32)
    table = TradeColumns(
        pos=np.arange(count),
        ts=ts,
        instrument=nothing,
        source=nothing + instruments.source_index("trades"),
        seq=np.arange(count),
        price=price,
        size=rng.integers(1, 500, count).astype(np.float64),
    )
    return MarketBatch(instruments, ts, trades=table)


def cut(batch: MarketBatch, size: int) -> list[MarketBatch]:
    """Return the batch in pieces of ``size`` events."""
    return [batch.slice(i, min(i + size, len(batch))) for i in range(0, len(batch), size)]


def session(instruments: Universe, count: int, seed: int = 1, days: int = 2) -> MarketBatch:
    """Return trades and quotes of every instrument, merged, with a split and a dividend.

    ``count`` rows of each kind an instrument. The first instrument splits two for one at half
    time, the last one pays 0.25 at three quarters.
    """
    rng = np.random.default_rng(seed)
    tables: list[Columns] = []
    split_ns = START_NS + days * DAY_NS // 2
    for index in range(len(instruments)):
        price = 100 * np.exp(np.cumsum(rng.standard_normal(count) * 3e-4))
        for kind in ("trades", "quotes"):
            ts = START_NS + np.sort(rng.integers(0, days * DAY_NS, count)) + np.arange(count)
            level = np.round(np.where((ts >= split_ns) & (index == 0), price / 2, price), 2)
            tables.append(_table(instruments, index, kind, ts, level, rng))
    records: list[tuple[str, Header]] = [
        (REFERENCE_ACTIONS, action)
        for action in (
            CorporateAction(
                ts_event_ns=split_ns,
                event_id="action:split",
                instrument_id=instruments.instruments[0].instrument_id,
                kind=CorporateActionKind.SPLIT,
                ratio=Decimal(2),
            ),
            CorporateAction(
                ts_event_ns=split_ns + days * DAY_NS // 4,
                event_id="action:dividend",
                instrument_id=instruments.instruments[-1].instrument_id,
                kind=CorporateActionKind.DIVIDEND,
                amount=Decimal("0.25"),
            ),
        )
    ]
    return merge(instruments, tables, records)


def _table(
    instruments: Universe,
    index: int,
    kind: str,
    ts: np.ndarray[Any, Any],
    level: np.ndarray[Any, Any],
    rng: np.random.Generator,
) -> Columns:
    count = len(ts)
    keys: dict[str, Any] = {
        "pos": np.arange(count),
        "ts": ts,
        "instrument": np.full(count, index, np.int32),
        "source": np.full(count, instruments.source_index(kind), np.int32),
        "seq": np.arange(count),
    }
    size = rng.integers(1, 500, (2, count)).astype(np.float64)
    if kind == "trades":
        return TradeColumns(**keys, price=level, size=size[0])
    spread = rng.integers(1, 4, count)
    ask = np.round(level + spread / 100, 2)
    return QuoteColumns(**keys, bid=level, ask=ask, bid_size=size[0], ask_size=size[1])


def write_csv(path: Path, batch: MarketBatch) -> Path:
    """Write the trades of a batch as a CSV file with a header and return its path."""
    columns = _named(batch)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def write_parquet(path: Path, batch: MarketBatch) -> Path:
    """Write the trades of a batch as a Parquet file and return its path."""
    pq.write_table(pa.table(_named(batch)), path)
    return path


def _named(batch: MarketBatch) -> dict[str, list[Any]]:
    symbols = [item.symbol for item in batch.universe.instruments]
    table = batch.trades
    return {
        "timestamp": table.ts.tolist(),
        "symbol": [symbols[code] for code in table.instrument.tolist()],
        "price": table.price.tolist(),
        "size": table.size.tolist(),
    }
