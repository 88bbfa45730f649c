"""Portfolio and positions over HTTP: history, exposure, results by group, lots, closing."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

import msgspec
import numpy as np
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.commands import SubmitOrder
from schemas.control import RunManifest
from schemas.enums import CorporateActionKind, Side
from schemas.envelope import Header
from schemas.errors import StorageError
from schemas.instruments import CorporateAction
from schemas.portfolio import PositionChanged
from streams.history import EquitySeries, Page, StoredRun, Window
from tests.unit.web_run import (
    START_NS,
    Run,
    exact,
    fill,
    filled_run,
    mark,
    position,
    problem,
    snapshot,
)
from tests.unit.web_runs import FakeRuns

DAY_NS = 86_400 * 10**9


@pytest.fixture
def run() -> Run:
    """Return a run with a little session, its stage answering."""
    run = Run()
    run.log.append(filled_run())
    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """Give a client of ``run``."""
    with run.client() as client:
        yield client


# ---- figures


def test_account_balances_and_exposure_agree(client: TestClient) -> None:
    account = exact(client.get("/api/portfolio/account"))
    balances = exact(client.get("/api/portfolio/balances"))
    exposure = exact(client.get("/api/portfolio/exposure"))

    assert account["cash"] == balances["cash"] == {"USD": "9007.65"}
    assert balances["buying_power"] == "5000"
    assert balances["snapshot_at"] == account["snapshot_at"]
    assert exposure["instruments"][0]["quantity"] == "6"
    assert Decimal(exposure["instruments"][0]["value"]) == Decimal("990.6")
    assert float(exposure["leverage"]) == pytest.approx(990.6 / 9998.25)
    assert Decimal(exposure["gross_exposure"]) == Decimal("990.6")


def test_leverage_of_an_account_that_holds_nothing_is_0() -> None:
    run = Run()
    run.log.append([(t.PORTFOLIO_ACCOUNTS, snapshot())])
    with run.client() as client:
        exposure = exact(client.get("/api/portfolio/exposure"))

    assert Decimal(exposure["equity"]) > 0
    assert Decimal(exposure["leverage"]) == 0


@pytest.mark.parametrize("name", ["account", "balances", "exposure", "history"])
def test_figures_of_an_unknown_account_are_not_found(client: TestClient, name: str) -> None:
    problem(client.get(f"/api/portfolio/{name}?account_id=nobody"), 404)


def test_current_portfolio_is_the_portfolio(client: TestClient) -> None:
    assert client.get("/api/portfolio/current").json() == client.get("/api/portfolio").json()


# ---- history


def minute_marks(count: int) -> list[tuple[str, Header]]:
    """Return a mark at the end of each minute, a dollar more each time."""
    return [(t.PORTFOLIO_EQUITY, mark(10_001.0 + n, at=(n + 1) * 60 * 10**9)) for n in range(count)]


def manifest(cash: str) -> tuple[str, Header]:
    """Return the manifest of a run whose account began with ``cash``."""
    config: dict[str, object] = {
        "accounts": {"accounts": [{"account_id": "paper", "cash": cash}]},
        "strategies": [{"strategy_id": "momentum", "account_id": "paper", "capital": "5000"}],
    }
    return t.SYSTEM_RUNS, RunManifest(ts_event_ns=START_NS, run_id="run-1", config=config)


def test_history_has_the_last_value_of_each_time_frame() -> None:
    run = Run()
    run.log.append([manifest("10000"), *minute_marks(10)])
    with run.client() as client:
        answer = client.get("/api/portfolio/history?timeframe=5m").json()

    assert answer["equity"] == [10_005.0, 10_010.0]
    assert answer["time_ns"] == [START_NS + n * 60 * 10**9 for n in (5, 10)]
    assert (answer["base_value"], answer["profit_loss"]) == (10_000.0, [5.0, 10.0])
    assert answer["profit_loss_pct"] == [pytest.approx(0.05), pytest.approx(0.1)]
    assert answer["source"] == "memory"


def test_period_counts_back_from_the_newest_mark() -> None:
    run = Run()
    old = [(t.PORTFOLIO_EQUITY, mark(9_000.0, at=-3 * DAY_NS))]
    run.log.append([*old, *minute_marks(2)])
    with run.client() as client:
        answer = client.get("/api/portfolio/history?timeframe=1m&period=1d").json()
        bounded = client.get("/api/portfolio/history?timeframe=1m&until=2013-10-06").json()

    assert (answer["equity"], answer["base_value"]) == ([10_001.0, 10_002.0], 9_000.0)
    assert bounded["equity"] == [9_000.0]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("timeframe=2m", "/timeframe"),
        ("period=soon", "/period"),
        ("period=1d&after=2013-10-01", "/period"),
        ("after=x", "/after"),
    ],
)
def test_wrong_history_is_refused(client: TestClient, query: str, pointer: str) -> None:
    content = problem(client.get(f"/api/portfolio/history?{query}"), 422)

    assert content["errors"][0]["pointer"] == pointer


class StoredEquity:
    """A database that holds one value, or is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away = is_away
        self.asked: list[Window] = []

    async def runs(self, limit: int, cursor: str = "", run_id: str = "") -> Page[StoredRun]:
        """Return a run that is stored whole."""
        return Page([StoredRun(run_id, None, START_NS, START_NS + DAY_NS)], "")

    async def equity(
        self, window: Window, account_id: str, strategy_id: str = "", interval: str = ""
    ) -> EquitySeries:
        """Return the value."""
        self.asked.append(window)
        if self.is_away:
            raise StorageError("no connection")
        one, none = np.array([10_500.0]), np.array([0.0])
        return EquitySeries(np.array([START_NS + 60]), one, one, none, none, none, "")


def test_history_of_a_long_run_says_that_its_curve_is_thinned_or_asks_the_database() -> None:
    marks = [(t.PORTFOLIO_EQUITY, mark(100.0 + n, at=n)) for n in range(5_002)]
    run = Run(runs=FakeRuns(long=marks, short=marks[:10]))
    path = "/api/portfolio/history?timeframe=1s&run_id="
    with run.client() as client:
        thinned, short = client.get(f"{path}long").json(), client.get(f"{path}short").json()
        run.context.history = StoredEquity()
        stored = client.get(f"{path}long").json()
        same = client.get(f"{path}short").json()

    assert [a["is_complete"] for a in (thinned, short, stored, same)] == [False, True, True, True]
    assert [a["source"] for a in (stored, same)] == ["database", "memory"]


def test_history_comes_from_the_database_where_there_is_one(run: Run, client: TestClient) -> None:
    run.context.history = history = StoredEquity()

    answer = client.get("/api/portfolio/history?period=2d").json()

    assert (answer["equity"], answer["source"]) == ([10_500.0], "database")
    assert history.asked[0].first_ns == START_NS + 60 - 2 * DAY_NS


def test_history_is_unavailable_while_the_database_is_away(run: Run, client: TestClient) -> None:
    run.context.history = StoredEquity(is_away=True)

    response = client.get("/api/portfolio/history")

    assert problem(response, 503)["code"] == "history_unavailable"
    assert response.headers["retry-after"] == "5"
    assert client.get("/api/portfolio").status_code == 200


# ---- results


def changed(
    quantity: str,
    realized: str,
    *,
    fees: str = "1.00",
    strategy_id: str = "momentum",
    day: int = 0,
    reason: str = "fill",
) -> tuple[str, PositionChanged]:
    """Return a change of a position in SPY."""
    record = msgspec.structs.replace(
        position(quantity, strategy_id=strategy_id),
        ts_event_ns=START_NS + day * DAY_NS,
        realized_pnl=Decimal(realized),
        fees=Decimal(fees),
        reason=reason,
    )
    return t.PORTFOLIO_POSITIONS, record


def results(client: TestClient, query: str) -> dict[str, tuple[str, str, int]]:
    """Return realized, fees and fills by key."""
    groups = exact(client.get(f"/api/portfolio/pnl?{query}"))["groups"]
    return {g["key"]: (g["realized_pnl"], g["fees"], int(g["fills"])) for g in groups}


def test_results_are_grouped_by_strategy_instrument_and_day() -> None:
    run = Run()
    run.log.append(
        [
            changed("10", "0.00"),
            changed("0", "5.50", fees="2.00", day=1),
            changed("3", "-1.25", strategy_id="manual", day=1),
            changed("6", "-1.25", strategy_id="manual", day=2, reason="split"),
        ]
    )
    with run.client() as client:
        assert results(client, "group_by=strategy") == {
            "manual": ("-1.25", "1.00", 1),
            "momentum": ("5.50", "2.00", 2),
        }
        assert results(client, "group_by=instrument") == {"SPY.ARCX": ("4.25", "3.00", 3)}
        assert results(client, "group_by=day") == {
            "2013-10-07": ("0.00", "1.00", 1),
            "2013-10-08": ("4.25", "2.00", 2),
            "2013-10-09": ("0.00", "0.00", 0),
        }
        assert results(client, "group_by=day&after=2013-10-08&until=2013-10-08").keys() == {
            "2013-10-08"
        }
        assert results(client, "group_by=strategy&strategy_id=manual").keys() == {"manual"}
        problem(client.get("/api/portfolio/pnl?group_by=mood"), 422)


def test_open_results_count_where_they_can_be_named(client: TestClient) -> None:
    groups = exact(client.get("/api/portfolio/pnl?group_by=strategy"))["groups"]

    assert {g["key"]: Decimal(g["unrealized_pnl"]) for g in groups} == {"momentum": 0, "manual": 0}


# ---- positions


def test_positions_are_listed_and_filtered(run: Run, client: TestClient) -> None:
    run.append(client, [(t.PORTFOLIO_POSITIONS, position("0", strategy_id="idle"))])

    def ids(query: str) -> list[str]:
        found = client.get(f"/api/positions?{query}").json()["positions"]
        return [item["strategy_id"] for item in found]

    assert ids("") == ["manual", "momentum"]
    assert ids("is_open=false") == ["idle", "manual", "momentum"]
    assert ids("strategy_id=manual") == ["manual"]
    assert ids("symbol=IBM") == []


def test_one_position_has_its_net_quantity(client: TestClient) -> None:
    answer = exact(client.get("/api/positions/SPY"))

    assert answer["net_quantity"] == {"paper": "6"}
    assert [p["quantity"] for p in answer["positions"]] == ["-4", "10"]
    problem(client.get("/api/positions/IBM"), 404)
    problem(client.get("/api/positions/QQQ"), 404)


def bought(name: str, quantity: str, price: str, side: Side = Side.BUY) -> tuple[str, Header]:
    """Return an execution in SPY."""
    record = msgspec.structs.replace(
        fill(name, price=price), quantity=Decimal(quantity), side=side, event_id=f"lot-{name}"
    )
    return t.ORDER_FILLS, record


def lots(client: TestClient) -> tuple[list[tuple[str, str]], bool]:
    """Return the lots of the one position, and whether they are complete."""
    (row,) = exact(client.get("/api/positions/SPY/lots"))["positions"]
    return [(lot["quantity"], lot["price"]) for lot in row["lots"]], row["is_complete"]


def test_lots_leave_first_in_first_out() -> None:
    run = Run()
    run.log.append(filled_run()[:2])
    run.log.append([bought("a", "10", "100.10"), bought("b", "5", "101.20"), changed("8", "1")])
    run.log.append([bought("c", "7", "102", Side.SELL)])
    with run.client() as client:
        assert lots(client) == ([("3", "100.10"), ("5", "101.20")], True)


def test_lots_follow_a_split_that_stands_on_two_topics_once() -> None:
    run = Run()
    split = CorporateAction(
        event_id="split-1",
        ts_event_ns=START_NS + 10,
        instrument_id="SPY.ARCX",
        kind=CorporateActionKind.SPLIT,
        ratio=Decimal(2),
    )
    topic, after = changed("20", "0")
    after = msgspec.structs.replace(
        after, ts_event_ns=START_NS + 10, reason="split", causation_id="split-1"
    )
    run.log.append([*filled_run()[:2], bought("a", "10", "100.10")])
    run.log.append([(t.REFERENCE_ACTIONS, split), (t.ACCOUNT_INPUTS, split), (topic, after)])
    with run.client() as client:
        found, is_complete = lots(client)

    assert [(Decimal(q), Decimal(p)) for q, p in found] == [(Decimal(20), Decimal("50.05"))]
    assert is_complete


def test_lots_that_do_not_sum_to_the_position_say_so() -> None:
    run = Run()
    run.log.append([*filled_run()[:2], bought("a", "10", "100.10"), changed("17", "0")])
    with run.client() as client:
        assert lots(client)[1] is False


# ---- closing


@pytest.mark.parametrize(
    ("query", "quantity", "side"),
    [
        ("strategy_id=momentum", "10", "SELL"),
        ("strategy_id=momentum&percentage=25", "2", "SELL"),
        ("strategy_id=momentum&quantity=3", "3", "SELL"),
        ("strategy_id=manual", "4", "BUY"),
    ],
)
def test_position_is_closed_by_a_reduce_only_order_of_its_owner(
    run: Run, client: TestClient, query: str, quantity: str, side: str
) -> None:
    response = client.delete(f"/api/positions/SPY?{query}")

    assert response.status_code == 200
    order = run.log.read(t.ACCOUNT_INPUTS, 3, 1)[0].record
    assert isinstance(order, SubmitOrder)
    assert (order.quantity, order.side.value) == (Decimal(quantity), side)
    assert (order.is_reduce_only, order.order_type.value) == (True, "MARKET")
    assert order.strategy_id in query


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("", "/strategy_id"),
        ("strategy_id=momentum&quantity=11", "/quantity"),
        ("strategy_id=momentum&quantity=0", "/quantity"),
        ("strategy_id=momentum&quantity=NaN", "/quantity"),
        ("strategy_id=momentum&percentage=101", "/percentage"),
        ("strategy_id=momentum&percentage=1", "/percentage"),
        ("strategy_id=momentum&percentage=50&quantity=1", "/percentage"),
    ],
)
def test_wrong_closing_is_refused_and_nothing_is_sent(
    run: Run, client: TestClient, query: str, pointer: str
) -> None:
    content = problem(client.delete(f"/api/positions/SPY?{query}"), 422)

    assert content["errors"][0]["pointer"] == pointer
    assert run.log.end_offset(t.ACCOUNT_INPUTS) == 3


@pytest.mark.parametrize("left", ["5", "0"])
def test_closing_with_an_id_of_its_own_is_repeatable(
    run: Run, client: TestClient, left: str
) -> None:
    path = "/api/positions/SPY?strategy_id=momentum&percentage=50&client_order_id=c-1"
    first = client.delete(path).json()
    run.append(client, [(t.PORTFOLIO_POSITIONS, position(left))])

    again = client.delete(path)

    assert (again.status_code, again.json()) == (200, first)
    one, two = (item.record for item in run.log.read(t.ACCOUNT_INPUTS, 3, 2))
    assert isinstance(one, SubmitOrder)
    assert isinstance(two, SubmitOrder)
    # All by which the account stage knows an order again.
    assert msgspec.structs.replace(two, event_id=one.event_id) == one
    assert one.quantity == 5


def test_closing_otherwise_with_a_known_id_is_left_to_the_stage(
    run: Run, client: TestClient
) -> None:
    path = "/api/positions/SPY?strategy_id=momentum&client_order_id=c-1"
    client.delete(f"{path}&quantity=3")
    client.delete(f"{path}&quantity=4")
    both = client.delete(f"{path}&quantity=4&percentage=10")

    records = [item.record for item in run.log.read(t.ACCOUNT_INPUTS, 3, 9)]
    assert [r.quantity for r in records] == [3, 4]  # type: ignore[attr-defined]
    assert problem(both, 422)["errors"][0]["pointer"] == "/percentage"


def test_id_of_another_position_does_not_say_what_is_closed(run: Run, client: TestClient) -> None:
    # o-1 bought for momentum; manual is short.
    client.delete("/api/positions/SPY?strategy_id=manual&client_order_id=o-1")

    order = run.log.read(t.ACCOUNT_INPUTS, 3, 1)[0].record
    assert isinstance(order, SubmitOrder)
    assert (order.strategy_id, order.side.value, order.quantity) == ("manual", "BUY", Decimal(4))


def test_closing_what_is_not_held_is_not_found(client: TestClient) -> None:
    problem(client.delete("/api/positions/IBM"), 404)
    problem(client.delete("/api/positions/SPY?strategy_id=nobody"), 404)
