"""Market events of dead letters in a live run: the feed takes them like all others, or says why."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from agents.runners.engine import Engine
from agents.runners.feeds import RecordingFeed
from agents.runners.live_feed import LiveFeed
from agents.runners.local import LocalRunner
from agents.runners.parity import rerun
from agents.runners.replay import Identity, manifest_of
from agents.strategy.builtin import BUILTIN
from schemas.control import DeadLetter
from schemas.envelope import Header
from schemas.errors import ConflictError, RecordError, StorageError, UnconfirmedError
from schemas.market_data import Bar, Trade
from schemas.topics import MARKET_BARS, MARKET_EVENTS, SYSTEM_DEAD_LETTERS
from streams.calendars import session_tables
from streams.journal import JournalReader
from streams.log import Published
from tests.generated import cut, session
from tests.simulation.live_process import engine_config
from tests.unit.feed_samples import ID, START_NS, Clock, S, quote, trade, universe
from tests.unit.test_runners_live_feed import feed_of, runner_of
from web.app import WebSettings, create_app
from web.route_table import Call, NoQuery
from web.routes.dead_letters import RetryRequest, retry_letter

BEGIN_NS = START_NS - START_NS % (60 * S)


@asynccontextmanager
async def running(runner: LocalRunner) -> AsyncIterator[None]:
    """Take turns until the block ends."""
    task = asyncio.create_task(runner.run())
    yield
    runner.stop()
    await task


@pytest.mark.parametrize(
    ("record", "behind_s", "field"),
    [
        (trade(price=-5.0), 0, "price"),
        (trade(size=-1.0), 0, "size"),
        (quote(bid_price=-1.0), 0, "bid_price"),
        (trade(instrument_id="NIX.XXXX"), 0, "instrument_id"),
        (trade(), 90_000, "ts_event_ns"),
        (trade(), -60, "ts_event_ns"),
    ],
)
async def test_market_event_that_a_feed_refuses_is_not_taken_again(
    tmp_path: Path, record: Header, behind_s: int, field: str
) -> None:
    runner, feed = runner_of(tmp_path, Clock())
    msgspec.structs.force_setattr(record, "ts_event_ns", runner.now_ns() - behind_s * S)

    with pytest.raises(RecordError) as caught:
        await runner.feed_again(record)

    assert caught.value.field == field
    assert (feed.refused, feed.poll()) == (0, None)
    runner.close()


async def test_market_event_is_numbered_by_the_feed_and_keeps_its_time(tmp_path: Path) -> None:
    clock = Clock()
    runner, feed = runner_of(tmp_path, clock)
    heard: list[Published] = []
    runner.listen(heard.extend)
    async with running(runner):
        await feed(trade(clock.ns, price=100.0))
        claims = trade(clock.ns - 30 * S, price=99.0, event_id="mine", source="others")
        await runner.feed_again(msgspec.structs.replace(claims, source_seq=7, producer="p"))

    told = [item.record for item in heard if item.topic == MARKET_EVENTS]
    _, again = told
    assert isinstance(again, Trade)
    assert (again.ts_event_ns, again.price) == (clock.ns - 30 * S, 99.0)
    assert (again.source, again.source_seq, again.producer) == ("feed/test", 1, "")
    assert again.event_id == f"feed/test:{ID}:1"
    assert claims.event_id == "mine"
    journal = JournalReader(tmp_path).read(MARKET_EVENTS, 0, 10)
    assert [record for _, record in journal] == told


async def test_engine_and_api_see_a_retried_price_alike_and_so_does_a_replay(
    tmp_path: Path,
) -> None:
    clock = Clock()
    clock.jump((BEGIN_NS - START_NS) / S)
    runner, feed = runner_of(tmp_path, clock)
    app = create_app(runner, WebSettings(), lambda: "id")
    context = app.state.context
    context.operations.feed_again = runner.feed_again
    runner.listen(context.hear)
    async with running(runner):
        await feed(trade(clock.ns + S, price=100.0))
        await feed(trade(clock.ns, price=float("nan")))
        clock.go(30)
        await feed.refuse(msgspec.json.encode(trade(BEGIN_NS + 20 * S, price=103.0)), "it was late")
        await runner.feed_again(trade(clock.ns, price=101.0))  # all that came before is taken
        refused = context.views.system.dead_letters[-1].record
        assert isinstance(refused, DeadLetter)
        call = Call({}, NoQuery(), RetryRequest(refused.event_id))
        assert (await retry_letter(context, call)).status == "written"
        # It is late by then, and so no price.
        assert context.views.market.last_price(ID) == (101.0, clock.ns)
        clock.go(60)
        await feed(trade(clock.ns, price=102.0))
        await runner.feed_again(trade(clock.ns, price=102.0))

    journal = JournalReader(tmp_path)
    bars = [record for _, record in journal.read(MARKET_BARS, 0, 10)]
    (minute,) = [b for b in bars if isinstance(b, Bar) and b.interval == "1m"]
    assert (minute.high, minute.trade_count) == (103.0, 3)
    assert context.views.market.bars[ID] == minute
    assert context.views.market.last_price(ID) == (102.0, clock.ns)
    assert len(journal.read(SYSTEM_DEAD_LETTERS, 0, 10)) == 2
    result = rerun(tmp_path, session_tables, BUILTIN)
    assert result.comparison.differences == 0
    assert result.recorded_hash == result.rerun_hash


async def test_recording_takes_no_market_events(tmp_path: Path) -> None:
    config, instruments = engine_config(), universe()
    feed = RecordingFeed(iter(cut(session(instruments, 300), 50)), speed=0, first_ns=0)
    manifest = manifest_of(config, [], Identity("test", "test"), "paper", "paper")
    runner = LocalRunner(Engine(config, instruments, {}, BUILTIN), feed, tmp_path, manifest)

    with pytest.raises(ConflictError, match="plays a recording"):
        await runner.feed_again(trade(runner.now_ns()))

    runner.close()


async def test_feed_that_is_full_or_has_ended_takes_nothing_again() -> None:
    clock = Clock()
    feed = feed_of(clock, queue_events=1)
    await feed(trade())
    with pytest.raises(StorageError, match="queue is full"):
        feed.again(trade())
    feed.end()
    with pytest.raises(ConflictError, match="has ended"):
        feed.again(trade())
    assert feed.played_events == 0


async def test_run_that_takes_no_more_events_says_so(tmp_path: Path) -> None:
    runner, _ = runner_of(tmp_path, Clock())
    runner.hold()
    with pytest.raises(StorageError, match="takes no more events"):
        await runner.feed_again(trade())
    runner.close()


@pytest.mark.parametrize("is_taken", [True, False])
async def test_whoever_waits_for_an_event_when_the_run_ends_is_told(
    tmp_path: Path, is_taken: bool
) -> None:
    runner, feed = runner_of(tmp_path, Clock())
    waiting = asyncio.create_task(runner.feed_again(trade()))
    await asyncio.sleep(0)
    if is_taken:
        assert isinstance(feed, LiveFeed)
        feed.poll()
    runner.stop()
    await runner.run()

    (ended,) = await asyncio.gather(waiting, return_exceptions=True)

    assert type(ended) is (UnconfirmedError if is_taken else StorageError)
