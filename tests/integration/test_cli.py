"""The ``millrace`` command from outside: one clear line for what is wrong, whole files or none."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from infra.serve import open_run
from infra.settings import Settings, SourceSettings
from tests.generated import trades, universe, write_csv
from tests.simulation.live_process import play
from tests.unit.dataset_samples import write, write_zip

COMMAND = Path(sys.executable).with_name("millrace")
TICKS = "timestamp,symbol,price,size\n1699920000000000000,GEN,100.0,1\n"
BARS = "timestamp,symbol,open,high,low,close,volume\n"
BAR = "{},GEN,1,1,1,1,1\n"
LATER = 1_699_920_060_000_000_000
MINUTE_NS = 60_000_000_000

# Root may read and write everything; without these two capabilities it is like anybody else.
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def _without_privileges() -> None:
    if os.geteuid() == 0:
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            if ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError("cannot drop a capability")


def millrace(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command in ``folder`` with a data folder of its own, with nobody's privileges."""
    return subprocess.run(
        [str(COMMAND), *arguments],
        cwd=folder,
        env={**os.environ, "MILLRACE_DATA_FOLDER": str(folder / "data")},
        preexec_fn=_without_privileges,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _files(folder: Path) -> dict[str, int]:
    """Return the files below a folder with their times of change; locks are no content."""
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "journal.lock"
    }


def refused(folder: Path, *arguments: str) -> str:
    """Run a command that must be refused, and return its one line."""
    before = _files(folder), sorted(folder.rglob("*"))
    done = millrace(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert (_files(folder), sorted(folder.rglob("*"))) == before
    return done.stderr


def backtest(*arguments: str, strategy: str = "buy_and_hold", data: str = "ok.csv") -> list[str]:
    """Return the command line of a backtest into the folder ``out``."""
    return ["backtest", "--strategy", strategy, "--data", data, "--out", "out", *arguments]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with good and bad files."""
    folder = tmp_path_factory.mktemp("cli")
    row = f"{LATER},GEN,{{}},1\n"
    texts = {
        "ok.csv": TICKS + row.format("100.5"),
        "nan.csv": TICKS + row.format("nan"),
        "negative.csv": TICKS + row.format("-5"),
        "words.csv": TICKS + row.format("cheap"),
        "scale.csv": f"timestamp,symbol,price,size\n{LATER},IBM,1820000,1\n",
        "backwards.csv": BARS + "".join(BAR.format(LATER + n * MINUTE_NS) for n in (1, 2, 3, 0)),
        "no_size.csv": f"timestamp,symbol,price\n{LATER},GEN,100.0\n",
        "no_kind.csv": "a,b\n1,2\n",
        "empty.csv": "",
        "file": "",
        "wrong.toml": "[run]\nprot = 8001\n",
        "open.toml": "[run]\nhost = '0.0.0.0'\n",
        "late.py": "from millrace import Strategy\n\n\nclass Late(Strategy):\n"
        "    def on_trade(self, trade):\n        self.buy('ELSE', 1)\n",
    }
    for name, text in texts.items():
        write(folder / name, text)
    (folder / "binary.csv").write_bytes(b"timestamp,symbol,price,size\n\xff\xfe,GEN,1,1\n")
    (folder / "noise.zip").write_bytes(bytes(range(256)))
    whole = write_zip(
        folder / "20131007_trade.zip",
        "20131007_ibm_Trade_Tick.csv",
        "34200000,1820100,100,P,,0\n" * 100,
    )
    (folder / "torn.zip").write_bytes(whole.read_bytes()[:-40])
    write_zip(folder / "other.zip", "notes_of_today.csv", "1,2,3\n")
    (folder / "folder.csv").mkdir()
    (folder / "locked.csv").write_text(texts["ok.csv"])
    (folder / "locked.csv").chmod(0)
    (folder / "closed").mkdir(mode=0o555)
    return folder


BAD: dict[str, tuple[list[str], list[str]]] = {
    "strategy": (backtest(strategy="moonshot"), ["moonshot", "momentum_crossover", ".py:Class"]),
    "strategy file": (backtest(strategy="no.py:Mine"), ["no.py", "path/to/file.py:Class"]),
    "strategy that fails midway": (backtest(strategy="late.py:Late"), ["ELSE", "GEN.XXXX"]),
    "symbol": (backtest("--symbols", "NOPE"), ["symbols='NOPE'", "it has GEN"]),
    "parameter": (backtest("--param", "size=1"), ["size='1'", "it has quantity, weight, reinvest"]),
    "range of a parameter": (backtest("--param", "weight=11"), ["weight='11'", "from 0 to 10"]),
    "form of a parameter": (backtest("--param", "weight"), ["param='weight'", "fast=20"]),
    "parameters together": (
        backtest("--param", "fast=9", "--param", "slow=9", strategy="momentum_crossover"),
        ["fast=9", "below slow (9)"],
    ),
    "column": (backtest(data="no_size.csv"), ["no_size.csv", "no column size", "qty"]),
    "columns": (backtest(data="no_kind.csv"), ["no_kind.csv", "a,b", "bid, ask"]),
    "data set": (backtest(data="nowhere.csv"), ["nowhere.csv", "demo or daily"]),
    "empty file": (backtest(data="empty.csv"), ["empty.csv", "must name the columns"]),
    "kind of a file": (backtest(data="file"), ["data='file'", ".csv, .parquet or .zip"]),
    "empty range": (backtest("--from", "2030-01-01"), ["2030-01-01", "from 2023-11-14"]),
    "range that ends before it begins": (
        backtest("--from", "2023-11-14", "--to", "2023-11-13"),
        ["2023-11-14T00:00:00Z to 2023-11-13", "ends before it begins"],
    ),
    "day": (backtest("--from", "yesterday"), ["from='yesterday'", "2013-10-07"]),
    "cash": (backtest("--cash", "0"), ["cash='0'", "above 0"]),
    "feed": (backtest("--on", "7m"), ["on='7m'", "trade, quote"]),
    "batch": (backtest("--batch", "0"), ["batch=0", "from 1"]),
    "number": (backtest("--batch", "many"), ["--batch", '"many"', "--help"]),
    "option": (backtest("--leverage", "2"), ["--leverage", "millrace backtest --help"]),
    "settings": (backtest("--config", "wrong.toml"), ["run.prot=8001", "did you mean run.port"]),
    "NaN": (backtest(data="nan.csv"), ["nan.csv, line 3", "price", "millrace import"]),
    "negative price": (backtest(data="negative.csv"), ["negative.csv, line 3", "not positive"]),
    "word for a price": (backtest(data="words.csv"), ["words.csv, line 3", "price"]),
    "price scale": (backtest(data="scale.csv"), ["scale.csv", "1820000.0", "price scale"]),
    "time running backwards": (
        backtest(data="backwards.csv"),
        ["backwards.csv, line 5", "backwards", "sort the file"],
    ),
    "binary file": (backtest(data="binary.csv"), ["binary.csv"]),
    "folder instead of a file": (backtest(data="folder.csv"), ["folder.csv", "millrace import"]),
    "unreadable file": (backtest(data="locked.csv"), ["locked.csv", "Permission", "rights"]),
    "noise for a zip": (backtest(data="noise.zip"), ["noise.zip", "no whole zip", "again"]),
    "torn zip": (backtest(data="torn.zip"), ["torn.zip", "no whole zip", "again"]),
    "zip of something else": (backtest(data="other.zip"), ["notes_of_today.csv", "give ticks"]),
    "out is a file": (["backtest", *backtest()[1:-1], "file"], ["out='file'", "--out"]),
    "out below a file": (["backtest", *backtest()[1:-1], "file/x"], ["out='file/x'", "--out"]),
    "out in a closed folder": (
        ["backtest", *backtest()[1:-1], "closed/x"],
        ["out='closed/x'", "Permission", "--out"],
    ),
    "out is a closed folder": (
        ["backtest", *backtest()[1:-1], "closed"],
        ["out='closed'", "--out"],
    ),
    "import of nothing": (["import", "csv", "nowhere", "--into", "set"], ["path='nowhere'"]),
    "import of a wrong scale": (
        ["import", "csv", "scale.csv", "--into", "set"],
        ["scale.csv", "price scale"],
    ),
    "import of a torn zip": (["import", "lean", "torn.zip", "--into", "set"], ["torn.zip"]),
    "import into a file": (["import", "csv", "ok.csv", "--into", "file"], ["'file'"]),
    "interface": (["run", "--config", "open.toml"], ["run.host='0.0.0.0'", "127.0.0.1"]),
    "run": (["parity", "nowhere"], ["nowhere", "not found", "there are none"]),
    "speed": (["replay", "ok.csv", "--speed", "-1"], ["speed=-1.0", "multiple of real time"]),
    "port": (["replay", "ok.csv", "--port", "99999"], ["port=99999", "65535"]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_that_says_what_where_and_how_to_mend_it(
    folder: Path, case: str
) -> None:
    arguments, words = BAD[case]
    line = refused(folder, *arguments)
    assert [word for word in words if word not in line] == [], line
    assert not (folder / "out").exists()
    assert not list(folder.rglob("*.partial"))


def test_unknown_command_is_refused_with_the_one_that_was_meant(folder: Path) -> None:
    line = refused(folder, "bactest")

    assert line.strip().endswith(
        'Unknown command "bactest". Did you mean "backtest"?; see `millrace --help`'
    )


# ---- journals


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a recorded session."""
    folder = tmp_path_factory.mktemp("session")
    data = write_csv(folder / "gen.csv", trades(universe(), 300, days=1))
    live = open_run(Settings(source=SourceSettings(data=str(data), speed=0)), folder / "run", "run")
    asyncio.run(play(live.runner))
    return folder / "run"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda whole: whole[:-3], "torn entry"),
        (lambda whole: whole[: len(whole) // 2], "torn entry"),
        (lambda whole: whole[:5], "damaged at byte 0"),
        (lambda whole: whole[:2000] + b"\0" + whole[2001:], "damaged at byte"),
    ],
)
def test_journal_that_is_not_whole_is_refused_with_the_place_of_the_damage(
    session: Path, tmp_path: Path, damage: Callable[[bytes], bytes], words: str
) -> None:
    shutil.copytree(session, tmp_path / "run")
    segment = next((tmp_path / "run" / "journal").glob("segment-*.log"))
    segment.write_bytes(damage(segment.read_bytes()))
    line = refused(tmp_path, *backtest(data="run"))
    assert words in line
    assert str(segment.name) in line
    assert "bring the file back" in line


# ---- what is said, and where


def test_json_is_exactly_one_object_on_standard_output(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "ok.csv", tmp_path)
    done = millrace(tmp_path, *backtest("--json"))
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)
    report = json.loads(done.stdout)
    assert report["manifest"]["output_hash"]
    assert report["folder"] == "out"
    files = {f"{name}.csv" for name in ("equity", "fills", "orders", "trades")}
    files |= {f"{name}.json" for name in ("manifest", "metrics", "warnings")}
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {*files, "journal", "report.html"}
    assert json.loads((tmp_path / "out" / "metrics.json").read_bytes()) == report["metrics"]
    assert json.loads((tmp_path / "out" / "warnings.json").read_bytes()) == {"warnings": []}
    assert report["warnings"] == []


def test_second_backtest_into_one_folder_replaces_the_first(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "ok.csv", tmp_path)
    first = json.loads(millrace(tmp_path, *backtest("--json")).stdout)
    second = json.loads(millrace(tmp_path, *backtest("--json", "--cash", "50")).stdout)
    assert first["metrics"]["initial_equity"] == 10_000
    assert second["metrics"]["initial_equity"] == 50
    assert json.loads((tmp_path / "out" / "metrics.json").read_bytes()) == second["metrics"]
    assert not list(tmp_path.rglob("*.partial"))


def test_cash_and_seed_of_the_settings_hold_unless_others_are_named(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "ok.csv", tmp_path)
    (tmp_path / "mine.toml").write_text('seed = 7\n[account]\ncash = "2500"\n')
    found = []
    for options in ([], ["--config", "mine.toml"], ["--config", "mine.toml", "--cash", "50"]):
        report = json.loads(millrace(tmp_path, *backtest("--json", *options)).stdout)
        found.append((report["metrics"]["initial_equity"], report["manifest"]["config"]["seed"]))
    assert found == [(10_000, 0), (2500, 7), (50, 7)]


def test_parity_of_a_recorded_session_is_one_object_without_differences(session: Path) -> None:
    done = millrace(session.parent, "parity", "run", "--json")
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
    assert json.loads(done.stdout)["rerun"]["differences"] == 0


# ---- imported sets


def test_second_import_adds_nothing(folder: Path, tmp_path: Path) -> None:
    shutil.copy(folder / "nan.csv", tmp_path)
    first = millrace(tmp_path, "import", "csv", "nan.csv", "--into", "set")
    content = _files(tmp_path / "set")
    hashes = json.loads((tmp_path / "set" / "dataset.json").read_bytes())
    second = millrace(tmp_path, "import", "csv", "nan.csv", "--into", "set")
    assert (first.returncode, second.returncode) == (0, 0)
    assert "1 added to set, 0 were there already, 1 rejected" in first.stdout
    assert "0 added to set, 1 were there already, 1 rejected" in second.stdout
    assert "set/rejects.csv" in second.stdout
    assert _files(tmp_path / "set").keys() == content.keys()
    assert json.loads((tmp_path / "set" / "dataset.json").read_bytes()) == hashes
    rejects = (tmp_path / "set" / "rejects.csv").read_text().splitlines()
    assert len(rejects) == 2
    assert rejects[1].startswith("nan.csv,3,price")


def test_imported_set_may_be_used_though_its_file_had_a_bad_row(
    folder: Path, tmp_path: Path
) -> None:
    shutil.copy(folder / "nan.csv", tmp_path)
    millrace(tmp_path, "import", "csv", "nan.csv", "--into", "set")
    done = millrace(tmp_path, *backtest("--json", data="set"))
    assert done.returncode == 0
    assert json.loads(done.stdout)["events"] == 1


# ---- processes that others start


def test_backtest_of_an_agent_ends_with_the_process_that_started_it(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "infra.leashed", "demo", "--port", "0"]
    with subprocess.Popen(
        words,
        env={**os.environ, "MILLRACE_DATA_FOLDER": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        assert process.poll() is None
        process.stdin.close()  # as the kernel does for one that is killed
        assert process.wait(timeout=30) == 3
