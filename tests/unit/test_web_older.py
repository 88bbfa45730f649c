"""Lists that go on in the database: what memory has let go of, and what it knows better."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.enums import OrderStatus
from schemas.envelope import Header
from schemas.errors import StorageError
from schemas.order_events import OrderSubmitted
from streams.cursors import RecordPlace, place_of, read_place, write_cursor
from streams.history import Filters, Moment, Page, StoredOrder, StoredRun, Window
from streams.log import Published
from streams.memory_log import MemoryLog
from streams.stored_orders import folded
from tests.unit.web_run import (
    START_NS,
    Run,
    accepted,
    fast,
    fill,
    filled,
    instrument,
    problem,
    submit,
    submitted,
)
from tests.unit.web_stage import pending
from web.views.kept import Kept


class Stored:
    """A database that holds the records that it is given; ``is_away`` while it cannot be asked."""

    def __init__(self, records: Sequence[tuple[str, Header]]) -> None:
        self.is_away = False
        self.questions: list[str] = []
        self.stored_runs: list[StoredRun] = []
        self._items: list[Published] = []
        counts: dict[str, int] = {}
        for topic, record in records:
            offset = counts.setdefault(topic, 0)
            counts[topic] += 1
            self._items.append(Published(topic, 0, offset, record))

    async def backtest(self, _task_id: str) -> None:
        """Know of no backtest."""

    def _of(self, topic: str) -> list[Any]:
        return [item.record for item in self._items if item.topic == topic]

    def _page(self, question: str, topic: str, window: Window) -> Page[Any]:
        self.questions.append(question)
        if self.is_away:
            raise StorageError("no connection")
        before = read_place(question, window.cursor)
        rows = sorted((place_of(i), i.record) for i in self._items if i.topic == topic)
        found = [
            row
            for row in reversed(rows)
            if (before is None or row[0] < before)
            and (window.until_ns is None or row[0].ts_ns < window.until_ns)
            and (window.first_ns is None or row[0].ts_ns >= window.first_ns)
        ]
        shown = found[: window.limit]
        cursor = write_cursor(question, shown[-1][0]) if len(found) > len(shown) else ""
        return Page([record for _, record in shown], cursor, [place for place, _ in shown])

    async def fills(self, window: Window, filters: Filters) -> Page[Any]:
        """Return executions."""
        return self._page("fills", t.ORDER_FILLS, window)

    async def orders(
        self, window: Window, filters: Filters, statuses: Sequence[OrderStatus], as_of: Moment
    ) -> Page[StoredOrder]:
        """Return orders; those in other states are left out of a page."""
        page = self._page("orders", t.ACCOUNT_INPUTS, window)
        rows = [
            (place, self._order(command))
            for place, command in zip(page.places, page.items, strict=True)
        ]
        rows = [row for row in rows if not statuses or row[1].status in statuses]
        if filters.client_order_id:
            rows = [row for row in rows if row[1].client_order_id == filters.client_order_id]
        return Page([order for _, order in rows], page.cursor, [place for place, _ in rows])

    async def order(
        self, run_id: str, client_order_id: str, account_id: str, as_of: Moment
    ) -> StoredOrder | None:
        """Return one order."""
        if self.is_away:
            raise StorageError("no connection")
        commands = self._of(t.ACCOUNT_INPUTS)
        named = [
            command
            for command in commands
            if command.client_order_id == client_order_id and account_id in ("", command.account_id)
        ]
        return self._order(named[0]) if named else None

    def _order(self, command: Any) -> StoredOrder:
        key = (command.account_id, command.client_order_id)
        events = self._of(t.ORDER_EVENTS)
        return folded(command, [e for e in events if (e.account_id, e.client_order_id) == key], [])

    async def runs(self, limit: int, cursor: str = "", run_id: str = "") -> Page[StoredRun]:
        """Return the stored runs."""
        if self.is_away:
            raise StorageError("no connection")
        return Page([run for run in self.stored_runs if run_id in ("", run.run_id)], "")


def session(count: int = 20) -> list[tuple[str, Header]]:
    """Return orders that are filled one after the other, a minute apart; the last two stay open."""
    records: list[tuple[str, Header]] = [(t.REFERENCE_INSTRUMENTS, instrument())]
    for number in range(count):
        order = submit(f"o-{number:02}", at=number * 60_000_000_000)
        execution = fill(order.client_order_id)
        execution.ts_event_ns = order.ts_event_ns + 2
        records += [(t.ACCOUNT_INPUTS, order), (t.ORDER_EVENTS, submitted(order))]
        if number < count - 2:
            records += [(t.ORDER_EVENTS, filled(order)), (t.ORDER_FILLS, execution)]
    return records


@pytest.fixture
def run() -> Run:
    """Return a run that keeps little in memory, and has a database with all of it."""
    run = Run(fast(history_max=8))
    run.context.history = Stored(session())
    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """Give a client of ``run``, in which the session has been played."""
    with run.client() as client:
        run.append(client, session())
        yield client


def names(client: TestClient, path: str, name: str, limit: int = 3) -> list[str]:
    """Return the ids of the orders in all pages of a list."""
    found, cursor = [], ""
    while True:
        page = client.get(f"{path}{'&' if '?' in path else '?'}limit={limit}{cursor}").json()
        found += [item["client_order_id"] for item in page[name]]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


EVERYTHING = [f"o-{number:02}" for number in reversed(range(20))]


def test_lists_go_on_in_the_database_and_show_nothing_twice(client: TestClient) -> None:
    assert names(client, "/api/fills", "fills") == EVERYTHING[2:]
    assert names(client, "/api/orders", "orders") == EVERYTHING
    assert names(client, "/api/orders?status=FILLED", "orders") == EVERYTHING[2:]
    assert names(client, "/api/orders?status=open", "orders") == EVERYTHING[:2]


def test_page_of_what_is_new_asks_no_database(run: Run, client: TestClient) -> None:
    assert client.get("/api/fills?limit=5").json()["count"] == 5
    assert client.get("/api/orders?limit=5").json()["count"] == 5
    assert client.get("/api/orders?status=open").json()["count"] == 2
    assert client.get("/api/orders/o-19").json()["status"] == "SUBMITTED"

    assert run.context.history.questions == []


def test_only_history_is_unavailable_while_the_database_is_away(
    run: Run, client: TestClient
) -> None:
    run.context.history.is_away = True

    assert client.get("/api/fills?limit=5").json()["count"] == 5
    assert client.get("/api/orders?status=open").json()["count"] == 2
    for path in ("/api/fills?limit=50", "/api/orders?limit=50", "/api/orders/o-01"):
        response = client.get(path)
        assert problem(response, 503)["code"] == "history_unavailable"
        assert response.headers["Retry-After"] == "5"
    # Nobody can say that there is no such run.
    problem(client.get("/api/orders?run_id=other"), 503)
    run.context.history.is_away = False
    assert client.get("/api/fills?limit=50").json()["count"] == 18
    problem(client.get("/api/orders?run_id=other"), 404)


def test_open_orders_below_memory_are_listed_without_a_database() -> None:
    run, open_ones = Run(fast(history_max=8)), EVERYTHING[-2:]
    kept = [
        (topic, record)
        for topic, record in session()
        if topic not in (t.ORDER_EVENTS, t.ORDER_FILLS)
        or isinstance(record, OrderSubmitted)
        or getattr(record, "client_order_id", "") not in open_ones
    ]
    with run.client() as client:
        run.append(client, kept)

        found = names(client, "/api/orders", "orders")
        assert (found[:2], found[-2:]) == (EVERYTHING[:2], open_ones)
        assert len(found) < len(EVERYTHING)
        assert client.get("/api/orders?limit=50").json()["is_complete"] is False


def test_cursor_below_memory_without_a_database_is_refused(run: Run, client: TestClient) -> None:
    cursor = client.get("/api/fills?limit=12").json()["next_cursor"]
    run.context.history = None

    assert client.get("/api/fills?limit=50").json()["next_cursor"] is None
    assert problem(client.get(f"/api/fills?cursor={cursor}"), 422)["code"] == "bad_cursor"


def late_run(history_max: int) -> Run:
    """Return a run whose log has lost all but the newest records of each topic."""
    now_ns = START_NS + 3_600_000_000_000
    run = Run(log=MemoryLog("run-1", lambda: now_ns, history_max=history_max))
    run.log.append(session())
    return run


def test_order_of_which_memory_knows_the_end_alone_is_completed() -> None:
    old = submit("o-18", at=18 * 60_000_000_000)
    run = late_run(1)
    # The sink has not come as far as memory: the fill of o-18 is not stored yet.
    run.context.history = Stored(session())
    with run.client() as client:
        run.append(client, [(t.ORDER_EVENTS, accepted(old)), (t.ORDER_EVENTS, filled(old))])
        order = client.get("/api/orders/o-18").json()
        listed = client.get("/api/orders?status=FILLED&limit=1").json()["orders"]
        still_open = names(client, "/api/orders?status=open", "orders")

    assert (order["status"], order["quantity"], order["venue_order_id"]) == ("FILLED", 10, "v-1")
    assert order["created_ns"] == old.ts_event_ns
    assert still_open == ["o-19"]
    assert [item["client_order_id"] for item in listed] == ["o-17"]


def test_order_is_answered_in_part_while_the_database_is_away() -> None:
    run = late_run(1)
    run.context.history = Stored(session())
    run.context.history.is_away = True
    with run.client() as client:
        run.append(client, [(t.ORDER_EVENTS, accepted(submit("o-18", at=18 * 60_000_000_000)))])
        order = client.get("/api/orders/o-18").json()
        listed = client.get("/api/orders?status=open").json()
        problem(client.get("/api/orders/o-03"), 503)
        problem(client.get("/api/orders?status=FILLED"), 503)

    assert (order["status"], order["quantity"]) == ("ACCEPTED", None)
    assert [o["client_order_id"] for o in listed["orders"]] == ["o-19", "o-18"]
    assert listed["is_complete"] is False


def resting(name: str) -> list[tuple[str, Header]]:
    """Return an order that rests, or waits for a person, and the session behind it."""
    order = submit(name)
    first = pending(order, START_NS + 10**15) if name == "wait" else submitted(order)
    records: list[tuple[str, Header]] = [(t.ACCOUNT_INPUTS, order), (t.ORDER_EVENTS, first)]
    return [*records, *session()]


def forgetful_run(name: str) -> Run:
    """Return a run whose log has lost an order, beside a database that has it."""
    now_ns = START_NS + 3_600_000_000_000
    run = Run(log=MemoryLog("run-1", lambda: now_ns, history_max=1))
    run.log.append(resting(name))
    run.context.history = Stored(resting(name))
    return run


COMMANDS = [
    ("DELETE", "/api/orders/rest", None, "CANCELED", 10),
    ("PATCH", "/api/orders/rest", {"quantity": 5}, "ACCEPTED", 5),
    ("POST", "/api/approvals/wait/approve", {"reason": "good"}, "SUBMITTED", 10),
    ("POST", "/api/approvals/wait/reject", {}, "DENIED", 10),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "quantity"), COMMANDS)
def test_order_that_the_database_alone_knows_takes_commands(
    method: str, path: str, body: Any, status: str, quantity: int
) -> None:
    with forgetful_run(path.split("/")[3]).client() as client:
        assert client.get(f"/api/orders/{path.split('/')[3]}").status_code == 200
        response = client.request(method, path, json=body)
        missing = client.request(
            method, path.replace("/rest", "/x").replace("/wait", "/x"), json=body
        )

    assert response.status_code == 200, response.text
    assert (response.json()["status"], response.json()["quantity"]) == (status, quantity)
    problem(missing, 404)


@pytest.mark.parametrize("has_database", [True, False])
@pytest.mark.parametrize(("method", "path", "body", "status", "_quantity"), COMMANDS)
def test_account_stage_is_asked_about_an_order_of_which_nobody_else_can_tell(
    method: str, path: str, body: Any, status: str, _quantity: int, has_database: bool
) -> None:
    run = forgetful_run(path.split("/")[3])
    if has_database:
        run.context.history.is_away = True
    else:
        run.context.history = None
    with run.client() as client:
        unnamed = client.request(method, path, json=body)
        named = client.request(method, f"{path}?account_id=paper", json=body)
        problem(client.delete("/api/orders/filled?account_id=paper"), 409)
        problem(client.delete("/api/orders/%00?account_id=paper"), 503 if has_database else 404)

    problem(unnamed, 503 if has_database else 404)
    assert (named.status_code, named.json()["status"]) == (200, status)


def test_account_stage_is_not_asked_about_an_order_that_memory_would_know() -> None:
    run = Run()
    run.log.append(session(3))
    with run.client() as client:
        problem(client.delete("/api/orders/nope?account_id=paper"), 404)

    assert run.log.end_offset(t.ORDER_RECEIPTS) == 0


@pytest.mark.parametrize("path", ["/api/orders", "/api/risk/kill"])
def test_stop_of_all_orders_says_where_not_all_are_known(path: str) -> None:
    kill = {"action": "cancel_all", "reason": "stop"}
    answers = []
    for run in (forgetful_run("rest"), Run(fast(history_max=8))):
        if not run.log.end_offset(t.ORDER_EVENTS):
            run.log.append(resting("rest"))
        with run.client() as client:
            whole = client.post(path, json=kill) if "kill" in path else client.delete(path)
        answers.append((whole.status_code, whole.json()))

    (late_status, late), (status, answer) = answers
    assert (late_status, late["is_complete"]) == (202, False)
    assert (status, answer["is_complete"]) == (200, True)
    orders = answer.get("open_orders") or [o["client_order_id"] for o in answer["orders"]]
    # The first order is older than what memory keeps of each list, but it is open.
    assert orders == ["o-19", "o-18", "rest"]


def test_log_that_retention_emptied_is_not_taken_for_a_new_one() -> None:
    run = late_run(0)
    run.context.history = Stored(session())
    with run.client() as client:
        assert names(client, "/api/fills", "fills") == EVERYTHING[2:]
        assert names(client, "/api/orders?status=open", "orders") == EVERYTHING[:2]


def test_runs_that_the_database_alone_knows_are_listed(run: Run, client: TestClient) -> None:
    run.context.history.stored_runs = [StoredRun("old", None, START_NS, START_NS + 1)]

    found = client.get("/api/system/runs").json()
    run.context.history.is_away = True
    away = client.get("/api/system/runs").json()

    assert [(r["run_id"], r["source"]) for r in found["runs"]] == [("old", "database")]
    assert found["is_complete"] is True
    assert (away["runs"], away["is_complete"]) == ([], False)


# ---- what is kept


def at(offset: int, ts_ns: int, partition: int = 0) -> Published:
    """Return a record at a place."""
    record = fill(f"{partition}-{offset}")
    record.ts_event_ns = ts_ns
    return Published(t.ORDER_FILLS, partition, offset, record)


def test_kept_records_stand_in_order_and_the_oldest_leave() -> None:
    kept = Kept(4)
    for offset, ts_ns in enumerate((10, 30, 20, 40, 50)):
        kept.add(at(offset, ts_ns))
    kept.add(at(4, 50))

    assert kept.floor == RecordPlace(10, 0, 0, "x-0-0")
    assert [item.offset for item in kept.newest_first()] == [4, 3, 1, 2]
    below = place_of(at(3, 40))
    assert [item.offset for item in kept.newest_first(below)] == [1, 2]


@pytest.mark.parametrize(
    ("items", "is_gapless", "is_known"),
    [
        ([at(0, 5), at(1, 6)], True, True),
        ([at(0, 5), at(0, 6, 1), at(1, 7, 1)], True, True),
        ([at(3, 5), at(4, 6)], True, False),
        ([at(0, 5), at(7, 6, 1)], True, False),
        ([at(0, 5), at(2, 6)], True, True),
        ([at(0, 5), at(2, 6)], False, False),
    ],
)
def test_what_began_before_is_known_to_be_missing(
    items: list[Published], is_gapless: bool, is_known: bool
) -> None:
    kept = Kept(10, is_gapless=is_gapless)
    for item in items:
        kept.add(item)

    assert (kept.floor is None) == is_known
    assert kept.floor is None or kept.floor > place_of(items[-1])
