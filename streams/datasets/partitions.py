"""Partitions of market events merged into one stream, in the order that data sets have.

Each partition has its own clock, the running maximum of its event times, and its own order, which
never changes. Between partitions the earlier clock goes first; at one instant what is no row of
data, then the rank of ``series_rank``: so history that was published comes back in the order of the
data set that it came from, whatever partitions its instruments were in.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from schemas.columns import BarColumns, Columns, Ints, MarketBatch
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.market_data import INTERVALS
from streams.datasets.base import KINDS, LATEST_NS
from streams.datasets.merging import rounds
from streams.journal.batches import Piece

_NO_DATA = -1
"""The rank of a record that is no row: an action takes effect before the data of its instant."""


class _Partition:
    """What is read of one partition and not merged yet."""

    def __init__(self, batches: Iterator[MarketBatch]) -> None:
        self._batches = batches
        self._held: list[MarketBatch] = []
        self.is_done = False

    def read(self) -> None:
        """Read the next batch, or note that there is none."""
        batch = next(self._batches, None)
        if batch is None:
            self.is_done = True
        else:
            self._held.append(batch)

    def is_empty(self) -> bool:
        """Return whether nothing that was read is left."""
        return not self._held

    def safe_ns(self) -> int:
        """Return the instant before which nothing more of this partition can come to stand."""
        return LATEST_NS if self.is_done else int(self._held[-1].clock[-1])

    def take_before(self, limit_ns: int) -> list[MarketBatch]:
        """Take off the events with a clock below ``limit_ns``."""
        taken = []
        while self._held and self._held[0].clock[0] < limit_ns:
            batch = self._held.pop(0)
            stop = int(batch.clock.searchsorted(limit_ns, "left"))
            taken.append(batch.slice(0, stop))
            if stop < len(batch):
                self._held.insert(0, batch.slice(stop, len(batch)))
        return taken


def merge(universe: Universe, streams: list[Iterator[MarketBatch]]) -> Iterator[Piece]:
    """Yield the events of partitions in merged order, however they are cut into batches."""
    partitions = [_Partition(stream) for stream in streams]
    ranks = _instrument_ranks(universe)
    for _, taken in rounds(partitions):
        if taken:
            yield _merged(taken, ranks)


def _instrument_ranks(universe: Universe) -> Ints:
    """Return the place of each instrument among all, by id."""
    names = [instrument.instrument_id for instrument in universe.instruments]
    ranks = np.empty(len(names), np.int64)
    ranks[np.argsort(np.array(names, np.str_), kind="stable")] = np.arange(len(names))
    return ranks


def _rank_of(batch: MarketBatch, instruments: Ints) -> Ints:
    """Return the rank of each event of a batch at its instant."""
    ranks = np.full(len(batch), _NO_DATA, np.int64)
    for kind, table in zip(KINDS, (batch.trades, batch.quotes, batch.bars), strict=True):
        places = KINDS.index(kind) * len(instruments) + instruments[table.instrument]
        steps = table.interval + 1 if isinstance(table, BarColumns) else 0
        ranks[table.pos] = places * (len(INTERVALS) + 1) + steps
    return ranks


def _own_order(clock: Ints, ranks: Ints) -> Ints:
    """Return ranks that never fall within an instant: a partition keeps its order."""
    instants = np.cumsum(np.diff(clock, prepend=clock[:1]) != 0)
    span = int(ranks.max()) + 2
    own: Ints = np.maximum.accumulate(instants * span + ranks + 1) - instants * span
    return own


def _merged(taken: list[list[MarketBatch]], instruments: Ints) -> Piece:
    """Return events of several partitions, each in its order, as one piece."""
    clocks, ranks = [], []
    for cuts in taken:
        clock = np.concatenate([batch.clock for batch in cuts])
        clocks.append(clock)
        own = np.concatenate([_rank_of(batch, instruments) for batch in cuts])
        ranks.append(_own_order(clock, own))
    order = np.lexsort((np.concatenate(ranks), np.concatenate(clocks)))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    by_kind: dict[str, list[Columns]] = {}
    records: list[tuple[int, str, Header]] = []
    shift = 0
    for batch in (batch for cuts in taken for batch in cuts):
        for table in (batch.trades, batch.quotes, batch.bars):
            by_kind.setdefault(table.KIND, []).append(table.moved(place[table.pos + shift]))
        records += [(int(place[pos + shift]), topic, r) for pos, topic, r in batch.records]
        shift += len(batch)
    tables: list[Columns] = []
    for parts in by_kind.values():
        joined = type(parts[0]).concat(parts)
        if len(joined):
            tables.append(joined.take(np.argsort(joined.pos)))
    records.sort(key=lambda item: item[0])
    return Piece(len(order), tables, records)
