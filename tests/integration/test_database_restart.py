"""History of an earlier run, as real programs answer it from the embedded database."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from streams.database.embedded import EmbeddedServer
from tests.integration.command_line import BOUND_S, Background, environment

CONFIG = """\
[source]
data = "demo"
speed = 3000

[account]
cash = "100000"

[risk.limits]
max_position = "1000"
max_order_rate = 1
order_rate_window_s = 300

[[strategies]]
name = "momentum_crossover"
strategy_id = "demo"
on = "1m"
parameters = { fast = 3, slow = 8, weight = 0.5 }
"""
LISTS = (
    ("/api/orders", "orders"),
    ("/api/fills", "fills"),
    ("/api/risk/decisions", "decisions"),
    ("/api/strategies/demo/signals", "signals"),
    ("/api/risk/breaker/changes", "changes"),
)
STATES = (
    "/api/portfolio",
    "/api/positions?is_open=false",
    "/api/strategies",
    "/api/instruments",
    "/api/risk/limits?strategy_id=demo",
    "/api/strategies/demo/performance",
    "/api/positions/SPY/lots",
)
GROUPS = ("strategy", "instrument", "day")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Give a data folder that the database's user can reach, removed at the end."""
    found = Path(tempfile.mkdtemp(prefix="millrace-db-"))
    (found / "run.toml").write_text(CONFIG)
    yield found
    EmbeddedServer(found / "database").stop()
    shutil.rmtree(found, ignore_errors=True)


class Program(Background):
    """``millrace run`` with the database that it starts itself."""

    def __init__(self, folder: Path, name: str) -> None:
        env = environment(MILLRACE_DATA_FOLDER=str(folder), COLUMNS="200")
        run = folder / "runs" / name
        words = ("run", "--config", folder / "run.toml", "--folder", run, "--port", 0)
        super().__init__(folder / f"{name}.log", *words, env=env)

    def start(self) -> None:
        """Wait until it serves."""
        self.until("serving http")
        found = re.search(r"serving (http://\S+)", self.said())
        assert found is not None
        self.url = found[1]

    def get(self, path: str) -> Any:
        """Return the answer to a path."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=BOUND_S) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{path}: {error.read()!r}") from error

    def until_stored(self) -> None:
        """Wait until everything that the run brought about is in the database."""
        deadline_s = time.monotonic() + BOUND_S
        while True:
            state = self.get("/api/system/storage")
            if state["is_available"] and state["detail"] == "storing, 0 records not stored yet":
                return
            assert time.monotonic() < deadline_s, state
            time.sleep(0.1)

    def told(self, run_id: str = "") -> dict[str, Any]:
        """Return everything that it says of a run."""
        more = f"&run_id={run_id}" if run_id else ""
        found: dict[str, Any] = {}
        for path, name in LISTS:
            found[path], cursor = [], ""
            while cursor is not None:
                page = self.get(f"{path}?limit=500{more}{cursor and f'&cursor={cursor}'}")
                found[path] += page[name]
                cursor = page["next_cursor"]
        for path in STATES:
            found[path] = self.get(f"{path}{'&' if '?' in path else '?'}{more[1:]}")
        for group in GROUPS:
            found[group] = self.get(f"/api/portfolio/pnl?group_by={group}{more}")["groups"]
        order = found["/api/fills"][0]["client_order_id"]
        found["events"] = self.get(f"/api/orders/{order}/events?{more[1:]}")
        return found


def test_earlier_run_is_answered_after_a_restart_with_and_without_its_journal(
    folder: Path,
) -> None:
    with Program(folder, "first") as first:
        first.start()
        first.until("the recording is played")
        first.until_stored()
        expected = first.told()
        assert first.interrupt() == 0
    assert len(expected["/api/orders"]) > 50
    assert len(expected["/api/fills"]) > 20
    assert any(not item["is_approved"] for item in expected["/api/risk/decisions"])

    # The same run goes on: its process knows the newest records alone, the database the others.
    with Program(folder, "first") as again:
        again.start()
        again.until_stored()
        assert again.told() == expected
        assert again.interrupt() == 0

    with Program(folder, "second") as second:
        second.start()
        second.until_stored()
        assert second.told("first") == expected
        # Its journal is moved to an archive: now only the database knows the run.
        shutil.move(folder / "runs" / "first", folder / "archive")
        assert second.told("first") == expected
        runs = {run["run_id"]: run["source"] for run in second.get("/api/system/runs")["runs"]}
        assert runs == {"first": "database", "second": "journal"}
        assert second.interrupt() == 0
