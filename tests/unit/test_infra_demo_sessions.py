"""Which sessions of demos are kept, and what must never be removed for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.demo_sessions import RUN_ID, SESSIONS_MAX, put_aside
from schemas.errors import StorageError
from schemas.topics import MARKET_EVENTS
from streams.journal import JournalReader, JournalWriter, encode_group
from tests.unit.journal_samples import make_trade


def make_session(folder: Path, *, run_id: str = RUN_ID, events: int = 1) -> Path:
    """Write the journal of a session with ``events`` trades and return its folder."""
    with JournalWriter.open(folder / "journal", run_id=run_id) as writer:
        writer.append_mark("manifest", folder.name.encode())
        for number in range(events):
            writer.append_group(encode_group([(MARKET_EVENTS, make_trade(number))]))
    return folder


def names(root: Path) -> set[str]:
    """Return the names of the folders in ``root``."""
    return {path.name for path in root.iterdir()}


def test_last_session_moves_aside_whole(tmp_path: Path) -> None:
    folder = make_session(tmp_path / "demo", events=3)
    aside = put_aside(folder)
    assert aside == tmp_path / "demo-1"
    assert names(tmp_path) == {"demo-1"}
    assert JournalReader(aside / "journal").next_offsets == {MARKET_EVENTS: 3}


def test_first_demo_has_nothing_to_put_aside(tmp_path: Path) -> None:
    assert put_aside(tmp_path / "demo") is None
    assert names(tmp_path) == set()


def test_newest_sessions_are_kept_by_number(tmp_path: Path) -> None:
    for number in range(7, 13):
        make_session(tmp_path / f"demo-{number}")
    put_aside(make_session(tmp_path / "demo"))
    assert names(tmp_path) == {"demo-10", "demo-11", "demo-12", "demo-13"}
    # With the one that is going to be played now.
    assert len(names(tmp_path)) + 1 == SESSIONS_MAX


def test_start_that_played_nothing_costs_no_session(tmp_path: Path) -> None:
    kept = {make_session(tmp_path / f"demo-{number}").name for number in range(1, SESSIONS_MAX)}
    for _ in range(SESSIONS_MAX):
        assert put_aside(make_session(tmp_path / "demo", events=0)) is None
    (tmp_path / "demo" / "journal").mkdir(parents=True, exist_ok=True)
    assert put_aside(tmp_path / "demo") is None
    assert names(tmp_path) == kept | {"demo"}
    assert not (tmp_path / "demo" / "journal").exists()


def test_folder_of_another_run_with_such_a_name_is_never_removed(tmp_path: Path) -> None:
    make_session(tmp_path / "demo-1", run_id="mine")
    (tmp_path / "demo-2").mkdir()
    (tmp_path / "demo-notes").mkdir()
    for number in range(3, 8):
        make_session(tmp_path / f"demo-{number}")
    put_aside(make_session(tmp_path / "demo"))
    assert names(tmp_path) == {
        "demo-1",
        "demo-2",
        "demo-notes",
        *(f"demo-{n}" for n in range(5, 9)),
    }


def test_session_that_cannot_be_read_is_kept(tmp_path: Path) -> None:
    journal = tmp_path / "demo" / "journal"
    journal.mkdir(parents=True)
    (journal / "segment-00000000.log").write_bytes(b"damaged")
    assert put_aside(tmp_path / "demo") == tmp_path / "demo-1"
    assert (tmp_path / "demo-1" / "journal" / "segment-00000000.log").read_bytes() == b"damaged"


def test_session_that_is_being_played_stays(tmp_path: Path) -> None:
    folder = make_session(tmp_path / "demo")
    with (
        JournalWriter.open(folder / "journal", run_id=RUN_ID),
        pytest.raises(StorageError, match="is being written by process") as refused,
    ):
        put_aside(folder)
    # The demo has no option for a folder, so the remedy is what it does heed.
    assert "MILLRACE_DATA_FOLDER=other millrace demo" in refused.value.remedy
    assert names(tmp_path) == {"demo"}
