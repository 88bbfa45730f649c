"""The live feed: what it lets in, how it numbers, when time moves, what it refuses and how."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.runners.engine import Engine
from agents.runners.live_feed import LiveFeed
from agents.runners.local import LocalRunner
from agents.runners.parity import rerun
from agents.runners.replay import Identity, manifest_of
from agents.strategy.builtin import BUILTIN
from infra.operating import market_fault
from schemas.columns import MarketBatch
from schemas.control import DeadLetter
from schemas.enums import InstrumentState
from schemas.envelope import Header
from schemas.errors import ConfigError
from schemas.instruments import Instrument, Universe
from schemas.market_data import Bar, BookSnapshot, InstrumentStatus, Watermark
from schemas.topics import MARKET_EVENTS, ORDER_FILLS, SYSTEM_DEAD_LETTERS
from streams.calendars import session_tables
from streams.journal import JournalReader
from tests.simulation.live_process import engine_config
from tests.unit.feed_samples import ID, START_NS, Clock, S, quote, trade, universe

KINDS = frozenset({"trade", "quote", "bar/1m"})
UNTIL_NS = START_NS + 10**17


def feed_of(clock: Clock, instruments: Universe | None = None, **changes: Any) -> LiveFeed:
    """Return a feed over one instrument with a lateness and an interval of one second."""
    changes |= {"now_ns": clock, "steady_ns": clock.steady, "until_ns": UNTIL_NS}
    return LiveFeed(instruments or universe(), "feed/test", KINDS, **changes)


def bar(**changes: Any) -> Bar:
    values: dict[str, Any] = {"open": 2.0, "high": 3.0, "low": 1.0, "close": 2.5}
    values |= {"volume": 10.0, "vwap": 2.0, "trade_count": 3, "interval": "1m"}
    return Bar(ts_event_ns=START_NS, instrument_id=ID, **(values | changes))


def letters(batch: MarketBatch | None) -> list[DeadLetter]:
    """Return the dead letters of a batch."""
    records = [] if batch is None else batch.records
    return [r for _, topic, r in records if topic == SYSTEM_DEAD_LETTERS]  # type: ignore[misc]


def watermarks(batch: MarketBatch | None) -> list[int]:
    """Return the promises of a batch, in s behind START_NS."""
    records = [] if batch is None else batch.records
    return [(r.ts_event_ns - START_NS) // S for _, _, r in records if isinstance(r, Watermark)]


# ---- what comes in


async def test_records_come_out_in_order_with_source_and_number() -> None:
    feed = feed_of(Clock())
    status = InstrumentStatus(
        ts_event_ns=START_NS, instrument_id=ID, state=InstrumentState("HALTED")
    )
    records: list[Header] = [trade(), quote(), status, bar(), trade(price=7.0)]
    for event in records:
        await feed(event)
    batch = feed.poll()
    assert batch is not None
    assert batch.trades.pos.tolist() == [0, 4]
    assert batch.trades.seq.tolist() == [0, 4]
    assert batch.trades.price.tolist() == [100.0, 7.0]
    assert (batch.quotes.pos.tolist(), batch.bars.pos.tolist()) == ([1], [3])
    ((pos, topic, record),) = batch.records
    assert (pos, topic, record.source, record.source_seq) == (2, MARKET_EVENTS, "feed/test", 2)
    assert record.ts_received_ns == START_NS
    assert batch.event_id(0) == f"feed/test:{ID}:0"
    assert feed.poll() is None


async def test_record_may_be_changed_and_emitted_again_by_its_maker() -> None:
    feed = feed_of(Clock())
    record = trade()
    await feed(record)
    record.price = 9.0
    await feed(record)
    batch = feed.poll()
    assert batch is not None
    assert (batch.trades.price.tolist(), batch.trades.seq.tolist()) == ([100.0, 9.0], [0, 1])
    assert (record.source, record.event_id) == ("", "")


async def test_numbers_go_on_behind_what_was_skipped() -> None:
    feed = feed_of(Clock())
    feed.skip(41)
    await feed(trade())
    batch = feed.poll()
    assert batch is not None
    assert batch.trades.seq.tolist() == [41]


async def test_emitter_waits_while_the_queue_is_full() -> None:
    feed = feed_of(Clock(), queue_events=2)
    arrivals: list[int] = []
    feed.on_arrival = lambda: arrivals.append(1)

    async def push() -> None:
        for n in range(5):
            await feed(trade(price=1.0 + n))

    pushing = asyncio.create_task(push())
    found: list[float] = []
    async with asyncio.timeout(20):
        while not pushing.done() or len(found) < 5:
            await asyncio.sleep(0)
            batch = feed.poll()
            if batch is not None:
                assert len(batch) <= 2
                found += batch.trades.price.tolist()
    assert found == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(arrivals) == 5


async def test_records_of_instruments_that_the_run_does_not_use_are_counted_only() -> None:
    feed = feed_of(Clock(), unselected=frozenset({"OTHER.XXXX"}))
    await feed(trade(instrument_id="OTHER.XXXX"))
    assert (feed.poll(), feed.unselected_events, feed.refused) == (None, 1, 0)


async def test_feed_is_done_when_its_adapter_ended_and_everything_was_taken() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    feed.end()
    before = feed.is_done
    assert feed.poll() is not None
    assert (before, feed.is_done) == (False, True)
    clock.go(100)
    assert feed.poll() is None


# ---- what is refused

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("record", "field"),
    [
        (trade(instrument_id="NONE.XXXX"), "instrument_id='NONE.XXXX'"),
        (trade(instrument_id=["a"]), "type='Trade'"),
        (trade(price=NAN), "price=nan"),
        (trade(price=INF), "price=inf"),
        (trade(price=0.0), "price=0.0"),
        (trade(price=-1.0), "price=-1.0"),
        (trade(price="100"), "type='Trade'"),
        (trade(price=None), "type='Trade'"),
        (trade(size=-1.0), "size=-1.0"),
        (trade(size=NAN), "size=nan"),
        (trade(ts_ns=START_NS + 6 * S), "ts_event_ns="),
        (trade(ts_ns=START_NS // 1000), "ts_event_ns="),
        (trade(ts_ns=-1), "ts_event_ns=-1"),
        (trade(ts_ns=2**70), f"ts_event_ns={2**70}"),
        (trade(ts_ns="now"), "type='Trade'"),  # type: ignore[arg-type]
        (trade(ts_ns=float(START_NS)), "type='Trade'"),  # type: ignore[arg-type]
        (quote(bid_price=-1.0), "bid_price=-1.0"),
        (quote(ask_size=INF), "ask_size=inf"),
        (bar(interval="2m"), "interval='2m'"),
        (bar(interval="5m"), "kinds='bar/5m'"),
        (bar(low=2.2), "low=2.2"),
        (bar(high=2.2), "high=2.2"),
        (bar(open=NAN), "open=nan"),
        (bar(volume=-1.0), "volume=-1.0"),
        (bar(trade_count=2**40), "trade_count="),
        (bar(trade_count=1.5), "type='Bar'"),
        (bar(start_ns=START_NS + S), "start_ns="),
        (bar(start_ns=-1), "start_ns="),
        (trade(price=1e300), "price=1e+300"),
        (trade(size=1e16), "size=1e+16"),
        (quote(bid_size=2.0**53), "bid_size="),
        (InstrumentStatus(ts_event_ns=START_NS, instrument_id=ID, state="NO"), "value="),  # type: ignore[arg-type]
        (Watermark(ts_event_ns=START_NS + 6 * S), "ts_event_ns="),
        (BookSnapshot(ts_event_ns=START_NS, instrument_id=ID, bids=[], asks=[]),
         "type='BookSnapshot'"),
        (Instrument(ts_event_ns=START_NS, instrument_id=ID, symbol="", venue=""),
         "type='Instrument'"),
    ],
)  # fmt: skip
async def test_record_that_cannot_be_used_becomes_a_dead_letter(record: Header, field: str) -> None:
    feed = feed_of(Clock())
    await feed(trade())
    await feed(record)
    await feed(trade())
    batch = feed.poll()
    assert batch is not None
    assert batch.trades.seq.tolist() == [0, 1]
    (letter,) = letters(batch)
    assert field in letter.reason
    assert "; " in letter.reason  # the remedy
    assert letter.value
    assert letter.topic == MARKET_EVENTS
    assert feed.refused == 1
    assert feed.last_reason == letter.reason


@pytest.mark.parametrize(
    "record",
    [
        trade(ts_ns=START_NS + 5 * S),
        trade(ts_ns=START_NS - 3600 * S),
        trade(ts_ns=np.int64(START_NS)),  # type: ignore[arg-type]
        trade(price=np.float64(3.0), size=0),
        quote(bid_price=0.0, bid_size=0.0),
        quote(bid_price=102.0),
        bar(vwap=0.0, volume=0.0, trade_count=0, low=2.0, open=2.0, close=2.0, high=2.0),
    ],
)
async def test_record_that_is_merely_doubtful_is_let_in(record: Header) -> None:
    feed = feed_of(Clock())
    await feed(record)
    batch = feed.poll()
    assert batch is not None
    assert (len(batch) - len(watermarks(batch)), feed.refused) == (1, 0)


async def test_dead_letters_have_ids_of_their_own_and_do_not_move_time() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    feed.poll()
    clock.go(0.9)
    await feed.refuse(b"a" * 10_000, "wrong")
    await feed.refuse(b"a", "wrong")
    batch = feed.poll()
    assert batch is not None
    first, second = letters(batch)
    assert first.event_id != second.event_id
    assert len(first.value) == 4096
    assert batch.clock.tolist() == [START_NS, START_NS]


async def test_flood_of_dead_letters_is_counted_and_the_count_is_told() -> None:
    clock = Clock()
    feed = feed_of(clock)
    feed.poll()
    for _ in range(1500):
        await feed.refuse(b"", "wrong")
    assert len(letters(feed.poll())) == 1000
    clock.go(60)
    (letter,) = letters(feed.poll())
    assert letter.reason.startswith("500 more were refused")
    await feed.refuse(b"", "wrong")
    assert len(letters(feed.poll())) == 1
    assert feed.refused == 1501


# ---- time


async def test_time_begins_with_the_first_record() -> None:
    clock = Clock()
    feed = feed_of(clock)
    clock.go(100)
    assert feed.poll() is None
    await feed(trade(clock.ns))
    assert watermarks(feed.poll()) == []


async def test_watermark_moves_time_in_silence_after_lateness_and_interval() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    feed.poll()
    clock.go(1.9)
    assert feed.poll() is None
    clock.go(0.1)
    batch = feed.poll()
    assert watermarks(batch) == [1]
    assert batch is not None
    assert batch.records[0][2].source_seq == 1
    assert feed.poll() is None
    clock.go(5)
    assert watermarks(feed.poll()) == [6]


async def test_watermark_stands_behind_what_has_arrived() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    feed.poll()
    clock.go(10)
    await feed(trade(START_NS + 2 * S))
    batch = feed.poll()
    assert batch is not None
    assert batch.clock.tolist() == [START_NS + 2 * S, START_NS + 9 * S]
    assert watermarks(batch) == [9]


async def test_late_record_keeps_its_time_and_does_not_turn_the_clock_back() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    clock.go(10)
    await feed(trade(clock.ns))
    await feed(trade(START_NS + 3 * S))
    batch = feed.poll()
    assert batch is not None
    assert batch.trades.ts.tolist() == [START_NS, START_NS + 10 * S, START_NS + 3 * S]
    assert batch.clock.tolist() == [START_NS, START_NS + 10 * S, START_NS + 10 * S]


async def test_restarted_run_has_its_time_at_once() -> None:
    clock = Clock()
    feed = feed_of(clock)
    feed.skip(1)
    assert watermarks(feed.poll()) == [-1]


async def test_time_of_the_feed_is_the_wall_clock_less_lateness_and_never_falls() -> None:
    clock = Clock()
    feed = feed_of(clock, lateness_s=2.0)
    assert feed.now_ns() == START_NS - 2 * S
    await feed(trade())
    feed.poll()
    assert feed.now_ns() == START_NS
    clock.jump(-100)
    assert feed.now_ns() == START_NS
    assert feed.poll() is None
    clock.jump(100)
    clock.go(10)
    assert feed.now_ns() == START_NS + 8 * S


async def test_end_of_the_calendars_ends_the_run() -> None:
    clock = Clock()
    feed = feed_of(clock)
    clock.go(10**8)
    with pytest.raises(ConfigError, match="begin a new session"):
        feed.poll()


DAY_S = 86_400


@pytest.mark.parametrize("jump_s", [DAY_S, 3600, 3, -3600])
async def test_wall_clock_that_jumps_for_a_moment_counts_no_time(jump_s: float) -> None:
    clock = Clock()
    feed = feed_of(clock)
    notes: list[str] = []
    feed.on_note = notes.append
    await feed(trade())
    feed.poll()
    clock.go(10)
    clock.jump(jump_s)
    for second in range(5):
        assert watermarks(feed.poll()) == [9 + second]
        assert feed.now_ns() == START_NS + (9 + second) * S
        clock.go(1)
    assert "the wall clock has jumped" in feed.jump()
    clock.jump(-jump_s)
    assert watermarks(feed.poll()) == [14]
    assert feed.jump() == ""
    assert [f"jumped {abs(jump_s):,} s" in note for note in notes] == [True, False]


async def test_records_are_held_to_the_time_without_the_jump() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    clock.jump(DAY_S + 60)
    await feed(trade(START_NS + S))  # by the clock of the venue
    await feed(trade(clock.ns))  # by that of this machine
    batch = feed.poll()
    assert batch is not None
    assert batch.trades.ts.tolist() == [START_NS, START_NS + S]
    assert batch.clock[-1] == START_NS + S
    (letter,) = letters(batch)
    assert "ahead of the clock" in letter.reason


async def test_clock_that_was_set_right_for_good_is_followed_after_a_minute() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    feed.poll()
    clock.jump(3600)
    feed.poll()
    clock.go(59)
    assert watermarks(feed.poll()) == [58]
    clock.go(1)
    assert watermarks(feed.poll()) == [3600 + 59]
    await feed(trade(clock.ns))
    assert (feed.refused, feed.jump()) == (0, "")


async def test_market_data_with_times_of_before_keep_a_jump_out() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    feed.poll()
    clock.jump(DAY_S)
    for second in range(10, 200, 10):
        clock.go(10)
        await feed(trade(START_NS + second * S))
        batch = feed.poll()
        assert batch is not None
        assert batch.clock[-1] == START_NS + second * S


async def test_wall_clock_that_is_slewed_is_followed() -> None:
    clock = Clock()
    feed = feed_of(clock)
    await feed(trade())
    for _ in range(10):
        clock.go(1)
        clock.jump(1.5)
        feed.poll()
    assert feed.now_ns() == START_NS + 24 * S


async def test_feed_says_when_its_data_cannot_be_relied_upon() -> None:
    clock = Clock()
    feed = feed_of(clock)
    assert feed.fault(START_NS + 5 * S) == ""
    assert "3,600 s ahead of the clock" in feed.fault(START_NS + 3600 * S)
    for _ in range(3):
        assert feed.fault(START_NS) == ""
        await feed(trade(START_NS + 3600 * S))
    assert "the last 3 records were refused: an event time lies" in feed.fault(START_NS)
    await feed(trade())
    assert feed.fault(START_NS) == ""


async def test_health_of_market_data_is_that_of_the_feed(tmp_path: Path) -> None:
    clock = Clock()
    runner, feed = runner_of(tmp_path, clock)
    await feed(trade())
    runner.turn()
    assert market_fault(runner) is None
    clock.jump(3600)
    runner.turn()
    found = market_fault(runner)
    assert found is not None
    assert (found.name, found.status) == ("market data", "warn")
    for _ in range(3):
        await feed(trade(START_NS + 3600 * S))
    found = market_fault(runner)
    assert found is not None
    assert found.status == "fail"
    runner.close()


def test_impossible_lateness_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"source\.lateness_s=-1"):
        feed_of(Clock(), lateness_s=-1)


# ---- with the runner: everything that came in stands in the journal


def runner_of(folder: Path, clock: Clock) -> tuple[LocalRunner, LiveFeed]:
    """Return a runner over a live feed, continuing what ``folder`` holds."""
    config, instruments = engine_config(), universe()
    feed = feed_of(clock, instruments)
    manifest = manifest_of(config, [], Identity("test", "test"), "live", "paper")
    return LocalRunner(Engine(config, instruments, {}, BUILTIN), feed, folder, manifest), feed


async def play(feed: LiveFeed, runner: LocalRunner, clock: Clock, first: int, last: int) -> None:
    """Push a deterministic market, with late, wrong and missing records, a turn at a time."""
    for n in range(first, last):
        price = 100 + 3 * np.sin(n / 9.0)
        await feed(trade(clock.ns - (n % 7 == 0) * 5 * S, price=round(float(price), 2)))
        if n % 5 == 0:
            await feed(trade(clock.ns, price=NAN))
        if n % 3 == 0:
            runner.turn()
        clock.go(0.5 if n % 50 else 20)
    runner.turn()


@pytest.mark.parametrize("is_saved", [True, False])
async def test_killed_run_goes_on_as_its_journal_says(tmp_path: Path, is_saved: bool) -> None:
    clock = Clock()
    begun = tmp_path / "begun"
    runner, feed = runner_of(begun, clock)
    await play(feed, runner, clock, 0, 400)
    if is_saved:
        runner.save()
    await play(feed, runner, clock, 400, 500)
    before = runner.engine.snapshot()
    await feed(trade(clock.ns))  # It arrived and was never taken: a kill loses it.
    again = shutil.copytree(begun, tmp_path / "again")  # what a kill at this instant leaves
    runner.close()

    runner, feed = runner_of(again, clock)
    assert runner.engine.snapshot() == before
    clock.go(30)
    await play(feed, runner, clock, 500, 800)
    runner.close()

    reader = JournalReader(again)
    rows = [record for _, record in reader.read(MARKET_EVENTS, 0, 100_000)]
    assert sorted(record.source_seq for record in rows) == list(range(len(rows)))
    assert reader.next_offsets[ORDER_FILLS] > 10
    assert reader.next_offsets[SYSTEM_DEAD_LETTERS] >= 160
    result = rerun(again, session_tables, BUILTIN)
    assert result.comparison.differences == 0
    assert result.recorded_hash == result.rerun_hash


async def test_time_of_a_run_that_was_begun_ahead_stands_over_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    clock.jump(DAY_S)
    runner, feed = runner_of(tmp_path, clock)
    await feed(trade(clock.ns))
    runner.turn()
    runner.close()
    ahead_ns = runner.engine.clock_ns
    clock.jump(-DAY_S)
    again, _ = runner_of(tmp_path, clock)
    assert again.now_ns() == ahead_ns == START_NS + DAY_S * S
    again.close()
