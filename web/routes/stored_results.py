"""Results as the database tells them: what groups gained, and from what a period begins."""

from __future__ import annotations

from typing import NamedTuple

from streams.history import LIMIT_MAX, Filters, History, PnlRow, Window
from web.context import Context
from web.history import stored
from web.routes.pages import instant
from web.views.pnl import DAY_NS


class Days(NamedTuple):
    """Whole days of UTC since 1970, both included; None is an open end."""

    first: int | None
    last: int | None

    @classmethod
    def between(cls, after: str | None, until: str | None) -> Days:
        """Return the days of a query; raises ProblemError (422) for a time that is none."""
        first_ns, until_ns = instant("after", after), instant("until", until, is_end=True)
        return cls(
            None if first_ns is None else first_ns // DAY_NS,
            None if until_ns is None else until_ns // DAY_NS,
        )

    def has(self, day: int) -> bool:
        """Return whether a day is one of them."""
        is_late = self.last is not None and day > self.last
        return not is_late and (self.first is None or day >= self.first)


async def stored_gains(
    context: Context, history: History, group_by: str, days: Days, filters: Filters
) -> list[PnlRow]:
    """Return the realized results of all groups; raises ProblemError (503) without the database."""
    window = Window(
        context.run_id,
        None if days.first is None else days.first * DAY_NS,
        end_of(context, None if days.last is None else (days.last + 1) * DAY_NS),
        LIMIT_MAX,
        is_newest_first=False,
    )
    found: list[PnlRow] = []
    while True:
        page = await stored(history.pnl(window, group_by, filters))
        found += page.items
        if not page.cursor:
            return found
        window = window._replace(cursor=page.cursor)


async def equity_before(
    context: Context, history: History, share: tuple[str, str], first_ns: int
) -> float | None:
    """Return the last equity of an account or a share before an instant, None if there is none.

    Raises ProblemError (503) while the database is away.
    """
    window = Window(context.run_id, None, end_of(context, first_ns), limit=1)
    series = await stored(history.equity(window, *share))
    return float(series.equity[0]) if len(series.equity) else None


def end_of(context: Context, until_ns: int | None) -> int | None:
    """Return the end of a span, no later than the instant that is asked about."""
    ends = [end for end in (until_ns, context.until_ns) if end is not None]
    return min(ends, default=None)
