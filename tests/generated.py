"""Generated market data for tests and benchmarks.

A geometric walk on a 0.01 grid, increasing times.
"""

from __future__ import annotations

import numpy as np

from schemas.columns import MarketBatch, TradeColumns
from schemas.instruments import Instrument, Universe

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
