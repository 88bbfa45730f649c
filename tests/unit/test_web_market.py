"""Market data over HTTP: books, series as columns, instruments, clock and calendar."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from starlette.testclient import TestClient

from schemas import topics as t
from schemas.control import RunManifest
from schemas.envelope import Header
from schemas.errors import StorageError
from schemas.market_data import BookDelta, BookLevel, BookSnapshot
from streams.history import BarSeries, Page, StoredRun, Window
from streams.memory_log import MemoryLog
from tests.unit.web_run import START_NS, Run, bar, filled_run, instrument, problem, quote, trade
from tests.unit.web_runs import FakeRuns
from web.times import format_time
from web.views.market import QUOTES, TRADES, Market

MINUTE_NS = 60 * 10**9


@pytest.fixture
def run() -> Run:
    """Return a run with a little session."""
    run = Run()
    run.log.append(filled_run())
    return run


@pytest.fixture
def client(run: Run) -> Iterator[TestClient]:
    """Give a client of ``run``."""
    with run.client() as client:
        yield client


# ---- books


def test_book_is_the_best_quote_where_there_is_no_other(client: TestClient) -> None:
    answer = client.get("/api/orderbook/SPY").json()

    assert (answer["depth"], answer["bids"]) == ("top", [{"price": 165.09, "size": 300.0}])
    assert client.get("/api/orderbook/IBM").json()["depth"] == "none"
    problem(client.get("/api/orderbook/QQQ"), 404)


def test_book_is_a_snapshot_with_the_changes_since(run: Run, client: TestClient) -> None:
    def levels(*pairs: tuple[float, float]) -> list[BookLevel]:
        return [BookLevel(*pair) for pair in pairs]

    run.append(
        client,
        [
            (t.MARKET_EVENTS, BookSnapshot(
                event_id="s", ts_event_ns=START_NS + 1, instrument_id="SPY.ARCX",
                bids=levels((10.0, 1.0), (9.0, 2.0)), asks=levels((11.0, 3.0)))),
            (t.MARKET_EVENTS, BookDelta(
                event_id="d", ts_event_ns=START_NS + 2, instrument_id="SPY.ARCX",
                bids=levels((10.0, 0.0), (9.5, 4.0)), asks=levels((10.5, 5.0)))),
        ],
    )  # fmt: skip

    answer = client.get("/api/orderbook/SPY?depth=1").json()

    assert answer["depth"] == "full"
    assert answer["bids"] == [{"price": 9.5, "size": 4.0}]
    assert answer["asks"] == [{"price": 10.5, "size": 5.0}]
    assert answer["time_ns"] == START_NS + 2


# ---- series


def bars(count: int) -> list[tuple[str, Header]]:
    """Return minute bars."""
    return [(t.MARKET_BARS, bar(100.0 + n, at=n * MINUTE_NS)) for n in range(count)]


def test_price_that_the_market_stage_leaves_out_values_nothing(
    run: Run, client: TestClient
) -> None:
    before = client.get("/api/instruments/SPY").json()["last_price"]
    odd = trade(-5.0, at=10**12)
    run.append(client, [(t.MARKET_EVENTS, odd)])

    assert before > 0
    assert client.get("/api/instruments/SPY").json()["last_price"] == before
    assert -5.0 in client.get("/api/ticks?symbol=SPY").json()["price"]


def test_bars_are_columns_with_the_newest_last_and_a_way_back(run: Run, client: TestClient) -> None:
    run.append(client, bars(5))

    last = client.get("/api/bars?symbol=SPY&limit=2").json()
    before = client.get(f"/api/bars?symbol=SPY&limit=2&cursor={last['next_cursor']}").json()
    first = client.get(f"/api/bars?symbol=SPY&limit=2&cursor={before['next_cursor']}").json()

    assert [last["close"], before["close"], first["close"]] == [
        [103.0, 104.0],
        [101.0, 102.0],
        [100.0],
    ]
    assert (last["source"], first["next_cursor"]) == ("memory", None)
    assert client.get("/api/bars?symbol=SPY&interval=5m").json()["close"] == []


def test_correction_takes_the_place_of_its_bar(run: Run, client: TestClient) -> None:
    run.append(client, bars(3))
    correction = msgspec.structs.replace(bar(200.0, at=MINUTE_NS), revision=1)
    run.append(client, [(t.MARKET_BARS, correction)])

    assert client.get("/api/bars?symbol=SPY").json()["close"] == [100.0, 200.0, 102.0]


def test_bars_are_bounded_in_time(run: Run, client: TestClient) -> None:
    run.append(client, bars(5))

    path = "/api/bars?symbol=SPY&after=2013-10-07T13:31:00Z&until=2013-10-07T13:32:00Z"

    assert client.get(path).json()["close"] == [101.0, 102.0]


def test_quotes_and_ticks_are_columns_and_an_instant_is_not_torn(
    run: Run, client: TestClient
) -> None:
    run.append(client, [(t.MARKET_EVENTS, trade(1.0 + n, at=5)) for n in range(3)])
    run.append(client, [(t.MARKET_EVENTS, trade(9.0, at=6))])

    ticks = client.get("/api/ticks?symbol=SPY&limit=2").json()
    quotes = client.get("/api/quotes?symbol=SPY").json()

    assert ticks["price"] == [1.0, 2.0, 3.0, 9.0]
    assert ticks["next_cursor"] == str(START_NS + 5)
    assert (quotes["bid_price"], quotes["ask_size"]) == ([165.09], [400.0])


@pytest.mark.parametrize(
    "query",
    ["", "symbol=", "symbol=QQQ", "symbol=SPY&interval=2m", "symbol=SPY&cursor=x",
     "symbol=SPY&limit=0", "symbol=SPY&after=noon"],
)  # fmt: skip
def test_wrong_series_is_refused(client: TestClient, query: str) -> None:
    problem(client.get(f"/api/bars?{query}"), 422)


class StoredBars:
    """A database with two bars, newest first as they are asked for; or one that is away."""

    def __init__(self, *, is_away: bool = False) -> None:
        self.is_away = is_away

    async def bars(self, window: Window, instrument_id: str, interval: str) -> BarSeries:
        """Return the bars."""
        if self.is_away:
            raise StorageError("no connection")
        assert window.is_newest_first
        ts, p = np.array([START_NS + 2, START_NS + 1]), np.array([2.0, 1.0])
        counts = np.array([7, 6])
        return BarSeries(interval, "bars", ts, ts, p, p, p, p, p, p, counts, "older")


def test_bars_come_from_the_database_where_there_is_one(run: Run, client: TestClient) -> None:
    run.context.history = StoredBars()

    answer = client.get("/api/bars?symbol=SPY").json()

    assert (answer["close"], answer["trade_count"]) == ([1.0, 2.0], [6, 7])
    assert (answer["source"], answer["next_cursor"]) == ("database", "older")
    run.context.history = StoredBars(is_away=True)
    assert problem(client.get("/api/bars?symbol=SPY"), 503)["code"] == "history_unavailable"


def test_bars_of_the_present_run_that_go_on_are_not_asked_for(run: Run, client: TestClient) -> None:
    class Asked(StoredBars):
        async def bars(self, window: Window, instrument_id: str, interval: str) -> BarSeries:
            windows.append(window)
            return await super().bars(window, instrument_id, interval)

    windows: list[Window] = []
    run.context.history = Asked()
    client.get("/api/bars?symbol=SPY&interval=1h")
    client.get("/api/bars?symbol=SPY&interval=1h&until=2013-10-07T00:00:00Z")

    now_ns = run.log.now_ns()
    assert [window.until_ns for window in windows] == [now_ns + 1, 1_381_104_000_000_000_001]


class StoredYear(StoredBars):
    """The same for a recorded run that is stored up to an instant; empty without one."""

    def __init__(self, last_ns: int, *, is_away: bool = False) -> None:
        super().__init__(is_away=is_away)
        self.last_ns = last_ns
        self.asked = 0

    async def runs(self, limit: int, cursor: str = "", run_id: str = "") -> Page[StoredRun]:
        """Return the run."""
        self.asked += 1
        if self.is_away:
            raise StorageError("no connection")
        run = StoredRun(run_id, None, START_NS, self.last_ns)
        return Page([run] if self.last_ns else [], "")


KEPT = 5_000
END_NS = START_NS + (KEPT + 2) * MINUTE_NS
RECENT = f"after={format_time(START_NS + 3 * MINUTE_NS)}"


@pytest.fixture(scope="module")
def year() -> FakeRuns:
    """Return a recorded run with a few more bars than the read models keep of a series."""
    listed: list[tuple[str, Header]] = [(t.REFERENCE_INSTRUMENTS, instrument())]
    return FakeRuns(year=[*listed, *bars(KEPT + 3)], short=[*listed, *bars(3)])


def test_series_that_memory_keeps_in_part_says_so(year: FakeRuns) -> None:
    with Run(runs=year).client() as client:
        path = "/api/bars?symbol=SPY&run_id=year&limit=4000"
        newest = client.get(path).json()
        oldest = client.get(f"{path}&cursor={newest['next_cursor']}").json()
        at_offset = client.get(
            f"/api/bars?symbol=SPY&run_id=year&limit=9999&as_of={t.MARKET_BARS}:{KEPT + 1}"
        ).json()
        recent = client.get(f"/api/bars?symbol=SPY&run_id=year&{RECENT}&limit=9999").json()
        short = client.get("/api/bars?symbol=SPY&run_id=short").json()

    assert (len(newest["close"]), newest["is_complete"]) == (4000, True)
    assert (oldest["close"][0], oldest["next_cursor"], oldest["is_complete"]) == (103, None, False)
    assert (at_offset["close"][0], at_offset["is_complete"]) == (102, False)
    assert (recent["close"][0], recent["is_complete"]) == (103, True)
    assert (len(short["close"]), short["is_complete"]) == (3, True)


@pytest.mark.parametrize(
    ("query", "last_ns", "source", "is_complete"),
    [
        ("run_id=year", END_NS, "database", True),
        (f"run_id=year&as_of={format_time(END_NS)}", END_NS, "database", True),
        ("run_id=year", END_NS - 1, "memory", False),
        ("run_id=year", 0, "memory", False),
        (f"run_id=year&as_of={t.MARKET_BARS}:{KEPT + 1}", END_NS, "memory", False),
        (f"run_id=year&{RECENT}", END_NS, "memory", True),
        ("run_id=short", END_NS, "memory", True),
    ],
)
def test_series_of_a_recorded_run_comes_whole_from_the_database(
    year: FakeRuns, query: str, last_ns: int, source: str, is_complete: bool
) -> None:
    run = Run(runs=year)
    run.context.history = StoredYear(last_ns)
    with run.client() as client:
        answer = client.get(f"/api/bars?symbol=SPY&limit=9999&{query}").json()
        run.context.history = StoredYear(last_ns, is_away=True)
        away = client.get(f"/api/bars?symbol=SPY&limit=9999&{query}").status_code

    assert (answer["source"], answer["is_complete"]) == (source, is_complete)
    needs_database = not is_complete and ":" not in query.partition("as_of")[2]
    assert away == (503 if source == "database" or needs_database else 200)


@pytest.mark.parametrize(
    ("interval", "last_ns", "source", "is_complete"),
    [
        ("1m", END_NS, "memory", True),
        ("15m", END_NS, "memory", True),
        ("5m", END_NS, "database", True),
        ("5m", 0, "memory", False),
    ],
)
def test_series_that_the_run_does_not_build_is_the_database_s(
    interval: str, last_ns: int, source: str, is_complete: bool
) -> None:
    begun = RunManifest(ts_event_ns=START_NS, config={"market": {"intervals": ["1m", "15m"]}})
    run = Run(
        runs=FakeRuns(
            built=[(t.SYSTEM_RUNS, begun), (t.REFERENCE_INSTRUMENTS, instrument()), *bars(3)]
        )
    )
    run.context.history = StoredYear(last_ns)
    with run.client() as client:
        answer = client.get(f"/api/bars?symbol=SPY&run_id=built&interval={interval}").json()

    assert (answer["source"], answer["is_complete"]) == (source, is_complete)


def test_trades_and_quotes_that_memory_let_go_of_are_known_to_be_missing() -> None:
    market = Market()
    for number in range(2_002):
        market.on_event(trade(1.0, at=number))
        market.on_event(quote(1.0, 2.0, at=number))
    market.on_event(trade(1.0, instrument_id="IBM.XNYS"))

    assert (
        market.floor_of("SPY.ARCX", TRADES) == market.floor_of("SPY.ARCX", QUOTES) == START_NS + 1
    )
    assert market.floor_of("IBM.XNYS", TRADES) is None


def test_late_trade_or_quote_is_listed_but_is_no_price() -> None:
    market = Market()
    for event in (trade(165.0, at=9), trade(777.0, at=5)):
        market.on_event(event)
    assert market.last_price("SPY.ARCX") == (165.0, START_NS + 9)
    assert [event.price for event in market.last_trades["SPY.ARCX"]] == [165.0, 777.0]

    for tick in (quote(165.0, 165.2, at=9), quote(777.0, 778.0, at=5)):
        market.on_event(tick)
    assert market.quotes["SPY.ARCX"].bid_price == 165.0


def test_series_whose_beginning_was_not_heard_of_is_not_whole() -> None:
    run = Run(log=MemoryLog("run-1", lambda: START_NS, history_max=2))
    run.log.append([*filled_run(), *bars(5)])
    with run.client() as client:
        answer = client.get("/api/bars?symbol=SPY").json()

    assert (answer["close"], answer["is_complete"]) == ([103, 104], False)


# ---- instruments, clock, calendar


def test_instruments_are_listed_and_filtered(client: TestClient) -> None:
    everything = client.get("/api/instruments").json()
    one = client.get("/api/instruments/SPY").json()

    assert [i["instrument_id"] for i in everything["instruments"]] == ["IBM.XNYS", "SPY.ARCX"]
    assert (one["price_increment"], one["last_price"]) == (0.01, 165.1)
    assert client.get("/api/instruments?venue=XNYS").json()["count"] == 1
    problem(client.get("/api/instruments/QQQ"), 404)


def test_clock_knows_the_session_of_its_calendar(run: Run, client: TestClient) -> None:
    listed = msgspec.structs.replace(instrument(), calendar="XNYS")
    plain = client.get("/api/clock").json()
    run.append(client, [(t.REFERENCE_INSTRUMENTS, listed)])

    answer = client.get("/api/clock").json()

    assert (plain["time_ns"], plain["is_open"]) == (START_NS, None)
    assert (answer["calendar"], answer["is_open"]) == ("XNYS", True)
    assert answer["next_close"] == "2013-10-07T20:00:00.000000000Z"
    assert answer["next_open"] == "2013-10-08T13:30:00.000000000Z"


def test_calendar_has_the_sessions_of_its_days(client: TestClient) -> None:
    answer = client.get("/api/calendar?calendar=XNYS&start=2013-11-27&end=2013-11-30").json()

    assert [(s["day"], s["close"][11:16]) for s in answer["sessions"]] == [
        ("2013-11-27", "21:00"),
        ("2013-11-29", "18:00"),
    ]
    problem(client.get("/api/calendar?calendar=NOPE"), 404)


def test_clock_and_calendar_are_those_of_the_run_that_is_asked_about() -> None:
    day_ns = 86_400 * 10**9
    listed = msgspec.structs.replace(
        instrument(), calendar="XNYS", ts_event_ns=START_NS - 2 * day_ns
    )
    recorded: list[tuple[str, Header]] = [
        (t.REFERENCE_INSTRUMENTS, listed),
        (t.MARKET_EVENTS, trade(165.0, at=-day_ns)),
    ]
    with Run(runs=FakeRuns(backtest_1=recorded)).client() as client:
        end = client.get("/api/clock?run_id=backtest-1").json()
        night = client.get("/api/clock?run_id=backtest-1&as_of=2013-10-06T03:00:00Z").json()
        week = client.get("/api/calendar?run_id=backtest-1&end=2013-10-07").json()
        problem(client.get("/api/clock?calendar=XNYS&as_of=1700-01-01"), 422)

    assert (end["time_ns"], end["calendar"]) == (START_NS - day_ns, "XNYS")
    assert (night["time"], night["is_open"]) == ("2013-10-06T03:00:00.000000000Z", False)
    assert [s["day"] for s in week["sessions"]] == ["2013-10-07"]


def test_end_before_1970_is_an_end(client: TestClient) -> None:
    for path in ("ticks", "quotes"):
        assert client.get(f"/api/{path}?symbol=SPY&until=2013-10-07").json()["time_ns"]
        assert client.get(f"/api/{path}?symbol=SPY&until=1969-12-31").json()["time_ns"] == []
        page = f"symbol=SPY&until=1969-12-31&cursor={START_NS + 1}"
        assert client.get(f"/api/{path}?{page}").json()["time_ns"] == []


@pytest.mark.parametrize(
    "query",
    ["calendar=XNYS&start=1970-01-01",
     "calendar=XNYS&start=2013-11-30&end=2013-11-29", "calendar=XNYS&start=1000-01-01",
     "calendar=XNYS&end=0001-01-01", "calendar=XNYS&start=9999-12-31",
     "calendar=XNYS&start=0001-01-01T00:00:00%2B23:59",
     "calendar=XNYS&end=9999-12-31T23:59:59-23:59",
     "calendar=XNYS&start=2013-01-01&end=2099-01-01", "calendar=../x", ""],
)  # fmt: skip
def test_wrong_calendar_is_refused(client: TestClient, query: str) -> None:
    problem(client.get(f"/api/calendar?{query}"), 422)
