"""What an account's figures need beside its positions: its trading days and its open orders.

From them follow the day's result and what the account may still buy, as of the same instant as the
other figures. The account stage publishes both in its snapshots, but only once in an hour.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

import numpy as np

from agents.domain.order_state import OPEN
from schemas.enums import AccountKind, Side
from schemas.errors import DataError
from schemas.sessions import SessionTable, days_of
from schemas.values import ZERO, from_float, money, rounded
from streams.calendars import SessionTables
from streams.cursors import read_place
from streams.history import Filters
from web.answers import portfolio as answers
from web.context import Context
from web.problems import ProblemError
from web.routes.older import Asked
from web.routes.past_orders import Order, page_of
from web.views.configured import configured
from web.views.models import Views

_PAGE = 500


class Standing(NamedTuple):
    """The trading day of an instant (int64 ns UTC) by the account's calendar, and its open orders.

    ``orders`` is None where they are not at hand.
    """

    day_of: Callable[[int], int]
    orders: list[Order] | None


async def standing_of(context: Context, account_id: str, as_of_ns: int | None) -> Standing:
    """Return what an account's figures need at ``as_of_ns``.

    Raises ProblemError (503) where orders of a stored run are asked for and the database is away.
    """
    account = configured(context.views.system.manifest).account(account_id)
    calendar = account.calendar if account is not None else ""
    table = None
    if calendar and as_of_ns is not None:
        table = await asyncio.to_thread(_table, calendar, as_of_ns)
    return Standing(
        lambda ns: int(days_of(table, np.array([ns]))[0]), await _open_orders(context, account_id)
    )


def _table(calendar: str, as_of_ns: int) -> SessionTable | None:
    """Return the sessions around an instant; None for what no calendar covers."""
    try:
        return SessionTables(as_of_ns, as_of_ns).get(calendar)
    except DataError:
        return None


async def _open_orders(context: Context, account_id: str) -> list[Order] | None:
    """Return what may still trade; None if that is not at hand."""
    found: list[Order] = []
    asked, statuses = Asked("orders", _PAGE, None, None, None), tuple(sorted(OPEN))
    while True:
        try:
            page = await page_of(
                context,
                asked,
                Filters(account_id),
                statuses,
                lambda row: row.account_id == account_id,
            )
        except ProblemError as problem:
            if problem.status == 503:
                raise
            return None  # an offset whose orders only the run's own log could tell
        found += page.rows
        if page.cursor is None:
            return found
        asked = asked._replace(before=read_place("orders", page.cursor))


def daily_pnl(views: Views, answer: answers.Account, standing: Standing) -> Decimal | None:
    """Return the result of the day of ``as_of``, counted from the last mark before that day.

    The first mark of a day comes with a snapshot, which tells how the day began. Before it the
    newest mark is the last of the days before. None where neither is known.
    """
    if answer.equity is None or answer.as_of_ns is None:
        return None
    portfolio, share = views.portfolio, (answer.account_id, "")
    mark, snapshot = portfolio.marks.get(share), portfolio.snapshots.get(share)
    day_of = standing.day_of
    today = day_of(answer.as_of_ns)
    start = None
    if snapshot is not None and day_of(snapshot.ts_event_ns) == today:
        start = money(float(snapshot.equity - snapshot.daily_pnl))
    elif mark is None:
        start = answer.initial_equity
    elif day_of(mark.ts_event_ns) != today:
        start = money(mark.equity)
    return None if start is None else answer.equity - start


def buying_power(views: Views, answer: answers.Account, standing: Standing) -> Decimal | None:
    """Return what an order may cost at most; None where prices, rates or orders are not at hand.

    It is what the risk gate lets pass. A cash account may spend its cash but for what its working
    buys may cost, at their limit where that is above the price. Another one may add exposure until
    the initial margin of all positions takes its equity, each instrument at the larger of what it
    would be if all its working buys, or all its working sells, filled.
    """
    manifest = configured(views.system.manifest)
    account, margin = manifest.account(answer.account_id), manifest.accounts.initial_margin
    orders = standing.orders
    if account is None or answer.equity is None or answer.missing_prices or orders is None:
        return None
    base, held = account.base_currency, views.portfolio.net_of(answer.account_id)
    names = dict.fromkeys((*held, *(order.instrument_id for order in orders)))
    units = {name: _unit(views, name, base, None) for name in names}
    buys: dict[str, Decimal] = {}
    sells: dict[str, Decimal] = {}
    cost = ZERO
    for order in orders:
        name = order.instrument_id
        unit = units[name]
        if order.quantity is None or order.side is None or unit is None:
            return None
        left = order.quantity - order.filled_quantity
        side = buys if order.side is Side.BUY else sells
        side[name] = side.get(name, ZERO) + left
        if order.side is Side.BUY:
            limit = None
            if order.limit_price is not None:
                limit = _unit(views, name, base, order.limit_price)
            cost += left * max(unit, limit or ZERO)
    if account.kind is AccountKind.CASH:
        cash = _cash(views, answer, base)
        return None if cash is None else cash - cost
    worst = ZERO
    for name, unit in units.items():
        quantity = held.get(name, ZERO)
        high, low = quantity + buys.get(name, ZERO), quantity - sells.get(name, ZERO)
        if not high and not low:
            continue
        if unit is None:
            return None
        worst += max(abs(high * unit), abs(low * unit))
    return (answer.equity - worst * margin) / margin


def _cash(views: Views, answer: answers.Account, base: str) -> Decimal | None:
    """Return an account's cash in ``base``; None where a rate is unknown."""
    total = ZERO
    for currency, amount in answer.cash.items():
        rate = views.portfolio.rate(currency, base)
        if rate is None:
            return None
        total += rounded(amount * rate)
    return total


def _unit(views: Views, instrument_id: str, base: str, at: Decimal | None) -> Decimal | None:
    """Return the worth of one unit in ``base`` at the last price or ``at``; None if unknown."""
    instrument = views.market.instruments.get(instrument_id)
    last = views.market.last_price(instrument_id)
    if instrument is None or (last is None and at is None):
        return None
    rate = views.portfolio.rate(instrument.currency, base)
    if rate is None:
        return None
    price = from_float(last[0]) if at is None and last is not None else at
    assert price is not None  # one of both is there
    return rounded(price * instrument.multiplier * rate)
