"""Answers about accounts and positions."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Position(msgspec.Struct):
    """One position, marked at the last price; profit before fees, in ``currency``."""

    account_id: str
    strategy_id: str
    instrument_id: str
    symbol: str
    quantity: Decimal
    average_price: Decimal
    last_price: Decimal | None
    market_value: Decimal | None
    unrealized_pnl: Decimal | None
    realized_pnl: Decimal
    realized_pnl_fifo: Decimal
    fees: Decimal
    currency: str


class Account(msgspec.Struct):
    """One account, or one strategy's share of it.

    Equity, exposures and drawdown are of ``as_of``, the rest of ``snapshot_at``; what was not
    published yet is null. ``initial_equity`` is what the account began the run with.
    """

    account_id: str
    strategy_id: str
    base_currency: str | None
    equity: Decimal | None
    cash: dict[str, Decimal]
    buying_power: Decimal | None
    gross_exposure: Decimal | None
    net_exposure: Decimal | None
    drawdown_pct: float | None
    realized_pnl: Decimal | None
    unrealized_pnl: Decimal | None
    daily_pnl: Decimal | None
    fees: Decimal | None
    peak_equity: Decimal | None
    missing_prices: list[str]
    as_of: str | None
    as_of_ns: int | None
    snapshot_at: str | None
    snapshot_ns: int | None
    initial_equity: Decimal | None = None


class AccountDetail(msgspec.Struct):
    """One account with its positions, net quantities by instrument, and its strategies."""

    account: Account
    positions: list[Position]
    net_positions: dict[str, Decimal]
    strategies: list[Account]


class PortfolioAnswer(msgspec.Struct):
    """All accounts."""

    accounts: list[AccountDetail]


class EquityPoint(msgspec.Struct):
    """One point of an equity curve, in the account's base currency."""

    time: str
    time_ns: int
    equity: float
    cash: float
    drawdown_pct: float


class EquityCurve(msgspec.Struct):
    """The newest points of an equity curve, the oldest first."""

    account_id: str
    strategy_id: str
    points: list[EquityPoint]
