"""A strategy's share of an account in a run that only the database knows: its lots and its curve.

The state of a stored run holds the newest of everything. Lots and closed trades follow from every
fill, figures of a curve from every mark; both are read when they are asked for, page by page, and
folded as the read models fold them. What does not come out as the position says is refused: rows
of it are gone, or not stored yet.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple, TypeVar

from schemas.portfolio import EquityMark
from schemas.topics import PORTFOLIO_EQUITY, PORTFOLIO_POSITIONS
from streams.history import EquitySeries, History, Page, PositionStep, Window
from web.history import stored
from web.problems import journal_needed
from web.turns import Turns, deadline
from web.views.lots import Lots
from web.views.models import Views
from web.views.portfolio import Curve

_STEPS = 500
_MARKS = 5_000
_TIMEOUT_S = 60.0
_TOO_LONG = "the stored run is too long to be read within the deadline"
_Page = TypeVar("_Page", Page[PositionStep], EquitySeries)


class Stored(NamedTuple):
    """A stored run as it is asked for: its state, and the first instant (ns) behind it."""

    history: History
    run_id: str
    views: Views
    until_ns: int | None

    def upto(self, topic: str) -> int | None:
        """Return where to end, so that nothing counts which is newer than the state."""
        newest_ns = self.views.newest_ns.get(topic)
        ends = [self.until_ns, None if newest_ns is None else newest_ns + 1]
        return min((end for end in ends if end is not None), default=None)


class StoredShares:
    """Reads shares of stored runs, one at a time, each within a deadline.

    Who reads several for one answer reads them within one ``deadline`` of the same length, so that
    nobody holds the turn for longer by asking for more.
    """

    def __init__(self, timeout_s: float = _TIMEOUT_S) -> None:
        self._timeout_s = timeout_s
        busy = "too many stored runs are being read; try again"
        self._turns = Turns(timeout_s, busy=busy, late=_TOO_LONG)

    async def lots(self, run: Stored, account_id: str, strategy_id: str) -> Lots:
        """Return lots and closed trades of a strategy in an account.

        Raises ProblemError: 404 if not all of it is stored, 503 while the database is away or busy.
        """
        lots = run.views.lots.fresh()
        share = account_id, strategy_id
        async with self._turns.mine():
            ask = run.history.position_steps
            async for page in _pages(run, PORTFOLIO_POSITIONS, _STEPS, ask, *share):
                for step in page.items:
                    if step.fill is not None:
                        lots.on_fill(step.fill)
                    lots.on_position(step.change)
        for position in run.views.portfolio.positions_of(account_id):
            if position.strategy_id == strategy_id and not lots.agrees(position):
                what = f"{account_id}/{strategy_id} in {position.instrument_id}"
                raise journal_needed(run.run_id, f"not every fill of {what} is stored")
        return lots

    async def curve(self, run: Stored, account_id: str, strategy_id: str) -> Curve:
        """Return the equity curve of an account, or of a share.

        Raises ProblemError (503) while the database is away or busy.
        """
        curve = Curve()
        async with self._turns.mine():
            ask = run.history.equity
            async for page in _pages(run, PORTFOLIO_EQUITY, _MARKS, ask, account_id, strategy_id):
                for mark in _marks(page, account_id, strategy_id):
                    curve.add(mark)
        return curve

    def deadline(self) -> AbstractAsyncContextManager[None]:
        """Bound how long all that is read for one answer may take; raises ProblemError (503)."""
        return deadline(self._timeout_s, _TOO_LONG)


async def _pages(
    run: Stored,
    topic: str,
    size: int,
    ask: Callable[[Window, str, str], Coroutine[Any, Any, _Page]],
    account_id: str,
    strategy_id: str,
) -> AsyncIterator[_Page]:
    """Yield a share's rows page by page, the oldest first, to where the state of ``topic`` is."""
    cursor, until_ns = "", run.upto(topic)
    while True:
        window = Window(run.run_id, None, until_ns, size, cursor, is_newest_first=False)
        page = await stored(ask(window, account_id, strategy_id))
        yield page
        cursor = page.cursor
        if not cursor:
            return


def _marks(series: EquitySeries, account_id: str, strategy_id: str) -> Iterator[EquityMark]:
    """Yield the points of a stored series as the records that they were."""
    columns = (
        series.equity,
        series.cash,
        series.gross_exposure,
        series.net_exposure,
        series.drawdown,
    )
    for ts_ns, *amounts in zip(series.ts.tolist(), *(c.tolist() for c in columns), strict=True):
        yield EquityMark("", ts_ns, "", "", account_id, strategy_id, *amounts)
