"""The closed trades that gained and lost most, out of a run's ``trades.csv``."""

from __future__ import annotations

import csv
import heapq
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import NamedTuple

SHOWN_MAX = 5
_PIECE_ROWS = 16_384


class Trade(NamedTuple):
    """A closed trade as the file has it; prices, quantity and fees are shown as they stand."""

    instrument_id: str
    side: str
    quantity: str
    entry_ns: int
    exit_ns: int
    entry_price: str
    exit_price: str
    pnl: Decimal
    fees: Decimal


class Extremes(NamedTuple):
    """The largest gains, largest first, and the largest losses, worst first."""

    winners: list[Trade]
    losers: list[Trade]


def read_extremes(path: Path, count: int = SHOWN_MAX) -> Extremes:
    """Return the ``count`` largest gains and losses of a file; raises OSError."""
    with path.open(newline="", encoding="utf-8") as file:
        return extremes(map(_trade, csv.DictReader(file)), count)


def extremes(trades: Iterable[Trade], count: int) -> Extremes:
    """Return the ``count`` largest gains and losses; of equal ones those that came first."""
    found = Extremes([], [])
    rows = iter(trades)
    while piece := list(islice(rows, _PIECE_ROWS)):
        won = [*found.winners, *(trade for trade in piece if trade.pnl > 0)]
        lost = [*found.losers, *(trade for trade in piece if trade.pnl < 0)]
        found = Extremes(
            heapq.nlargest(count, won, key=lambda trade: trade.pnl),
            heapq.nsmallest(count, lost, key=lambda trade: trade.pnl),
        )
    return found


def _trade(row: dict[str, str]) -> Trade:
    return Trade(
        row["instrument_id"],
        row["side"],
        row["quantity"],
        int(row["entry_ns"]),
        int(row["exit_ns"]),
        row["entry_price"],
        row["exit_price"],
        Decimal(row["pnl"]),
        Decimal(row["fees"]),
    )
