"""The market stage equals a plain event-by-event one, for every cut and every restart."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal
from typing import Any

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agents.market.config import MarketConfig
from agents.market.stage import MarketOutput, MarketStage
from schemas.columns import BarColumns, MarketBatch, QuoteColumns, TradeColumns
from schemas.enums import CorporateActionKind
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.market_data import INTERVAL_NS, INTERVALS, Watermark
from schemas.sessions import SessionTable
from streams.calendars import zone_days
from tests.unit.market_reference import SECOND, SESSIONS, Event, Reference

BASE = SESSIONS[0][0] - 400 * SECOND
CONFIG = MarketConfig(
    intervals=("1s", "1m", "5m", "1h", "1d"), correction_bars=3, reference_interval_s=2.0
)
OPENS, CLOSES = (np.array(column, np.int64) for column in zip(*SESSIONS, strict=True))
TABLES = {
    "XNYS": SessionTable(OPENS, CLOSES, np.array([20210305, 20210308], np.int64)),
    **{
        zone: zone_days(zone, date(2021, 2, 20), date(2021, 3, 25))
        for zone in ("America/New_York", "Asia/Kolkata")
    },
}


def make_universe() -> Universe:
    """Three instruments with different grids, calendars and time zones."""
    universe = Universe()
    for symbol, price, size, calendar, zone in (
        ("A", "0.01", "1", "XNYS", "America/New_York"),
        ("B", "0.05", "0.001", "", "Asia/Kolkata"),
        ("C", "0.0001", "100", "XNYS", "UTC"),
    ):
        universe.add(
            Instrument(
                instrument_id=f"{symbol}.X",
                symbol=symbol,
                venue="X",
                ts_event_ns=0,
                price_increment=Decimal(price),
                quantity_increment=Decimal(size),
                calendar=calendar,
                time_zone=zone,
            )
        )
    universe.source_index("file")
    return universe


def make_batch(universe: Universe, events: list[Event]) -> MarketBatch:
    """Return events as a batch; the sequence number of each is its position."""
    rows: dict[str, list[tuple[Any, ...]]] = {"trade": [], "quote": [], "bar": []}
    records: list[tuple[int, str, Header]] = []
    for pos, (kind, ts, *rest) in enumerate(events):
        if kind == "watermark":
            records.append((pos, "market.events.v1", Watermark(ts_event_ns=ts)))
        elif kind == "split":
            name = universe.instruments[rest[0]].instrument_id
            action = CorporateAction(
                instrument_id=name, ts_event_ns=ts, kind=CorporateActionKind.SPLIT, ratio=Decimal(2)
            )
            records.append((pos, "reference.actions.v1", action))
        elif kind == "bar":
            code, j, price, size, revision = rest
            values = (
                ts - INTERVAL_NS[j],
                j,
                price,
                price + 1,
                price - 0.01,
                price,
                size,
                price,
                3,
                False,
                revision,
            )
            rows[kind].append((pos, ts, code, 0, pos, *values))
        elif kind == "quote":
            rows[kind].append((pos, ts, rest[0], 0, pos, rest[1], rest[2], 1.0, 1.0))
        else:
            rows[kind].append((pos, ts, rest[0], 0, pos, rest[1], rest[2]))
    clock = np.maximum.accumulate(np.array([event[1] for event in events], np.int64))
    return MarketBatch(
        universe,
        clock,
        trades=table(TradeColumns, rows["trade"]),
        quotes=table(QuoteColumns, rows["quote"]),
        bars=table(BarColumns, rows["bar"]),
        records=records,
    )


def table(kind: Any, rows: list[tuple[Any, ...]]) -> Any:
    """Return rows as a column table."""
    if not rows:
        return kind.empty()
    columns = zip(*rows, strict=True)
    return kind(**{n: np.array(c) for n, c in zip(kind.names(), columns, strict=True)})


def flat(universe: Universe, outputs: list[tuple[int, MarketOutput]]) -> dict[str, list[Any]]:
    """Return outputs, each with the offset of its batch, as comparable rows."""
    out: dict[str, list[Any]] = {"bars": [], "prices": [], "quality": [], "indicators": []}
    for offset, part in outputs:
        columns = [getattr(part.bars, name).tolist() for name in BarColumns.names()]
        for pos, ts, code, source, *rest in zip(*columns, strict=True):
            out["bars"].append((pos + offset, ts, code, universe.sources[source], *rest))
        p = part.prices
        for row in zip(
            p.pos.tolist(), p.ts.tolist(), p.instrument.tolist(), p.price.tolist(), strict=True
        ):
            out["prices"].append((row[0] + offset, *row[1:]))
        out["quality"] += [(pos + offset, record) for pos, record in part.quality]
        out["indicators"] += [(pos + offset, record) for pos, record in part.indicators]
    return out


def run(
    universe: Universe, config: MarketConfig, batch: MarketBatch, cuts: list[tuple[int, bool]]
) -> tuple[dict[str, list[Any]], bytes]:
    """Run a stream in pieces; a cut says whether a restored stage goes on from there."""
    stage = MarketStage(universe, config, TABLES)
    outputs = []
    bounds = sorted({at: restarts for at, restarts in cuts if 0 < at < len(batch)}.items())
    start = 0
    for stop, restarts in [*bounds, (len(batch), False)]:
        outputs.append((start, stage.process(batch.slice(start, stop))))
        start = stop
        if restarts:
            state = stage.snapshot()
            stage = MarketStage(universe, config, TABLES)
            stage.restore(state)
    state = stage.snapshot()
    outputs.append((10**6, stage.finish(int(batch.clock[-1]))))
    return flat(universe, outputs), state


prices_of = st.sampled_from([99.95, 100.0, 100.05, 101.3, 140.0, 60.0, 100.0, 100.05])
odd_prices = st.one_of(prices_of, st.sampled_from([0.0, -1.0, math.nan, math.inf]))
sizes = st.sampled_from([0.0, 1.0, 100.0, 700.0, -1.0])
codes = st.sampled_from([0, 1, 2])
bar_levels = st.sampled_from([2, 2, 2, 3, 6])


@st.composite
def streams(draw: st.DrawFn) -> list[Event]:
    """Draw events of several instruments: most in order, some late, some broken."""
    data = ("trade", "quote", "watermark", "split")
    kinds = draw(st.sampled_from([("trade",), data, ("bar", "watermark"), (*data, "bar")]))
    now = BASE + draw(st.integers(0, 10)) * SECOND
    events: list[Event] = []
    for _ in range(draw(st.integers(1, 60))):
        now += draw(
            st.sampled_from([0, 0, 1, SECOND // 3, SECOND, 7 * SECOND, 61 * SECOND, 3700 * SECOND])
        )
        behind = draw(
            st.sampled_from([0, 0, 0, 0, SECOND // 2, SECOND, 70 * SECOND, 4000 * SECOND])
        )
        kind, code, ts = draw(st.sampled_from(kinds)), draw(codes), now - behind
        if kind == "trade":
            events.append((kind, ts, code, draw(odd_prices), draw(sizes)))
        elif kind == "quote":
            events.append((kind, ts, code, draw(odd_prices), draw(odd_prices)))
        elif kind == "watermark":
            events.append((kind, now + draw(st.sampled_from([-1, 0, SECOND, 59 * SECOND]))))
        elif kind == "split":
            events.append((kind, now, code))
        else:
            j = draw(bar_levels)
            ts = ts // INTERVAL_NS[2] * INTERVAL_NS[2]
            revision = draw(st.sampled_from([0, 0, 0, 0, 1]))
            events.append((kind, ts, code, j, draw(prices_of), draw(sizes), revision))
    return events


LATE_OVER_MIDNIGHT: list[Event] = [
    ("trade", 1614991200 * SECOND, 0, 99.95, 0.0),
    ("trade", 1614987200 * SECOND, 1, 99.95, 0.0),
]


@settings(max_examples=300)
@given(events=streams(), cuts=st.lists(st.tuples(st.integers(0, 60), st.booleans()), max_size=8))
@example(events=LATE_OVER_MIDNIGHT, cuts=[])
def test_stage_for_any_stream_and_any_cut_equals_the_event_by_event_reference(
    events: list[Event], cuts: list[tuple[int, bool]]
) -> None:
    universe = make_universe()
    batch = make_batch(universe, events)
    whole, whole_state = run(universe, CONFIG, batch, [])
    parts, parts_state = run(universe, CONFIG, batch, cuts)
    assert parts == whole
    assert parts_state == whole_state

    reference = Reference(
        universe, tuple(INTERVALS.index(n) for n in CONFIG.intervals), 3, 2 * SECOND
    )
    for event in events:
        reference.handle(event)
    bars = reference.bars
    reference.bars = []
    reference.finish(int(batch.clock[-1]))
    bars += [(10**6, *row[1:]) for row in reference.bars]
    assert whole["bars"] == bars
    assert whole["prices"] == reference.prices
    seen = [
        (pos, str(r.kind), universe.index(r.instrument_id), r.measured, r.count)
        for pos, r in whole["quality"]
        if pos < 10**6
    ]
    assert sorted(seen) == sorted(reference.quality)
