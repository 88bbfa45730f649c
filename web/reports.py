"""The report of a day: accounts, results, orders and risk, from the read models."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.order_events import Fill
from schemas.values import ZERO
from web.answers import portfolio as answers
from web.context import Context
from web.route_table import Call, NoQuery
from web.routes.portfolio import PnlQuery, get_pnl, get_portfolio
from web.times import day_text, format_time
from web.views.pnl import DAY_NS


class DayReport(msgspec.Struct):
    """A trading day (of UTC) of a run as it stood when the report was made."""

    run_id: str
    day: str
    made_at: str
    accounts: list[answers.AccountDetail]
    results_by_strategy: list[answers.PnlGroup]
    results_by_instrument: list[answers.PnlGroup]
    orders_by_status: dict[str, int]
    fills: int
    traded: Decimal
    approved: int
    denied_by_code: dict[str, int]
    breaker: str
    dead_letters: int


async def day_report(context: Context) -> DayReport:
    """Return the report of the day at which the run's clock stands."""
    views, now_ns = context.views, context.log.now_ns()
    day, begin_ns = day_text(now_ns), now_ns - now_ns % DAY_NS
    portfolio = await get_portfolio(context, Call({}, NoQuery(), None))

    async def results(group_by: str) -> list[answers.PnlGroup]:
        query = msgspec.convert({"group_by": group_by, "after": day, "until": day}, PnlQuery)
        return (await get_pnl(context, Call({}, query, None))).groups

    orders: dict[str, int] = {}
    for row in views.orders.newest_first():
        if row.created_ns >= begin_ns:
            orders[row.status] = orders.get(row.status, 0) + 1
    records = (item.record for item in views.orders.fills.newest_first())
    fills = [r for r in records if isinstance(r, Fill) and r.ts_event_ns >= begin_ns]
    traded = sum((fill.quantity * fill.price for fill in fills), ZERO)
    return DayReport(
        context.log.run_id,
        day,
        format_time(now_ns),
        portfolio.accounts,
        await results("strategy"),
        await results("instrument"),
        orders,
        len(fills),
        traded,
        views.risk.counts().get("", 0),
        views.risk.denied_by_code(),
        views.risk.strictest(),
        views.system.dead_letter_count,
    )
