"""What one instrument's orders can see of the loaded batch, in order.

Prices and sizes become integers of the grids only where somebody looks. Rows that cannot be used,
and rows during a halt, are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from agents.market.grouping import Grouped
from agents.venue.config import BAR, QUOTE, VenueConfig
from agents.venue.usable import Bools, Usable
from schemas.columns import (
    BarColumns,
    Columns,
    Ints,
    MarketBatch,
    QuoteColumns,
    TradeColumns,
)
from schemas.enums import InstrumentState
from schemas.market_data import InstrumentStatus
from schemas.values import Grid

Rows = npt.NDArray[np.intp]
Sides = tuple[float, float]
"""What a seller gets and a buyer pays at the last known event; 0 where there is nothing."""

_NO_ROWS = np.empty(0, np.intp)


class Tape:
    """Some rows of one table, ``size`` of them; ``pos`` (int64): where each stands in the batch."""

    __slots__ = ("_batch_size", "_grid", "_is_whole", "_lots", "_rows", "_table", "pos", "size")

    def __init__(
        self, table: Columns, rows: Rows | None, grid: Grid, lots: Grid, batch_size: int
    ) -> None:
        """Take ``rows`` of ``table``; None takes all. ``batch_size`` is the number of events."""
        self._table = table
        self._rows = rows
        self._grid = grid
        self._lots = lots
        self._batch_size = batch_size
        self.pos: Ints = table.pos if rows is None else table.pos[rows]
        self.size = len(self.pos)
        self._is_whole = self.size == batch_size

    def only(self, chosen: Bools) -> Tape:
        """Return the chosen rows."""
        rows = np.flatnonzero(chosen) if self._rows is None else self._rows[chosen]
        return Tape(self._table, rows, self._grid, self._lots, self._batch_size)

    def row_from(self, pos: int) -> int:
        """Return the first row at position ``pos`` or later."""
        return pos if self._is_whole else int(self.pos.searchsorted(pos))

    def position(self, row: int) -> int:
        """Return where ``row`` stands in the batch; after the last row, the batch's length."""
        if self._is_whole:
            return row
        return int(self.pos[row]) if row < self.size else self._batch_size

    def part(self, name: str, start: int, stop: int) -> npt.NDArray[Any]:
        """Return the column ``name`` of the rows from ``start`` to ``stop``."""
        column: npt.NDArray[Any] = getattr(self._table, name)
        return column[start:stop] if self._rows is None else column[self._rows[start:stop]]

    def ticks(self, name: str, start: int, stop: int) -> Ints:
        """Return the prices ``name`` of the rows from ``start`` to ``stop`` in ticks."""
        return self._grid.to_units(self.part(name, start, stop))

    def value(self, name: str, row: int) -> int:
        """Return an integer column's value."""
        return int(getattr(self._table, name)[self._at(row)])

    def tick(self, name: str, row: int) -> int:
        """Return one price in ticks."""
        return self._grid.to_unit(float(getattr(self._table, name)[self._at(row)]))

    def units(self, name: str, row: int) -> int:
        """Return one size in units of the quantity grid."""
        return self._lots.to_unit(float(getattr(self._table, name)[self._at(row)]))

    def sides_before(self, pos: int) -> Sides | None:
        """Return what a seller gets and a buyer pays after the event at ``pos``, or None."""
        row = int(self.pos.searchsorted(pos, side="right")) - 1
        return _sides(self._table, self._at(row)) if row >= 0 else None

    def _at(self, row: int) -> int:
        return row if self._rows is None else int(self._rows[row])


class Market(NamedTuple):
    """One instrument in one batch.

    ``prints`` are trades on the quote tier, which fill resting limit orders that they go through.
    ``known`` holds the rows of ``tape`` and those during a halt.
    """

    tier: str
    tape: Tape
    prints: Tape | None
    known: Tape


class Tapes:
    """The markets of one batch, made for those instruments that somebody asks for."""

    def __init__(
        self,
        batch: MarketBatch,
        config: VenueConfig,
        usable: Usable,
        states: Mapping[str, InstrumentState],
    ) -> None:
        """Read ``batch``; ``states`` are those of the instruments before it."""
        self._batch = batch
        self._config = config
        self._usable = usable
        self._states = states
        self._markets: dict[int, Market | None] = {}
        self._rows: dict[str, dict[int, Rows]] = {}
        self._good: dict[str, Bools | None] = {}
        self._changes = _changes(batch) if batch.records else {}

    def market(self, index: int) -> Market | None:
        """Return the market of instrument ``index``; None if the batch has nothing of it."""
        if index not in self._markets:
            self._markets[index] = self._make(index)
        return self._markets[index]

    def _make(self, index: int) -> Market | None:
        batch = self._batch
        instrument_id = batch.universe.instruments[index].instrument_id
        tier = self._config.tier(instrument_id)
        known = self._tape(table_of(batch, tier), index)
        prints = self._tape(batch.trades, index) if tier == QUOTE else None
        if not (known.size or (prints is not None and prints.size)):
            return None
        tape = self._without_halts(known, instrument_id)
        if prints is not None:
            prints = self._without_halts(prints, instrument_id)
        return Market(tier, tape, prints, known)

    def _tape(self, table: Columns, index: int) -> Tape:
        """Return all usable rows of an instrument."""
        universe = self._batch.universe
        is_alone = len(universe) == 1
        rows = None if is_alone else self._rows_of(table).get(index, _NO_ROWS)
        grid, lots = universe.price_grids[index], universe.quantity_grids[index]
        tape = Tape(table, rows, grid, lots, len(self._batch))
        if table.KIND not in self._good:
            self._good[table.KIND] = self._usable.rows(table)
        good = self._good[table.KIND]
        if good is None:
            return tape
        return tape.only(good if rows is None else good[rows])

    def _rows_of(self, table: Columns) -> dict[int, Rows]:
        """Return the rows of each instrument in ``table``."""
        rows = self._rows.get(table.KIND)
        if rows is None:
            grouped = Grouped(table.instrument)
            order = np.arange(len(table)) if grouped.order is None else grouped.order
            heads = grouped.heads.tolist()
            ends = [*heads[1:], len(table)][: len(heads)]
            rows = self._rows[table.KIND] = {
                code: order[head:end]
                for code, head, end in zip(grouped.codes.tolist(), heads, ends, strict=True)
            }
        return rows

    def _without_halts(self, tape: Tape, instrument_id: str) -> Tape:
        """Return the rows at which the instrument is open."""
        changes = self._changes.get(instrument_id, [])
        state = self._states.get(instrument_id, InstrumentState.OPEN)
        if not changes and state is InstrumentState.OPEN:
            return tape
        edges = np.array([-1, *(pos for pos, _ in changes)])
        is_open = np.array([s is InstrumentState.OPEN for s in (state, *(s for _, s in changes))])
        return tape.only(is_open[edges.searchsorted(tape.pos, side="right") - 1])

    def last_states(self) -> dict[str, InstrumentState]:
        """Return the state of every instrument whose state changed in the batch, at its end."""
        return {instrument_id: changes[-1][1] for instrument_id, changes in self._changes.items()}

    def last_sides(self) -> dict[str, Sides]:
        """Return the last known prices of every instrument that the batch has on its tier."""
        batch = self._batch
        instruments = batch.universe.instruments
        found: dict[str, Sides] = {}
        for table in (batch.trades, batch.quotes, batch.bars):
            if not len(table):
                continue
            indexes, rows = _last_rows(table, len(instruments))
            good = self._usable.rows(table.take(rows))
            for i, (index, row) in enumerate(zip(indexes, rows.tolist(), strict=True)):
                instrument_id = instruments[index].instrument_id
                if table_of(batch, self._config.tier(instrument_id)) is not table:
                    continue
                if good is None or good[i]:
                    found[instrument_id] = _sides(table, row)
                    continue
                market = self.market(index)
                sides = None if market is None else market.known.sides_before(len(batch))
                if sides is not None:
                    found[instrument_id] = sides
        return found


def table_of(batch: MarketBatch, tier: str) -> Columns:
    """Return the table whose events fill orders on ``tier``."""
    if tier == QUOTE:
        return batch.quotes
    return batch.bars if tier == BAR else batch.trades


def _changes(batch: MarketBatch) -> dict[str, list[tuple[int, InstrumentState]]]:
    changes: dict[str, list[tuple[int, InstrumentState]]] = {}
    for pos, _, record in batch.records:
        if isinstance(record, InstrumentStatus):
            changes.setdefault(record.instrument_id, []).append((pos, record.state))
    return changes


def _last_rows(table: Columns, count: int) -> tuple[list[int], Rows]:
    """Return which of ``count`` instruments ``table`` has, and the last row of each."""
    if count == 1:
        return [0], np.array([len(table) - 1])
    last = np.full(count, -1, np.intp)
    # An instrument's rows are written in order, so its last one stays.
    last[table.instrument] = np.arange(len(table))
    indexes = np.flatnonzero(last >= 0)
    return indexes.tolist(), last[indexes]


def _sides(table: Columns, row: int) -> Sides:
    if isinstance(table, QuoteColumns):
        return float(table.bid[row]), float(table.ask[row])
    assert isinstance(table, TradeColumns | BarColumns)
    price = float(table.price[row] if isinstance(table, TradeColumns) else table.close[row])
    return price, price
