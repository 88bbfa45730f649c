"""Which record goes to which table, as data; the SQL files in ``migrations`` make the tables.

Two kinds of tables. *Series* (trades, quotes, bars, equity) are many, without a unique key, and
are written as columns. *Flows* are everything else: one row a record, its fields as columns where
somebody asks for them, and the whole record as JSON. What has no table here is not stored: books,
status, watermarks, indicators, quality, reference prices, progress, order log and snapshots.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from schemas import commands, control, instruments, market_data, order_events, portfolio, risk
from schemas import topics as t

SCHEMA = "millrace"
"""The schema that holds everything of ours."""

FLOW_KEYS = (
    "run_id",
    "ts_ns",
    "event_id",
    "log_partition",
    "log_offset",
    "record_type",
    "correlation_id",
    "causation_id",
)
"""What every flow table begins with; the last column of each is ``body``."""


class Series(NamedTuple):
    """A table of columns: names with their type, ``text`` or a numpy code of network order."""

    relation: str
    columns: tuple[tuple[str, str], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(name for name, _ in self.columns)


class Flow(NamedTuple):
    """A table of records: the fields it has as columns, and which records of which topics."""

    relation: str
    fields: tuple[str, ...]
    sources: tuple[tuple[str, tuple[type[Any], ...]], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all columns."""
        return (*FLOW_KEYS, *self.fields, "body")


_HEAD = (("run_id", "text"), ("ts_ns", ">i8"))
_ORIGIN = (("source", "text"), ("source_seq", ">i8"))
_PLACE = (("log_partition", ">i4"), ("log_offset", ">i8"))


def _floats(*names: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, ">f8") for name in names)


TRADES = Series(
    "trades",
    (*_HEAD, ("instrument_id", "text"), *_floats("price", "size"), *_ORIGIN, *_PLACE),
)
QUOTES = Series(
    "quotes",
    (
        *_HEAD,
        ("instrument_id", "text"),
        *_floats("bid_price", "ask_price", "bid_size", "ask_size"),
        *_ORIGIN,
        *_PLACE,
    ),
)
BARS = Series(
    "bars",
    (
        *_HEAD,
        ("instrument_id", "text"),
        ("interval", "text"),
        ("start_ns", ">i8"),
        *_floats("open", "high", "low", "close", "volume", "vwap"),
        ("trade_count", ">i8"),
        ("is_partial", "?"),
        ("revision", ">i4"),
        *_ORIGIN,
        *_PLACE,
    ),
)
EQUITY = Series(
    "account_equity",
    (
        *_HEAD,
        ("account_id", "text"),
        ("strategy_id", "text"),
        *_floats("equity", "cash", "gross_exposure", "net_exposure", "drawdown"),
        *_PLACE,
    ),
)
SERIES = (TRADES, QUOTES, BARS, EQUITY)
SERIES_BY_NAME = {series.relation: series for series in SERIES}

SERIES_BY_KIND = {"trade": TRADES, "quote": QUOTES, "bar": BARS, "equity": EQUITY}
"""The series of a column table's kind; reference prices have none."""

SERIES_BY_SOURCE: dict[tuple[str, type[Any]], Series] = {
    (t.MARKET_EVENTS, market_data.Trade): TRADES,
    (t.MARKET_EVENTS, market_data.Quote): QUOTES,
    (t.MARKET_EVENTS, market_data.Bar): BARS,
    (t.MARKET_BARS, market_data.Bar): BARS,
    (t.PORTFOLIO_EQUITY, portfolio.EquityMark): EQUITY,
}

ROLLUPS = ("1m", "5m", "1h", "1d")
"""Intervals that are kept for every run with minute bars, as ``bars_1m`` and so on."""

_ORDER = ("account_id", "strategy_id", "client_order_id", "instrument_id")
_ACTS = (
    commands.ReplaceOrder,
    commands.CancelOrder,
    commands.ApproveOrder,
    risk.SetLimits,
    risk.SetBreaker,
    risk.Kill,
    risk.SetAutonomy,
)

FLOWS = (
    Flow(
        "instruments",
        (
            *("instrument_id", "symbol", "venue", "kind", "currency", "price_increment"),
            *("quantity_increment", "multiplier", "calendar"),
        ),
        ((t.REFERENCE_INSTRUMENTS, (instruments.Instrument,)),),
    ),
    Flow(
        "corporate_actions",
        ("instrument_id", "kind", "ratio", "amount", "currency", "new_symbol"),
        (
            (t.REFERENCE_ACTIONS, (instruments.CorporateAction,)),
            (t.ACCOUNT_INPUTS, (instruments.CorporateAction,)),
        ),
    ),
    Flow(
        "exchange_rates",
        ("base_currency", "quote_currency", "rate"),
        (
            (t.REFERENCE_RATES, (instruments.ExchangeRate,)),
            (t.ACCOUNT_INPUTS, (instruments.ExchangeRate,)),
        ),
    ),
    Flow(
        "orders",
        (
            *_ORDER,
            *("side", "quantity", "order_type", "limit_price", "stop_price", "time_in_force"),
            "parent_order_id",
        ),
        (
            (t.ACCOUNT_INPUTS, (commands.SubmitOrder,)),
            (t.ORDER_EVENTS, (order_events.OrderInitialized,)),
        ),
    ),
    Flow(
        "order_events",
        (*_ORDER, "status", "code", "detail", "cumulative_quantity", "average_price"),
        ((t.ORDER_EVENTS, t.ORDER_EVENT_TYPES),),
    ),
    Flow(
        "order_receipts",
        ("account_id", "client_order_id", "outcome", "code", "detail"),
        ((t.ORDER_RECEIPTS, (commands.CommandReceipt,)),),
    ),
    Flow(
        "fills",
        (
            *_ORDER,
            *("trade_id", "side", "quantity", "price", "fee", "currency", "liquidity_side"),
            *("reference_price", "market_event_id"),
        ),
        ((t.ORDER_FILLS, (order_events.Fill,)),),
    ),
    Flow(
        "positions",
        (
            *("account_id", "strategy_id", "instrument_id", "quantity", "average_price"),
            *("realized_pnl", "realized_pnl_fifo", "fees", "currency", "reason"),
        ),
        ((t.PORTFOLIO_POSITIONS, (portfolio.PositionChanged,)),),
    ),
    Flow(
        "account_snapshots",
        (
            *("account_id", "strategy_id", "base_currency", "equity", "realized_pnl"),
            *("unrealized_pnl", "fees", "gross_exposure", "net_exposure", "buying_power"),
            *("daily_pnl", "drawdown"),
        ),
        ((t.PORTFOLIO_ACCOUNTS, (portfolio.AccountSnapshot,)),),
    ),
    Flow(
        "risk_decisions",
        (
            *_ORDER,
            *("is_approved", "breaker_epoch", "code", "measured", "limit", "scope", "detail"),
        ),
        ((t.RISK_DECISIONS, (risk.RiskDecision,)),),
    ),
    Flow(
        "risk_limits",
        ("scope", "scope_id", "operator", "reason"),
        ((t.RISK_LIMITS, (risk.SetLimits,)),),
    ),
    Flow(
        "breaker_changes",
        ("scope", "scope_id", "state", "epoch", "operator", "reason"),
        ((t.RISK_BREAKER, (risk.BreakerChanged,)),),
    ),
    Flow(
        "strategy_states",
        ("strategy_id", "name", "account_id", "status", "detail"),
        ((t.STRATEGY_STATES, (control.StrategyStateChanged,)),),
    ),
    Flow(
        "strategy_signals",
        ("strategy_id", "instrument_id", "target", "price"),
        ((t.STRATEGY_SIGNALS, (control.StrategySignal,)),),
    ),
    Flow(
        "backtests",
        ("task_id", "strategy_name", "status", "output_hash", "detail"),
        (
            (t.BACKTEST_REQUESTS, (control.BacktestRequest,)),
            (t.BACKTEST_RESULTS, (control.BacktestResult,)),
        ),
    ),
    Flow(
        "runs",
        ("segment", "mode", "engine_version", "code_hash", "config_hash", "output_hash"),
        ((t.SYSTEM_RUNS, (control.RunManifest,)),),
    ),
    Flow(
        "audit",
        (
            *("operator", "account_id", "strategy_id", "client_order_id", "scope", "scope_id"),
            *("action", "reason", "method", "path", "status"),
        ),
        (
            (t.ACCOUNT_INPUTS, _ACTS),
            (t.STRATEGY_INPUTS, (control.StrategyCommand,)),
            (t.CONTROL_CONFIG, (control.ConfigChanged,)),
            (t.SYSTEM_AUDIT, (control.ApiWrite,)),
        ),
    ),
    Flow(
        "dead_letters",
        ("topic", "reason"),
        ((t.SYSTEM_DEAD_LETTERS, (control.DeadLetter,)),),
    ),
)
FLOW_BY_NAME = {flow.relation: flow for flow in FLOWS}
FLOW_BY_SOURCE: dict[tuple[str, type[Any]], Flow] = {
    (topic, record): flow for flow in FLOWS for topic, records in flow.sources for record in records
}

STORED_TOPICS: tuple[str, ...] = tuple(
    topic.name
    for topic in t.CATALOGUE
    if any(topic.name == source for source, _ in (*SERIES_BY_SOURCE, *FLOW_BY_SOURCE))
)
"""Topics that a sink reads, in the catalogue's order."""

BOOKKEEPING = ("sink_positions", "sink_rejects", "sink_gaps", "spans", "schema_migrations")
"""Tables of the storage itself."""
