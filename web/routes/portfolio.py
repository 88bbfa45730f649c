"""Accounts: balances, exposure, equity over time, results by group."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from schemas.market_data import INTERVAL_NS, INTERVALS
from schemas.portfolio import EquityMark
from schemas.values import ZERO, tidy
from streams.history import Filters, Window
from web.answers import portfolio as answers
from web.context import Context
from web.history import stored
from web.problems import FieldError, invalid
from web.route_table import Call, NoQuery, Route
from web.routes.pages import instant
from web.routes.resolving import known_account
from web.routes.scope_names import check_filter
from web.routes.stored_results import Days, end_of, equity_before, stored_gains
from web.routes.valuing import (
    account_answer,
    initial_cash,
    position_answer,
    share_answer,
    share_base,
)
from web.scopes import READ
from web.times import day_text, format_time
from web.views.models import Views
from web.views.pnl import DAY_NS
from web.views.portfolio import Curve

_PERIOD = re.compile(r"(\d{1,4})([dwmy])", re.ASCII)
_DAYS = {"d": 1, "w": 7, "m": 30, "y": 365}
_POINTS_MAX = 10_000

Timeframe = Literal["1s", "5s", "1m", "5m", "15m", "1h", "1d"]
GroupBy = Literal["strategy", "instrument", "day"]


class AccountQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which account; without one the default account."""

    account_id: str = ""


class CurveQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which equity curve, and how many points of it at most."""

    strategy_id: str = ""
    limit: Annotated[int, Meta(ge=1, le=5000)] = 500


class EquityQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which equity, how fine, and over which time.

    ``period`` is a number of days, weeks, months (30 days) or years (5d, 2w, 6m, 1y) before the
    newest mark, or ``all``; ``after`` and ``until`` bound the time instead of it.
    """

    account_id: str = ""
    strategy_id: str = ""
    timeframe: Timeframe = "1d"
    period: str = "all"
    after: str | None = None
    until: str | None = None


class PnlQuery(msgspec.Struct, forbid_unknown_fields=True):
    """How results are grouped, of whom, and over which days of UTC."""

    group_by: GroupBy = "strategy"
    account_id: str | None = None
    strategy_id: str | None = None
    after: str | None = None
    until: str | None = None


async def get_portfolio(context: Context, call: Call[NoQuery, None]) -> answers.PortfolioAnswer:
    """Return all accounts with their positions."""
    names = context.views.portfolio.account_ids()
    return answers.PortfolioAnswer([await _detail(context, name) for name in names])


async def get_current(context: Context, call: Call[NoQuery, None]) -> answers.PortfolioAnswer:
    """Return all accounts with their positions, as ``/api/portfolio`` does."""
    return await get_portfolio(context, call)


async def get_account_by_id(context: Context, call: Call[NoQuery, None]) -> answers.AccountDetail:
    """Return one account with its positions."""
    return await _detail(context, known_account(context.views, call.path["account_id"]))


async def get_account(context: Context, call: Call[AccountQuery, None]) -> answers.Account:
    """Return an account's figures without its positions."""
    return await account_answer(context, _account_id(context, call.query.account_id))


async def get_balances(context: Context, call: Call[AccountQuery, None]) -> answers.Balances:
    """Return an account's cash by currency, its equity, and what it may still buy."""
    a = await account_answer(context, _account_id(context, call.query.account_id))
    return answers.Balances(
        a.account_id,
        a.base_currency,
        a.cash,
        a.equity,
        a.buying_power,
        a.initial_equity,
        a.as_of,
        a.as_of_ns,
        a.snapshot_at,
    )


async def get_exposure(context: Context, call: Call[AccountQuery, None]) -> answers.Exposure:
    """Return what an account has at risk, by instrument and as a whole."""
    views = context.views
    a = await account_answer(context, _account_id(context, call.query.account_id))
    rows: dict[str, answers.InstrumentExposure] = {}
    for item in views.portfolio.positions_of(a.account_id):
        p = position_answer(views, item)
        row = rows.setdefault(
            p.instrument_id,
            answers.InstrumentExposure(
                p.instrument_id, p.symbol, ZERO, p.last_price, None, p.currency
            ),
        )
        row.quantity += p.quantity
        if p.market_value is not None:
            row.value = (row.value or ZERO) + p.market_value
    leverage = None
    if a.gross_exposure is not None and a.equity is not None and a.equity > 0:
        leverage = float(a.gross_exposure / a.equity)
    return answers.Exposure(
        a.account_id,
        a.base_currency,
        a.equity,
        a.gross_exposure,
        a.net_exposure,
        leverage,
        [row for row in rows.values() if row.quantity],
        a.missing_prices,
        a.as_of,
        a.as_of_ns,
    )


async def get_equity(context: Context, call: Call[CurveQuery, None]) -> answers.EquityCurve:
    """Return the equity curve of an account, or of one strategy's share, evenly thinned out."""
    account_id = known_account(context.views, call.path["account_id"])
    curve = await context.curve(account_id, call.query.strategy_id)
    base: Decimal | None = ZERO
    if call.query.strategy_id:
        base = share_base(context.views, account_id, call.query.strategy_id)
    points = [
        answers.EquityPoint(
            format_time(mark.ts_event_ns),
            mark.ts_event_ns,
            tidy(mark.equity),
            tidy(mark.cash),
            _drawdown_pct(mark, base),
        )
        for mark in curve.points(call.query.limit)
    ]
    return answers.EquityCurve(account_id, call.query.strategy_id, points)


def _drawdown_pct(mark: EquityMark, base: Decimal | None) -> float | None:
    """Return how far a mark is below its peak in percent; ``base`` is what a strategy began with.

    A strategy's results begin at 0, so its mark says the amount below the peak, no fraction.
    """
    if not mark.strategy_id:
        return 100 * mark.drawdown
    peak = mark.equity - mark.drawdown
    if base is None or float(base) + peak <= 0:
        return None
    return 100 * mark.drawdown / (float(base) + peak)


async def get_equity_history(
    context: Context, call: Call[EquityQuery, None]
) -> answers.EquityHistory:
    """Return equity over time: the last value of each time frame, over a period."""
    query, views = call.query, context.views
    account_id = _account_id(context, query.account_id)
    share = (account_id, query.strategy_id)
    newest = views.portfolio.marks.get(share)
    first_ns, until_ns = _span(query, newest)
    base = _base(views, share)
    curve = views.portfolio.curves.get(share, Curve())
    history = await context.series(
        newest.ts_event_ns if newest is not None else 0, is_whole=not curve.is_thinned
    )
    if history is not None:
        window = Window(
            context.run_id,
            first_ns,
            end_of(context, until_ns),
            limit=_POINTS_MAX,
            is_newest_first=False,
        )
        series = await stored(
            history.equity(window, account_id, query.strategy_id, query.timeframe)
        )
        if first_ns is not None:
            before = await equity_before(context, history, share, first_ns)
            base = base if before is None else before
        times, equity = series.ts.tolist(), series.equity.tolist()
        is_complete = not series.cursor
        return _history(query, share, times, equity, base, "database", is_complete=is_complete)
    step_ns = INTERVAL_NS[INTERVALS.index(query.timeframe)]
    last: dict[int, EquityMark] = {}
    for mark in curve.all_points():
        if first_ns is not None and mark.ts_event_ns < first_ns:
            base = mark.equity
        elif until_ns is None or mark.ts_event_ns < until_ns:
            # A mark stands at the end of its interval and belongs to what lies before it.
            last[(mark.ts_event_ns - 1) // step_ns] = mark
    marks = list(last.values())[-_POINTS_MAX:]
    times, equity = [m.ts_event_ns for m in marks], [m.equity for m in marks]
    is_complete = not curve.is_thinned and len(marks) == len(last)
    return _history(query, share, times, equity, base, "memory", is_complete=is_complete)


def _history(
    query: EquityQuery,
    share: tuple[str, str],
    times: list[int],
    equity: list[float],
    base: float | None,
    source: str,
    *,
    is_complete: bool,
) -> answers.EquityHistory:
    if base is None and equity:
        base = equity[0]
    equity = [tidy(value) for value in equity]
    profit = [tidy(value - (base or 0.0)) for value in equity]
    return answers.EquityHistory(
        share[0],
        share[1],
        query.timeframe,
        query.period,
        base,
        [format_time(ts) for ts in times],
        times,
        equity,
        profit,
        [100 * gained / base if base else None for gained in profit],
        source,
        is_complete,
    )


def _base(views: Views, share: tuple[str, str]) -> float | None:
    """Return the equity that a share began with; a strategy's results begin at 0."""
    if share[1]:
        return 0.0
    cash = initial_cash(views, share[0])
    return float(cash) if cash is not None else None


def _span(query: EquityQuery, newest: EquityMark | None) -> tuple[int | None, int | None]:
    """Return the half open span of a query (ns); raises ProblemError (422) for no period."""
    first_ns, until_ns = instant("after", query.after), instant("until", query.until, is_end=True)
    until_ns = None if until_ns is None else until_ns + 1
    if query.period == "all":
        return first_ns, until_ns
    match = _PERIOD.fullmatch(query.period)
    if match is None or first_ns is not None:
        remedy = "write 5d, 2w, 6m, 1y or all" if match is None else "give after, or a period"
        raise invalid([FieldError("/period", "is no period", remedy, query.period[:40])])
    end_ns = until_ns or (newest.ts_event_ns if newest is not None else 0)
    return end_ns - int(match[1]) * _DAYS[match[2]] * DAY_NS, until_ns


async def get_pnl(context: Context, call: Call[PnlQuery, None]) -> answers.PnlAnswer:
    """Return results grouped by strategy, instrument or day, in the order of the keys.

    Realized results are those of the read models, or of the database where these began too late to
    have heard of every change. Dividends are in none of them: `GET /api/portfolio/{account_id}` has
    those of the account and of each strategy.
    """
    query, views = call.query, context.views
    check_filter(context, query.account_id)
    groups: dict[tuple[str, str], answers.PnlGroup] = {}

    def group(key: str, currency: str) -> answers.PnlGroup:
        fresh = answers.PnlGroup(key, currency, ZERO, None, ZERO, ZERO, 0)
        return groups.setdefault((key, currency), fresh)

    def is_wanted(account_id: str, strategy_id: str) -> bool:
        wanted = query.account_id in (None, "", account_id)
        return wanted and query.strategy_id in (None, "", strategy_id)

    days = Days.between(query.after, query.until)
    source = "memory"
    if context.history is not None and views.portfolio.results.begin.floor is not None:
        source = "database"
        if context.is_at_offset:
            remedy = "give a time: changes from before what is at hand have no offset here"
            raise invalid([FieldError("/as_of", "is an offset", remedy, context.place[-80:])])
        filters = Filters(query.account_id or "", query.strategy_id or "")
        for gain in await stored_gains(context, context.history, query.group_by, days, filters):
            row = group(gain.key, gain.currency)
            row.realized_pnl, row.fees, row.fills = gain.realized_pnl, gain.fees, gain.fills
    else:
        for key, pnl in views.portfolio.results.entries():
            if not days.has(key.day) or not is_wanted(key.account_id, key.strategy_id):
                continue
            name = {
                "strategy": key.strategy_id,
                "instrument": key.instrument_id,
                "day": day_text(key.day * DAY_NS),
            }[query.group_by]
            row = group(name, key.currency)
            row.realized_pnl += pnl.realized
            row.fees += pnl.fees
            row.fills += pnl.fills
    if query.group_by != "day":
        for item in views.portfolio.positions.values():
            p = position_answer(views, item)
            if p.unrealized_pnl is None or not is_wanted(p.account_id, p.strategy_id):
                continue
            name = p.strategy_id if query.group_by == "strategy" else p.instrument_id
            row = group(name, p.currency)
            row.unrealized_pnl = (row.unrealized_pnl or ZERO) + p.unrealized_pnl
    for row in groups.values():
        row.net_pnl = row.realized_pnl + (row.unrealized_pnl or ZERO) - row.fees
    return answers.PnlAnswer(query.group_by, [row for _, row in sorted(groups.items())], source)


def _account_id(context: Context, account_id: str) -> str:
    return known_account(context.views, account_id or context.settings.default_account_id)


async def _detail(context: Context, account_id: str) -> answers.AccountDetail:
    views = context.views
    portfolio = views.portfolio
    shares = {*portfolio.snapshots, *portfolio.marks, *(key[:2] for key in portfolio.positions)}
    strategies = sorted(share[1] for share in shares if share[0] == account_id and share[1])
    return answers.AccountDetail(
        account=await account_answer(context, account_id),
        positions=[position_answer(views, p) for p in views.portfolio.positions_of(account_id)],
        net_positions=views.portfolio.net_of(account_id),
        strategies=[share_answer(views, account_id, name) for name in strategies],
    )


ROUTES = (
    Route(
        "GET",
        "/api/portfolio",
        get_portfolio,
        answers.PortfolioAnswer,
        READ,
        "All accounts",
        "portfolio",
        is_of_run=True,
        is_stored=True,
    ),
    Route(
        "GET",
        "/api/portfolio/current",
        get_current,
        answers.PortfolioAnswer,
        READ,
        "All accounts",
        "portfolio",
        is_of_run=True,
        is_stored=True,
    ),
    Route(
        "GET",
        "/api/portfolio/history",
        get_equity_history,
        answers.EquityHistory,
        READ,
        "Equity over time",
        "portfolio",
        query=EquityQuery,
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
        example="/api/portfolio/history?timeframe=1h&period=5d",
    ),
    Route(
        "GET",
        "/api/portfolio/exposure",
        get_exposure,
        answers.Exposure,
        READ,
        "What is at risk",
        "portfolio",
        query=AccountQuery,
        errors=(404,),
        is_of_run=True,
        is_stored=True,
    ),
    Route(
        "GET",
        "/api/portfolio/account",
        get_account,
        answers.Account,
        READ,
        "An account's figures",
        "portfolio",
        query=AccountQuery,
        errors=(404,),
        is_of_run=True,
        is_stored=True,
    ),
    Route(
        "GET",
        "/api/portfolio/balances",
        get_balances,
        answers.Balances,
        READ,
        "Cash and buying power",
        "portfolio",
        query=AccountQuery,
        errors=(404,),
        is_of_run=True,
        is_stored=True,
    ),
    Route(
        "GET",
        "/api/portfolio/pnl",
        get_pnl,
        answers.PnlAnswer,
        READ,
        "Results by strategy, instrument or day",
        "portfolio",
        query=PnlQuery,
        errors=(503,),
        is_of_run=True,
        is_stored=True,
        example="/api/portfolio/pnl?group_by=instrument",
    ),
    Route(
        "GET",
        "/api/portfolio/{account_id}",
        get_account_by_id,
        answers.AccountDetail,
        READ,
        "One account",
        "portfolio",
        errors=(404,),
        is_of_run=True,
        is_stored=True,
        example="/api/portfolio/paper",
    ),
    Route(
        "GET",
        "/api/portfolio/{account_id}/equity",
        get_equity,
        answers.EquityCurve,
        READ,
        "Equity curve",
        "portfolio",
        query=CurveQuery,
        errors=(404, 503),
        is_of_run=True,
        is_stored=True,
        example="/api/portfolio/paper/equity?limit=100",
    ),
)
