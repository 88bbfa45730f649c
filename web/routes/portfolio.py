"""Accounts: balances, positions, equity curves."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta

from schemas.portfolio import PositionChanged
from web.answers import portfolio as answers
from web.context import Context
from web.problems import not_found
from web.route_table import Call, NoQuery, Route
from web.times import format_time
from web.views.models import Views
from web.views.portfolio import Curve


class CurveQuery(msgspec.Struct, forbid_unknown_fields=True):
    """Which equity curve, and how many points of it at most."""

    strategy_id: str = ""
    limit: Annotated[int, Meta(ge=1, le=5000)] = 500


class _AccountBegun(msgspec.Struct):
    account_id: str
    cash: Decimal


class _Accounts(msgspec.Struct):
    """The part of a run's configuration that says what its accounts began with."""

    accounts: list[_AccountBegun] = []


async def get_portfolio(context: Context, call: Call[NoQuery, None]) -> answers.PortfolioAnswer:
    """Return all accounts with their positions."""
    views = context.views
    return answers.PortfolioAnswer([_detail(views, name) for name in views.portfolio.account_ids()])


async def get_account(context: Context, call: Call[NoQuery, None]) -> answers.AccountDetail:
    """Return one account with its positions."""
    return _detail(context.views, _known(context.views, call.path["account_id"]))


async def get_equity(context: Context, call: Call[CurveQuery, None]) -> answers.EquityCurve:
    """Return the equity curve of an account, or of one strategy's share, evenly thinned out."""
    account_id = _known(context.views, call.path["account_id"])
    curve = context.views.portfolio.curves.get((account_id, call.query.strategy_id), Curve())
    points = [
        answers.EquityPoint(
            format_time(mark.ts_event_ns),
            mark.ts_event_ns,
            mark.equity,
            mark.cash,
            100 * mark.drawdown,
        )
        for mark in curve.points(call.query.limit)
    ]
    return answers.EquityCurve(account_id, call.query.strategy_id, points)


def _known(views: Views, account_id: str) -> str:
    known = views.portfolio.account_ids()
    if account_id not in known:
        names = ", ".join(known) or "none yet"
        raise not_found("account", account_id, f"accounts that were heard of: {names}")
    return account_id


def _detail(views: Views, account_id: str) -> answers.AccountDetail:
    shares = {*views.portfolio.snapshots, *views.portfolio.marks}
    strategies = sorted(share[1] for share in shares if share[0] == account_id and share[1])
    return answers.AccountDetail(
        account=_account(views, account_id, ""),
        positions=[_position(views, item) for item in views.portfolio.positions_of(account_id)],
        net_positions=views.portfolio.net_of(account_id),
        strategies=[_account(views, account_id, name) for name in strategies],
    )


def _initial_cash(views: Views, account_id: str) -> Decimal | None:
    """Return what an account began with, as the run's manifest says; None without a manifest."""
    manifest = views.system.manifest
    if manifest is None:
        return None
    accounts = msgspec.convert(manifest.config.get("accounts", {}), _Accounts, strict=False)
    for account in accounts.accounts:
        if account.account_id == account_id:
            return account.cash
    return None


def _account(views: Views, account_id: str, strategy_id: str) -> answers.Account:
    snapshot = views.portfolio.snapshots.get((account_id, strategy_id))
    answer = answers.Account(
        account_id,
        strategy_id,
        None,
        None,
        {},
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        None,
        [],
        None,
        None,
        None,
        None,
        None if strategy_id else _initial_cash(views, account_id),
    )
    if snapshot is not None:
        for name in (
            "base_currency",
            "equity",
            "cash",
            "buying_power",
            "gross_exposure",
            "net_exposure",
            "realized_pnl",
            "unrealized_pnl",
            "daily_pnl",
            "fees",
            "peak_equity",
            "missing_prices",
        ):
            setattr(answer, name, getattr(snapshot, name))
        answer.drawdown_pct = 100 * snapshot.drawdown
        answer.as_of_ns = answer.snapshot_ns = snapshot.ts_event_ns
        answer.as_of = answer.snapshot_at = format_time(snapshot.ts_event_ns)
    mark = views.portfolio.marks.get((account_id, strategy_id))
    if mark is not None and mark.ts_event_ns > (answer.snapshot_ns or 0):
        answer.equity = number(mark.equity)
        answer.gross_exposure = number(mark.gross_exposure)
        answer.net_exposure = number(mark.net_exposure)
        answer.drawdown_pct = 100 * mark.drawdown
        answer.as_of_ns, answer.as_of = mark.ts_event_ns, format_time(mark.ts_event_ns)
    return answer


def _position(views: Views, item: PositionChanged) -> answers.Position:
    last = views.market.last_price(item.instrument_id)
    instrument = views.market.instruments.get(item.instrument_id)
    price = value = profit = None
    if last is not None and instrument is not None:
        price = number(last[0])
        size = item.quantity * instrument.multiplier
        value = size * price
        profit = size * (price - item.average_price)
    return answers.Position(
        item.account_id,
        item.strategy_id,
        item.instrument_id,
        views.market.symbol_of(item.instrument_id),
        item.quantity,
        item.average_price,
        price,
        value,
        profit,
        item.realized_pnl,
        item.realized_pnl_fifo,
        item.fees,
        item.currency,
    )


def number(value: float) -> Decimal:
    """Return a float of a column as the Decimal that it prints as, for an answer."""
    return Decimal(repr(value))


ROUTES = (
    Route(
        "GET",
        "/api/portfolio",
        get_portfolio,
        answers.PortfolioAnswer,
        "read",
        "All accounts",
        "portfolio",
    ),
    Route(
        "GET",
        "/api/portfolio/{account_id}",
        get_account,
        answers.AccountDetail,
        "read",
        "One account",
        "portfolio",
        errors=(404,),
    ),
    Route(
        "GET",
        "/api/portfolio/{account_id}/equity",
        get_equity,
        answers.EquityCurve,
        "read",
        "Equity curve",
        "portfolio",
        query=CurveQuery,
        errors=(404,),
    ),
)
