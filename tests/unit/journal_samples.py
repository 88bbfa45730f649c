"""Random and fixed contents for the tests of the journal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from schemas.columns import (
    BarColumns,
    Columns,
    MarketBatch,
    PriceColumns,
    QuoteColumns,
    TradeColumns,
    merge,
)
from schemas.enums import InstrumentState
from schemas.envelope import Header
from schemas.identifiers import source_id
from schemas.instruments import Instrument, Universe
from schemas.market_data import (
    IndicatorValue,
    InstrumentStatus,
    ReferencePrice,
    Trade,
    Watermark,
)
from schemas.topics import ACCOUNT_INPUTS, MARKET_BARS, MARKET_EVENTS, MARKET_INDICATORS
from streams.journal import Entry, JournalReader, JournalWriter, Kind, encode_group

RUN = "run-1"
IDS = ("SPY.ARCX", "AAPL.XNAS", "ES.XCME")
TABLES: tuple[type[Columns], ...] = (TradeColumns, QuoteColumns, BarColumns, PriceColumns)

Items = list[tuple[str, Header]]


class Write(NamedTuple):
    """One call of the writer: what to append, and where."""

    kind: Kind
    topic: str
    content: Any


def make_universe(ids: Sequence[str] = IDS, sources: Sequence[str] = ("feed", "file")) -> Universe:
    """Return a universe with these instruments and sources, in this order."""
    universe = Universe(
        [
            Instrument(
                instrument_id=name,
                symbol=name.partition(".")[0],
                venue=name.partition(".")[2],
                ts_event_ns=0,
            )
            for name in ids
        ]
    )
    for source in sources:
        universe.source_index(source)
    return universe


def make_table(table_type: type[Columns], rows: int, seed: int = 0, start_ns: int = 0) -> Columns:
    """Return ``rows`` rows for the universe above, times rising with small steps back."""
    rng = np.random.default_rng(seed)
    values: dict[str, Any] = {
        "pos": np.arange(rows),
        "ts": start_ns + np.arange(rows) * 10 + rng.integers(-15, 15, rows),
        "instrument": rng.integers(0, len(IDS), rows),
        "source": rng.integers(0, 2, rows),
        "seq": np.arange(rows) + seed * 1000,
    }
    for name, dtype in table_type.VALUES:
        if dtype == "<f8":
            values[name] = rng.integers(1, 10_000, rows) / 100
        else:
            values[name] = rng.integers(0, 2, rows)
    return table_type(**values)


def make_trades(rows: int) -> TradeColumns:
    """Return ``rows`` trades."""
    table = make_table(TradeColumns, rows)
    assert isinstance(table, TradeColumns)
    return table


def make_trade(number: int, **changes: Any) -> Trade:
    """Return trade ``number`` of the source ``feed``."""
    fields: dict[str, Any] = {
        "event_id": source_id("feed", IDS[0], number),
        "ts_event_ns": 1_000 + number,
        "instrument_id": IDS[0],
        "price": 100.0 + number / 100,
        "size": 1.0,
        "source": "feed",
        "source_seq": number,
    }
    return Trade(**(fields | changes))


def make_items(count: int, seed: int = 0) -> Items:
    """Return records of several types on several topics, interleaved."""
    rng = np.random.default_rng(seed)
    items: Items = []
    for number in range(count):
        ts = 1_000 + number * 7
        match int(rng.integers(0, 5)):
            case 0:
                items.append((MARKET_EVENTS, make_trade(seed * 1000 + number, ts_event_ns=ts)))
            case 1:
                items.append((MARKET_EVENTS, Watermark(event_id=f"w{number}", ts_event_ns=ts)))
            case 2:
                value = IndicatorValue(
                    f"i{number}", ts, "c", f"e{number}", IDS[1], 'sma\n"20"', [float(number)]
                )
                items.append((MARKET_INDICATORS, value))
            case 3:
                price = ReferencePrice(f"p{number}", ts, "", f"e{number}", IDS[2], 4.5)
                items.append((ACCOUNT_INPUTS, price))
            case _:
                status = InstrumentStatus(
                    event_id=f"s{number}",
                    ts_event_ns=ts,
                    instrument_id=IDS[0],
                    state=InstrumentState.HALTED,
                    reason="größer",
                )
                items.append((MARKET_EVENTS, status))
    return items


def make_batch(universe: Universe, rows: int, seed: int = 0, start_ns: int = 0) -> MarketBatch:
    """Return a batch with all kinds of events, records of another topic among them."""
    tables = [
        make_table(kind, rows + index, seed + index, start_ns)
        for index, kind in enumerate(TABLES[:3])
    ]
    return merge(universe, tables, make_items(rows, seed))


def make_write(kind: Kind, size: int, seed: int, universe: Universe) -> Write:
    """Return one write of ``kind`` with about ``size`` records."""
    if kind is Kind.RECORDS:
        return Write(kind, "", make_items(size, seed))
    if kind is Kind.BATCH:
        return Write(kind, MARKET_EVENTS, make_batch(universe, size, seed))
    if kind is Kind.MARK:
        return Write(kind, f"mark-{seed % 3}", bytes(range(size)))
    table_type = TABLES[seed % 4]
    topic = (MARKET_EVENTS, MARKET_EVENTS, MARKET_BARS, ACCOUNT_INPUTS)[seed % 4]
    return Write(kind, topic, make_table(table_type, size, seed))


def writes(universe: Universe) -> st.SearchStrategy[list[Write]]:
    """Return a strategy of writes in random order and size."""
    kinds = st.sampled_from((Kind.RECORDS, Kind.COLUMNS, Kind.BATCH, Kind.MARK))
    one = st.tuples(kinds, st.integers(1, 12), st.integers(0, 50))
    return st.lists(one, min_size=1, max_size=8).map(
        lambda drawn: [make_write(kind, size, seed, universe) for kind, size, seed in drawn]
    )


def append(writer: JournalWriter, universe: Universe, write: Write) -> None:
    """Append one write."""
    if write.kind is Kind.RECORDS:
        writer.append_group(encode_group(write.content))
    elif write.kind is Kind.COLUMNS:
        writer.append_table(write.topic, universe, write.content)
    elif write.kind is Kind.BATCH:
        writer.append_batch(universe, write.content)
    else:
        writer.append_mark(write.topic, write.content)


def write_journal(folder: Path, universe: Universe, made: Sequence[Write], **options: Any) -> None:
    """Write a whole journal."""
    with JournalWriter.open(folder, run_id=RUN, sync_interval_s=None, **options) as writer:
        for write in made:
            append(writer, universe, write)


def plain(value: Any, universe: Universe) -> Any:
    """Return a table, batch or mark as plain values that compare by ``==``, indexes as names."""
    if isinstance(value, Columns):
        columns = {name: getattr(value, name).tolist() for name in value.names()}
        columns["instrument"] = [universe.instruments[i].instrument_id for i in value.instrument]
        columns["source"] = [universe.sources[i] for i in value.source]
        return value.KIND, columns
    if isinstance(value, MarketBatch):
        tables = [plain(t, universe) for t in (value.trades, value.quotes, value.bars)]
        return value.clock.tolist(), value.first_offset, tables, value.records
    return value


def content(entry: Entry, universe: Universe) -> Any:
    """Return what an entry holds, as ``plain`` values."""
    if entry.kind is Kind.RECORDS:
        return entry.records()
    if entry.kind is Kind.COLUMNS:
        return plain(entry.table(universe), universe)
    if entry.kind is Kind.BATCH:
        return plain(entry.batch(universe), universe)
    return entry.mark()


def contents(reader: JournalReader, universe: Universe) -> list[Any]:
    """Return all entries with number, kind, topic, offset and content."""
    return [
        (entry.index, entry.kind, entry.topic, entry.offset, content(entry, universe))
        for entry in reader.entries()
    ]


def written(made: Sequence[Write], universe: Universe) -> list[tuple[Kind, Any]]:
    """Return kind and content that a journal of ``made`` should hold."""
    return [
        (w.kind, (w.topic, w.content) if w.kind is Kind.MARK else plain(w.content, universe))
        for w in made
    ]


def market_events(
    reader: JournalReader, universe: Universe, size: int, topics: frozenset[str]
) -> Any:
    """Return the events of all market batches as one list of clock and content."""
    events: list[Any] = []
    for batch in reader.market_batches(universe, size, with_topics=topics):
        assert batch.first_offset == len(events)
        assert len(batch) == size or len(batch) < size
        found: dict[int, Any] = {pos: (topic, record) for pos, topic, record in batch.records}
        for table in (batch.trades, batch.quotes, batch.bars):
            assert not len(table) or bool((np.diff(table.pos) > 0).all())
            _, columns = plain(table, universe)
            for row, pos in enumerate(columns.pop("pos")):
                assert pos not in found
                found[pos] = (table.KIND, {name: values[row] for name, values in columns.items()})
        events.extend((int(batch.clock[pos]), found[pos]) for pos in range(len(batch)))
    return events
