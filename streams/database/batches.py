"""Records and columns in, rows out: the core of every sink, whatever it reads from.

A batch gathers what goes into the database in one transaction, and the places behind it. Building
it waits for nothing and asks for nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from schemas.codec import encode
from schemas.columns import (
    BarColumns,
    Codes,
    Columns,
    EquityColumns,
    Ints,
    QuoteColumns,
    TradeColumns,
)
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.market_data import INTERVAL_NS, INTERVALS
from streams.database.copying import Block, Column, Text, same_text, text_of
from streams.database.tables import (
    EQUITY,
    FLOW_BY_SOURCE,
    QUOTES,
    SERIES_BY_KIND,
    SERIES_BY_SOURCE,
    TRADES,
    Flow,
    Series,
)

Place = tuple[str, int]
"""A topic and a partition of it."""

_LENGTH_OF = dict(zip(INTERVALS, INTERVAL_NS, strict=True))
_NUL = re.compile(rb"(?<!\\)((?:\\\\)*)\\u0000")
_DIGITS_MAX = 1000
_NAMES_FEW = 256


class Reject(NamedTuple):
    """A record that no table takes."""

    topic: str
    partition: int
    offset: int
    reason: str
    body: bytes


class FlowRow(NamedTuple):
    """One row of a flow table, and the topic it comes from."""

    topic: str
    values: tuple[Any, ...]


class Batch:
    """Rows for one transaction. ``places`` are the offsets behind them, ``state`` what goes along.

    ``default_run_id`` is the run of records that name none.
    """

    def __init__(self, default_run_id: str) -> None:
        self.run_id = default_run_id
        self.blocks: list[Block] = []
        self.flows: dict[str, list[FlowRow]] = {}
        self.rejects: list[Reject] = []
        self.places: dict[Place, int] = {}
        self.states: dict[Place, dict[str, int]] = {}
        self.rows = 0

    def __bool__(self) -> bool:
        return bool(self.places)

    def add_table(
        self, universe: Universe, table: Columns, offsets: Ints, *, partition: int = 0
    ) -> None:
        """Add rows of columns; ``offsets`` are those of the rows in their topic."""
        series = SERIES_BY_KIND.get(table.KIND)
        if series is None or not len(table):
            return
        columns = (
            same_text(self.run_id, len(table)),
            table.ts,
            *_columns_of(universe, table),
            np.full(len(table), partition, np.int32),
            offsets,
        )
        self._add_block(series, columns, len(table))

    def add_records(self, topic: str, partition: int, items: Sequence[tuple[int, Header]]) -> None:
        """Add single records of a topic with their offsets; what has no table is left out."""
        by_series: dict[str, tuple[Series, list[tuple[int, Any]]]] = {}
        for offset, record in items:
            series = SERIES_BY_SOURCE.get((topic, type(record)))
            if series is not None:
                by_series.setdefault(series.relation, (series, []))[1].append((offset, record))
                continue
            flow = FLOW_BY_SOURCE.get((topic, type(record)))
            if flow is not None:
                self._add_flow(flow, topic, partition, offset, record)
        for series, found in by_series.values():
            self._add_series(series, topic, partition, found)

    def _add_series(
        self, series: Series, topic: str, partition: int, items: list[tuple[int, Any]]
    ) -> None:
        """Add records of one series as columns."""
        try:
            columns = _columns_of_records(series, self.run_id, partition, items)
        except (OverflowError, KeyError) as error:
            if len(items) == 1:
                offset, record = items[0]
                self.rejects.append(Reject(topic, partition, offset, f"{error!r}", encode(record)))
                return
            middle = len(items) // 2
            self._add_series(series, topic, partition, items[:middle])
            self._add_series(series, topic, partition, items[middle:])
            return
        self._add_block(series, columns, len(items))

    def _add_block(self, series: Series, columns: Sequence[Column], rows: int) -> None:
        self.blocks.append(Block(series, tuple(columns), rows))
        self.rows += rows

    def _add_flow(self, flow: Flow, topic: str, partition: int, offset: int, record: Any) -> None:
        fields = [_value(getattr(record, name, None)) for name in flow.fields]
        for name, value in zip(flow.fields, fields, strict=True):
            if isinstance(value, Decimal) and not _fits(value):
                # The driver would write another number, and say nothing.
                reason = f"{name} is {value!s:.40}: no column holds such a number"
                self.rejects.append(Reject(topic, partition, offset, reason, encode(record)))
                return
        values = (
            _clean(record.run_id) or self.run_id,
            record.ts_event_ns,
            # A record that nobody gave a name is named by its place, as Kafka's market events are.
            _clean(record.event_id) or f"{topic}/{partition}/{offset}",
            partition,
            offset,
            record.__struct_config__.tag,
            _clean(record.correlation_id),
            _clean(record.causation_id),
            *fields,
            _json(encode(record)),
        )
        self.flows.setdefault(flow.relation, []).append(FlowRow(topic, values))
        self.rows += 1


def _clean(text: str) -> str:
    return text.replace("\x00", "\ufffd") if "\x00" in text else text


def _fits(value: Decimal) -> bool:
    return value.is_finite() and abs(value.adjusted()) < _DIGITS_MAX > len(value.as_tuple().digits)


def _value(value: Any) -> Any:
    """Return a field as the driver takes it: plain texts, no NUL."""
    return _clean(str(value)) if isinstance(value, str) else value


def _json(body: bytes) -> str:
    """Return JSON as PostgreSQL can take it apart: an escaped NUL becomes U+FFFD."""
    if b"\\u0000" in body:
        body = _NUL.sub(rb"\1\\ufffd", body)
    return body.decode()


def _columns_of(universe: Universe, table: Columns) -> list[Column]:
    """Return the columns between time and place."""
    if isinstance(table, EquityColumns):
        names = [universe.sources[code] for code in range(len(universe.sources))]
        pairs = [name.partition("/") for name in names]
        codes: Codes = table.source
        return [
            *_used(codes, [pair[0] for pair in pairs], [pair[2] for pair in pairs]),
            table.equity,
            table.cash,
            table.gross,
            table.net,
            table.drawdown,
        ]
    ids = [instrument.instrument_id for instrument in universe.instruments]
    (instrument,) = _used(table.instrument, ids)
    (source,) = _used(table.source, universe.sources)
    origin: list[Column] = [source, table.seq]
    if isinstance(table, TradeColumns):
        return [instrument, table.price, table.size, *origin]
    if isinstance(table, QuoteColumns):
        values = (table.bid, table.ask, table.bid_size, table.ask_size)
        return [instrument, *values, *origin]
    assert isinstance(table, BarColumns)  # the kinds of series are these four
    (interval,) = _used(table.interval, list(INTERVALS))
    prices = (table.open, table.high, table.low, table.close, table.volume, table.vwap)
    rest = (table.count, table.partial, table.revision)
    return [instrument, interval, table.start, *prices, *rest, *origin]


def _used(codes: Codes, *names: list[str]) -> list[Text]:
    """Return columns of texts; of many names only those that occur."""
    if max(map(len, names)) <= _NAMES_FEW:
        return [Text(codes, list(texts)) for texts in names]
    present, of_row = np.unique(codes, return_inverse=True)
    fresh = of_row.astype(np.int32)
    return [Text(fresh, [texts[code] for code in present.tolist()]) for texts in names]


def _columns_of_records(
    series: Series, run_id: str, partition: int, items: list[tuple[int, Any]]
) -> list[Column]:
    """Return records of one series as its columns; raises OverflowError or KeyError for bad ones.

    A bar's beginning is its end less the interval's length, as records do not tell it.
    """
    records = [record for _, record in items]

    def ints(name: str) -> npt.NDArray[np.int64]:
        return np.array([getattr(record, name) for record in records], np.int64)

    def floats(*names: str) -> list[Column]:
        return [np.array([getattr(r, name) for r in records], np.float64) for name in names]

    def texts(name: str) -> Text:
        return text_of([getattr(record, name) for record in records])

    ts = ints("ts_event_ns")
    place: list[Column] = [
        np.full(len(items), partition, np.int32),
        np.array([offset for offset, _ in items], np.int64),
    ]
    head: list[Column] = [text_of([record.run_id or run_id for record in records]), ts]
    if series is EQUITY:
        amounts = floats("equity", "cash", "gross_exposure", "net_exposure", "drawdown")
        return [*head, texts("account_id"), texts("strategy_id"), *amounts, *place]
    origins = [_origin(record, f"kafka/{partition}", offset) for offset, record in items]
    origin: list[Column] = [
        text_of([source for source, _ in origins]),
        np.array([seq for _, seq in origins], np.int64),
    ]
    if series is TRADES:
        return [*head, texts("instrument_id"), *floats("price", "size"), *origin, *place]
    if series is QUOTES:
        quoted = floats("bid_price", "ask_price", "bid_size", "ask_size")
        return [*head, texts("instrument_id"), *quoted, *origin, *place]
    lengths = np.array([_LENGTH_OF[record.interval] for record in records], np.int64)
    return [
        *head,
        texts("instrument_id"),
        texts("interval"),
        ts - lengths,
        *floats("open", "high", "low", "close", "volume", "vwap"),
        ints("trade_count"),
        np.array([record.is_partial for record in records], np.bool_),
        np.array([record.revision for record in records], np.int32),
        *origin,
        *place,
    ]


def _origin(record: Any, source: str, offset: int) -> tuple[str, int]:
    """Return where a market event comes from; one without a source is named by its place."""
    if record.source:
        return record.source, record.source_seq
    return source, offset
