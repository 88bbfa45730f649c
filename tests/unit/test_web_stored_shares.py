"""Shares of stored runs: folded page by page, one question at a time, refused where rows lack."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast

import msgspec
import pytest

from schemas import topics as t
from schemas.envelope import Header
from schemas.order_events import Fill
from schemas.portfolio import PositionChanged
from streams.history import History, Page, PositionStep, Window
from streams.log import Published
from tests.unit.account_records import A, B, action, instrument, price, traded
from tests.unit.account_script import Driver
from tests.unit.web_run import Run
from web.problems import ProblemError
from web.route_table import Call
from web.routes.positions import PositionQuery, get_lots
from web.stored_shares import Stored, StoredShares
from web.views.models import Views

SPLIT = action("SPLIT", ratio=Decimal(2), at=5)
CHANGE = action("SYMBOL_CHANGE", new_symbol=B, at=7)


class FakeHistory:
    """Answers with steps, two a page; with ``gate`` it waits for that first.

    Each answer takes ``answer_s`` by the clock of the event loop.
    """

    def __init__(self, steps: Sequence[PositionStep]) -> None:
        self.steps = list(steps)
        self.gate: asyncio.Event | None = None
        self.answer_s = 0.0
        self.passed_s = 0.0
        self.asked: list[Window] = []

    async def position_steps(
        self, window: Window, account_id: str, strategy_id: str
    ) -> Page[PositionStep]:
        """Return the next two steps."""
        if self.gate is not None:
            await self.gate.wait()
        if self.answer_s:
            self.passed_s += self.answer_s
            for _ in range(3):  # what is due by then happens now
                await asyncio.sleep(0)
        self.asked.append(window)
        first = int(window.cursor or 0)
        following = str(first + 2) if first + 2 < len(self.steps) else ""
        return Page(self.steps[first : first + 2], following)


def played(*, is_older: bool = False) -> tuple[list[PositionStep], Views]:
    """Return the steps of a position through a split and a new name, and the state behind them.

    An older run tells of the new name by one record, which has the old one.
    """
    driver = Driver()
    driver.play(
        price(10.0),
        *traded("a", "BUY", "10", "10", fee="1"),
        *traded("b", "BUY", "6", "12", fee="1", at=1),
        SPLIT,
        *traded("c", "SELL", "8", "6", fee="1", at=6),
        CHANGE,
        *traded("d", "SELL", "20", "6", fee="1", at=8, name=B),
    )
    fills = {r.event_id: r for r in driver.on_topic(t.ORDER_FILLS) if isinstance(r, Fill)}
    changes = [r for r in driver.on_topic(t.PORTFOLIO_POSITIONS) if isinstance(r, PositionChanged)]
    if is_older:
        moved = [c for c in changes if c.reason == "symbol_change"]
        changes[changes.index(moved[0])] = msgspec.structs.replace(moved[1], instrument_id=A)
        changes.remove(moved[1])
    steps = [PositionStep(c, fills.get(c.causation_id)) for c in changes]
    views = Views()
    state: list[tuple[str, Header]] = [
        *((t.REFERENCE_INSTRUMENTS, item) for item in driver.listed),
        *((t.PORTFOLIO_POSITIONS, change) for change in changes),
        (t.REFERENCE_ACTIONS, SPLIT),
        (t.REFERENCE_ACTIONS, CHANGE),
    ]
    views.apply(Published(topic, 0, n, record) for n, (topic, record) in enumerate(state))
    return steps, views


def run_of(history: Any, views: Views, until_ns: int | None = None) -> Stored:
    """Return a stored run with a history and a state."""
    return Stored(cast("History", history), "r", views, until_ns)


@pytest.mark.parametrize("is_older", [False, True])
async def test_lots_and_trades_come_out_of_all_pages(is_older: bool) -> None:
    steps, views = played(is_older=is_older)
    history = FakeHistory(steps)

    lots = await StoredShares().lots(run_of(history, views), "paper", "s")

    assert lots.of(("paper", "s", B)) == [(Decimal(4), Decimal(6))]
    assert lots.of(("paper", "s", A)) == []
    trades = lots.trades_of("paper", "s")
    assert (trades.fills, trades.count, trades.fees) == (4, 0, Decimal(4))
    assert len(history.asked) == -(-len(steps) // 2)
    newest_ns = steps[-1].change.ts_event_ns
    assert {window.until_ns for window in history.asked} == {newest_ns + 1}


async def test_nothing_behind_the_instant_that_is_asked_about_counts() -> None:
    steps, views = played()
    history = FakeHistory(steps)
    await StoredShares().lots(run_of(history, views, until_ns=77), "paper", "s")

    assert {window.until_ns for window in history.asked} == {77}


@pytest.mark.parametrize("missing", [0, 1, 3, 6])
async def test_share_whose_fills_are_gone_is_refused(missing: int) -> None:
    steps, views = played()
    steps[missing] = PositionStep(steps[missing].change, None)

    with pytest.raises(ProblemError) as refused:
        await StoredShares().lots(run_of(FakeHistory(steps), views), "paper", "s")

    assert (refused.value.status, refused.value.code) == (404, "journal_needed")


async def test_too_many_questions_and_too_long_ones_are_refused() -> None:
    steps, views = played()
    history = FakeHistory(steps)
    history.gate = asyncio.Event()
    shares = StoredShares()
    waiting = [
        asyncio.create_task(shares.lots(run_of(history, views), "paper", "s")) for _ in range(16)
    ]
    await asyncio.sleep(0)

    with pytest.raises(ProblemError) as busy:
        await shares.lots(run_of(history, views), "paper", "s")
    with pytest.raises(ProblemError) as late:
        await StoredShares(timeout_s=0.0).lots(run_of(history, views), "paper", "s")
    history.gate.set()
    found = await asyncio.gather(*waiting)

    assert [(p.value.status, p.value.code) for p in (busy, late)] == [
        (503, "busy"),
        (503, "timeout"),
    ]
    assert [lots.of(("paper", "s", B)) for lots in found] == [[(Decimal(4), Decimal(6))]] * 16


@pytest.mark.parametrize(("answer_s", "is_in_time"), [(14.0, True), (16.0, False)])
async def test_lots_of_all_positions_are_read_within_one_deadline(
    answer_s: float, is_in_time: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Four strategies, each read in one page: 56 and 64 s together, and 60 s are allowed.
    nothing = Decimal(0)
    changes = [
        PositionChanged(
            f"p{n}", n, "", "", "paper", f"s{n}", A,
            nothing, nothing, nothing, nothing, nothing, "USD",
        )
        for n in range(4)
    ]  # fmt: skip
    views = Views()
    views.apply(Published(t.PORTFOLIO_POSITIONS, 0, n, c) for n, c in enumerate(changes))
    views.apply([Published(t.REFERENCE_INSTRUMENTS, 0, 0, instrument(A))])
    history = FakeHistory([PositionStep(change, None) for change in changes[:1]])
    history.answer_s = answer_s
    context = Run().context
    context.views, context.history, context.is_stored = views, history, True
    loop = asyncio.get_running_loop()
    clock = loop.time
    monkeypatch.setattr(loop, "time", lambda: clock() + history.passed_s)
    asked = get_lots(context, Call({"symbol": A}, PositionQuery(), None))

    if is_in_time:
        assert [row.strategy_id for row in (await asked).positions] == ["s0", "s1", "s2", "s3"]
        return
    with pytest.raises(ProblemError) as late:
        await asked
    assert (late.value.status, late.value.code) == (503, "timeout")
    assert history.passed_s == 64.0
