"""Bars on hand-worked cases: what closes when, what is in it, and how it is corrected."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from agents.market.config import MarketConfig
from agents.market.stage import MarketOutput, MarketStage
from schemas.columns import BarColumns, MarketBatch, TradeColumns
from schemas.errors import ConfigError, DataError, RecordError
from schemas.identifiers import BAR_SOURCE, bar_id
from schemas.instruments import Instrument, Universe
from schemas.market_data import INTERVALS, Watermark
from schemas.rows import records_from_table
from schemas.sessions import SessionTable
from streams.calendars import zone_days

SECOND = 1_000_000_000
MINUTE = 60 * SECOND


def at(text: str, zone: str = "America/New_York") -> int:
    """Return a local time as ns UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * SECOND


def universe_of(**changes: object) -> Universe:
    """Return a universe of one instrument, A.X."""
    settings: dict[str, object] = {"time_zone": "America/New_York", **changes}
    return Universe(
        [Instrument(instrument_id="A.X", symbol="A", venue="X", ts_event_ns=0, **settings)]  # type: ignore[arg-type]
    )


def trades(universe: Universe, rows: list[tuple[int, float, float]], codes: int = 0) -> MarketBatch:
    """Return (time, price, size) rows as a batch."""
    ts, price, size = (np.array(column) for column in zip(*rows, strict=True))
    n = len(rows)
    table = TradeColumns(
        pos=np.arange(n),
        ts=ts,
        instrument=np.full(n, codes),
        source=np.full(n, universe.source_index("feed")),
        seq=np.arange(n),
        price=price,
        size=size,
    )
    return MarketBatch(universe, np.maximum.accumulate(ts), trades=table)


def stage_of(universe: Universe, *intervals: str, **settings: object) -> MarketStage:
    """Return a stage that builds ``intervals``."""
    sessions = {
        "XNYS": SessionTable(
            np.array([at("2021-03-12 09:30"), at("2021-03-15 09:30")]),
            np.array([at("2021-03-12 16:00"), at("2021-03-15 16:00")]),
            np.array([20210312, 20210315]),
        )
    }
    sessions |= {
        i.time_zone: zone_days(i.time_zone, date(2021, 3, 1), date(2021, 3, 31))
        for i in universe.instruments
    }
    config = MarketConfig(intervals=intervals, **settings)  # type: ignore[arg-type]
    return MarketStage(universe, config, sessions)


def rows(out: MarketOutput, *names: str) -> list[tuple[object, ...]]:
    """Return columns of the bars as rows."""
    return list(zip(*(getattr(out.bars, name).tolist() for name in names), strict=True))


def test_bar_of_four_trades_has_their_prices_volume_and_exact_vwap() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    prints = [
        (start, 10.0, 100.0),
        (start + SECOND, 10.05, 200.0),
        (start + 2 * SECOND, 9.99, 300.0),
        (start + 3 * SECOND, 10.01, 400.0),
        (start + MINUTE, 11.0, 1.0),
    ]
    out = stage_of(universe, "1m").process(trades(universe, prints))
    names = ("open", "high", "low", "close", "volume", "vwap", "count", "partial", "start", "ts")
    # 100 x 1000 + 200 x 1005 + 300 x 999 + 400 x 1001 = 1,001,100 cents; / 1000 shares.
    assert rows(out, *names) == [
        (10.0, 10.05, 9.99, 10.01, 1000.0, 1001.1 / 100, 4, False, start, start + MINUTE)
    ]
    assert out.bars.pos.tolist() == [4]


def test_trade_at_the_end_of_a_bar_opens_the_next_one() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    stage = stage_of(universe, "1m")
    out = stage.process(trades(universe, [(start, 1.0, 1.0), (start + MINUTE, 2.0, 1.0)]))
    assert rows(out, "close", "ts") == [(1.0, start + MINUTE)]
    assert rows(stage.finish(start + MINUTE), "open", "ts", "partial") == [
        (2.0, start + 2 * MINUTE, True)
    ]


def test_bar_closes_at_the_watermark_that_reaches_its_last_instant() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    stage = stage_of(universe, "1m")
    stage.process(trades(universe, [(start, 1.0, 1.0)]))
    marks = [start + MINUTE - 2, start + MINUTE - 1]
    records = [(pos, "market.events.v1", Watermark(ts_event_ns=ts)) for pos, ts in enumerate(marks)]
    out = stage.process(MarketBatch(universe, np.array(marks), records=list(records)))
    assert rows(out, "pos", "ts") == [(1, start + MINUTE)]


def test_first_bar_of_a_run_that_begins_inside_it_is_partial_and_the_next_is_not() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    prints = [(start + k * MINUTE + SECOND, 1.0, 1.0) for k in range(3)]
    out = stage_of(universe, "1m").process(trades(universe, prints))
    assert out.bars.partial.tolist() == [True, False]


def test_late_trade_makes_a_revision_that_equals_the_bar_of_ordered_trades() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    prints = [
        (start + 5 * SECOND, 10.0, 1.0),
        (start + 6 * SECOND, 11.0, 1.0),
        (start + MINUTE, 12.0, 1.0),
        (start + SECOND, 9.0, 2.0),
        (start + 59 * SECOND, 10.5, 4.0),
    ]
    out = stage_of(universe, "1m").process(trades(universe, prints))
    names = ("pos", "revision", "open", "high", "low", "close", "volume", "count")
    assert rows(out, *names) == [
        (2, 0, 10.0, 11.0, 10.0, 11.0, 2.0, 2),
        (3, 1, 9.0, 11.0, 9.0, 11.0, 4.0, 3),
        (4, 2, 9.0, 11.0, 9.0, 10.5, 8.0, 4),
    ]
    ids = [r.event_id for r in records_from_table(universe, out.bars, slice(None))]  # type: ignore[attr-defined]
    end = start + MINUTE
    assert ids == [bar_id("A.X", "1m", end, revision) for revision in range(3)]
    assert ids[1] == f"bar:A.X:1m:{end}.r1"


def test_late_trade_of_a_minute_without_trades_makes_its_bar_with_revision_1() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    prints = [(start, 1.0, 1.0), (start + 2 * MINUTE, 2.0, 1.0), (start + MINUTE, 3.0, 1.0)]
    out = stage_of(universe, "1m").process(trades(universe, prints))
    assert rows(out, "pos", "ts", "revision") == [
        (1, start + MINUTE, 0),
        (2, start + 2 * MINUTE, 1),
    ]


def test_trade_later_than_the_kept_bars_is_reported_and_corrects_nothing() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    prints = [(start + k * MINUTE, 1.0, 1.0) for k in range(5)] + [(start, 2.0, 1.0)]
    out = stage_of(universe, "1m", correction_bars=2).process(trades(universe, prints))
    assert out.bars.revision.tolist() == [0, 0, 0, 0]
    late = [r for pos, r in out.quality if r.kind == "LATE"]
    # The clock stands at 10:04; the oldest of the two kept bars ended at 10:03.
    assert [(r.measured, r.limit) for r in late] == [(240.0, 60.0)]


def test_daily_bar_holds_the_session_of_the_calendar_and_closes_at_its_end() -> None:
    universe = universe_of(calendar="XNYS")
    times = ["09:29:59", "09:30:00", "15:59:59", "16:00:00", "19:00:00"]
    prints = [(at(f"2021-03-12 {t}"), float(k + 1), 1.0) for k, t in enumerate(times)]
    out = stage_of(universe, "1d").process(trades(universe, prints))
    assert rows(out, "pos", "start", "ts", "open", "close", "volume") == [
        (3, at("2021-03-12 09:30"), at("2021-03-12 16:00"), 2.0, 3.0, 2.0)
    ]


def test_daily_bars_follow_the_session_over_the_change_to_daylight_saving_time() -> None:
    universe = universe_of(calendar="XNYS")
    prints = [(at(f"2021-03-{day} 09:30"), 1.0, 1.0) for day in (12, 15)]
    stage = stage_of(universe, "1d")
    first = stage.process(trades(universe, prints))
    last = stage.finish(at("2021-03-15 16:00"))
    starts = [first.bars.start[0], last.bars.start[0]]
    assert starts == [at("2021-03-12 09:30"), at("2021-03-15 09:30")]
    assert (starts[1] - starts[0]) // SECOND == 3 * 86400 - 3600
    assert last.bars.partial.tolist() == [False]


def test_daily_bar_without_a_calendar_is_the_utc_day() -> None:
    universe = universe_of()
    midnight = at("2021-03-13 00:00", "UTC")
    prints = [(midnight - 1, 1.0, 1.0), (midnight, 2.0, 1.0)]
    out = stage_of(universe, "1d").process(trades(universe, prints))
    assert out.bars.ts.tolist() == [midnight]


def test_hours_begin_at_whole_hours_of_the_instruments_zone() -> None:
    universe = universe_of(time_zone="Asia/Kolkata")
    first = at("2021-03-12 09:59", "Asia/Kolkata")
    out = stage_of(universe, "1h").process(
        trades(universe, [(first, 1.0, 1.0), (first + MINUTE, 2.0, 1.0)])
    )
    assert rows(out, "start", "ts") == [
        (at("2021-03-12 09:00", "Asia/Kolkata"), at("2021-03-12 10:00", "Asia/Kolkata"))
    ]


def test_daily_bar_of_a_calendar_without_sessions_raises_a_config_error() -> None:
    universe = universe_of(calendar="XLON")
    with pytest.raises(ConfigError, match="XLON"):
        stage_of(universe, "1d").process(trades(universe, [(at("2021-03-12 10:00"), 1.0, 1.0)]))


def test_daily_bar_far_outside_of_the_known_sessions_raises_a_data_error() -> None:
    universe = universe_of(calendar="XNYS")
    with pytest.raises(DataError, match="outside the sessions"):
        stage_of(universe, "1d").process(trades(universe, [(at("2022-03-12 10:00"), 1.0, 1.0)]))


def test_sums_beyond_64_bits_stay_exact() -> None:
    universe = universe_of(quantity_increment=Decimal("0.00000001"))
    start = at("2021-03-12 10:00")
    # Each print is worth 6e6 ticks x 7e11 units = 4.2e18, and three of them leave 64 bits.
    prints = [(start + k, 60_000.0, 7_000.0) for k in range(10)]
    prints += [(start + 10, 60_000.01, 7_000.0), (start + MINUTE, 1.0, 1.0)]
    whole = stage_of(universe, "1m", check_jumps=False).process(trades(universe, prints))
    exact = (6_000_000 * 10 + 6_000_001) / 11 / 100
    assert whole.bars.vwap.tolist() == pytest.approx([exact], rel=1e-15)
    stage = stage_of(universe, "1m", check_jumps=False)
    batch = trades(universe, prints)
    parts = [stage.process(batch.slice(k, k + 1)) for k in range(len(batch))]
    assert parts[-1].bars.vwap.tolist() == whole.bars.vwap.tolist()


def test_bars_of_trades_stand_as_made_by_the_market_stage() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    out = stage_of(universe, "1m").process(
        trades(universe, [(start, 1.0, 1.0), (start + MINUTE, 1.0, 1.0)])
    )
    assert universe.sources[out.bars.source[0]] == BAR_SOURCE
    assert out.bars.seq.tolist() == [start + MINUTE]


def minute_bars(universe: Universe, ends: list[int], interval: str = "1m") -> MarketBatch:
    """Return bars that end at ``ends``, prices 1, 2, 3 and so on."""
    n = len(ends)
    ts = np.array(ends)
    price = np.arange(1.0, n + 1)
    table = BarColumns(
        pos=np.arange(n),
        ts=ts,
        instrument=np.zeros(n),
        source=np.full(n, universe.source_index("file")),
        seq=np.arange(n),
        start=ts - MINUTE,
        interval=np.full(n, INTERVALS.index(interval)),
        open=price,
        high=price,
        low=price,
        close=price,
        volume=np.full(n, 10.0),
        vwap=price,
        count=np.ones(n),
        partial=np.zeros(n, np.bool_),
        revision=np.zeros(n),
    )
    return MarketBatch(universe, np.maximum.accumulate(ts), bars=table)


def test_input_bars_go_out_unchanged_and_complete_a_coarser_bar_at_its_last_minute() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    batch = minute_bars(universe, [start + (k + 1) * MINUTE for k in range(5)])
    out = stage_of(universe, "1m", "5m").process(batch)
    assert out.bars.interval.tolist() == [2, 2, 2, 2, 2, 3]
    assert out.bars.pos.tolist() == [0, 1, 2, 3, 4, 4]
    assert rows(out, "open", "high", "low", "close", "volume", "vwap", "count", "partial")[-1] == (
        1.0,
        5.0,
        1.0,
        5.0,
        50.0,
        3.0,
        5,
        False,
    )


def test_coarser_bar_whose_last_minute_is_missing_closes_at_the_next_bar() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    batch = minute_bars(universe, [start + MINUTE, start + 7 * MINUTE])
    out = stage_of(universe, "5m").process(batch)
    assert rows(out, "pos", "interval", "ts") == [
        (0, 2, start + MINUTE),
        (1, 3, start + 5 * MINUTE),
        (1, 2, start + 7 * MINUTE),
    ]


def test_trades_take_the_place_of_input_bars_of_a_configured_interval() -> None:
    universe = universe_of()
    start = at("2021-03-12 10:00")
    stage = stage_of(universe, "1m")
    stage.process(trades(universe, [(start, 7.0, 1.0)]))
    out = stage.process(minute_bars(universe, [start + MINUTE]))
    assert rows(out, "close", "interval") == [(7.0, 2)]


def test_snapshot_restores_into_a_universe_of_another_order() -> None:
    start = at("2021-03-12 10:00")
    names = ("A", "B")
    universes = [
        Universe(
            [Instrument(instrument_id=f"{n}.X", symbol=n, venue="X", ts_event_ns=0) for n in order]
        )
        for order in (names, names[::-1])
    ]
    first = stage_of(universes[0], "1m")
    first.process(trades(universes[0], [(start, 5.0, 1.0)], codes=1))
    second = stage_of(universes[1], "1m")
    second.restore(first.snapshot())
    out = second.process(trades(universes[1], [(start + MINUTE, 6.0, 1.0)], codes=0))
    assert rows(out, "instrument", "close") == [(0, 5.0)]


def test_snapshot_of_other_intervals_is_refused() -> None:
    universe = universe_of()
    with pytest.raises(RecordError, match="does not fit"):
        stage_of(universe, "1m").restore(stage_of(universe, "5m").snapshot())


@pytest.mark.parametrize("intervals", [("2m",), ("1m", "1m")])
def test_unknown_or_repeated_interval_raises_a_config_error(intervals: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="intervals"):
        MarketConfig(intervals=intervals)
