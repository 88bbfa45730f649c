"""What a data set is: market history that can be played in one order, again and again.

Command line, backtests, web and importers know data sets by this protocol alone, whatever files
stand behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

import numpy as np

from schemas.columns import MarketBatch
from schemas.control import InputRange
from schemas.errors import DataError, NotFoundError
from schemas.instruments import CorporateAction, Universe

BATCH_EVENTS = 65_536
KINDS: tuple[str, ...] = ("trade", "quote", "bar")
"""Kinds of market data; at equal times their rows are played in this order.

Since a print changes the quote.
"""


class DataSet(Protocol):
    """Market history: trades, quotes and bars of the instruments of ``universe``.

    Times are int64 ns UTC; ``start_ns`` is included, ``end_ns`` is not. ``symbols`` selects
    instruments by symbol or instrument id, None means all. Every method that takes them raises
    NotFoundError for an unknown symbol, and ``batches``, ``inputs`` and ``total`` raise DataError
    if nothing is left in the range.
    """

    @property
    def name(self) -> str:
        """Name or path under which the data set was opened."""
        ...

    @property
    def universe(self) -> Universe:
        """Its instruments and sources."""
        ...

    @property
    def kinds(self) -> frozenset[str]:
        """Which of "trade", "quote" and "bar" it holds."""
        ...

    @property
    def intervals(self) -> frozenset[str]:
        """Intervals of its bars, such as "1m" and "1d"."""
        ...

    def range(self) -> tuple[int, int]:
        """Return the times of its first and last row."""
        ...

    def total(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> int:
        """Return how many events ``batches`` would yield with the same arguments."""
        ...

    def batches(
        self,
        size: int = BATCH_EVENTS,
        *,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> Iterator[MarketBatch]:
        """Yield the selected events in the order of ``merge``, in batches of ``size``.

        The clock is carried from batch to batch; corporate actions of the selected instruments
        stand among the events as records. Values do not depend on ``size``, memory does not grow
        with the length of the history.
        """
        ...

    def inputs(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> list[InputRange]:
        """Return what was selected.

        One entry an instrument, kind and interval, with content hashes (xxh3-128).

        Equal rows give equal hashes, whatever the file format and batch size.
        """
        ...

    def actions(
        self,
        start_ns: int | None = None,
        end_ns: int | None = None,
        symbols: Sequence[str] | None = None,
    ) -> list[CorporateAction]:
        """Return the corporate actions that take effect in the range, by time."""
        ...


EARLIEST_NS = int(np.iinfo(np.int64).min)
LATEST_NS = int(np.iinfo(np.int64).max)


def bounds(start_ns: int | None, end_ns: int | None) -> tuple[int, int]:
    """Return a range whose open sides are the ends of time."""
    return (
        EARLIEST_NS if start_ns is None else start_ns,
        LATEST_NS if end_ns is None else end_ns,
    )


def select_ids(universe: Universe, symbols: Sequence[str] | None) -> frozenset[str]:
    """Return the instrument ids that ``symbols`` name.

    Raises NotFoundError for one that names none.
    """
    if symbols is None:
        return frozenset(i.instrument_id for i in universe.instruments)
    chosen: set[str] = set()
    for symbol in symbols:
        wanted = symbol.upper()
        found = [
            i.instrument_id
            for i in universe.instruments
            if wanted in {i.symbol.upper(), i.instrument_id.upper()}
        ]
        if not found:
            raise NotFoundError(
                "the data set does not have this symbol",
                field="symbols",
                value=symbol,
                remedy=f"it has {_listed(i.symbol for i in universe.instruments)}",
            )
        chosen.update(found)
    return frozenset(chosen)


def empty_range(name: str, first_ns: int, last_ns: int, start_ns: int, end_ns: int) -> DataError:
    """Return the error for a range in which a data set has no rows."""
    asked = f"{_bound(start_ns)} to {_bound(end_ns)}"
    return DataError(
        f"{name} has no data in this range",
        field="range",
        value=asked,
        remedy=f"it reaches from {time_text(first_ns)} to {time_text(last_ns)}",
    )


def time_text(ns: int) -> str:
    """Return an instant as RFC 3339 in UTC, to the second (down)."""
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _bound(ns: int) -> str:
    return "the beginning" if ns == EARLIEST_NS else "the end" if ns == LATEST_NS else time_text(ns)


def _listed(names: Iterable[str], limit: int = 20) -> str:
    """Return sorted ``names`` for a message, the first ``limit`` of them."""
    unique = sorted(set(names))
    rest = len(unique) - limit
    return ", ".join(unique[:limit]) + (f" and {rest} more" if rest > 0 else "")
