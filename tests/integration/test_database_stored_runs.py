"""A run that only the database knows answers as its journal does, live run and backtest alike."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from infra.backtests import BacktestSpec, run_backtest
from infra.run_store import JournalRuns
from schemas import topics as t
from schemas.commands import SubmitOrder
from schemas.enums import AutonomyMode, CorporateActionKind, OrderType, Scope, Side, TimeInForce
from schemas.envelope import Header
from schemas.instruments import CorporateAction, ExchangeRate, Instrument
from schemas.risk import LimitSet, SetAutonomy, SetLimits
from streams.database.connecting import Database
from streams.database.journals import JournalSource
from streams.database.queries import StoredHistory
from streams.database.sinks import Sink
from streams.database.tables import FLOW_BY_NAME
from streams.journal import JournalReader
from streams.memory_log import MemoryLog
from tests.database_case import backtest_run, journaled_rows, record_told_run, stored_rows
from tests.integration.test_database_web import LISTS, STATES, Client, app_of
from web.route_table import Route
from web.routes import TABLE
from web.times import format_time, parse_time

TIMES = 5
"""So many instants of a run are asked about, from before its beginning to its end."""

SHARES = (
    "/api/risk",
    "/api/risk?limit=3",
    "/api/risk?account_id=two",
    "/api/risk/limits",
    "/api/risk/limits?account_id=two&strategy_id=cross-BB&symbol=BB",
    "/api/portfolio/one/equity",
    "/api/portfolio/two/equity?strategy_id=cross-BB&limit=7",
    "/api/strategies/cross-AA/performance",
    "/api/strategies/cross-BB/performance",
    "/api/strategies/cross-CC/performance",
    "/api/positions/AA/lots",
    "/api/positions/BB/lots",
    "/api/positions/CC/lots?account_id=one",
    "/api/portfolio/two",
    "/api/portfolio/account?account_id=two",
    "/api/portfolio/exposure?account_id=one",
    "/api/positions?is_open=false",
)


def limits(scope: Scope, scope_id: str, **bounds: Any) -> tuple[str, Header]:
    """Return the command that sets limits of a scope."""
    name = f"limits-{scope}-{scope_id}-{sorted(bounds)}"
    command = SetLimits(name, 0, name, "", scope, scope_id, LimitSet(**bounds), "ops", "test")
    return t.ACCOUNT_INPUTS, command


def action(kind: CorporateActionKind, instrument_id: str, **fields: Any) -> tuple[str, Header]:
    """Return a corporate action that comes while the run goes on."""
    record = CorporateAction(
        event_id=f"{kind}-{instrument_id}",
        ts_event_ns=0,
        instrument_id=instrument_id,
        kind=kind,
        **fields,
    )
    return t.REFERENCE_ACTIONS, record


NEW = Instrument(ts_event_ns=0, instrument_id="BX.XXXX", symbol="BX", venue="XXXX")
MODE = SetAutonomy("mode", 0, "mode", "", AutonomyMode.SEMI_AUTOMATIC, "ops", "lunch", 60.0)
RATE = ExchangeRate(
    event_id="rate", ts_event_ns=0, base_currency="EUR", quote_currency="USD", rate=Decimal("1.25")
)
WAITING = SubmitOrder(
    "waiting",
    0,
    "waiting",
    "",
    "two",
    "cross-BB",
    "waiting",
    "BB.XXXX",
    Side.BUY,
    Decimal(1),
    OrderType.LIMIT,
    Decimal(1),
    time_in_force=TimeInForce.GTC,
)
NAMESAKE = msgspec.structs.replace(
    WAITING,
    event_id="namesake",
    account_id="one",
    strategy_id="cross-AA",
    instrument_id="AA.XXXX",
)
TOLD: dict[int, list[tuple[str, Header]]] = {
    2: [limits(Scope.GLOBAL, "", max_position=Decimal(500))],
    3: [(t.REFERENCE_INSTRUMENTS, NEW), (t.REFERENCE_RATES, RATE)],
    4: [
        limits(Scope.STRATEGY, "cross-BB", max_position=Decimal(100), max_order_rate=50),
        action(CorporateActionKind.DIVIDEND, "AA.XXXX", amount=Decimal("0.4"), currency="EUR"),
    ],
    5: [(t.ACCOUNT_INPUTS, WAITING), (t.ACCOUNT_INPUTS, NAMESAKE)],
    6: [
        limits(Scope.ACCOUNT, "two", max_notional=Decimal(90_000)),
        action(CorporateActionKind.DIVIDEND, "BB.XXXX", amount=Decimal("0.125")),
        action(CorporateActionKind.SYMBOL_CHANGE, "BB.XXXX", new_symbol="BX"),
    ],
    9: [limits(Scope.GLOBAL, "", max_position=Decimal(400)), (t.ACCOUNT_INPUTS, MODE)],
}


KINDS = ("live", "backtest")


class Scene(NamedTuple):
    """One run asked of two apps: one that has its journal, one that has the database alone."""

    journal: Client
    database: Client
    times: list[int]
    run_id: str


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with two runs; a run that is recorded anew is another one."""
    folder = tmp_path_factory.mktemp("stored")
    live, backtest = (folder / "runs" / f"stored-{kind}" / "journal" for kind in KINDS)
    asyncio.run(record_told_run(live, "stored-live", TOLD))
    backtest_run(backtest, "stored-backtest")
    return folder


@pytest.fixture(params=KINDS)
async def scene(
    database: Database, root: Path, request: pytest.FixtureRequest
) -> AsyncIterator[Scene]:
    """Give a run, stored and removed from one of two apps."""
    run_id = f"stored-{request.param}"
    folder = root / "runs" / run_id / "journal"
    await Sink(database, JournalSource(folder), time.time_ns).drain()
    reader = JournalReader(folder)
    marks = [
        record.ts_event_ns  # type: ignore[attr-defined]
        for _, record in reader.read(t.PORTFOLIO_EQUITY, 0, reader.next_offsets[t.PORTFOLIO_EQUITY])
    ]
    steps = [marks[(len(marks) - 1) * n // (TIMES - 2)] for n in range(TIMES - 1)]
    asked = f"run_id={run_id}"
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(
                app_of(MemoryLog("running", lambda: 0), runs, history, asked)
            )
            for runs, history in ((JournalRuns(root), None), (None, StoredHistory(database)))
        ]
        yield Scene(clients[0], clients[1], [marks[0] - 1, *steps], run_id)


def at(path: str, ts_ns: int | None) -> str:
    """Return a path asked as of an instant."""
    mark = "&" if "?" in path else "?"
    return path if ts_ns is None else f"{path}{mark}as_of={format_time(ts_ns)}"


async def answer(client: Client, path: str) -> tuple[int, Any]:
    """Return status and content; of a problem its code."""
    response = await client.response(path)
    if response.status_code != 200:
        return response.status_code, response.json()["code"]
    return 200, await client.get(path)


async def test_states_shares_and_dividends_are_those_of_the_journal(scene: Scene) -> None:
    good = 0
    for path in dict.fromkeys((*STATES, *SHARES)):
        for ts_ns in (None, *scene.times):
            whole = at(path, ts_ns)
            expected = await answer(scene.journal, whole)
            assert await answer(scene.database, whole) == expected, whole
            good += expected[0] == 200
            assert ts_ns is not None or expected[0] == 200, whole
    assert good > 5 * len(SHARES)


async def test_position_goes_on_under_its_new_symbol_once(scene: Scene) -> None:
    if scene.run_id == "stored-backtest":
        for client in (scene.journal, scene.database):
            assert (await client.response("/api/positions/BX")).status_code == 404
        return
    for client in (scene.journal, scene.database):
        (old,) = (await client.get("/api/positions/BB?account_id=two"))["positions"]
        (new,) = (await client.get("/api/positions/BX?account_id=two"))["positions"]
        (lots,) = (await client.get("/api/positions/BX/lots"))["positions"]
        assert new["quantity"]
        assert new["realized_pnl"]
        assert lots["is_complete"]
        exposure = await client.get("/api/portfolio/exposure?account_id=two")
        held = {row["instrument_id"]: row["quantity"] for row in exposure["instruments"]}
        assert held == {
            name: row["quantity"]
            for name, row in (("BB.XXXX", old), ("BX.XXXX", new))
            if row["quantity"]
        }


async def test_order_that_waits_over_a_symbol_change_is_found_by_its_new_name(scene: Scene) -> None:
    if scene.run_id == "stored-backtest":
        return

    async def under(symbol: str, as_of_ns: int | None) -> list[Any]:
        path = at(f"/api/orders?account_id=two&symbol={symbol}&limit=500", as_of_ns)
        expected = await scene.journal.get(path)
        assert await scene.database.get(path) == expected, path
        return [o for o in expected["orders"] if o["client_order_id"] == "waiting"]

    (order,) = await under("BX", None)
    assert order["instrument_id"] == "BX.XXXX"
    assert await under("BB", None) == []
    for ts_ns in scene.times[1:]:
        await under("BB", ts_ns)
    (before,) = await under("BB", parse_time(order["created_at"]))
    assert before["instrument_id"] == "BB.XXXX"


async def test_causes_of_an_order_are_of_its_account_alone(scene: Scene) -> None:
    if scene.run_id == "stored-backtest":
        return
    for account_id, event_id in (("one", "namesake"), ("two", "waiting")):
        for client in (scene.journal, scene.database):
            path = f"/api/orders/waiting/causes?account_id={account_id}"
            records = [link["record"] for link in (await client.get(path))["links"]]
            named = [record for record in records if record and "account_id" in record]
            assert {record["account_id"] for record in named} == {account_id}
            assert event_id in [record["event_id"] for record in named]
            assert len(named) >= 4


async def test_dividends_are_paid_to_the_cent(scene: Scene) -> None:
    paid = {
        name: (await scene.database.get(f"/api/portfolio/account?account_id={name}"))["dividends"]
        for name in ("one", "two")
    }
    for name, amount in paid.items():
        account = await scene.journal.get(f"/api/portfolio/{name}")
        assert account["account"]["dividends"] == amount
        assert sum(s["dividends"] for s in account["strategies"]) == amount
    assert paid["one"]
    assert bool(paid["two"]) == (scene.run_id == "stored-live")


async def test_results_are_those_of_the_journal(scene: Scene) -> None:
    for group in ("strategy", "instrument", "day"):
        for ts_ns in (None, *scene.times):
            whole = at(f"/api/portfolio/pnl?group_by={group}", ts_ns)
            expected = (await scene.journal.get(whole))["groups"]
            assert (await scene.database.get(whole))["groups"] == expected, whole


SERIES = (
    "/api/portfolio/history?account_id=one&timeframe=1m",
    "/api/portfolio/history?account_id=one&timeframe=1h&period=1d",
    "/api/portfolio/history?account_id=two&timeframe=1d",
    "/api/portfolio/history?account_id=two&strategy_id=cross-BB&timeframe=15m",
    "/api/bars?symbol=AA&interval=1m",
)


async def test_series_are_those_of_the_journal(scene: Scene) -> None:
    for path in SERIES:
        for ts_ns in (None, *scene.times[1:]):
            whole = at(path, ts_ns)
            found = await scene.database.get(whole)
            expected = await scene.journal.get(whole)
            assert (found.pop("source"), expected.pop("source")) == ("database", "memory")
            assert found == expected, whole
            assert found["time_ns"] or ts_ns is not None


async def test_lists_are_those_of_the_journal(scene: Scene) -> None:
    for path, name in LISTS:
        for ts_ns in (None, scene.times[2]):
            whole = at(path, ts_ns)
            expected = await scene.journal.pages(whole, name)
            assert await scene.database.pages(whole, name) == expected, whole


def example(route: Route) -> str:
    """Return the path of a route with names of this run, and the query of its example."""
    path, _, query = route.path, *route.example.partition("?")[1:]
    names = {
        "{symbol}": "AA",
        "{account_id}": "one",
        "{strategy_id}": "cross-AA",
        "{order_id}": "none",
    }
    for name, value in names.items():
        path = path.replace(name, value)
    return f"{path}?{query}" if query else path


async def test_offsets_and_bad_times_are_refused_and_what_is_not_stored_says_so(
    scene: Scene,
) -> None:
    routes = [route for route in TABLE if route.is_of_run]
    assert len([route for route in routes if route.is_stored]) > 20
    for route in routes:
        path = example(route)
        mark = "&" if "?" in path else "?"
        for place in ("orders.events.v1:3", "orders.events.v1/0:3", "yesterday", "nothing.v1:3"):
            response = await scene.database.response(f"{path}{mark}as_of={place}")
            assert response.status_code == 422, (path, place)
            assert response.json()["errors"][0]["pointer"] == "/as_of", (path, place)
        if not route.is_stored:
            response = await scene.database.response(path)
            found = (response.status_code, response.json()["code"])
            assert found == (404, "journal_needed"), path


async def test_what_retention_took_is_refused_not_guessed(scene: Scene, database: Database) -> None:
    async with database.writing() as connection:
        await connection.execute(
            "DELETE FROM fills WHERE run_id = $1 AND ts_ns <= $2", scene.run_id, scene.times[3]
        )
        await connection.execute("DELETE FROM risk_limits WHERE run_id = $1", scene.run_id)
        await connection.execute("DELETE FROM corporate_actions WHERE run_id = $1", scene.run_id)
    for path in (
        "/api/strategies/cross-AA/performance",
        "/api/positions/AA/lots",
        "/api/risk",
        "/api/risk/limits",
    ):
        assert await answer(scene.database, path) == (404, "journal_needed"), path
    account = await scene.database.get("/api/portfolio/account?account_id=one")
    assert account["dividends"] is None
    # Without what was paid only the newest mark can say; it has prices that no bar has yet.
    curve = await scene.journal.get("/api/portfolio/one/equity?limit=2000")
    assert account["equity"] == curve["points"][-1]["equity"]


DAILY = (
    "/api/portfolio",
    "/api/portfolio/account?account_id=paper",
    "/api/portfolio/pnl?group_by=instrument",
    "/api/positions?is_open=false",
    "/api/positions/IBM/lots",
    "/api/risk/limits",
    "/api/instruments",
)


@pytest.mark.parametrize("name", ["buy_and_hold", "momentum_crossover"])
async def test_years_of_dividends_and_a_split_of_a_backtest(
    database: Database, tmp_path: Path, name: str
) -> None:
    spec = BacktestSpec(
        strategy=name,
        data="daily",
        symbols=("IBM", "SPY"),
        cash=Decimal(100_000),
        end_ns=parse_time("2003-12-31", is_end=True),
    )
    done = run_backtest(spec, out=tmp_path / "runs" / f"years-{name}")
    run_id = done.result.manifest.run_id
    await Sink(database, JournalSource(done.folder / "journal"), time.time_ns).drain()
    async with database.reading() as connection:
        rows = await stored_rows(connection, run_id)
    wanted = journaled_rows(done.folder / "journal")
    for relation in FLOW_BY_NAME.keys() & wanted.keys():
        assert rows[relation] == wanted[relation], relation
    async with AsyncExitStack() as stack:
        journal, stored = [
            await stack.enter_async_context(
                app_of(MemoryLog("running", lambda: 0), runs, history, f"run_id={run_id}")
            )
            for runs, history in ((JournalRuns(tmp_path), None), (None, StoredHistory(database)))
        ]
        for path in DAILY:
            found, expected = await stored.get(path), await journal.get(path)
            assert found.pop("source", None) == ("database" if "pnl" in path else None)
            expected.pop("source", None)
            assert found == expected, path
        (state,) = (await stored.get("/api/strategies"))["strategies"]
        path = f"/api/strategies/{state['strategy_id']}/performance"
        performance = await stored.get(path)
        assert performance == await journal.get(path)
        account = await stored.get("/api/portfolio/account?account_id=paper")

    assert done.result.metrics.total_dividends > 100
    assert round(account["dividends"], 2) == round(
        Decimal(repr(done.result.metrics.total_dividends)), 2
    )
    assert performance["total_trades"] == done.result.metrics.total_trades
    assert performance["fills"] == done.result.metrics.fills
