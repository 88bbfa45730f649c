"""The commands on a full disk and in folders that are read-only: one line, status 2, nothing lost.

A limit of the file size stands in for the full disk: it needs no rights and no file system of its
own, and the journal meets it in the same call.
"""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path

import pytest

from schemas.topics import ORDER_EVENTS
from streams.journal import JournalReader
from tests.generated import trades, universe, write_csv
from tests.integration.test_cli import refused

COMMAND = Path(sys.executable).with_name("millrace")
TIMEOUT_S = 60.0
ORDERS_MAX = 5_000  # far more than fit


def start(folder: Path, limit: int, *arguments: str) -> subprocess.Popen[str]:
    """Start the command in ``folder``; no file that it writes may grow over ``limit`` bytes."""
    return subprocess.Popen(
        [str(COMMAND), *arguments],
        cwd=folder,
        env={**os.environ, "MILLRACE_DATA_FOLDER": str(folder / "data"), "TMPDIR": str(folder)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),  # noqa: PLW1509 - no thread runs here
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def complaint(folder: Path, limit: int, *arguments: str) -> str:
    """Run a command that fills its disk and return its one line."""
    with start(folder, limit, *arguments) as process:
        _, text = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    """Return a folder with a file of trades and nothing else."""
    write_csv(tmp_path / "gen.csv", trades(universe(), 5_000, days=2))
    return tmp_path


def millrace(folder: Path, *arguments: str) -> str:
    """Run a command that must succeed and return its output."""
    with start(folder, resource.RLIM_INFINITY, *arguments) as process:
        output, text = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, text) == (0, "")
    return output


# ---- backtest and import leave nothing behind


def backtest(data: str) -> list[str]:
    """Return the command line of a backtest that writes more than its limits allow."""
    terms = ["--param", "fast=5", "--param", "slow=9", "--data", data, "--out", "out"]
    return ["backtest", "--strategy", "momentum_crossover", *terms]


@pytest.mark.parametrize("limit", [100, 3_000, 100_000])
def test_backtest_on_a_full_disk_leaves_nothing_behind(folder: Path, limit: int) -> None:
    millrace(folder, "import", "csv", "gen.csv", "--into", "set")
    before = sorted(folder.rglob("*"))
    text = complaint(folder, limit, *backtest("set"))
    assert "File too large" in text
    assert "raise the limit of the file size" in text
    assert sorted(folder.rglob("*")) == before


def test_backtest_of_a_file_that_fills_the_temporary_folder_leaves_nothing_behind(
    folder: Path,
) -> None:
    before = sorted(folder.rglob("*"))
    assert "check free space" in complaint(folder, 1_000, *backtest("gen.csv"))
    assert sorted(folder.rglob("*")) == before


def test_backtest_on_a_full_disk_keeps_the_results_that_were_there(folder: Path) -> None:
    millrace(folder, *backtest("gen.csv"))
    before = {p: p.read_bytes() for p in (folder / "out").rglob("*") if p.is_file()}
    complaint(folder, 100_000, *backtest("gen.csv"))
    assert {p: p.read_bytes() for p in (folder / "out").rglob("*") if p.is_file()} == before


@pytest.mark.parametrize("limit", [0, 1_000, 20_000])
def test_import_on_a_full_disk_leaves_nothing_behind(folder: Path, limit: int) -> None:
    before = sorted(folder.rglob("*"))
    complaint(folder, limit, "import", "csv", "gen.csv", "--into", "new/set")
    assert sorted(folder.rglob("*")) == before


def test_import_on_a_full_disk_keeps_the_set_that_was_there(folder: Path) -> None:
    millrace(folder, "import", "csv", "gen.csv", "--into", "set")
    index = (folder / "set" / "dataset.json").read_bytes()
    write_csv(folder / "more.csv", trades(universe(("MORE",)), 5_000, days=2))
    complaint(folder, 20_000, "import", "csv", "more.csv", "--into", "set")
    assert (folder / "set" / "dataset.json").read_bytes() == index
    assert "5,000 were there already" in millrace(
        folder, "import", "csv", "gen.csv", "--into", "set"
    )


def test_parity_on_a_full_disk_leaves_nothing_behind(folder: Path) -> None:
    millrace(folder, *backtest("gen.csv"))
    millrace(folder, "import", "csv", "gen.csv", "--into", "set")
    before = sorted(folder.rglob("*"))
    complaint(folder, 2_000, "parity", "out", "--data", "set")
    assert sorted(folder.rglob("*")) == before


# ---- a run keeps what it has acknowledged


@contextmanager
def run(folder: Path, limit: int) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start a run that plays at the speed of real time; yield it with its address."""
    process = start(folder, limit, "run", "--config", "run.toml", "--folder", "run", "--port", "0")
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        found = re.search(r"serving (http://127\.0\.0\.1:\d+)", line)
        assert found is not None, line + process.communicate(timeout=TIMEOUT_S)[1]
        yield process, found[1]
    finally:
        process.kill()
        process.communicate()


def order_until_refused(address: str) -> list[str]:
    """Send orders until one is refused; return the ids of those that were accepted."""
    accepted = []
    for number in range(ORDERS_MAX):
        body = {"symbol": "GEN", "side": "BUY", "quantity": 1, "client_order_id": f"o{number}"}
        request = urllib.request.Request(
            f"{address}/api/orders",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            urllib.request.urlopen(request, timeout=TIMEOUT_S).close()
        except (OSError, HTTPException):
            break
        accepted.append(f"o{number}")
    return accepted


def ordered(folder: Path) -> set[str]:
    """Return the orders whose events a run's journal holds."""
    found = JournalReader(folder / "run" / "journal").read(ORDER_EVENTS, 0, 10 * ORDERS_MAX)
    return {getattr(record, "client_order_id", "") for _, record in found}


def test_run_on_a_full_disk_has_every_order_that_it_accepted_and_goes_on(folder: Path) -> None:
    (folder / "run.toml").write_text('[source]\ndata = "gen.csv"\n')
    with run(folder, 150_000) as (process, address):
        accepted = order_until_refused(address)
        _, text = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert text.startswith("error: the journal cannot be written: File too large")
    assert text.count("\n") == 1
    assert 10 < len(accepted) < ORDERS_MAX
    assert ordered(folder) >= set(accepted)
    with run(folder, resource.RLIM_INFINITY) as (process, address):
        with urllib.request.urlopen(f"{address}/api/orders/{accepted[-1]}", timeout=TIMEOUT_S) as a:
            assert json.loads(a.read())["client_order_id"] == accepted[-1]
        process.terminate()
        assert process.wait(TIMEOUT_S) == 0
    assert json.loads(millrace(folder, "parity", "run", "--json"))["rerun"]["differences"] == 0


# ---- read-only folders


@pytest.fixture(name="closed")
def fixture_closed(folder: Path) -> Iterator[Path]:
    """Return a folder with a closed one in it, which is opened again for the clean-up."""
    (folder / "closed").mkdir(mode=0o555)
    (folder / "run.toml").write_text('[source]\ndata = "gen.csv"\n')
    yield folder
    (folder / "closed").chmod(0o755)


@pytest.mark.parametrize("target", ["closed", "closed/new"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "--config", "run.toml", "--port", "0", "--folder"],
        ["import", "csv", "gen.csv", "--into"],
        ["backtest", "--strategy", "buy_and_hold", "--data", "gen.csv", "--out"],
    ],
    ids=lambda arguments: arguments[0],
)
def test_read_only_folder_is_refused_in_one_line(
    closed: Path, arguments: list[str], target: str
) -> None:
    line = refused(closed, *arguments, target)
    assert "closed" in line
    assert "another folder" in line or "rights of the folder" in line


def test_demo_that_may_not_put_the_last_session_aside_says_so(folder: Path) -> None:
    journal = folder / "data" / "runs" / "demo" / "journal"
    journal.mkdir(parents=True)
    (journal / "segment-00000000.log").write_bytes(b"a session")
    (journal / "journal.lock").touch()
    journal.parents[1].chmod(0o555)
    try:
        assert "runs/demo" in refused(folder, "demo", "--port", "0", "--exit")
    finally:
        journal.parents[1].chmod(0o755)
    assert (journal / "segment-00000000.log").read_bytes() == b"a session"
