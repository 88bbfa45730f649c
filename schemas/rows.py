"""Single market-data records to column rows and back.

A row of a table and a record hold the same values. A row knows its origin as (source, sequence
number); the record's event id is made of the two, so it comes back by ``source_id``. What columns
do not have (trade condition, receive time, run id, producer) is not carried over. A bar's record
tells its open instant only where that is not its close less the interval's length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from schemas.columns import (
    BarColumns,
    Columns,
    EquityColumns,
    PriceColumns,
    QuoteColumns,
    TradeColumns,
)
from schemas.envelope import Header, Record
from schemas.errors import DataError, RecordError
from schemas.identifiers import bar_row_id, source_id
from schemas.instruments import Universe
from schemas.market_data import INTERVAL_NS, INTERVALS, Bar, Quote, ReferencePrice, Trade
from schemas.portfolio import EquityMark

Rows = slice | npt.NDArray[np.int64] | npt.NDArray[np.intp]

TABLE_TYPES: tuple[type[Columns], ...] = (
    TradeColumns,
    QuoteColumns,
    BarColumns,
    PriceColumns,
    EquityColumns,
)
TABLE_BY_KIND: dict[str, type[Columns]] = {table.KIND: table for table in TABLE_TYPES}

KIND_BY_RECORD: dict[type[Any], str] = {
    Trade: "trade",
    Quote: "quote",
    Bar: "bar",
    ReferencePrice: "price",
}
"""Which table a record's type belongs to; records of other types have no columns."""

# Name of the column for each field of the record.
_FIELDS: dict[str, dict[str, str]] = {
    "trade": {"price": "price", "size": "size"},
    "quote": {
        "bid_price": "bid",
        "ask_price": "ask",
        "bid_size": "bid_size",
        "ask_size": "ask_size",
    },
    "bar": {
        "interval": "interval",
        "open": "open",
        "high": "high",
        "low": "low",
        "close": "close",
        "volume": "volume",
        "vwap": "vwap",
        "trade_count": "count",
        "is_partial": "partial",
        "revision": "revision",
    },
    "price": {"price": "price"},
}
_REVISION = list(_FIELDS["bar"]).index("revision")
_RECORD_BY_KIND = {kind: record for record, kind in KIND_BY_RECORD.items()}
_INTERVAL_INDEX = {name: index for index, name in enumerate(INTERVALS)}
_INTERVAL_LENGTHS = np.array(INTERVAL_NS, np.int64)


def records_from_table(universe: Universe, table: Columns, rows: Rows) -> list[Header]:
    """Return the chosen rows of ``table`` as records, in the order of ``rows``.

    The event id is ``source_id`` of the row's source, instrument and sequence number; a bar that
    the market stage made is named by ``bar_id``.
    """
    return records_from_rows(
        lambda code: universe.instruments[code].instrument_id,
        lambda code: universe.sources[code],
        table,
        rows,
    )


def records_from_rows(
    instrument_id: Callable[[int], str], source: Callable[[int], str], table: Columns, rows: Rows
) -> list[Header]:
    """Do what ``records_from_table`` does, with functions that look up names by code."""
    if not len(table):
        return []
    if isinstance(table, EquityColumns):
        return _equity_marks(source, table, rows)
    instruments = table.instrument[rows].tolist()
    sources = table.source[rows].tolist()
    ids = {code: instrument_id(code) for code in set(instruments)}
    names = {code: source(code) for code in set(sources)}
    make: type[Any] = _RECORD_BY_KIND[table.KIND]
    fields = _FIELDS[table.KIND]
    columns: list[list[Any]] = [getattr(table, name)[rows].tolist() for name in fields.values()]
    if isinstance(table, BarColumns):
        columns[0] = [INTERVALS[index] for index in columns[0]]
        starts = table.start[rows]
        is_usual = starts == table.ts[rows] - _INTERVAL_LENGTHS[table.interval[rows]]
        columns.append(np.where(is_usual, 0, starts).tolist())
        fields = {**fields, "start_ns": "start"}
    derived = {"correlation_id": "", "causation_id": ""} if issubclass(make, Record) else {}
    keys = tuple(fields)
    out: list[Header] = []
    is_bar = table.KIND == "bar"
    for code, origin, seq, ts, *values in zip(
        instruments,
        sources,
        table.seq[rows].tolist(),
        table.ts[rows].tolist(),
        *columns,
        strict=True,
    ):
        out.append(
            make(
                event_id=bar_row_id(names[origin], ids[code], values[0], seq, values[_REVISION])
                if is_bar
                else source_id(names[origin], ids[code], seq),
                ts_event_ns=ts,
                instrument_id=ids[code],
                source=names[origin],
                source_seq=seq,
                **derived,
                **dict(zip(keys, values, strict=True)),
            )
        )
    return out


def _equity_marks(source: Callable[[int], str], table: EquityColumns, rows: Rows) -> list[Header]:
    """Return equity rows as records; the source names the account, or account and strategy."""
    marks: list[Header] = []
    columns = (
        table.ts,
        table.source,
        table.equity,
        table.cash,
        table.gross,
        table.net,
        table.drawdown,
    )
    for ts, code, *values in zip(*(column[rows].tolist() for column in columns), strict=True):
        name = source(code)
        account_id, _, strategy_id = name.partition("/")
        event_id = f"equity:{name}:{ts}"
        marks.append(EquityMark(event_id, ts, event_id, "", account_id, strategy_id, *values))
    return marks


def table_from_records(universe: Universe, kind: str, records: Sequence[Header]) -> Columns:
    """Return ``records``, all of the type that ``kind`` names, as a table; ``pos`` counts from 0.

    Raises DataError for an instrument that the universe does not have, and RecordError for a record
    of another type or one whose source and sequence number are unknown.
    """
    want = _RECORD_BY_KIND[kind]
    for other in {type(record) for record in records} - {want}:
        raise RecordError(
            f"a {kind} table takes {want.__name__} records only",
            field="type",
            value=other.__name__,
            remedy="group the records by type first",
        )
    sources, numbers = _origins(records)
    names = [record.instrument_id for record in records]  # type: ignore[attr-defined]
    indexes = {name: _instrument_index(universe, name) for name in dict.fromkeys(names)}
    places = {name: universe.source_index(name) for name in dict.fromkeys(sources)}
    values: dict[str, list[Any]] = {
        "pos": list(range(len(records))),
        "ts": [record.ts_event_ns for record in records],  # type: ignore[attr-defined]
        "instrument": [indexes[name] for name in names],
        "source": [places[name] for name in sources],
        "seq": numbers,
    }
    for field, column in _FIELDS[kind].items():
        values[column] = [getattr(record, field) for record in records]
    if kind == "bar":
        values["interval"] = [_interval_index(name) for name in values["interval"]]
        values["start"] = [record.start_ns for record in records]  # type: ignore[attr-defined]
    table_type = TABLE_BY_KIND[kind]
    dtypes = dict(table_type.KEYS + table_type.VALUES)
    table = table_type(**{name: np.array(values[name], dtypes[name]) for name in dtypes})
    if isinstance(table, BarColumns):
        usual = table.ts - _INTERVAL_LENGTHS[table.interval]
        table.start = np.where(table.start != 0, table.start, usual)
    return table


def _origins(records: Sequence[Header]) -> tuple[list[str], list[int]]:
    """Return the source and the sequence number of each record."""
    sources = [record.source for record in records]
    if all(sources):
        return sources, [record.source_seq for record in records]
    origins = [_origin(record) for record in records]
    return [name for name, _ in origins], [seq for _, seq in origins]


def _origin(record: Header) -> tuple[str, int]:
    """Return source and sequence number of a record, from its fields or else from its id."""
    if record.source:
        return record.source, record.source_seq
    event_id: str = getattr(record, "event_id", "")
    head, _, seq = event_id.rpartition(":")
    source, _, instrument_id = head.rpartition(":")
    if source and instrument_id == getattr(record, "instrument_id", None) and seq.isdecimal():
        return source, int(seq)
    raise RecordError(
        "a market-data record without a source cannot stand in a table",
        field="event_id",
        value=event_id,
        remedy="set source and source_seq where the record comes in",
    )


def _instrument_index(universe: Universe, instrument_id: str) -> int:
    """Return the universe's index of an instrument; raises DataError if it has none."""
    index = universe.index(instrument_id)
    if index is None:
        raise DataError(
            "a record's instrument is not in the universe",
            field="instrument_id",
            value=instrument_id,
            remedy="add its definition to the universe, or publish it on reference.instruments.v1",
        )
    return index


def _interval_index(name: str) -> int:
    """Return the index of a bar interval; raises RecordError for one that does not exist."""
    index = _INTERVAL_INDEX.get(name)
    if index is None:
        raise RecordError(
            "unknown bar interval",
            field="interval",
            value=name,
            remedy=f"use one of {', '.join(INTERVALS)}",
        )
    return index
