"""``millrace run`` on a live feed: killed in the middle, it goes on as its journal says."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agents.runners.engine import Engine
from agents.runners.parity import engine_config, read_manifest
from agents.runners.recorder import SNAPSHOT, RunSnapshot
from agents.strategy.builtin import BUILTIN
from schemas.errors import MillraceError
from schemas.rows import records_from_table
from schemas.topics import MARKET_BARS, MARKET_EVENTS, ORDER_FILLS, SYSTEM_DEAD_LETTERS
from streams.calendars import session_tables
from streams.datasets import open_data
from streams.journal import JournalReader, Kind

COMMAND = Path(sys.executable).with_name("millrace")
SEED = 20131007
KILLS = 3
EVENTS = 1500  # in each stretch between two kills
TIMEOUT_S = 60.0
BURST = 20
GARBAGE_EVERY = 500

SETTINGS = """
[run]
port = 0
snapshot_interval_s = 0.3

[source]
feed = "jsonl"
lateness_s = 0.5

[source.options]
port = {port}
instruments = ["IBM"]
retry_first_s = 0.05
attempts_max = {attempts_max}

[risk.limits]
max_position = "500"
max_order_rate = 50

[venue]
latency = {{ submit_ns = 2000000 }}

[market]
intervals = ["1s"]
mark_interval_s = 1

[[strategies]]
name = "momentum_crossover"
on = "trade"
parameters = {{ fast = 3, slow = 9, quantity = 100.0 }}

[[strategies]]
name = "mean_reversion"
on = "1s"
parameters = {{ quantity = 50.0 }}
"""


class Market:
    """A TCP server that sends the bundled quotes and trades of IBM as if they happened now.

    A connection goes on where the last one ended; now and then comes a line that is no record.
    """

    def __init__(self) -> None:
        self._records = cycle(_recording())
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._is_open = True
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        """Send nothing more."""
        self._is_open = False
        with suppress(OSError):
            self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join(TIMEOUT_S)

    def _serve(self) -> None:
        with suppress(OSError):
            while self._is_open:
                connection, _ = self._server.accept()
                with connection, suppress(OSError):
                    self._send(connection)

    def _send(self, connection: socket.socket) -> None:
        sent = 0
        while self._is_open:
            lines = []
            for _ in range(BURST):
                lines.append(json.dumps(next(self._records) | {"ts_event_ns": time.time_ns()}))
                sent += 1
                if sent % GARBAGE_EVERY == 0:
                    lines.append("no record")
            connection.sendall("\n".join(lines).encode() + b"\n")
            time.sleep(0.01)


def _recording() -> list[dict[str, Any]]:
    """Return the first events of IBM in the bundled recording, as they stand on the wire."""
    data = open_data("demo", symbols=["IBM"])
    batch = next(data.batches(20_000, symbols=["IBM"]))
    placed = [
        (pos, record)
        for table in (batch.trades, batch.quotes)
        for pos, record in zip(
            table.pos.tolist(),
            records_from_table(data.universe, table, slice(None)),
            strict=True,
        )
    ]
    return [msgspec.to_builtins(record) for _, record in sorted(placed, key=lambda item: item[0])]


@pytest.fixture(name="market")
def fixture_market() -> Iterator[Market]:
    """Serve the market for one test."""
    market = Market()
    yield market
    market.close()


def _settings(folder: Path, port: int, attempts_max: int = 0) -> Path:
    path = folder / "live.toml"
    path.write_text(SETTINGS.format(port=port, attempts_max=attempts_max))
    return path


@contextmanager
def _run(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Run the command over the settings in ``folder`` until the block ends."""
    process = subprocess.Popen(
        [str(COMMAND), "run", "--config", str(folder / "live.toml"), "--folder", str(folder / "r")],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _count(folder: Path, topic: str) -> int:
    """Return how many records of a topic the journal of a run holds."""
    try:
        return JournalReader(folder / "r" / "journal").next_offsets.get(topic, 0)
    except MillraceError:  # not begun, or in the middle of a write
        return 0


def _wait(folder: Path, topic: str, count: int, process: subprocess.Popen[str]) -> None:
    deadline_s = time.monotonic() + TIMEOUT_S
    while _count(folder, topic) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, f"{topic} stands at {_count(folder, topic)}"
        time.sleep(0.02)


def _stop(process: subprocess.Popen[str]) -> str:
    process.send_signal(signal.SIGINT)
    output, complaint = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, complaint) == (0, "")
    return output


def test_killed_run_continues_with_the_state_and_the_outputs_of_its_journal(
    tmp_path: Path, market: Market
) -> None:
    _settings(tmp_path, market.port)
    rng = random.Random(SEED)
    for _ in range(KILLS):
        with _run(tmp_path) as process:
            _wait(tmp_path, MARKET_EVENTS, _count(tmp_path, MARKET_EVENTS) + EVENTS, process)
            time.sleep(rng.uniform(0.0, 0.2))
            process.send_signal(signal.SIGKILL)
    before = _count(tmp_path, MARKET_EVENTS)
    with _run(tmp_path) as process:
        _wait(tmp_path, MARKET_EVENTS, before + EVENTS, process)
        output = _stop(process)

    assert "continued run r behind" in output
    assert "feed: connected to" in output
    assert "records refused so far" in output
    _check_journal(tmp_path / "r" / "journal")
    parity = subprocess.run(
        [str(COMMAND), "parity", str(tmp_path / "r"), "--json"],
        capture_output=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    report = json.loads(parity.stdout)
    assert report["rerun"]["differences"] == 0
    assert report["rerun"]["recorded_hash"] == report["rerun"]["rerun_hash"]
    assert report["backtest_against_live"]["fills live"] > 0


def _check_journal(folder: Path) -> None:
    """Check that every event is numbered once, and that the saved state is the journal's."""
    reader = JournalReader(folder)
    events = [record for _, record in reader.read(MARKET_EVENTS, 0, 10**6)]
    assert sorted(event.source_seq for event in events) == list(range(len(events)))
    assert len(events) > (KILLS + 1) * EVENTS
    for topic in (MARKET_BARS, ORDER_FILLS, SYSTEM_DEAD_LETTERS):
        assert reader.next_offsets[topic] > 3

    manifest, universe = read_manifest(reader), reader.universe()
    span = manifest.inputs[0].first_ts_ns, manifest.inputs[0].last_ts_ns
    engine = Engine(engine_config(manifest), universe, session_tables(universe, *span), BUILTIN)
    for entry in reader.entries():
        if entry.kind is Kind.BATCH:
            engine.process(entry.batch(universe))
    mark = reader.last_mark(SNAPSHOT)
    assert mark is not None
    assert mark[0] == reader.next_entry - 1  # the run saved its state when it was stopped
    assert msgspec.json.decode(mark[1], type=RunSnapshot).engine == msgspec.Raw(engine.snapshot())


def test_quiet_market_goes_on_in_time_and_the_api_answers(tmp_path: Path, market: Market) -> None:
    _settings(tmp_path, market.port)
    with _run(tmp_path) as process:
        assert process.stdout is not None
        address = process.stdout.readline().split()[1]
        _wait(tmp_path, MARKET_EVENTS, 100, process)
        market.close()
        bars, events = _count(tmp_path, MARKET_BARS), _count(tmp_path, MARKET_EVENTS)
        _wait(tmp_path, MARKET_EVENTS, events + 2, process)
        _wait(tmp_path, MARKET_BARS, bars + 1, process)
        with urllib.request.urlopen(f"{address}/api/portfolio", timeout=TIMEOUT_S) as answer:
            assert answer.status == 200
        assert "trying again until it is there" in _stop(process)


def test_feed_that_fails_for_good_ends_the_run_with_one_line(
    tmp_path: Path, market: Market
) -> None:
    market.close()
    _settings(tmp_path, market.port, attempts_max=3)
    with _run(tmp_path) as process:
        _, complaint = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert complaint.startswith("error: the feed failed 3 times in a row: no connection")
    assert complaint.count("\n") == 1


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("raise KeyError('quote')", "the feed has failed: KeyError: 'quote'"),
        ("raise asyncio.CancelledError", "the feed has failed: CancelledError"),
    ],
)
def test_adapter_that_raises_ends_the_run_with_one_line(
    tmp_path: Path, body: str, words: str
) -> None:
    (tmp_path / "mine.py").write_text(
        "import asyncio\n"
        "from millrace import Emit, FeedAdapter, Instrument\n"
        "class Mine(FeedAdapter):\n"
        "    def instruments(self):\n"
        "        return [Instrument(ts_event_ns=0, instrument_id='A.X', symbol='A', venue='X')]\n"
        "    async def run(self, emit):\n"
        f"        {body}\n"
    )
    (tmp_path / "live.toml").write_text('[run]\nport = 0\n[source]\nfeed = "mine.py:Mine"\n')
    with _run(tmp_path) as process:
        _, complaint = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 2
    assert words in complaint
    assert complaint.count("\n") == 1


def test_adapter_that_ends_leaves_the_run_serving(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import time\n"
        "from millrace import Emit, FeedAdapter, Instrument, Trade\n"
        "class Mine(FeedAdapter):\n"
        "    def instruments(self):\n"
        "        return [Instrument(ts_event_ns=0, instrument_id='A.X', symbol='A', venue='X')]\n"
        "    async def run(self, emit):\n"
        "        for n in range(100):\n"
        "            await emit(Trade(ts_event_ns=time.time_ns(), instrument_id='A.X',"
        " price=1.0, size=1.0))\n"
    )
    (tmp_path / "live.toml").write_text('[run]\nport = 0\n[source]\nfeed = "mine.py:Mine"\n')
    with _run(tmp_path) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(3)]
        assert lines[2] == "the feed has ended: 100 events; serving until Ctrl-C\n"
        _stop(process)
    assert _count(tmp_path, MARKET_EVENTS) == 100
