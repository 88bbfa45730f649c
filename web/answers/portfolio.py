"""Answers about accounts and positions."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class Position(msgspec.Struct):
    """One position, marked at the last price; profit before fees, in ``currency``.

    Without a price, the worth of what is held and its open result are null.
    """

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
    """One account, or one strategy's share of it, as the sum over its positions at ``as_of``.

    ``equity`` is ``initial_equity`` + ``realized_pnl`` + ``dividends`` + ``unrealized_pnl`` -
    ``fees``; that of a strategy counts from 0. Closed positions count, amounts are in
    ``base_currency``, and ``as_of`` is the newest change, price or mark that the figures take in.
    ``missing_prices`` names held instruments without a price, which count at their cost, and
    currencies without a rate, which count nothing. Where prices or dividends are not at hand,
    equity and exposures are those of the last mark, and so is ``as_of``.

    ``drawdown_pct`` is how far the equity is below ``peak_equity``, in percent of it; for a
    strategy in percent of its capital plus its peak, its account's initial equity where it has no
    capital, and null where neither is known. ``daily_pnl`` counts from the last mark before the
    day of ``as_of``. ``buying_power`` is of the same instant; where a price or the orders are not
    at hand it is that of the account's last snapshot, ``snapshot_at``. What is not known is null.
    """

    account_id: str
    strategy_id: str
    base_currency: str | None
    equity: Decimal | None = None
    cash: dict[str, Decimal] = {}
    buying_power: Decimal | None = None
    gross_exposure: Decimal | None = None
    net_exposure: Decimal | None = None
    drawdown_pct: float | None = None
    realized_pnl: Decimal | None = None
    unrealized_pnl: Decimal | None = None
    dividends: Decimal | None = None
    daily_pnl: Decimal | None = None
    fees: Decimal | None = None
    peak_equity: Decimal | None = None
    missing_prices: list[str] = []
    as_of: str | None = None
    as_of_ns: int | None = None
    snapshot_at: str | None = None
    snapshot_ns: int | None = None
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
    """One point of an equity curve, in the account's base currency.

    ``drawdown_pct`` of a strategy is in percent of its capital plus its peak, as in an account.
    """

    time: str
    time_ns: int
    equity: float
    cash: float
    drawdown_pct: float | None


class EquityCurve(msgspec.Struct):
    """The newest points of an equity curve, the oldest first."""

    account_id: str
    strategy_id: str
    points: list[EquityPoint]


class EquityHistory(msgspec.Struct):
    """Equity as columns, one value a time frame; profit counts from ``base_value``.

    ``source`` says what answered: ``memory`` or ``database``. ``is_complete`` is false where values
    are missing: memory has a thinned curve of a long run, or there are more than 10,000.
    """

    account_id: str
    strategy_id: str
    timeframe: str
    period: str
    base_value: float | None
    time: list[str]
    time_ns: list[int]
    equity: list[float]
    profit_loss: list[float]
    profit_loss_pct: list[float | None]
    source: str
    is_complete: bool = True


class InstrumentExposure(msgspec.Struct):
    """What an account holds of one instrument, over all strategies, in ``currency``."""

    instrument_id: str
    symbol: str
    quantity: Decimal
    last_price: Decimal | None
    value: Decimal | None
    currency: str


class Exposure(msgspec.Struct):
    """How much an account has at risk, by instrument and as a whole.

    Totals are in ``base_currency``, each instrument net over strategies; leverage is gross
    exposure over equity, null without equity above 0.
    """

    account_id: str
    base_currency: str | None
    equity: Decimal | None
    gross_exposure: Decimal | None
    net_exposure: Decimal | None
    leverage: float | None
    instruments: list[InstrumentExposure]
    missing_prices: list[str]
    as_of: str | None
    as_of_ns: int | None


class Balances(msgspec.Struct):
    """The money of an account by currency, and what it may still buy.

    All are of ``as_of``; where a price or the orders are not at hand, buying power is that of the
    account's last snapshot, ``snapshot_at``.
    """

    account_id: str
    base_currency: str | None
    cash: dict[str, Decimal]
    equity: Decimal | None
    buying_power: Decimal | None
    initial_equity: Decimal | None
    as_of: str | None
    as_of_ns: int | None
    snapshot_at: str | None


class PnlGroup(msgspec.Struct):
    """What one strategy, instrument or day gained, in ``currency``; realized by average cost.

    ``net_pnl`` is realized and unrealized less fees; a day has no unrealized result of its own.
    """

    key: str
    currency: str
    realized_pnl: Decimal
    unrealized_pnl: Decimal | None
    fees: Decimal
    net_pnl: Decimal
    fills: int


class PnlAnswer(msgspec.Struct):
    """Results by group, dividends not included.

    ``source`` says where realized results come from: ``memory`` or ``database``.
    """

    group_by: str
    groups: list[PnlGroup]
    source: str = "memory"


class Positions(msgspec.Struct):
    """Positions by account, strategy and instrument."""

    positions: list[Position]
    count: int


class PositionDetail(msgspec.Struct):
    """All positions in one instrument, and their net quantity by account."""

    instrument_id: str
    symbol: str
    net_quantity: dict[str, Decimal]
    positions: list[Position]


class Lot(msgspec.Struct):
    """What is left of one opening fill; ``quantity`` is signed."""

    quantity: Decimal
    price: Decimal


class PositionLots(msgspec.Struct):
    """The open lots of one position, the oldest first.

    ``is_complete``: they sum to the position; else fills that opened it are no longer at hand.
    """

    account_id: str
    strategy_id: str
    instrument_id: str
    quantity: Decimal
    lots: list[Lot]
    is_complete: bool


class Lots(msgspec.Struct):
    """The open lots of all positions in one instrument."""

    instrument_id: str
    symbol: str
    positions: list[PositionLots]
