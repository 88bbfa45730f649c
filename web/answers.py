"""What the routes answer, as structs: money with its exact text, instants as text and ns.

JavaScript rounds integers above 2**53, so every ``*_ns`` has an RFC 3339 twin beside it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from schemas.risk import LimitSet

ENCODER = msgspec.json.Encoder(decimal_format="number")
"""Writes a Decimal as the number it is, digit for digit."""


class Health(msgspec.Struct):
    """Whether the process answers, and if not ready, why."""

    status: str
    reasons: list[str]


class Order(msgspec.Struct):
    """One order as it stands; ``code`` and ``detail`` say why it was denied, rejected, canceled."""

    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    symbol: str
    side: str | None
    order_type: str | None
    time_in_force: str | None
    quantity: Decimal | None
    limit_price: Decimal | None
    stop_price: Decimal | None
    status: str
    is_open: bool
    filled_quantity: Decimal
    average_price: Decimal | None
    venue_order_id: str
    code: str
    detail: str
    created_at: str
    created_ns: int
    updated_at: str
    updated_ns: int


class OrderPage(msgspec.Struct):
    """Orders, the newest first; ``next_cursor`` asks for the older ones."""

    orders: list[Order]
    count: int
    next_cursor: str | None


class OrderEvents(msgspec.Struct):
    """What happened to one order, the oldest first, as on ``orders.events``."""

    client_order_id: str
    events: list[dict[str, Any]]


class OrderPending(msgspec.Struct):
    """A command that was written to the log but has not been answered yet; ask at ``location``."""

    client_order_id: str
    status: str
    detail: str
    location: str


class Fill(msgspec.Struct):
    """One execution; ``fee`` is positive when paid."""

    trade_id: str
    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    symbol: str
    side: str
    quantity: Decimal
    price: Decimal
    fee: Decimal
    currency: str
    liquidity_side: str
    time: str
    time_ns: int


class BookTop(msgspec.Struct):
    """Best bid and ask of one instrument and its last price; null where there is none."""

    instrument_id: str
    symbol: str
    bid_price: float | None
    bid_size: float | None
    ask_price: float | None
    ask_size: float | None
    last_price: float | None
    time: str | None
    time_ns: int | None


class TradePage(msgspec.Struct):
    """Fills, the newest first, and the top of each instrument's order book."""

    trades: list[Fill]
    count: int
    next_cursor: str | None
    order_book: dict[str, BookTop]


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


class Signal(msgspec.Struct):
    """A strategy's target for one instrument and the price it was decided at."""

    instrument_id: str
    target: float
    price: float
    time: str
    time_ns: int


class Strategy(msgspec.Struct):
    """What a strategy is doing, and its last signals."""

    strategy_id: str
    name: str | None
    account_id: str | None
    status: str | None
    parameters: dict[str, bool | int | float | str]
    instrument_ids: list[str]
    detail: str
    signals: list[Signal]


class Strategies(msgspec.Struct):
    """All strategies of the run."""

    strategies: list[Strategy]


class Breaker(msgspec.Struct):
    """The breaker of one scope."""

    scope: str
    scope_id: str
    state: str
    epoch: int
    operator: str
    reason: str
    since: str
    since_ns: int


class CircuitBreaker(msgspec.Struct):
    """The strictest state of all scopes, and each scope that was ever changed."""

    state: str
    scopes: list[Breaker]


class ScopeLimits(msgspec.Struct):
    """Limits of one scope as applied."""

    scope: str
    scope_id: str
    limits: LimitSet
    operator: str
    time: str
    time_ns: int


class Decision(msgspec.Struct):
    """The gate's word on one order: which check, measured value against limit."""

    client_order_id: str
    account_id: str
    strategy_id: str
    instrument_id: str
    is_approved: bool
    code: str
    measured: str
    limit: str
    scope: str
    detail: str
    time: str
    time_ns: int


class RiskAnswer(msgspec.Struct):
    """Breaker, limits, last decisions (newest first) and counts."""

    circuit_breaker: CircuitBreaker
    autonomy_mode: str
    limits: list[ScopeLimits]
    decisions: list[Decision]
    approved_count: int
    denied_count: int
    denied_by_code: dict[str, int]


class Setting(msgspec.Struct):
    """A setting that was changed while running."""

    value: str
    operator: str
    time: str
    time_ns: int


class Config(msgspec.Struct):
    """How the run is set up."""

    paper_trading: bool
    autonomy_mode: str
    mode: str
    settings: dict[str, Setting]


class TopicState(msgspec.Struct):
    """One topic of the catalogue and how far it has come."""

    name: str
    end_offset: int
    websocket: str
    description: str


class DeadLetter(msgspec.Struct):
    """A record that could not be used."""

    topic: str
    partition: int
    offset: int
    reason: str
    time: str
    time_ns: int


class Scheduler(msgspec.Struct):
    """Scheduled jobs; a run without a scheduler says so."""

    is_running: bool
    jobs: list[dict[str, str]]
    detail: str


class SystemAnswer(msgspec.Struct):
    """Health, run, topics, and what went wrong."""

    health: Health
    run_id: str
    epoch: str
    mode: str
    time: str
    time_ns: int
    instruments: int
    websocket_clients: int
    scheduler: Scheduler
    topics: list[TopicState]
    data_quality: dict[str, int]
    dead_letter_count: int
    dead_letters: list[DeadLetter]


class BacktestStarted(msgspec.Struct):
    """A backtest that was asked for."""

    task_id: str
    status: str


class BacktestMetrics(msgspec.Struct):
    """A finished backtest; percentages as numbers (-8.5 is -8.5 %), null without a meaning.

    ``metrics`` holds all figures by name.
    """

    task_id: str
    strategy_name: str
    status: str
    sharpe_ratio: float | None
    max_drawdown_pct: float | None
    total_return_pct: float | None
    total_trades: int | None
    win_rate: float | None
    output_hash: str
    metrics: dict[str, float | int | str | None]
    finished_at: str
    finished_ns: int


class BacktestState(msgspec.Struct):
    """One backtest: how far it has come, and its result once there is one."""

    task_id: str
    strategy_name: str | None
    status: str
    detail: str
    events_done: int | None
    events_total: int | None
    result: BacktestMetrics | None


class BacktestHistory(msgspec.Struct):
    """Finished backtests, the newest first."""

    backtests: list[BacktestState]
    count: int
