"""Indicators over bars: what they are named, fed with and give; cuts and restarts do not show."""

from __future__ import annotations

from decimal import Decimal

import numpy as np
import pytest

from agents.market.config import MarketConfig
from agents.market.indicator_feed import parse
from agents.market.stage import MarketStage
from schemas.columns import MarketBatch
from schemas.enums import CorporateActionKind
from schemas.errors import ConfigError
from schemas.identifiers import bar_id, derived_id
from schemas.instruments import CorporateAction, Universe
from tests.unit.test_market_bars import MINUTE, at, minute_bars, trades, universe_of
from tests.unit.test_market_stage import run

START = at("2021-03-12 10:00")
EVERY = (
    "sma:2@1m",
    "ema:2@1m",
    "std:3@1m",
    "zscore:3@1m",
    "rsi:2@1m",
    "bollinger:3:1.5@1m",
    "min:2@1m",
    "max:2@1m",
    "median:3@1m",
    "donchian:2@1m",
    "atr:2@1m",
    "vwap@1m",
    "sma:2@5m",
)


def stage_of(universe: Universe, *specs: str) -> MarketStage:
    """Return a stage with indicators on minute bars."""
    config = MarketConfig(intervals=("1m",), indicators=specs, check_jumps=False)
    return MarketStage(universe, config, {})


def test_indicator_on_trade_built_bars_is_named_by_its_bar_and_starts_when_ready() -> None:
    universe = universe_of()
    prints = [(START + k * MINUTE, price, 1.0) for k, price in enumerate([10.0, 10.5, 11.5, 1.0])]
    out = stage_of(universe, "sma:2@1m").process(trades(universe, prints))
    assert [(pos, r.values, r.ts_event_ns) for pos, r in out.indicators] == [
        (2, [10.25], START + 2 * MINUTE),
        (3, [11.0], START + 3 * MINUTE),
    ]
    bar = bar_id("A.X", "1m", START + 2 * MINUTE)
    record = out.indicators[0][1]
    assert record.causation_id == bar
    assert record.event_id == derived_id("indicators:sma:2@1m", bar, 0)
    assert record.name == "sma:2@1m"


def test_corrections_are_not_fed_to_indicators() -> None:
    universe = universe_of()
    prints = [(START, 10.0, 1.0), (START + MINUTE, 11.0, 1.0), (START, 20.0, 1.0)]
    out = stage_of(universe, "sma:1@1m").process(trades(universe, prints))
    assert len(out.bars) == 2
    assert [r.values for _, r in out.indicators] == [[10.0]]


def test_session_vwap_begins_anew_each_day() -> None:
    universe = universe_of()
    midnight = at("2021-03-13 00:00", "UTC")
    batch = minute_bars(universe, [midnight - MINUTE, midnight, midnight + MINUTE])
    out = stage_of(universe, "vwap@1m").process(batch)
    assert [r.values for _, r in out.indicators] == [[1.0], [1.5], [3.0]]


def test_split_rescales_what_an_indicator_holds() -> None:
    universe = universe_of()
    stage = stage_of(universe, "sma:2@1m")
    stage.process(minute_bars(universe, [START]))
    action = CorporateAction(
        instrument_id="A.X", ts_event_ns=START, kind=CorporateActionKind.SPLIT, ratio=Decimal(2)
    )
    clock = np.array([START])
    stage.process(MarketBatch(universe, clock, records=[(0, "reference.actions.v1", action)]))
    out = stage.process(minute_bars(universe, [START + MINUTE]))
    assert [r.values for _, r in out.indicators] == [[0.75]]


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("restarts", [False, True])
def test_indicators_are_the_same_for_every_cut_and_restart(size: int, restarts: bool) -> None:
    universe = universe_of()
    rng = np.random.default_rng(7)
    steps = rng.integers(1, 90, 200).cumsum() * 1_000_000_000
    prices = 100 + np.round(rng.normal(0, 1, 200), 2)
    prints = [(START + int(t), float(p), 10.0) for t, p in zip(steps, prices, strict=True)]
    config = MarketConfig(intervals=("1m", "5m"), indicators=EVERY)
    batch = trades(universe, prints)
    whole, state = run(universe, config, batch, [])
    cuts = [(k, restarts) for k in range(0, len(batch), size)]
    parts, parts_state = run(universe, config, batch, cuts)
    assert {r.name for _, r in whole["indicators"]} == set(EVERY)
    assert parts["indicators"] == whole["indicators"]
    assert parts_state == state


@pytest.mark.parametrize(
    "text", ["sma:20", "sma:20@2m", "nothing@1m", "sma:x@1m", "sma:1:2@1m", "sma@1m"]
)
def test_specification_that_names_no_indicator_raises_a_config_error(text: str) -> None:
    with pytest.raises(ConfigError, match="indicators"):
        parse(text)


@pytest.mark.parametrize("text", EVERY)
def test_specification_is_taken_apart(text: str) -> None:
    assert parse(text).text == text
