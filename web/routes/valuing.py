"""Positions and accounts of the read models as answers, marked at the last price."""

from __future__ import annotations

from decimal import Decimal

from schemas.portfolio import PositionChanged
from web.answers import portfolio as answers
from web.times import format_time
from web.views.configured import configured
from web.views.models import Views

_OF_SNAPSHOT = (
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
)


def account_answer(views: Views, account_id: str, strategy_id: str) -> answers.Account:
    """Return an account, or a strategy's share of it, as it was marked last."""
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
        None if strategy_id else initial_cash(views, account_id),
    )
    snapshot = views.portfolio.snapshots.get((account_id, strategy_id))
    if snapshot is not None:
        for name in _OF_SNAPSHOT:
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


def initial_cash(views: Views, account_id: str) -> Decimal | None:
    """Return what an account began with, as the run's manifest says; None without a manifest."""
    account = configured(views.system.manifest).account(account_id)
    return account.cash if account is not None else None


def position_answer(views: Views, item: PositionChanged) -> answers.Position:
    """Return one position, marked at the last price."""
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
