"""Bars of wider intervals as tables, for servers that have no continuous aggregates.

The sink makes them anew from the bars below, for the instruments and the stretch of time that a
batch touched, in the transaction that stores it. So they are never behind, and a correction of a
bar reaches all of them. Columns and buckets are those of the aggregates in ``migrations``.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from schemas.market_data import INTERVAL_NS, INTERVALS
from streams.database.copying import Block, Text
from streams.database.tables import BARS, ROLLUPS

_LENGTH = {name: ns for name, ns in zip(INTERVALS, INTERVAL_NS, strict=True) if name in ROLLUPS}
_MINUTE = ROLLUPS[0]
_KEYS = "run_id, instrument_id, bucket"
_SET = (
    "SET open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close,"
    " volume = excluded.volume, turnover = excluded.turnover, trade_count = excluded.trade_count"
)
_INTO = "(run_id, instrument_id, bucket, open, high, low, close, volume, turnover, trade_count)"


class Touched(NamedTuple):
    """Minute bars of one run in a batch: their instruments and the span of their ends."""

    run_id: str
    instrument_ids: list[str]
    first_ns: int
    last_ns: int


def touched(blocks: list[Block]) -> list[Touched]:
    """Return what the minute bars among ``blocks`` touch."""
    found = []
    for block in blocks:
        if block.series is not BARS:
            continue
        columns = dict(zip(BARS.names, block.columns, strict=True))
        runs, ids, kinds = columns["run_id"], columns["instrument_id"], columns["interval"]
        ts = columns["ts_ns"]
        assert isinstance(runs, Text)
        assert isinstance(ids, Text)
        assert isinstance(kinds, Text)
        assert isinstance(ts, np.ndarray)
        if _MINUTE not in kinds.names:
            continue
        is_minute = kinds.codes == kinds.names.index(_MINUTE)
        for code, run_id in enumerate(runs.names):
            rows = is_minute & (runs.codes == code)
            if not rows.any():
                continue
            names = [ids.names[i] for i in np.unique(ids.codes[rows]).tolist()]
            found.append(Touched(run_id, names, int(ts[rows].min()), int(ts[rows].max())))
    return found


async def refresh(connection: Any, item: Touched) -> None:
    """Make the rollups anew where a batch touched them."""
    first, last = _start(item.first_ns, _MINUTE), _start(item.last_ns, _MINUTE)
    await connection.execute(
        f"""
        INSERT INTO bars_1m {_INTO}
        SELECT DISTINCT ON ({_KEYS}) run_id, instrument_id, {_bucket("ts_ns", _MINUTE)} AS bucket,
            open, high, low, close, volume, vwap * volume, trade_count
        FROM bars
        WHERE run_id = $1 AND instrument_id = ANY($2) AND "interval" = '1m'
            AND ts_ns BETWEEN $3 AND $4
        ORDER BY {_KEYS}, revision DESC, log_offset DESC
        ON CONFLICT ({_KEYS}) DO UPDATE {_SET}
        """,  # noqa: S608 - made of constants; values are parameters
        item.run_id,
        item.instrument_ids,
        first,
        last + _LENGTH[_MINUTE] - 1,
    )
    for below, name in pairwise(ROLLUPS):
        first, last = _start(item.first_ns, name), _start(item.last_ns, name)
        await connection.execute(
            f"""
            INSERT INTO bars_{name} {_INTO}
            SELECT run_id, instrument_id, {_bucket("bucket", name)} AS wide,
                (array_agg(open ORDER BY bucket))[1], max(high), min(low),
                (array_agg(close ORDER BY bucket DESC))[1],
                sum(volume), sum(turnover), sum(trade_count)
            FROM bars_{below}
            WHERE run_id = $1 AND instrument_id = ANY($2) AND bucket BETWEEN $3 AND $4
            GROUP BY run_id, instrument_id, wide
            ON CONFLICT ({_KEYS}) DO UPDATE {_SET}
            """,  # noqa: S608 - made of constants; values are parameters
            item.run_id,
            item.instrument_ids,
            first,
            last + _LENGTH[name] - 1,
        )


def _start(ts_ns: int, name: str) -> int:
    """Return the bucket of an instant: the first ns behind the beginning of its interval."""
    return (ts_ns - 1) // _LENGTH[name] * _LENGTH[name] + 1


def _bucket(column: str, name: str) -> str:
    """Return the same as SQL; % of a negative number is negative there."""
    length = _LENGTH[name]
    return f"({column} - ((({column} - 1) % {length}) + {length}) % {length})"
