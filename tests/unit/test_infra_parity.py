"""``millrace parity`` in one process: strategies of files, backtests, and what is printed."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from rich.console import Console

from agents.runners.engine import Engine
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.parity import read_manifest
from agents.runners.replay import MANIFEST, Identity, manifest_of
from infra.backtests import BacktestSpec, run_backtest
from infra.composition import compose
from infra.data import open_whole
from infra.origin import DataOrigin, with_origin
from infra.parity import run_parity
from infra.settings import MarketSettings, Settings, StrategySettings
from schemas.errors import ConfigError, ConflictError, MillraceError, NotFoundError
from schemas.identifiers import content_hash
from streams.journal import JournalReader, JournalWriter
from tests.generated import trades, universe, write_csv

SOURCE = '''
from millrace import Strategy

class Mine(Strategy):
    """Buy once."""

    is_done = False

    def on_trade(self, trade):
        if not self.is_done:
            self.is_done = True
            self.buy(trade.instrument_id, 1)
'''


class Printed(NamedTuple):
    """Exit status and output of a command."""

    status: int
    text: str


def parity(folder: Path, *strategies: str, data: str = "") -> Printed:
    """Run the command and return what it printed."""
    out = io.StringIO()
    console = Console(file=out, width=200)
    errors = Console(file=io.StringIO())
    status = run_parity(
        str(folder),
        is_json=False,
        console=console,
        errors=errors,
        strategies=strategies,
        data=data,
    )
    return Printed(status, out.getvalue())


@pytest.fixture(name="data")
def fixture_data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "gen.csv", trades(universe(), 200, days=2))


@pytest.fixture(name="file")
def fixture_file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(SOURCE)
    return path


def record(folder: Path, data: Path, *strategies: str, keeps_origin: bool = True) -> Path:
    """Record a session of strategies and return its folder."""
    settings = Settings(
        strategies=tuple(
            StrategySettings(name=name, strategy_id=f"s{number}", on="trade")
            for number, name in enumerate(strategies)
        ),
        market=MarketSettings(intervals=("1m",)),
    )
    opened = open_whole(str(data))
    setup = compose(settings, opened)
    manifest = manifest_of(setup.config, setup.inputs, Identity("test", "test"), "s", "paper")
    if keeps_origin:
        manifest = with_origin(manifest, setup.classes)
    feed = RecordingFeed(opened.batches(50), speed=0, first_ns=0)
    engine = Engine(setup.config, setup.universe, setup.sessions, setup.classes)
    runner = LocalRunner(engine, feed, folder / "journal", manifest)
    while runner.turn():
        pass
    runner.finish()
    runner.close()
    return folder


# ---- strategies of files


def test_session_of_a_strategy_file_is_run_again_from_the_path_it_keeps(
    tmp_path: Path, data: Path, file: Path
) -> None:
    folder = record(tmp_path / "s", data, f"{file}:Mine")
    done = parity(folder)
    assert done.status == 0
    assert "differences        0" in done.text
    assert "fills live         1" in done.text


def test_manifest_keeps_the_whole_path_outside_of_the_configuration(
    tmp_path: Path, data: Path, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kept = read_manifest(JournalReader(record(tmp_path / "a", data, "mine.py:Mine") / "journal"))
    plain = record(tmp_path / "b", data, "mine.py:Mine", keeps_origin=False)
    assert kept.config["strategy_files"] == {f"Mine@{content_hash(file.read_bytes())}": str(file)}
    assert kept.config_hash == read_manifest(JournalReader(plain / "journal")).config_hash


def test_changed_file_is_refused_with_both_hashes_and_is_not_run(
    tmp_path: Path, data: Path, file: Path
) -> None:
    folder = record(tmp_path / "s", data, f"{file}:Mine")
    before = content_hash(file.read_bytes())
    ran = tmp_path / "ran"
    file.write_text(f"open({str(ran)!r}, 'w').close()\n{SOURCE}")
    with pytest.raises(ConflictError) as raised:
        parity(folder)
    line = str(raised.value)
    assert before in line
    assert content_hash(file.read_bytes()) in line
    assert "give the file as it was with --strategy path/to/file.py:Mine" in line
    assert not ran.exists()


def test_given_file_wins_over_the_kept_path(tmp_path: Path, data: Path, file: Path) -> None:
    folder = record(tmp_path / "s", data, f"{file}:Mine")
    file.rename(tmp_path / "moved.py")
    with pytest.raises(NotFoundError, match=r"the file of strategy Mine is not there.*--strategy"):
        parity(folder)
    assert parity(folder, f"{tmp_path / 'moved.py'}:Mine").status == 0


def test_session_that_keeps_no_path_needs_the_file_to_be_given(
    tmp_path: Path, data: Path, file: Path
) -> None:
    folder = record(tmp_path / "s", data, f"{file}:Mine", keeps_origin=False)
    with pytest.raises(NotFoundError, match=r"does not say which file.*--strategy"):
        parity(folder)
    assert parity(folder, f"{file}:Mine").status == 0


def test_two_files_of_one_class_are_told_apart_by_their_hashes(
    tmp_path: Path, data: Path, file: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = tmp_path / "other" / "mine.py"
    other.write_text(SOURCE.replace("Buy once.", "Buy once, too."))
    given = [f"{file}:Mine", f"{other}:Mine"]
    folder = record(tmp_path / "s", data, *given, keeps_origin=False)
    assert parity(folder, *reversed(given)).status == 0
    with pytest.raises(ConflictError):
        parity(folder, given[0])


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ("mine.py", ConfigError, "named with its class"),
        (".py:Mine", ConfigError, "named with its class"),
        ("other.py:Other", NotFoundError, "the run has no strategy Other of a file"),
        ("nowhere.py:Mine", NotFoundError, "is not there"),
        (f"{'x' * 300}.py:Mine", ConfigError, "cannot be read: File name too long"),
    ],
)
def test_given_file_that_does_not_fit_is_refused(
    tmp_path: Path, data: Path, file: Path, given: str, error: type[MillraceError], text: str
) -> None:
    folder = record(tmp_path / "s", data, f"{file}:Mine")
    with pytest.raises(error, match=text):
        parity(folder, given)


def test_file_cannot_take_the_place_of_a_built_in_strategy(
    tmp_path: Path, data: Path, file: Path
) -> None:
    folder = record(tmp_path / "s", data, "buy_and_hold")
    with pytest.raises(NotFoundError, match="it has buy_and_hold"):
        parity(folder, f"{file}:Mine")


# ---- ends


def test_session_that_was_torn_off_says_so_in_a_line_each(tmp_path: Path, data: Path) -> None:
    folder = record(tmp_path / "s", data, "buy_and_hold")
    (log,) = (folder / "journal").glob("segment-*.log")
    with log.open("r+b") as out:
        out.truncate(log.stat().st_size - 3)
    done = parity(folder)
    assert done.status == 0
    assert "the journal ends while its session was being finished (0 events left out)" in done.text
    assert "torn tail: the last" in done.text


def test_whole_session_says_nothing_about_its_end(tmp_path: Path, data: Path) -> None:
    text = parity(record(tmp_path / "s", data, "buy_and_hold")).text
    assert "torn" not in text
    assert "left out" not in text


# ---- backtests


def backtest(folder: Path, data: Path, **terms: object) -> Path:
    """Run a backtest into ``folder`` and return it."""
    spec = BacktestSpec(strategy="buy_and_hold", data=str(data), interval="", **terms)  # type: ignore[arg-type]
    return run_backtest(spec, out=folder).folder


def test_backtest_is_run_again_over_given_data_and_is_not_compared_with_a_session(
    tmp_path: Path, data: Path
) -> None:
    folder = backtest(tmp_path / "b", data)
    done = parity(folder, data=str(data))
    assert done.status == 0
    assert "re-run over the same data" in done.text
    assert "differences        0" in done.text
    assert "does not apply: this run is a backtest" in done.text
    recorded = read_manifest(JournalReader(folder / "journal")).output_hash
    assert done.text.count(recorded) == 2


def test_backtest_of_a_part_of_its_data_is_run_again(tmp_path: Path, data: Path) -> None:
    times = trades(universe(), 200, days=2).trades.ts
    start_ns, end_ns = int(times[50]), int(times[120]) + 1
    folder = backtest(tmp_path / "b", data, start_ns=start_ns, end_ns=end_ns)
    assert parity(folder, data=str(data)).status == 0


def test_backtest_without_data_says_what_to_give(tmp_path: Path, data: Path) -> None:
    folder = tmp_path / "b"
    keep(backtest(folder, data), None)
    with pytest.raises(NotFoundError, match=r"does not say which data it read.*--data"):
        parity(folder)


def test_backtest_keeps_its_data(tmp_path: Path, data: Path) -> None:
    folder = backtest(tmp_path / "b", data)
    keep(folder, DataOrigin(str(data)))
    assert parity(folder).status == 0


def test_backtest_over_changed_data_is_refused(tmp_path: Path, data: Path) -> None:
    folder = backtest(tmp_path / "b", data)
    write_csv(data, trades(universe(), 200, seed=2, days=2))
    with pytest.raises(ConflictError, match=r"had content hash \w+, this has \w+"):
        parity(folder, data=str(data))


def keep(folder: Path, origin: DataOrigin | None) -> None:
    """Write a manifest with the origin into a run's journal, or one without any."""
    reader = JournalReader(folder / "journal")
    manifest = read_manifest(reader)
    plain = {key: value for key, value in manifest.config.items() if key != "data"}
    manifest = with_origin(msgspec.structs.replace(manifest, config=plain), {}, origin)
    with JournalWriter.open(folder / "journal", run_id=reader.run_id) as writer:
        writer.append_mark(MANIFEST, msgspec.json.encode(manifest))


# ---- what is printed


def test_every_class_is_printed_with_its_count(tmp_path: Path, data: Path) -> None:
    text = parity(record(tmp_path / "s", data, "buy_and_hold")).text
    for name in ("operator action", "latency", "rounding", "fill model", "late data", "other"):
        assert f"{name:18} 0  (" in text
    assert "first:" not in text


def test_json_holds_both_results_as_one_object(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    console = Console(file=io.StringIO())
    session = record(tmp_path / "s", data, "buy_and_hold")
    run_parity(str(session), is_json=True, console=console, errors=console)
    live = json.loads(capsys.readouterr().out)
    assert live["rerun"]["differences"] == 0
    assert live["rerun"]["events_left_out"] is None
    assert live["backtest_against_live"]["fills live"] == 1
    assert live["backtest_against_live"]["classes"]["latency"] == {"count": 0, "first": None}
    folder = backtest(tmp_path / "b", data)
    run_parity(str(folder), is_json=True, console=console, errors=console, data=str(data))
    done = json.loads(capsys.readouterr().out)
    assert done["backtest_against_live"] is None
    assert done["reason"].startswith("does not apply")
