"""What is answered from the database is what the journal holds, on every tier."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from schemas import topics as t
from schemas.codec import encode
from schemas.control import BacktestRequest, BacktestResult
from schemas.enums import OrderStatus, RunStatus
from schemas.envelope import Header
from schemas.errors import ConfigError
from schemas.order_events import Fill
from streams.database.connecting import Database
from streams.database.journals import JournalSource
from streams.database.queries import StoredHistory
from streams.database.sinks import Sink
from streams.history import Filters, History, Moment, Page, Window
from streams.journal import JournalReader
from tests.database_case import record_run
from tests.integration.test_database_sinks import OneBatch

RUN = "asked"
AA = "AA.XXXX"


class Asked:
    """A stored run, and its records by topic as the journal has them."""

    def __init__(self, history: History, journal: Path) -> None:
        self.history = history
        reader = JournalReader(journal)
        self.records: dict[str, list[Any]] = {
            topic: [record for _, record in reader.read(topic, 0, end)]
            for topic, end in reader.next_offsets.items()
        }

    def of(self, topic: str, **equal: str) -> list[Any]:
        """Return the records of a topic with these values."""
        return [
            record
            for record in self.records[topic]
            if all(getattr(record, name, None) == value for name, value in equal.items())
        ]


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the journal of a run; one that is recorded anew is another run."""
    return record_run(tmp_path_factory.mktemp("asked") / "j", RUN)


@pytest.fixture
async def asked(database: Database, journal: Path) -> Asked:
    """Give a stored run; the tests of one tier store it once."""
    await Sink(database, JournalSource(journal), time.time_ns).drain()
    return Asked(StoredHistory(database), journal)


def same(found: list[Any], expected: list[Any]) -> None:
    """Hold answers to records: the same but for the run, which answers name."""
    assert [bare(record) for record in found] == [bare(record) for record in expected]
    assert {record.run_id for record in found} <= {RUN}


def bare(record: Header) -> bytes:
    """Return a record without its run."""
    run_id, record.run_id = record.run_id, ""
    text: bytes = encode(record)
    record.run_id = run_id
    return text


async def pages(ask: Callable[[str], Awaitable[Page[Any]]]) -> list[Any]:
    """Return what all pages hold."""
    items, cursor = [], ""
    while True:
        page = await ask(cursor)
        items += page.items
        cursor = page.cursor
        if not cursor:
            return items


async def test_every_question_gets_what_the_journal_holds(asked: Asked) -> None:
    history = asked.history
    market = sorted(asked.of(t.MARKET_EVENTS, instrument_id=AA), key=lambda r: r.ts_event_ns)
    kinds = {kind: [r for r in market if type(r).__name__ == kind] for kind in ("Trade", "Quote")}

    same(
        await pages(lambda c: history.trades(Window(RUN, None, None, 37, c, False), AA)),
        kinds["Trade"],
    )
    same(
        await pages(lambda c: history.quotes(Window(RUN, None, None, 100, c), AA)),
        kinds["Quote"][::-1],
    )
    middle = kinds["Trade"][len(kinds["Trade"]) // 2].ts_event_ns
    same(
        (await history.trades(Window(RUN, middle, middle + 3_600_000_000_000, 500), AA)).items,
        [r for r in kinds["Trade"][::-1] if middle <= r.ts_event_ns < middle + 3_600_000_000_000],
    )
    for topic, ask in (
        (t.ORDER_FILLS, history.fills),
        (t.PORTFOLIO_POSITIONS, history.position_history),
        (t.RISK_DECISIONS, history.risk_decisions),
        (t.STRATEGY_SIGNALS, history.signals),
        (t.STRATEGY_STATES, history.strategy_states),
        (t.REFERENCE_ACTIONS, history.corporate_actions),
    ):
        found = await pages(lambda c, ask=ask: ask(Window(RUN, None, None, 29, c, False)))  # type: ignore[misc]
        same(found, asked.of(topic))
    mine = Filters(strategy_id="cross-BB")
    same(
        (await history.fills(Window(RUN, limit=1000), mine)).items,
        asked.of(t.ORDER_FILLS, strategy_id="cross-BB")[::-1],
    )
    same(
        (await history.fills(Window(RUN, limit=1000), Filters(account_ids=("two", "none")))).items,
        asked.of(t.ORDER_FILLS, account_id="two")[::-1],
    )
    both = await history.pnl(Window(RUN), "day", Filters(account_ids=("one", "two")))
    assert both.items == (await history.pnl(Window(RUN), "day")).items
    none = Filters(account_id="one", account_ids=("two",))
    assert (await history.pnl(Window(RUN), "day", none)).items == []
    assert (await history.orders(Window(RUN), none)).items == []
    assert (await history.risk_decisions(Window(RUN), none)).items == []
    assert len(await history.instruments(RUN)) == 3
    assert {r.run_id for r in (await history.runs()).items} >= {RUN}
    assert (await history.trades(Window("no such run"), AA)).items == []


async def test_bars_and_equity_come_as_columns(asked: Asked) -> None:
    history = asked.history
    bars = asked.of(t.MARKET_BARS, instrument_id=AA, interval="1m")
    first = await history.bars(Window(RUN, None, None, 50, "", False), AA, "1m")
    second = await history.bars(Window(RUN, None, None, 10_000, first.cursor, False), AA, "1m")
    assert [*first.ts.tolist(), *second.ts.tolist()] == [bar.ts_event_ns for bar in bars]
    assert [*first.close.tolist(), *second.close.tolist()] == [bar.close for bar in bars]
    assert (first.relation, len(first.ts), second.cursor) == ("bars", 50, "")
    newest = await history.bars(Window(RUN, limit=3), AA, "1m")
    assert newest.ts.tolist() == [bar.ts_event_ns for bar in bars[::-1][:3]]

    marks = asked.of(t.PORTFOLIO_EQUITY, account_id="one", strategy_id="")
    last_of_hour = {(mark.ts_event_ns - 1) // 3_600_000_000_000: mark for mark in marks}
    hourly = await history.equity(Window(RUN, None, None, 1000, "", False), "one", "", "1h")
    assert hourly.ts.tolist() == [mark.ts_event_ns for mark in last_of_hour.values()]
    assert hourly.equity.tolist() == [mark.equity for mark in last_of_hour.values()]
    part = await history.equity(Window(RUN, limit=4), "one", "", "1h")
    rest = await history.equity(Window(RUN, limit=1000, cursor=part.cursor), "one", "", "1h")
    assert [*part.ts.tolist(), *rest.ts.tolist()] == hourly.ts.tolist()[::-1]


async def test_orders_stand_as_they_stood(asked: Asked) -> None:
    history = asked.history
    commands = [r for r in asked.records[t.ACCOUNT_INPUTS] if type(r).__name__ == "SubmitOrder"]
    events = asked.records[t.ORDER_EVENTS]
    moment = commands[len(commands) // 2].ts_event_ns

    for as_of in (Moment(), Moment(ts_ns=moment)):
        until = as_of.ts_ns or 2**62
        known = [c for c in commands if c.ts_event_ns <= until]
        last = {e.client_order_id: e.status for e in events if e.ts_event_ns <= until}
        orders = await pages(
            lambda c, as_of=as_of: history.orders(  # type: ignore[misc]
                Window(RUN, None, None, 7, c, False), as_of=as_of
            )
        )
        assert [o.client_order_id for o in orders] == [c.client_order_id for c in known]
        assert [o.status for o in orders] == [
            last.get(c.client_order_id, OrderStatus.INITIALIZED) for c in known
        ]
        filled = await history.orders(
            Window(RUN, limit=1000), Filters(account_id="two"), (OrderStatus.FILLED,), as_of
        )
        assert {o.client_order_id for o in filled.items} == {
            c.client_order_id
            for c in known
            if c.account_id == "two" and last.get(c.client_order_id) == OrderStatus.FILLED
        }
    # A place in the log is finer than a time: the order as each of its events left it.
    chosen = commands[-1]
    places = [n for n, e in enumerate(events) if e.client_order_id == chosen.client_order_id]
    for place in places:
        order = await history.order(RUN, chosen.client_order_id, as_of=Moment(offset=place))
        assert order is not None
        assert order.status == events[place].status


async def test_order_explains_itself(asked: Asked) -> None:
    history = asked.history
    fill = asked.records[t.ORDER_FILLS][-1]
    name, account = fill.client_order_id, fill.account_id
    events = await history.order_events(RUN, name, account)
    causes = await history.order_causes(RUN, name, account)
    order = await history.order(RUN, name)

    same(events, asked.of(t.ORDER_EVENTS, client_order_id=name, account_id=account))
    kinds = [type(item.record).__name__ for item in causes]
    assert "StrategySignal" in kinds[: kinds.index("RiskDecision")]
    assert {item.topic for item in causes if isinstance(item.record, Fill)} == {t.ORDER_FILLS}
    assert {"SubmitOrder", "RiskDecision", "OrderSubmitted", "Fill"} <= set(kinds)
    assert kinds.index("SubmitOrder") < kinds.index("RiskDecision") < kinds.index("Fill")
    assert order is not None
    assert order.filled_quantity == sum(
        f.quantity for f in asked.of(t.ORDER_FILLS, client_order_id=name)
    )
    assert [s.event_id for s in await history.submits(RUN, name)] == [order.submit_id]
    assert await history.order(RUN, "no such order") is None


async def test_results_add_up(asked: Asked) -> None:
    history = asked.history
    positions = asked.records[t.PORTFOLIO_POSITIONS]
    last = {(p.account_id, p.strategy_id, p.instrument_id): p for p in positions}
    same(
        await history.positions(RUN),
        [last[key] for key in sorted(last)],
    )
    half = positions[len(positions) // 2].ts_event_ns
    early = {
        (p.account_id, p.strategy_id, p.instrument_id): p
        for p in positions
        if p.ts_event_ns <= half
    }
    same(
        await history.positions(RUN, as_of=Moment(ts_ns=half)),
        [early[key] for key in sorted(early)],
    )
    total = sum((p.realized_pnl for p in last.values()), Decimal(0))
    fees = sum((p.fees for p in last.values()), Decimal(0))
    fills = asked.records[t.ORDER_FILLS]
    for group in ("strategy", "instrument", "day"):
        rows = (await history.pnl(Window(RUN), group)).items
        assert sum(row.realized_pnl for row in rows) == total
        assert sum(row.fees for row in rows) == fees
        assert sum(row.fills for row in rows) == len(fills)
        assert sum(row.notional for row in rows) == sum(f.price * f.quantity for f in fills)
    pages_of_one = await pages(
        lambda c: history.pnl(Window(RUN, None, None, 1, c, False), "strategy")
    )
    assert [row.key for row in pages_of_one] == sorted({p.strategy_id for p in positions})
    snapshots = asked.of(t.PORTFOLIO_ACCOUNTS, account_id="one", strategy_id="")
    account = await history.account(RUN, "one")
    assert account is not None
    same([account], snapshots[-1:])


FINISHED_NS = (0, 0, 400, 200, 300)


def interrupted(task: str, number: int, strategy: str = "s") -> BacktestResult:
    """Return what an agent says for another."""
    return BacktestResult(
        f"i{task}", number + 10, task, "", task, strategy, RunStatus.FAILED,
        {"code": "interrupted"}, finished_ns=500 + number,
    )  # fmt: skip


async def test_backtests_come_with_their_request_newest_first(database: Database) -> None:
    hand, history = OneBatch(database, "asks-backtests"), StoredHistory(database)
    for number in range(5):
        task = f"task-{number}-{id(database)}"
        request = BacktestRequest(
            event_id=f"q{task}", ts_event_ns=number + 1, task_id=task, strategy_name="s"
        )
        result = BacktestResult(
            f"r{task}", number + 10, task, "", task, "s", RunStatus.COMPLETED, {"sharpe": 1.0},
            finished_ns=FINISHED_NS[number],
        )  # fmt: skip
        hand.batch.add_records(t.BACKTEST_REQUESTS, 0, [(number, request)])
        # Another agent that heard nothing of it any more said so; alone, that is what became of it.
        given_up = interrupted(task, number)
        hand.batch.add_records(t.BACKTEST_RESULTS, 0, [(2 * number, result)])
        hand.batch.add_records(t.BACKTEST_RESULTS, 0, [(2 * number + 1, given_up)])
    hand.batch.add_records(t.BACKTEST_RESULTS, 0, [(99, interrupted("lost", 9, "l"))])
    await hand.write()

    assert [item.result.task_id for item in (await history.backtests("l")).items] == ["lost"]
    found = await pages(lambda c: history.backtests("s", 2, c, "asks-backtests"))
    # The first two are of before the wall clock was noted.
    assert [item.result.ts_event_ns for item in found] == [12, 14, 13, 11, 10]
    assert all(
        item.request is not None and item.request.task_id == item.result.task_id for item in found
    )
    assert (await history.backtests("other", run_id="asks-backtests")).items == []
    assert await history.backtest(found[0].result.task_id) == found[0]


@pytest.mark.parametrize("text", ["'; DROP TABLE fills; --", 'a"b', "%", "\\", "{}", "$1", "\x00"])
async def test_texts_of_a_question_are_values_and_nothing_else(
    database: Database, text: str
) -> None:
    history = StoredHistory(database)
    window = Window(text)
    assert (await history.trades(window, text)).items == []
    assert (await history.fills(window, Filters(text, text, text, text))).items == []
    assert (await history.orders(window, Filters(text, text, text, text))).items == []
    many = Filters(instrument_ids=(text, text), side=text, order_type=text)
    assert (await history.orders(window, many)).items == []
    assert (await history.risk_decisions(window, Filters(code=text))).items == []
    assert (await history.runs(1, "", text)).items == []
    assert await history.state(text) == []
    assert await history.backtest(text) is None
    assert await history.order_causes(text, text, text) == []
    assert (await history.breaker_changes(window, text, text)).items == []
    with pytest.raises(ConfigError, match="grouped"):
        await history.pnl(window, text)
    with pytest.raises(ConfigError, match="interval"):
        await history.bars(window, "AA.XXXX", text)
    with pytest.raises(ConfigError, match="cursor"):
        await history.fills(Window("x", cursor=text))
