"""The API answers alike from memory, from the database, and from both together, on every tier."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from infra.run_store import JournalRuns
from schemas import topics as t
from schemas.envelope import Header
from streams.database.connecting import Database
from streams.database.journals import JournalSource
from streams.database.queries import StoredHistory
from streams.database.sinks import Sink
from streams.history import History
from streams.journal import JournalReader, published
from streams.memory_log import MemoryLog
from tests.database_case import record_told_run
from tests.unit.account_records import kill, set_breaker
from web.app import WebSettings, create_app
from web.runs import RunStore
from web.times import day_text, format_time

RUN = "asked-by-web"
AA = "AA.XXXX"


class Client:
    """Asks one app; amounts come as Decimal, so that no digit is lost."""

    def __init__(self, client: httpx2.AsyncClient, query: str) -> None:
        self._client = client
        self._query = query

    async def response(self, path: str) -> httpx2.Response:
        """Return the response to a path, asked of the run."""
        query = self._query
        mark = "&" if "?" in path else "?"
        return await self._client.get(f"{path}{mark}{query}" if query else path)

    async def of_run(self, run_id: str, path: str) -> httpx2.Response:
        """Return the response to a path, asked of another run."""
        return await self._client.get(f"{path}?run_id={run_id}")

    async def get(self, path: str) -> dict[str, Any]:
        """Return the answer to a path, which must be a good one."""
        response = await self.response(path)
        assert response.status_code == 200, (path, response.text)
        found: dict[str, Any] = msgspec.json.Decoder(dict[str, Any], float_hook=Decimal).decode(
            response.content
        )
        return found

    async def pages(self, path: str, name: str, limit: int = 7) -> list[Any]:
        """Return what all pages of a list hold; no page but the last is short."""
        items: list[Any] = []
        cursor = ""
        while True:
            mark = "&" if "?" in path else "?"
            page = await self.get(f"{path}{mark}limit={limit}{cursor}")
            items += page[name]
            assert page["count"] == len(page[name])
            if page["next_cursor"] is None:
                return items
            assert page["count"] == limit, path
            cursor = f"&cursor={page['next_cursor']}"


@asynccontextmanager
async def app_of(
    log: MemoryLog,
    runs: RunStore | None,
    history: History | None,
    query: str,
    history_max: int = 10_000,
) -> AsyncIterator[Client]:
    """Give a client of an app in this event loop."""
    numbers = count()
    settings = WebSettings(history_max=history_max, default_account_id="one")
    app = create_app(log, settings, lambda: f"id-{next(numbers)}", runs=runs, history=history)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(
            transport=httpx2.ASGITransport(app=app), base_url="http://localhost"
        ) as client,
    ):
        yield Client(client, query)


class Scene:
    """One run asked of several apps: from its journal, from the database, from both."""

    def __init__(self, journal: Path, memory: Client, others: dict[str, Client]) -> None:
        self.memory = memory
        self.others = others
        reader = JournalReader(journal)
        self.counts = reader.next_offsets
        self.records: dict[str, list[Any]] = {
            topic: [record for _, record in reader.read(topic, 0, end)]
            for topic, end in reader.next_offsets.items()
            if topic != t.MARKET_EVENTS
        }


def partly(journal: Path, run_id: str, history_max: int) -> MemoryLog:
    """Return the running log of the run, of which only the newest records are at hand."""
    log = MemoryLog(run_id, lambda: 0, history_max=history_max)
    for group in published(JournalReader(journal)):
        log.append([(item.topic, item.record) for item in group])
    return log


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a data folder with a recorded run; a run that is recorded anew is another one.

    Its positions are flattened twice, the second time behind a breaker that lets nothing pass.
    """
    folder = tmp_path_factory.mktemp("asked")
    told: dict[int, list[tuple[str, Header]]] = {
        4: [(t.ACCOUNT_INPUTS, kill("FLATTEN", at=4))],
        7: [
            (t.ACCOUNT_INPUTS, set_breaker("HALTED", at=7)),
            (t.ACCOUNT_INPUTS, kill("FLATTEN", at=7)),
            (t.ACCOUNT_INPUTS, set_breaker("ACTIVE", at=7)),
        ],
    }
    asyncio.run(record_told_run(folder / "runs" / RUN / "journal", RUN, told))
    return folder


@pytest.fixture
async def scene(database: Database, root: Path) -> AsyncIterator[Scene]:
    """Give a stored run and the apps that know it in different ways."""
    journal = root / "runs" / RUN / "journal"
    await Sink(database, JournalSource(journal), time.time_ns).drain()
    history, runs = StoredHistory(database), JournalRuns(root)
    asked = f"run_id={RUN}"

    def empty() -> MemoryLog:
        return MemoryLog("running", lambda: 0)

    async with AsyncExitStack() as stack:
        memory = await stack.enter_async_context(app_of(empty(), runs, None, asked))
        others = {
            "database": app_of(empty(), None, history, asked),
            "journal and database": app_of(empty(), runs, history, asked, 16),
            "running": app_of(partly(journal, RUN, 10_000), None, history, "", 16),
            "begun late": app_of(partly(journal, RUN, 40), None, history, "", 40),
        }
        clients = {name: await stack.enter_async_context(client) for name, client in others.items()}
        yield Scene(journal, memory, clients)


LISTS: tuple[tuple[str, str], ...] = (
    ("/api/orders", "orders"),
    ("/api/orders?status=FILLED", "orders"),
    ("/api/orders?status=open", "orders"),
    ("/api/orders?side=SELL&account_id=two", "orders"),
    ("/api/orders?strategy_id=cross-AA&symbol=AA", "orders"),
    ("/api/orders?side=SELL&symbol=CC", "orders"),
    ("/api/fills", "fills"),
    ("/api/fills?account_id=two", "fills"),
    ("/api/trades?symbol=CC", "trades"),
    ("/api/risk/decisions", "decisions"),
    ("/api/risk/decisions?is_approved=false", "decisions"),
    ("/api/risk/decisions?strategy_id=cross-BB&is_approved=true", "decisions"),
    ("/api/risk/breaker/changes", "changes"),
    ("/api/strategies/cross-AA/signals", "signals"),
    ("/api/strategies/cross-BB/signals?symbol=BB", "signals"),
    ("/api/orders?status=DENIED", "orders"),
)


async def test_lists_are_the_same_from_memory_from_the_database_and_from_both(
    scene: Scene,
) -> None:
    assert scene.counts[t.ORDER_FILLS] > 50
    for path, name in LISTS:
        expected = await scene.memory.pages(path, name)
        for which, client in scene.others.items():
            assert await client.pages(path, name) == expected, (which, path)
    orders = await scene.memory.pages("/api/orders", "orders")
    assert len(orders) > 50
    flatten = [order for order in orders if order["client_order_id"].startswith("flatten-")]
    assert {order["status"] for order in flatten} >= {"FILLED", "DENIED"}
    assert all(order["quantity"] and order["side"] for order in flatten)


async def test_spans_of_time_are_the_same(scene: Scene) -> None:
    fills = scene.records[t.ORDER_FILLS]
    first, last = fills[len(fills) // 4].ts_event_ns, fills[len(fills) * 3 // 4].ts_event_ns
    span = f"after={format_time(first)}&until={format_time(last)}"
    for path, name in (
        ("/api/fills", "fills"),
        ("/api/orders", "orders"),
        ("/api/risk/decisions", "decisions"),
    ):
        expected = await scene.memory.pages(f"{path}?{span}", name)
        assert expected
        for which, client in scene.others.items():
            assert await client.pages(f"{path}?{span}", name) == expected, (which, path)
    found = await scene.memory.pages(f"/api/fills?{span}", "fills", 100)
    assert len(found) == sum(first < fill.ts_event_ns <= last for fill in fills)


async def test_one_order_and_its_life_are_the_same(scene: Scene) -> None:
    orders = await scene.memory.pages("/api/orders", "orders", 100)
    one_of_each = {order["client_order_id"].startswith("flatten-"): order for order in orders}
    for order in (orders[0], orders[len(orders) // 2], orders[-1], *one_of_each.values()):
        name, account = order["client_order_id"], order["account_id"]
        paths = (
            f"/api/orders/{name}",
            f"/api/orders/{name}?account_id={account}",
            f"/api/orders:by_client_order_id?client_order_id={name}",
            f"/api/orders/{name}/events",
        )
        for path in paths:
            expected = await scene.memory.get(path)
            for which, client in scene.others.items():
                assert await client.get(path) == expected, (which, path)
        is_denied = order["status"] == "DENIED"
        assert len((await scene.memory.get(paths[3]))["events"]) > (0 if is_denied else 1)
        causes = _stored_links(await scene.memory.get(f"/api/orders/{name}/causes"))
        asked = (
            {"kill", "order_initialized"}
            if name.startswith("flatten-")
            else {"strategy_signal", "submit_order"}
        )
        assert asked | {"risk_decision"} <= {link["type"] for link in causes}
        for which, client in scene.others.items():
            assert _stored_links(await client.get(f"/api/orders/{name}/causes")) == causes, which
    for client in scene.others.values():
        for path in ("/api/orders/none", "/api/orders/none/events", "/api/orders/none/causes"):
            assert (await client.response(path)).status_code == 404


def _stored_links(causes: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the links that a database can tell of; a fill stands on two topics with one id."""
    left_out = {None, t.VENUE_COMMANDS, t.MARKET_EVENTS, t.MARKET_BARS}
    said_by_venue = {"venue_accepted"}
    found = [
        link
        for link in causes["links"]
        if link["topic"] not in left_out and link["type"] not in said_by_venue
    ]
    for link in found:
        if link["type"] == "fill":
            assert link["topic"] in {t.ACCOUNT_INPUTS, t.ORDER_FILLS}
            link["topic"] = link["offset"] = None
    return found


async def test_results_are_the_same_by_every_group_and_span(scene: Scene) -> None:
    days = sorted({day_text(r.ts_event_ns) for r in scene.records[t.ORDER_FILLS]})
    assert len(days) > 1
    for group in ("strategy", "instrument", "day"):
        for more in (
            "",
            "&account_id=one",
            f"&after={days[0]}&until={days[0]}",
            f"&after={days[1]}",
        ):
            path = f"/api/portfolio/pnl?group_by={group}{more}"
            expected = await scene.memory.get(path)
            assert expected.pop("source") == "memory"
            assert expected["groups"]
            for which, client in scene.others.items():
                found = await client.get(path)
                is_from_memory = found.pop("source") == "memory"
                assert is_from_memory == (which in {"journal and database", "running"}), which
                assert found == expected, (which, path)


STATES = (
    "/api/portfolio",
    "/api/portfolio/current",
    "/api/portfolio/one",
    "/api/portfolio/exposure?account_id=two",
    "/api/portfolio/account?account_id=one",
    "/api/portfolio/balances",
    "/api/positions",
    "/api/positions?is_open=false&account_id=one",
    "/api/positions/AA",
    "/api/strategies",
    "/api/strategies/cross-CC",
    "/api/strategies/cross-CC/parameters",
    "/api/risk/breaker",
    "/api/instruments",
    "/api/instruments/BB",
)


async def test_states_of_a_run_that_only_the_database_knows_are_the_same(scene: Scene) -> None:
    middle = scene.records[t.ORDER_FILLS][len(scene.records[t.ORDER_FILLS]) // 2].ts_event_ns
    client = scene.others["database"]
    for path in STATES:
        for more in ("", f"as_of={format_time(middle)}"):
            whole = f"{path}{'&' if '?' in path else '?'}{more}" if more else path
            assert await client.get(whole) == await scene.memory.get(whole), whole


async def test_lists_as_of_an_instant_are_the_same(scene: Scene) -> None:
    events = scene.records[t.ORDER_EVENTS]
    # Between the events of one order, so that it stands otherwise than at its end.
    moment = next(
        early.ts_event_ns
        for early, late in pairwise(events[40:])
        if early.client_order_id == late.client_order_id and early.ts_event_ns < late.ts_event_ns
    )
    as_of = f"as_of={format_time(moment)}"
    expected = await scene.memory.pages(f"/api/orders?{as_of}", "orders")
    assert len({order["status"] for order in expected}) > 1
    for which in ("database", "journal and database"):
        client = scene.others[which]
        for path, name in LISTS:
            mark = "&" if "?" in path else "?"
            whole = f"{path}{mark}{as_of}"
            assert await client.pages(whole, name) == await scene.memory.pages(whole, name), whole
        path = f"/api/orders/{expected[0]['client_order_id']}"
        for whole in (f"{path}?{as_of}", f"{path}/events?{as_of}"):
            assert await client.get(whole) == await scene.memory.get(whole)


async def test_series_of_a_run_that_only_the_database_knows(scene: Scene) -> None:
    client = scene.others["database"]
    bars = [r for r in scene.records[t.MARKET_BARS] if r.instrument_id == AA]
    answer = await client.get("/api/bars?symbol=AA&interval=1m&limit=10000")
    assert (answer["source"], answer["time_ns"]) == ("database", [r.ts_event_ns for r in bars])
    for path in ("/api/ticks?symbol=AA", "/api/quotes?symbol=AA"):
        assert len((await client.get(path))["time_ns"]) == 400
        early = await client.get(f"{path}&as_of={format_time(bars[3].ts_event_ns)}")
        assert max(early["time_ns"]) <= bars[3].ts_event_ns
    equity = await client.get("/api/portfolio/history?account_id=one&timeframe=1h")
    assert equity["source"] == "database"
    last = [
        r for r in scene.records[t.PORTFOLIO_EQUITY] if (r.account_id, r.strategy_id) == ("one", "")
    ]
    assert equity["equity"][-1] == Decimal(repr(last[-1].equity))


async def test_what_only_a_journal_tells_is_refused_not_guessed(scene: Scene) -> None:
    client = scene.others["database"]
    response = await client.response("/api/orderbook/AA")
    assert (response.status_code, response.json()["code"]) == (404, "journal_needed")
    offset = await client.response("/api/orders?as_of=orders.events.v1:3")
    assert offset.status_code == 422
    assert (await client.response("/api/orders?cursor=x")).json()["code"] == "bad_cursor"
    for run_id in ("no-such-run", "%00", "'; DROP TABLE fills; --"):
        assert (await client.of_run(run_id, "/api/orders")).status_code == 404
    for value in ("%00", "%27%22%25%5C", "%F0%9F%90%88"):
        for path, name in LISTS[:1] + LISTS[9:10]:
            assert await client.pages(f"{path}?strategy_id={value}", name) == []
            assert (await client.response(f"{path}?symbol={value}")).status_code == 422
