"""The one-process runner: where its recording goes on after a restart, and what listeners hear."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from agents.runners.config import nested
from agents.runners.engine import Engine
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.recorder import SNAPSHOT
from agents.runners.replay import Identity, manifest_of
from agents.strategy.builtin import BUILTIN
from schemas.control import ApiWrite
from schemas.enums import BreakerState, Scope
from schemas.errors import RecordError, StorageError, UnconfirmedError
from schemas.risk import SetBreaker
from schemas.topics import ACCOUNT_INPUTS, SYSTEM_AUDIT
from streams.journal import JournalReader, Kind, compare
from streams.log import Published
from tests.generated import cut, session, universe
from tests.simulation.live_process import engine_config

EVENTS = 602  # 300 trades, 300 quotes, a split at position 299, a dividend at 443


def runner_of(folder: Path, size: int = 1, *, snapshot_interval_s: float = 10.0) -> LocalRunner:
    """Return a runner over a recording with corporate actions, ``size`` events a batch."""
    instruments, config = universe(), engine_config()
    feed = RecordingFeed(iter(cut(session(instruments, 300), size)), speed=0, first_ns=0)
    manifest = manifest_of(config, [], Identity("test", "test"), "run", "paper")
    engine = Engine(config, instruments, {}, BUILTIN)
    return LocalRunner(engine, feed, folder, manifest, snapshot_interval_s=snapshot_interval_s)


def command() -> SetBreaker:
    """Return a command of a client."""
    return SetBreaker(
        event_id="web:1",
        ts_event_ns=1,
        correlation_id="",
        causation_id="",
        scope=Scope.ACCOUNT,
        scope_id="paper",
        state=BreakerState.HALTED,
        operator="ada",
        reason="",
    )


def audit() -> ApiWrite:
    """Return a record of the audit."""
    return ApiWrite(
        event_id="audit:1", ts_event_ns=1, operator="ada", method="POST", path="/", status=200
    )


def play(runner: LocalRunner, turns: int) -> LocalRunner:
    """Take ``turns`` turns and close the runner."""
    for _ in range(turns):
        runner.turn()
    runner.close()
    return runner


@pytest.fixture(name="whole", scope="module")
def fixture_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the journal of a run that was never stopped."""
    folder = tmp_path_factory.mktemp("whole")
    assert play(runner_of(folder), EVENTS + 1).engine.events == EVENTS
    return folder


@pytest.mark.parametrize("first", [1, 299, 300, 301, 444])
def test_restarted_recording_plays_every_event_once(
    tmp_path: Path, whole: Path, first: int
) -> None:
    play(runner_of(tmp_path), first)
    again = runner_of(tmp_path)
    assert again.recovered_events == first
    play(again, EVENTS)
    assert again.engine.events == EVENTS
    a, b = JournalReader(whole), JournalReader(tmp_path)
    assert a.next_offsets == b.next_offsets
    assert compare(a, b, sorted(a.next_offsets)).differences == 0


def test_listeners_hear_what_the_journal_holds_at_the_same_offsets(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, size=200)
    heard: list[Published] = []
    runner.listen(heard.extend)
    play(runner, 10)
    journal = JournalReader(tmp_path)
    assert len(heard) > EVENTS
    for item in heard:
        ((_, record),) = journal.read(item.topic, item.offset, 1)
        assert record == item.record


def test_place_in_the_log_stays_over_a_restart(tmp_path: Path) -> None:
    runner = runner_of(tmp_path / "one", 7)
    told: list[Published] = []
    runner.listen(told.extend)
    play(runner, 40)
    again = runner_of(tmp_path / "one", 7)
    again.listen(told.extend)
    play(again, 60)
    last = runner_of(tmp_path / "one", 7)

    assert runner.epoch == again.epoch == last.epoch
    assert len({item.topic for item in told}) > 5
    for item in told:
        assert last.read(item.topic, item.offset, 1) == [item]
    last.close()


def test_another_journal_of_the_same_name_has_another_epoch(tmp_path: Path) -> None:
    one, two = runner_of(tmp_path / "one"), runner_of(tmp_path / "two")

    assert one.run_id == two.run_id
    assert one.epoch != two.epoch
    one.close()
    two.close()


def test_time_never_passes_an_event_that_was_not_taken() -> None:
    played_s = [0.0]
    batch = session(universe(), 300)
    clock = batch.clock.tolist()
    feed = RecordingFeed(
        iter(cut(batch, 100)), speed=1.0, first_ns=clock[0], monotonic_s=lambda: played_s[0]
    )
    assert feed.poll() is not None  # what is due at once
    taken = feed.played_events
    assert feed.now_ns() == clock[taken - 1]
    played_s[0] = (clock[taken] - clock[0]) / 2e9
    assert feed.now_ns() == clock[0] + int(played_s[0] * 1e9)  # between two events it goes on
    played_s[0] = 1e6  # the machine could not keep up
    assert feed.now_ns() == clock[taken]
    while feed.poll() is not None:
        assert feed.now_ns() >= clock[feed.played_events - 1]
        assert feed.now_ns() <= clock[min(feed.played_events, len(clock) - 1)]
    assert feed.is_done
    assert feed.now_ns() == clock[-1]


async def test_snapshots_come_more_seldom_as_the_state_grows(tmp_path: Path, whole: Path) -> None:
    runner, is_played = runner_of(tmp_path, snapshot_interval_s=0.0), asyncio.Event()

    def hear(_: Sequence[Published]) -> None:
        if runner.engine.events == EVENTS:
            is_played.set()

    runner.listen(hear)
    working = asyncio.create_task(runner.run())
    await is_played.wait()
    runner.stop()
    await working
    journal = JournalReader(tmp_path)
    marks = [entry.mark() for entry in journal.entries() if entry.kind is Kind.MARK]
    # After each of 602 turns there was time for one.
    assert 3 < len([name for name, _ in marks if name == SNAPSHOT]) < 12
    assert compare(JournalReader(whole), journal, sorted(journal.next_offsets)).differences == 0


def test_states_within_the_state_of_an_older_journal_are_read() -> None:
    runner_state = Engine(engine_config(), universe(), {}, BUILTIN).snapshot()
    assert nested(msgspec.Raw(runner_state)) == runner_state
    assert nested(msgspec.Raw(msgspec.json.encode(runner_state.decode()))) == runner_state


@pytest.mark.parametrize("has_audit", [True, False])
async def test_command_under_way_when_the_journal_fails_is_ended_at_once(
    tmp_path: Path, has_audit: bool
) -> None:
    runner = runner_of(tmp_path, size=1)
    runner.hold()
    waiting = [asyncio.create_task(runner.publish(ACCOUNT_INPUTS, command())) for _ in range(2)]
    await asyncio.sleep(0)
    if has_audit:
        runner.publish_side(SYSTEM_AUDIT, audit())
    runner.close()  # what a full disk brings about: the journal takes no more

    with pytest.raises(StorageError):
        runner.turn()
    async with asyncio.timeout(1):
        ended = await asyncio.gather(*waiting, return_exceptions=True)

    # What was not begun is refused; of what was, the journal may hold a part.
    expected = StorageError if has_audit else UnconfirmedError
    assert [type(error) for error in ended] == [expected] * 2


async def test_command_after_the_run_has_ended_is_refused_at_once(tmp_path: Path) -> None:
    runner = runner_of(tmp_path, size=1)
    runner.publish_side("no.topic.v1", audit())
    with pytest.raises(RecordError):
        await runner.run()
    async with asyncio.timeout(1):
        with pytest.raises(StorageError, match="takes no more commands"):
            await runner.publish(ACCOUNT_INPUTS, command())
