"""Making a session again: ends that were torn off, restarts, and differences that stay."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from agents.runners.engine import Engine
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.parity import Rerun, rerun
from agents.runners.recorder import FINISH
from agents.runners.replay import Identity, manifest_of
from agents.strategy.builtin import BUILTIN
from infra.operating import market_fault
from streams.journal import JournalReader, JournalWriter, Kind, encode_group
from tests.generated import cut, session, universe
from tests.simulation.live_process import engine_config

SIZE = 50
EVENTS = 602


def runner_of(folder: Path) -> LocalRunner:
    """Return a runner over a recording, continuing what ``folder`` holds."""
    instruments, config = universe(), engine_config()
    feed = RecordingFeed(iter(cut(session(instruments, 300), SIZE)), speed=0, first_ns=0)
    manifest = manifest_of(config, [], Identity("test", "test"), "run", "paper")
    return LocalRunner(Engine(config, instruments, {}, BUILTIN), feed, folder, manifest)


def again(folder: Path) -> Rerun:
    """Make the session in ``folder`` again."""
    return rerun(folder, lambda *_: {}, BUILTIN)


@pytest.fixture(name="whole", scope="module")
def fixture_whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the journal of a finished session; it ends with the outputs of the end."""
    folder = tmp_path_factory.mktemp("whole")
    runner = runner_of(folder)
    while runner.turn():
        pass
    runner.finish()
    runner.close()
    return folder


def entry_ends(folder: Path) -> list[tuple[Kind, int, bytes]]:
    """Return kind, last byte and payload of each entry of a journal of one row log."""
    reader = JournalReader(folder)
    log = reader._parts[-1].log  # type: ignore[union-attr]  # the bytes are what is cut here
    raws = [raw for raw in log.scan(log.first_byte) if raw.kind is not Kind.NAMES]
    return [(raw.kind, raw.end_byte, raw.payload) for raw in raws]


def cut_copy(whole: Path, folder: Path, size: int) -> Path:
    """Return a copy of a journal that ends at byte ``size``, as a kill leaves it."""
    shutil.copytree(whole, folder, dirs_exist_ok=True)
    (log,) = folder.glob("segment-*.log")
    with log.open("r+b") as file:
        file.truncate(size)
    return folder


def input_ends(whole: Path) -> list[int]:
    """Return where the input of each turn ends."""
    return [end for kind, end, _ in entry_ends(whole) if kind is Kind.BATCH]


def test_whole_session_has_no_differences_and_leaves_nothing_out(whole: Path) -> None:
    result = again(whole)
    assert result.comparison.differences == 0
    assert result.recorded_hash == result.rerun_hash
    assert (result.events, result.events_left_out, result.torn_bytes) == (EVENTS, None, 0)


def test_session_killed_behind_an_input_leaves_the_events_of_that_turn_out(
    whole: Path, tmp_path: Path
) -> None:
    result = again(cut_copy(whole, tmp_path, input_ends(whole)[5]))
    assert result.comparison.differences == 0
    assert result.recorded_hash == result.rerun_hash
    assert (result.events, result.events_left_out) == (6 * SIZE, SIZE)


def test_session_killed_at_any_entry_has_no_differences(whole: Path, tmp_path: Path) -> None:
    ends = entry_ends(whole)
    first = next(i for i, (kind, _, _) in enumerate(ends) if kind is Kind.BATCH)
    for number in range(first, len(ends)):
        result = again(cut_copy(whole, tmp_path / str(number), ends[number][1]))
        assert result.comparison.differences == 0, number
        assert result.recorded_hash == result.rerun_hash, number


def test_session_that_goes_on_meanwhile_is_compared_as_it_was_at_the_beginning(
    whole: Path, tmp_path: Path
) -> None:
    end = input_ends(whole)[5]
    folder = cut_copy(whole, tmp_path, end)
    (log,) = folder.glob("segment-*.log")
    (all_of_it,) = whole.glob("segment-*.log")

    def write_on(_: int) -> None:
        log.write_bytes(all_of_it.read_bytes())

    result = rerun(folder, lambda *_: {}, BUILTIN, write_on)

    assert result.comparison.differences == 0
    assert result.recorded_hash == result.rerun_hash
    assert (result.events, result.events_left_out, result.torn_bytes) == (6 * SIZE, SIZE, 0)


def test_torn_entry_is_counted_in_bytes_and_is_no_difference(whole: Path, tmp_path: Path) -> None:
    result = again(cut_copy(whole, tmp_path, input_ends(whole)[5] + 7))
    assert result.comparison.differences == 0
    assert (result.torn_bytes, result.events_left_out) == (7, SIZE)


def test_session_killed_while_it_was_finished_leaves_no_event_out(
    whole: Path, tmp_path: Path
) -> None:
    marks = [end for kind, end, payload in entry_ends(whole) if FINISH.encode() in payload[:32]]
    result = again(cut_copy(whole, tmp_path, marks[-1]))
    assert (result.comparison.differences, result.events_left_out) == (0, 0)


def copy_without(whole: Path, folder: Path, left_out: int, stop: int = 1 << 60) -> None:
    """Copy a journal up to entry number ``stop`` without its entry number ``left_out``."""
    reader = JournalReader(whole)
    instruments = reader.universe()
    with JournalWriter.open(folder, run_id=reader.run_id) as writer:
        for entry in reader.entries():
            if entry.index == left_out or entry.index >= stop:
                continue
            if entry.kind is Kind.BATCH:
                writer.append_batch(instruments, entry.batch(instruments))
            elif entry.kind is Kind.COLUMNS:
                writer.append_table(entry.topic, instruments, entry.table(instruments))
            elif entry.kind is Kind.RECORDS:
                writer.append_group(encode_group(entry.records()))
            else:
                writer.append_mark(*entry.mark())


def test_output_missing_before_the_last_turn_is_a_difference(whole: Path, tmp_path: Path) -> None:
    entries = list(JournalReader(whole).entries())
    second = [entry.index for entry in entries if entry.kind is Kind.BATCH][1]
    missing = next(e for e in entries[second:] if e.kind is Kind.RECORDS)
    copy_without(whole, tmp_path, missing.index)
    result = again(tmp_path)
    assert result.comparison.extra == result.comparison.differences == len(missing.records())
    assert result.recorded_hash != result.rerun_hash
    assert result.events_left_out is None


def test_output_missing_in_front_of_another_is_a_difference_in_the_last_turn_too(
    whole: Path, tmp_path: Path
) -> None:
    kinds = [entry.kind for entry in JournalReader(whole).entries()]
    second, third = [i for i, kind in enumerate(kinds) if kind is Kind.BATCH][1:3]
    assert kinds[second + 1 : third] == [Kind.COLUMNS] * 3 + [Kind.RECORDS]
    copy_without(whole, tmp_path, second + 1, third)
    result = again(tmp_path)
    assert result.comparison.differences > 0
    assert result.events_left_out is None


@pytest.mark.parametrize("turns", [(3, 20), (1, 1, 20), (5, 2, 2, 20)])
def test_restarted_session_has_no_differences(tmp_path: Path, turns: tuple[int, ...]) -> None:
    for count in turns:
        runner = runner_of(tmp_path)
        for _ in range(count):
            runner.turn()
        runner.close()
    result = again(tmp_path)
    assert (result.comparison.differences, result.events) == (0, EVENTS)
    assert result.recorded_hash == result.rerun_hash


def test_session_restarted_after_a_kill_in_a_turn_has_no_differences(
    whole: Path, tmp_path: Path
) -> None:
    ends = entry_ends(whole)
    outputs = [end for kind, end, _ in ends if kind in (Kind.COLUMNS, Kind.RECORDS)]
    for number, size in enumerate([input_ends(whole)[5], outputs[len(outputs) // 2] + 3]):
        folder = cut_copy(whole, tmp_path / str(number), size)
        runner = runner_of(folder)
        while runner.turn():
            pass
        runner.finish()
        runner.close()
        result = again(folder)
        assert (result.comparison.differences, result.events) == (0, EVENTS)
        assert (result.events_left_out, result.torn_bytes) == (None, 0)


def test_health_says_when_the_recording_is_played(tmp_path: Path) -> None:
    runner = runner_of(tmp_path)
    assert market_fault(runner) is None
    while runner.turn():
        pass

    found = market_fault(runner)

    assert found is not None
    assert (found.name, found.status) == ("market data", "warn")
    assert "no event follows" in found.detail
    runner.close()
