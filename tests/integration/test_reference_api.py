"""A client that was written for the reference app, over real HTTP, against both ways to run.

The same requests go to the one-process engine (``millrace run``) and to the web app over Kafka with
two workers (``millrace live``), and get the same answers.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.integration.conftest import JARS

COMMAND = Path(sys.executable).with_name("millrace")
_START_S = 240.0
_STOP_S = 60.0

CONFIG = """\
[source]
data = "demo"
speed = 60

[account]
cash = "100000"

[risk.limits]
max_position = "1000"

[market]
intervals = ["1s", "1m"]

[[strategies]]
name = "momentum_crossover"
strategy_id = "demo"
on = "1m"
parameters = { fast = 5, slow = 20, weight = 0.5 }
"""

BACKTEST = {
    "strategy_name": "momentum_crossover",
    "start_date": "2014-01-01T00:00:00Z",
    "end_date": "2020-12-31T23:59:59Z",
    "initial_capital": 10000.0,
}
METRICS = (
    "strategy_name",
    "sharpe_ratio",
    "max_drawdown_pct",
    "total_return_pct",
    "total_trades",
    "win_rate",
)


class Answer(NamedTuple):
    """A response of the server."""

    status: int
    body: Any
    headers: dict[str, str]


class Server:
    """A ``millrace`` command that serves the API, on a port of its own."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        # The jars of Kafka stay between sessions.
        JARS.mkdir(parents=True, exist_ok=True)
        (folder / "kafka").symlink_to(JARS)
        environment = {**os.environ, "MILLRACE_DATA_FOLDER": str(folder), "COLUMNS": "200"}
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            [str(COMMAND), *arguments, "--port", "0"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = ""

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line for line in self._process.stdout)

    def start(self) -> None:
        """Wait until the app is ready and the market has a price."""

        def is_serving() -> bool:
            found = re.search(r"serving (http://\S+)", "".join(self.lines))
            self.url = found[1] if found else ""
            return bool(found)

        self.until(is_serving)
        self.until(lambda: self.get("/readyz").status == 200)
        self.until(lambda: self.get("/api/orderbook/IBM").body.get("last_price") is not None)

    def until(self, is_met: Callable[[], bool]) -> None:
        """Wait for something; a process that ended never brings it."""
        end_s = time.monotonic() + _START_S
        while not is_met():
            assert self._process.poll() is None, "".join(self.lines)
            assert time.monotonic() < end_s, "".join(self.lines)
            time.sleep(0.1)

    def request(self, method: str, path: str, body: Any = None) -> Answer:
        """Send a request as a client of the reference app does."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.url}{path}", data, {"content-type": "application/json"}, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=90) as response:
                return Answer(response.status, json.load(response), dict(response.headers))
        except urllib.error.HTTPError as error:
            return Answer(error.code, json.load(error), dict(error.headers))
        except OSError as error:
            # The process has ended: what it said last tells why.
            self._reader.join(_STOP_S)
            raise AssertionError(f"{error}\n{''.join(self.lines)}") from error

    def get(self, path: str) -> Answer:
        """Ask for ``path``."""
        return self.request("GET", path)

    def post(self, path: str, body: Any) -> Answer:
        """Post ``body`` to ``path``."""
        return self.request("POST", path, body)

    def stop(self) -> None:
        """Stop as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(_STOP_S)
        if self._process.stdout is not None:
            self._process.stdout.close()


WAYS = ("one process", "kafka") if os.environ.get("MILLRACE_TEST_LONG") else ("one process",)
"""On Kafka it takes minutes: ``make long`` asks for it."""


@pytest.fixture(scope="module", params=WAYS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """Give a running server, first the one-process engine, then Kafka with two workers."""
    folder = tmp_path_factory.mktemp("reference")
    if request.param == "kafka":
        server = Server(folder, "live", "--speed", "60")
    else:
        (folder / "run.toml").write_text(CONFIG)
        server = Server(folder, "run", "--config", "run.toml")
    try:
        server.start()
        yield server
    finally:
        server.stop()


# ---- the reference's own cases


def test_momentum_crossover_gives_metrics(server: Server) -> None:
    answer = server.post("/api/backtest/run", BACKTEST)

    assert answer.status == 200, answer.body
    assert set(METRICS) <= answer.body.keys()
    assert answer.body["strategy_name"] == "momentum_crossover"
    assert answer.body["max_drawdown_pct"] < 0
    assert isinstance(answer.body["total_trades"], int)


def test_unknown_strategy_is_not_found(server: Server) -> None:
    answer = server.post("/api/backtest/run", {**BACKTEST, "strategy_name": "no_such"})

    assert answer.status == 404
    assert "not found" in answer.body["detail"]


@pytest.mark.parametrize(
    "change",
    [
        {"side": "HOLD"},
        {"quantity": 0},
        {"quantity": -5},
        {"order_type": "LIMIT"},
        {"symbol": ""},
        {"symbol": "ELEVENCHARS"},
        {"order_type": "PEGGED"},
    ],
)
def test_invalid_order_is_refused(server: Server, change: dict[str, Any]) -> None:
    answer = server.post("/api/orders", {"symbol": "IBM", "side": "BUY", "quantity": 10, **change})

    assert answer.status == 422
    assert answer.body["detail"]


# ---- the rest of the reference's routes


def test_range_without_data_says_what_there_is(server: Server) -> None:
    answer = server.post(
        "/api/backtest/run", {**BACKTEST, "start_date": "1950-01-01", "end_date": "1951-01-01"}
    )

    assert answer.status == 422
    assert "1998" in answer.body["detail"]


@pytest.mark.parametrize("path", ["run", "run-async"])
@pytest.mark.parametrize(
    ("wrong", "status", "pointer"),
    [
        ({"strategy_name": "nope"}, 404, "/strategy_name"),
        ({"parameters": {"fats": 2}}, 422, "/parameters/fats"),
        ({"parameters": {"fast": 200, "slow": 20}}, 422, "/parameters/fast"),
        ({"symbols": ["NOPE"]}, 422, "/symbols"),
        ({"start_date": "1970-01-01", "end_date": "1970-02-01"}, 422, "/start_date"),
    ],
)
def test_backtest_that_cannot_run_is_refused_with_the_field(
    server: Server, path: str, wrong: dict[str, Any], status: int, pointer: str
) -> None:
    answer = server.post(f"/api/backtest/{path}", {**BACKTEST, **wrong})

    assert (answer.status, answer.body["errors"][0]["pointer"]) == (status, pointer), answer.body


def test_backtest_is_started_followed_and_listed(server: Server) -> None:
    started = server.post("/api/backtest/run-async", {**BACKTEST, "end_date": "2014-06-30"}).body
    task = f"/api/backtest/{started['task_id']}"
    server.until(lambda: server.get(task).body["status"] in ("COMPLETED", "FAILED"))
    history = server.get("/api/backtest/history?strategy_name=momentum_crossover&limit=10").body

    assert started["status"] == "started"
    assert server.get(task).body["status"] == "COMPLETED"
    assert history["backtests"][0]["task_id"] == started["task_id"]
    assert server.get("/api/backtest/history?limit=101").status == 422
    # A backtest is queried as the live run is.
    orders = server.get(f"/api/orders?run_id={started['task_id']}").body["orders"]
    report = server.get(f"{task}/report").body
    assert report["output_hash"] == server.get(task).body["result"]["output_hash"]
    assert server.get(f"{task}/equity?limit=10").body["count"] > 100
    if orders:
        chain = server.get(
            f"/api/orders/{orders[0]['client_order_id']}/causes?run_id={started['task_id']}"
        ).body["links"]
        assert {"submit_order", "risk_decision", "fill"} <= {link["type"] for link in chain}


def test_queries_answer(server: Server) -> None:
    config, system = server.get("/api/config").body, server.get("/api/system").body

    assert server.get("/api/portfolio").status == 200
    assert server.get("/api/portfolio/nobody").status == 404
    assert [s["strategy_id"] for s in server.get("/api/strategies").body["strategies"]] == ["demo"]
    assert server.get("/api/risk").body["circuit_breaker"]["state"] == "ACTIVE"
    assert "order_book" in server.get("/api/trades").body
    assert (config["paper_trading"], config["autonomy_mode"]) == (True, "AUTOMATIC")
    assert system["health"]["status"] == "ok"
    assert system["scheduler"]["is_running"] is True
    assert server.get("/openapi.json").body["openapi"] == "3.1.0"


def test_order_is_filled_and_its_id_stands_for_it(server: Server) -> None:
    order = {"symbol": "IBM", "side": "BUY", "quantity": 10, "client_order_id": "ref-1"}
    mine = "/api/positions/IBM"
    query = "strategy_id=manual"

    first = server.post("/api/orders?wait=filled&timeout_s=30", order)
    again = server.post("/api/orders?timeout_s=30", order)
    other = server.post("/api/orders?timeout_s=30", {**order, "quantity": 11})
    server.until(lambda: server.get(f"{mine}?{query}").status == 200)
    held = server.get(f"{mine}?{query}").body["positions"][0]
    lots = server.get(f"{mine}/lots?{query}").body["positions"][0]
    close = f"{mine}?{query}&wait=filled&timeout_s=30&client_order_id=ref-1-close"
    closed = server.request("DELETE", close)
    repeated = server.request("DELETE", close)

    assert (first.status, first.body["status"]) == (200, "FILLED"), first.body
    assert again.body["status"] == "FILLED"
    assert other.status == 409
    assert (held["quantity"], lots["is_complete"]) == (10, True)
    assert (closed.status, closed.body["status"]) == (200, "FILLED"), closed.body
    assert (repeated.status, repeated.body) == (200, closed.body)


def test_flatten_closes_opposite_positions_and_tells_what_it_could_not(server: Server) -> None:
    for strategy, side, quantity in (("a", "SELL", 100), ("b", "BUY", 40)):
        order = {"symbol": "IBM", "side": side, "quantity": quantity, "strategy_id": strategy}
        filled = server.post("/api/orders?wait=filled&timeout_s=30", order)
        assert filled.body["status"] == "FILLED", filled.body
    server.until(lambda: len(held(server, "a", "b")) == 2)

    server.post("/api/risk/breaker/trip", {"reason": "test"})
    server.until(lambda: server.get("/api/risk/breaker").body["state"] == "HALTED")
    halted = server.post("/api/risk/kill", {"action": "flatten", "reason": "test"})
    server.post("/api/risk/breaker/reset", {"reason": "over"})
    server.post("/api/risk/kill", {"action": "stop_entries", "reason": "test"})
    server.until(lambda: server.get("/api/risk/breaker").body["state"] == "REDUCING")
    half = server.request(
        "DELETE", "/api/positions/IBM?strategy_id=b&percentage=50&wait=filled&timeout_s=30"
    )
    server.post("/api/risk/kill", {"action": "flatten", "reason": "test"})
    server.until(lambda: not held(server, "a", "b"))
    server.post("/api/risk/breaker/reset", {"reason": "over"})
    server.until(lambda: server.get("/api/risk/breaker").body["state"] == "ACTIVE")

    assert halted.status == 202
    server.until(lambda: len(denied(server)) >= 2)
    assert {(o["side"], o["quantity"]) for o in denied(server)} >= {("BUY", 100), ("SELL", 40)}
    assert (half.status, half.body["status"], half.body["filled_quantity"]) == (200, "FILLED", 20)


def held(server: Server, *strategies: str) -> list[Any]:
    """Return the open positions of some strategies."""
    positions = server.get("/api/positions").body["positions"]
    return [p for p in positions if p["strategy_id"] in strategies]


def denied(server: Server) -> list[Any]:
    """Return the orders of a flatten that were denied."""
    orders = server.get("/api/orders?status=DENIED").body["orders"]
    return [o for o in orders if o["client_order_id"].startswith("flatten-")]


def test_resting_order_is_replaced_and_canceled(server: Server) -> None:
    last = server.get("/api/orderbook/IBM").body["last_price"]
    # Far enough to rest, near enough for the collar of 5 %.
    order = {"symbol": "IBM", "side": "BUY", "quantity": 10, "order_type": "LIMIT",
             "limit_price": round(0.97 * last, 2), "client_order_id": "ref-2"}  # fmt: skip
    placed = server.post("/api/orders?wait=accepted&timeout_s=30", order)
    replaced = server.request(
        "PATCH", "/api/orders/ref-2?wait=accepted&timeout_s=30", {"quantity": 7}
    )
    too_much = server.request("PATCH", "/api/orders/ref-2?timeout_s=30", {"quantity": 100_000})
    canceled = server.request("DELETE", "/api/orders/ref-2?timeout_s=30")
    server.until(lambda: server.get("/api/orders/ref-2").body["status"] == "CANCELED")

    assert (placed.status, placed.body["status"]) == (200, "ACCEPTED"), placed.body
    assert (replaced.status, replaced.body["quantity"]) == (200, 7), replaced.body
    assert (too_much.status, canceled.status) == (422, 200)


def test_what_if_and_breaker_agree(server: Server) -> None:
    order = {"symbol": "IBM", "side": "BUY", "quantity": 5}
    free = server.post("/api/risk/check?timeout_s=30", order)
    assert free.status == 200, free.body
    server.post("/api/risk/breaker/trip", {"reason": "test"})
    server.until(lambda: server.get("/api/risk/breaker").body["state"] == "HALTED")
    halted = server.post("/api/risk/check?timeout_s=30", order)
    denied = server.post("/api/orders?timeout_s=30", order)
    server.post("/api/risk/breaker/reset", {"reason": "over"})
    server.until(lambda: server.get("/api/risk/breaker").body["state"] == "ACTIVE")

    assert free.body["is_approved"] is True, free.body
    assert (halted.body["is_approved"], halted.body["code"]) == (False, "BREAKER_HALTED")
    assert (denied.body["status"], denied.body["code"]) == ("DENIED", "BREAKER_HALTED")


def test_strategy_is_paused_changed_and_resumed(server: Server) -> None:
    path = "/api/strategies/demo"

    paused = server.post(f"{path}/pause", {"reason": "test"})
    server.until(lambda: server.get(path).body["status"] == "PAUSED")
    changed = server.request("PATCH", f"{path}/parameters", {"parameters": {"fast": 6}})
    server.until(lambda: server.get(f"{path}/parameters").body["parameters"]["fast"] == 6)
    refused = server.request("PATCH", f"{path}/parameters", {"parameters": {"no_such": 6}})
    server.post(f"{path}/resume", {})
    server.until(lambda: server.get(path).body["status"] in ("RUNNING", "WARMING_UP"))

    # 202 where the stage's word is late: the state above says that it came.
    assert {paused.status, changed.status} <= {200, 202}
    assert refused.status in (422, 202)
    assert "no_such" not in server.get(f"{path}/parameters").body["parameters"]


def test_jobs_run_for_real(server: Server) -> None:
    for name in ("reconcile", "end-of-day-report", "retention"):
        answer = server.post(f"/api/system/scheduler/{name}/run", None)
        assert (answer.status, answer.body["last_status"]) == (200, "ok"), answer.body


def test_state_of_an_earlier_instant_is_answered(server: Server) -> None:
    began = server.get("/api/orders?as_of=2013-10-07T13:00:00Z")

    assert (began.status, began.body["count"]) == (200, 0)
    assert server.get("/api/orders?as_of=tomorrow").status == 422
    assert server.get("/api/orders?run_id=no-such").status == 404
