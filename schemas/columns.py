"""Market data as columns: what processors read, journals keep and importers write.

A ``MarketBatch`` is a run of consecutive market events in consumed order. Events of one kind stand
together in a table of numpy columns; the column ``pos`` says where in the batch each row stands, so
that the order of all events is kept. ``clock`` is the running maximum of event times: the time a
processor knows at each position. Cutting a stream into batches in another way never changes a value
in it.
"""

from __future__ import annotations

from functools import cache
from typing import ClassVar, Self

import numpy as np
import numpy.typing as npt

from schemas.envelope import Header
from schemas.identifiers import source_id
from schemas.instruments import Universe

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]


class Columns:
    """Base of the tables: rows of one kind, in consumed order.

    Every table has ``pos`` (int64, increasing, position in the batch), ``ts`` (int64, event time,
    ns UTC), ``instrument`` (int32, index into the universe), ``source`` (int32, index into the
    universe's sources) and ``seq`` (int64, sequence number in the source); subclasses add float64
    values.
    """

    KEYS: ClassVar[tuple[tuple[str, str], ...]] = (
        ("pos", "<i8"),
        ("ts", "<i8"),
        ("instrument", "<i4"),
        ("source", "<i4"),
        ("seq", "<i8"),
    )
    VALUES: ClassVar[tuple[tuple[str, str], ...]] = ()
    KIND: ClassVar[str] = ""

    __slots__ = ("instrument", "pos", "seq", "source", "ts")
    pos: Ints
    ts: Ints
    instrument: Codes
    source: Codes
    seq: Ints

    def __init__(self, **columns: npt.NDArray[np.generic]) -> None:
        for name, dtype in self.KEYS + self.VALUES:
            setattr(self, name, np.ascontiguousarray(columns[name], dtype=dtype))

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Return the names of all columns, keys first."""
        return tuple(name for name, _ in cls.KEYS + cls.VALUES)

    @classmethod
    def empty(cls) -> Self:
        """Return a table without rows."""
        out = object.__new__(cls)
        for name, array in _no_rows(cls.KEYS + cls.VALUES):
            setattr(out, name, array)
        return out

    @classmethod
    def concat(cls, tables: list[Self]) -> Self:
        """Return the rows of ``tables`` one after another, ``pos`` untouched."""
        if len(tables) == 1:
            return tables[0]
        if not tables:
            return cls.empty()
        return cls(
            **{name: np.concatenate([getattr(t, name) for t in tables]) for name in cls.names()}
        )

    def __len__(self) -> int:
        return len(self.pos)

    def take(
        self, rows: npt.NDArray[np.intp] | npt.NDArray[np.int64] | npt.NDArray[np.bool_] | slice
    ) -> Self:
        """Return the chosen rows, ``pos`` untouched; a slice shares memory."""
        out = object.__new__(type(self))
        for name in self.names():
            setattr(out, name, getattr(self, name)[rows])
        return out

    def moved(self, pos: Ints) -> Self:
        """Return the same rows at other positions."""
        out = self.take(slice(None))
        out.pos = pos
        return out


@cache
def _no_rows(
    layout: tuple[tuple[str, str], ...],
) -> tuple[tuple[str, npt.NDArray[np.generic]], ...]:
    """Return the columns of a table without rows: a live batch asks for several of them."""
    return tuple((name, np.empty(0, dtype)) for name, dtype in layout)


class TradeColumns(Columns):
    """Trades: ``price`` and ``size``, float64."""

    KIND = "trade"
    VALUES = (("price", "<f8"), ("size", "<f8"))
    __slots__ = ("price", "size")
    price: Floats
    size: Floats


class QuoteColumns(Columns):
    """Best bid and ask with sizes, float64; a side that does not exist has price 0."""

    KIND = "quote"
    VALUES = (("bid", "<f8"), ("ask", "<f8"), ("bid_size", "<f8"), ("ask_size", "<f8"))
    __slots__ = ("ask", "ask_size", "bid", "bid_size")
    bid: Floats
    ask: Floats
    bid_size: Floats
    ask_size: Floats


class BarColumns(Columns):
    """Bars: ``ts`` closes, ``start`` opens (int64 ns), ``interval`` is an index into INTERVALS."""

    KIND = "bar"
    VALUES = (
        ("start", "<i8"),
        ("interval", "<i4"),
        ("open", "<f8"),
        ("high", "<f8"),
        ("low", "<f8"),
        ("close", "<f8"),
        ("volume", "<f8"),
        ("vwap", "<f8"),
        ("count", "<i8"),
        ("partial", "|b1"),
        ("revision", "<i4"),
    )
    __slots__ = (
        "close",
        "count",
        "high",
        "interval",
        "low",
        "open",
        "partial",
        "revision",
        "start",
        "volume",
        "vwap",
    )
    start: Ints
    interval: Codes
    open: Floats
    high: Floats
    low: Floats
    close: Floats
    volume: Floats
    vwap: Floats
    count: Ints
    partial: npt.NDArray[np.bool_]
    revision: Codes


class PriceColumns(Columns):
    """Reference prices: one float64 ``price`` a row."""

    KIND = "price"
    VALUES = (("price", "<f8"),)
    __slots__ = ("price",)
    price: Floats


class EquityColumns(Columns):
    """Equity of accounts, one row a mark; ``source`` names the account, or ``account/strategy``.

    ``instrument`` is 0.

    Amounts are float64 in the account's base currency; ``drawdown`` is the fraction below the peak
    (0 or negative).
    """

    KIND = "equity"
    VALUES = (
        ("equity", "<f8"),
        ("cash", "<f8"),
        ("gross", "<f8"),
        ("net", "<f8"),
        ("drawdown", "<f8"),
    )
    __slots__ = ("cash", "drawdown", "equity", "gross", "net")
    equity: Floats
    cash: Floats
    gross: Floats
    net: Floats
    drawdown: Floats


class MarketBatch:
    """Consecutive market events in consumed order.

    ``clock`` is int64 ns, one entry an event, never falling. ``records`` holds what has no columns
    (status, books, watermarks, corporate actions, commands) as (position, topic, record), by
    position. ``first_offset`` is the number of events before this batch in the stream, so (stream,
    offset) names an event whatever the cut.
    """

    __slots__ = ("bars", "clock", "first_offset", "quotes", "records", "trades", "universe")

    def __init__(
        self,
        universe: Universe,
        clock: Ints,
        *,
        trades: TradeColumns | None = None,
        quotes: QuoteColumns | None = None,
        bars: BarColumns | None = None,
        records: list[tuple[int, str, Header]] | None = None,
        first_offset: int = 0,
    ) -> None:
        self.universe = universe
        self.clock = clock
        self.trades = trades if trades is not None else TradeColumns.empty()
        self.quotes = quotes if quotes is not None else QuoteColumns.empty()
        self.bars = bars if bars is not None else BarColumns.empty()
        self.records = records if records is not None else []
        self.first_offset = first_offset

    def __len__(self) -> int:
        return len(self.clock)

    def slice(self, start: int, stop: int) -> MarketBatch:
        """Return the events at positions ``start`` to ``stop`` as a batch of its own."""
        tables: list[Columns] = []
        for table in (self.trades, self.quotes, self.bars):
            first, last = np.searchsorted(table.pos, (start, stop))
            rows = table.take(slice(int(first), int(last)))
            rows.pos = rows.pos - start
            tables.append(rows)
        trades, quotes, bars = tables
        assert isinstance(trades, TradeColumns)
        assert isinstance(quotes, QuoteColumns)
        assert isinstance(bars, BarColumns)
        return MarketBatch(
            self.universe,
            self.clock[start:stop],
            trades=trades,
            quotes=quotes,
            bars=bars,
            records=[(p - start, topic, r) for p, topic, r in self.records if start <= p < stop],
            first_offset=self.first_offset + start,
        )

    def event_id(self, pos: int) -> str:
        """Return the id of the event at ``pos``; empty if none of the columns stands there."""
        for table in (self.trades, self.quotes, self.bars):
            n = len(table.pos)
            if not n:
                continue
            row = pos if n == len(self.clock) else int(table.pos.searchsorted(pos))
            if row < n and table.pos[row] == pos:
                universe = self.universe
                return source_id(
                    universe.sources[table.source[row]],
                    universe.instruments[table.instrument[row]].instrument_id,
                    int(table.seq[row]),
                )
        return ""


def merge(
    universe: Universe, tables: list[Columns], records: list[tuple[str, Header]] | None = None
) -> MarketBatch:
    """Merge whole tables (each in its own stream's order) into one batch.

    The key is the running maximum of event time within each table, then the order of ``tables``
    (its rank), then the row: so the order within a table never changes. ``records`` (corporate
    actions above all, which take effect before the data of their instant) come first at equal time,
    in the order given. Tables of one kind are joined.
    """
    extra = records or []
    times = np.array([getattr(r, "ts_event_ns", 0) for _, r in extra], dtype=np.int64)
    clocks = [np.maximum.accumulate(times) if extra else times]
    clocks += [np.maximum.accumulate(t.ts) if len(t) else t.ts for t in tables]
    clock = np.concatenate(clocks)
    order = np.argsort(clock, kind="stable")
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    by_kind: dict[str, list[Columns]] = {"trade": [], "quote": [], "bar": []}
    start = len(extra)
    for table in tables:
        by_kind[table.KIND].append(table.moved(place[start : start + len(table)]))
        start += len(table)
    joined: dict[str, Columns] = {}
    for kind, cls in (("trade", TradeColumns), ("quote", QuoteColumns), ("bar", BarColumns)):
        table = cls.concat(by_kind[kind])  # type: ignore[arg-type]
        joined[kind] = (
            table.take(np.argsort(table.pos, kind="stable")) if len(by_kind[kind]) > 1 else table
        )
    placed = [(int(place[i]), topic, record) for i, (topic, record) in enumerate(extra)]
    placed.sort(key=lambda item: item[0])
    return MarketBatch(
        universe,
        clock[order],
        trades=joined["trade"],  # type: ignore[arg-type]
        quotes=joined["quote"],  # type: ignore[arg-type]
        bars=joined["bar"],  # type: ignore[arg-type]
        records=placed,
    )
