"""How a run is named: what wins over what, and what is said of a name that does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.runs import list_runs, run_folder
from schemas.errors import ConfigError, NotFoundError
from streams.journal import JournalWriter


def make_run(folder: Path, run_id: str) -> Path:
    """Write a journal with one mark and return its folder."""
    with JournalWriter.open(folder / "journal", run_id=run_id) as writer:
        writer.append_mark("x", b"")
    return folder / "journal"


@pytest.fixture(name="root")
def fixture_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MILLRACE_DATA_FOLDER", "data")
    return tmp_path / "data" / "runs"


def test_path_of_a_run_or_of_its_journal_wins_over_the_data_folder(root: Path) -> None:
    make_run(root / "paper", "a")
    here = make_run(root.parents[1] / "paper", "b")
    assert run_folder("paper").resolve() == here
    assert run_folder("paper/journal").resolve() == here
    assert run_folder(str(here)) == here


def test_name_of_a_folder_wins_over_a_run_id(root: Path) -> None:
    named = make_run(root / "paper", "other")
    by_id = make_run(root / "other", "paper")
    assert run_folder("paper").resolve() == named
    assert run_folder("other").resolve() == by_id


def test_run_id_wins_over_a_prefix(root: Path) -> None:
    make_run(root / "live-10", "x")
    by_id = make_run(root / "kept", "live-1")
    assert run_folder("live-1").resolve() == by_id


def test_folder_without_a_journal_is_no_run(root: Path) -> None:
    (root.parents[1] / "paper").mkdir()
    named = make_run(root / "paper", "a")
    assert run_folder("paper").resolve() == named


def test_unique_prefix_of_a_folder_or_a_run_id_names_a_run(root: Path) -> None:
    backtest = make_run(root / "backtest-1f", "backtest-1f")
    live = make_run(root / "paper", "session-7")
    assert run_folder("back").resolve() == backtest
    assert run_folder("sess").resolve() == live


def test_ambiguous_prefix_names_the_candidates(root: Path) -> None:
    for name in ("live-2", "live-1", "paper"):
        make_run(root / name, name)
    with pytest.raises(ConfigError) as raised:
        run_folder("live")
    assert str(raised.value) == (
        "the name stands for several runs (run='live'); choose one of live-1, live-2"
    )


def test_ambiguous_run_id_names_the_folders(root: Path) -> None:
    for name in ("copy", "first"):
        make_run(root / name, "twice")
    with pytest.raises(ConfigError, match="choose one of copy, first"):
        run_folder("twice")


@pytest.mark.parametrize("name", ["nowhere", "", "run-*", "run-0[1]", "a\nb", "x" * 5000])
def test_unknown_name_names_at_most_ten_candidates(root: Path, name: str) -> None:
    for number in range(12):
        make_run(root / f"run-{number:02}", f"id-{number}")
    with pytest.raises(NotFoundError) as raised:
        run_folder(name)
    line = str(raised.value)
    assert "\n" not in line
    assert "run-09 and 2 more" in line
    assert "run-10" not in line


def test_backtest_that_is_being_written_is_no_run(root: Path) -> None:
    make_run(root / ".backtest-1.7.partial", "backtest-1")
    with pytest.raises(NotFoundError, match="there are none"):
        run_folder("backtest")
    assert list_runs(root.parent) == []


def test_unreadable_run_is_listed_and_found_by_its_folder(root: Path) -> None:
    (root / "broken" / "journal").mkdir(parents=True)
    (root / "broken" / "journal" / "segment-00000000.log").write_bytes(b"no journal")
    make_run(root / "paper", "a")
    assert run_folder("broken").resolve() == root / "broken" / "journal"
    assert run_folder("a").resolve() == root / "paper" / "journal"
    assert "unreadable" in list_runs(root.parent)[0]
