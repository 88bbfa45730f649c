"""Data-quality records and reference prices on hand-worked cases."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np

from agents.market.config import MarketConfig
from agents.market.stage import MarketStage
from schemas.columns import MarketBatch
from schemas.enums import CorporateActionKind
from schemas.identifiers import derived_id
from schemas.instruments import CorporateAction, Universe
from schemas.market_data import DataQuality
from tests.unit.test_market_bars import MINUTE, SECOND, at, minute_bars, trades, universe_of
from tests.unit.test_market_stage import make_batch

START = at("2021-03-12 10:00")


def stage_of(universe: Universe, **settings: object) -> MarketStage:
    """Return a stage that builds minute bars."""
    return MarketStage(universe, MarketConfig(intervals=("1m",), **settings), {})  # type: ignore[arg-type]


def faults(universe: Universe, batch: MarketBatch, **settings: object) -> list[DataQuality]:
    """Return the quality records of a batch."""
    return [record for _, record in stage_of(universe, **settings).process(batch).quality]


def split_at(ts: int) -> CorporateAction:
    """Return a split of A.X, two for one."""
    return CorporateAction(
        instrument_id="A.X", ts_event_ns=ts, kind=CorporateActionKind.SPLIT, ratio=Decimal(2)
    )


def test_invalid_trades_are_left_out_and_reported_once_a_minute_with_their_number() -> None:
    universe = universe_of()
    bad = [math.nan, 0.0, -1.0, math.inf]
    rows = [(START, 10.0, 1.0), *((START + k + 1, price, 1.0) for k, price in enumerate(bad))]
    rows += [(START + MINUTE, 10.0, -5.0), (START + MINUTE + 1, 11.0, 1.0)]
    stage = stage_of(universe)
    out = stage.process(trades(universe, rows))
    assert [(pos, r.kind, r.count) for pos, r in out.quality] == [
        (1, "INVALID", 1),
        (5, "INVALID", 4),
    ]
    assert "price nan" in out.quality[0][1].detail
    assert out.quality[0][1].measured == 0.0
    assert out.bars.count.tolist() == [1]
    assert stage.finish(START + 2 * MINUTE).bars.close.tolist() == [11.0]


def test_quality_record_is_named_by_the_event_that_caused_it() -> None:
    universe = universe_of()
    (record,) = faults(universe, trades(universe, [(START, -1.0, 1.0)]))
    assert record.causation_id == "feed:A.X:0"
    assert record.event_id == derived_id("quality:INVALID", "feed:A.X:0", 0)


def test_unreported_faults_are_reported_at_the_end_of_the_run() -> None:
    universe = universe_of()
    stage = stage_of(universe)
    stage.process(trades(universe, [(START + k, -1.0, 1.0) for k in range(3)]))
    assert [(r.kind, r.count) for _, r in stage.finish(START + MINUTE).quality] == [("INVALID", 2)]
    assert stage.finish(START + MINUTE).quality == []


def test_earlier_trade_is_out_of_order_and_tells_by_how_much() -> None:
    universe = universe_of()
    (record,) = faults(universe, trades(universe, [(START + SECOND, 1.0, 1.0), (START, 1.0, 1.0)]))
    assert (record.kind, record.measured, record.limit) == ("OUT_OF_ORDER", 1.0, 0.0)


def test_crossed_quote_is_reported_and_a_locked_or_one_sided_one_is_not() -> None:
    universe = universe_of()
    universe.source_index("file")
    quotes = [
        ("quote", START + k, 0, bid, ask)
        for k, (bid, ask) in enumerate([(10.0, 10.0), (10.0, 0.0)])
    ]
    assert faults(universe, make_batch(universe, list(quotes))) == []
    (record,) = faults(universe, make_batch(universe, [("quote", START, 0, 10.5, 10.25)]))
    assert (record.kind, record.measured) == ("CROSSED", 0.25)


def test_jump_is_reported_unless_a_split_lies_between() -> None:
    universe = universe_of()
    rows = [(START, 100.0, 1.0), (START + SECOND, 50.0, 1.0)]
    (record,) = faults(universe, trades(universe, rows))
    assert (record.kind, record.measured, record.limit) == ("JUMP", 0.5, 0.25)
    assert faults(universe, trades(universe, rows), actions=(split_at(START + SECOND),)) == []
    assert len(faults(universe, trades(universe, rows), actions=(split_at(START),))) == 1


def test_split_in_the_stream_before_the_next_batch_explains_the_jump() -> None:
    universe = universe_of()
    stage = stage_of(universe)
    stage.process(trades(universe, [(START, 100.0, 1.0)]))
    clock = np.array([START + SECOND])
    stage.process(
        MarketBatch(universe, clock, records=[(0, "reference.actions.v1", split_at(START))])
    )
    assert stage.process(trades(universe, [(START + SECOND, 50.0, 1.0)])).quality == []
    assert len(stage.process(trades(universe, [(START + SECOND, 100.0, 1.0)])).quality) == 1


def test_price_rise_by_exactly_the_limit_is_no_jump() -> None:
    universe = universe_of()
    assert faults(universe, trades(universe, [(START, 100.0, 1.0), (START + 1, 125.0, 1.0)])) == []


def test_checks_that_are_switched_off_report_nothing() -> None:
    universe = universe_of()
    batch = trades(universe, [(START + SECOND, 100.0, 1.0), (START, 10.0, 1.0)])
    assert len(faults(universe, batch)) == 2
    assert faults(universe, batch, check_order=False, check_jumps=False) == []


def test_reference_prices_come_once_in_an_interval_of_event_time() -> None:
    universe = universe_of()
    half = SECOND // 2
    rows = [(START + k * half, float(k + 1), 1.0) for k in range(5)]
    out = stage_of(universe, check_jumps=False).process(trades(universe, rows))
    assert out.prices.pos.tolist() == [0, 2, 4]
    assert out.prices.price.tolist() == [1.0, 3.0, 5.0]
    assert out.prices.seq.tolist() == [0, 2, 4]


def test_reference_price_of_a_two_sided_quote_is_its_middle_and_of_one_side_none() -> None:
    universe = universe_of()
    universe.source_index("file")
    events = [("quote", START, 0, 10.0, 0.0), ("quote", START, 0, 10.0, 10.5)]
    out = stage_of(universe).process(make_batch(universe, list(events)))
    assert list(zip(out.prices.pos.tolist(), out.prices.price.tolist(), strict=True)) == [
        (1, 10.25)
    ]


def test_every_input_bar_gives_a_reference_price() -> None:
    universe = universe_of()
    batch = minute_bars(universe, [START + MINUTE, START + MINUTE, START + 2 * MINUTE])
    out = stage_of(universe, check_jumps=False).process(batch)
    assert out.prices.price.tolist() == [1.0, 2.0, 3.0]
