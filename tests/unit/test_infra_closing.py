"""How a run over a recording ends: time goes on until its last bar is closed."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest

from infra.data import open_whole
from infra.serve import LiveRun, open_run
from infra.settings import MarketSettings, Settings, SourceSettings
from schemas.commands import SubmitOrder
from schemas.enums import OrderType, Side, TimeInForce
from schemas.market_data import CLOSING_SOURCE, Bar, Trade, Watermark
from schemas.order_events import OrderExpired
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    ORDER_EVENTS,
    PORTFOLIO_EQUITY,
)
from streams.journal import JournalReader
from tests.generated import DAY_NS, START_NS, trades, universe, write_csv

EVENTS = 300
MINUTE_NS = 60_000_000_000


@pytest.fixture(name="data")
def fixture_data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "gen.csv", trades(universe(), EVENTS, days=1))


def opened(data: Path, folder: Path) -> LiveRun:
    """Return a run that makes bars of a minute, ready to start or to continue."""
    source = SourceSettings(data=str(data), speed=0)
    return open_run(
        Settings(source=source, market=MarketSettings(intervals=("1m",))), folder, "run"
    )


def play(live: LiveRun, turns: int = 1_000_000) -> None:
    """Take turns until the recording is over, without an end of the run itself."""
    while turns and live.runner.turn():
        turns -= 1
    live.runner.close()


def test_last_bar_of_a_recording_is_closed_without_an_end_of_the_run(
    data: Path, tmp_path: Path
) -> None:
    live = opened(data, tmp_path / "run")
    play(live)

    journal = JournalReader(tmp_path / "run" / "journal")
    events = [record for _, record in journal.read(MARKET_EVENTS, 0, 10_000)]
    bars = [record for _, record in journal.read(MARKET_BARS, 0, 10_000)]
    assert isinstance(events[-2], Trade)
    last_ns = events[-2].ts_event_ns
    end_ns = -(-last_ns // MINUTE_NS) * MINUTE_NS
    assert live.feed.is_done
    assert len(events) == live.total == live.feed.played_events == EVENTS + 1
    assert isinstance(events[-1], Watermark)
    assert events[-1].ts_event_ns == last_ns + MINUTE_NS - 1
    assert isinstance(bars[-1], Bar)
    assert (bars[-1].ts_event_ns, bars[-1].is_partial) == (end_ns, False)


async def test_order_of_the_day_expires_at_the_end_of_a_recording(tmp_path: Path) -> None:
    last_ns = START_NS + DAY_NS - MINUTE_NS // 2
    table = tmp_path / "late.csv"
    table.write_text(f"timestamp,symbol,price,size\n{last_ns},GEN,100.0,10\n")
    live = opened(table, tmp_path / "run")
    order = SubmitOrder(
        event_id="web:1",
        ts_event_ns=last_ns,
        correlation_id="",
        causation_id="",
        account_id="paper",
        strategy_id="manual",
        client_order_id="day",
        instrument_id=live.runner.engine.universe.instruments[0].instrument_id,
        side=Side.BUY,
        quantity=Decimal(1),
        order_type=OrderType.LIMIT,
        limit_price=Decimal(90),
        time_in_force=TimeInForce.DAY,
    )

    asking = asyncio.create_task(live.runner.publish(ACCOUNT_INPUTS, order))
    await asyncio.sleep(0)
    play(live)
    await asking

    journal = JournalReader(tmp_path / "run" / "journal")
    told = [record for _, record in journal.read(ORDER_EVENTS, 0, 100)]
    assert isinstance(told[-1], OrderExpired)
    assert told[-1].ts_event_ns == START_NS + DAY_NS


def test_run_that_is_continued_closes_its_recording_once(data: Path, tmp_path: Path) -> None:
    play(opened(data, tmp_path / "whole"))
    live = opened(data, tmp_path / "run")
    live.runner.close()  # before the first event
    for _ in range(3):
        live = opened(data, tmp_path / "run")
        play(live)

    whole, cut = (JournalReader(tmp_path / name / "journal") for name in ("whole", "run"))
    assert live.runner.recovered_events == EVENTS + 1
    for topic in (MARKET_EVENTS, MARKET_BARS, PORTFOLIO_EQUITY):
        assert cut.read(topic, 0, 10_000) == whole.read(topic, 0, 10_000)


def test_run_that_was_closed_is_the_data_that_it_played(data: Path, tmp_path: Path) -> None:
    play(opened(data, tmp_path / "run"))

    recorded = open_whole(str(tmp_path / "run"))

    records = [r for batch in recorded.batches() for _, _, r in batch.records]
    assert sum(len(batch) for batch in recorded.batches()) == EVENTS
    assert not [r for r in records if getattr(r, "source", "") == CLOSING_SOURCE]
