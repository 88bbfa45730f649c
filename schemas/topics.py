"""The topic catalogue, as data: every topic with key, values, retention and WebSocket class.

Topics are created from this table, JSON Schemas are exported from it, and the documentation is
printed from it. WebSocket classes: ``complete`` never drops (a slow client is disconnected with its
cursor), ``conflated`` may skip to the newest value of a key and says so, ``state`` is the newest
value of each key.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from schemas import commands, control, instruments, market_data, order_events, portfolio, risk
from schemas.enums import Scope

DAY_MS = 86_400_000


class Topic(NamedTuple):
    """One topic; ``retention_ms`` -1 keeps for ever, ``is_compacted`` keeps the newest of a key.

    ``key`` names the field of the records that is their key on Kafka; several are joined by "|".
    """

    name: str
    key: str
    values: tuple[type[Any], ...]
    partitions: int
    retention_ms: int
    is_compacted: bool
    producer: str
    websocket: str
    description: str


ORDER_EVENT_TYPES: tuple[type[Any], ...] = (
    order_events.OrderDenied,
    order_events.OrderPendingApproval,
    order_events.OrderSubmitted,
    order_events.OrderAccepted,
    order_events.OrderRejected,
    order_events.OrderReplaceRejected,
    order_events.OrderCancelRejected,
    order_events.OrderTriggered,
    order_events.OrderPartiallyFilled,
    order_events.OrderFilled,
    order_events.OrderPendingCancel,
    order_events.OrderCanceled,
    order_events.OrderExpired,
    order_events.OrderReplaced,
    order_events.OrderUnknown,
)
"""What happens to an order, once somebody asked for it."""

_VENUE_REPORTS = (
    order_events.VenueAccepted,
    order_events.VenueRejected,
    order_events.VenueTriggered,
    order_events.VenueCanceled,
    order_events.VenueExpired,
    order_events.VenueReplaced,
    order_events.Fill,
)
_MARKET = (
    market_data.Trade,
    market_data.Quote,
    market_data.Bar,
    market_data.BookSnapshot,
    market_data.BookDelta,
    market_data.InstrumentStatus,
    market_data.Watermark,
    instruments.Instrument,
    instruments.CorporateAction,
)

MARKET_EVENTS = "market.events.v1"
MARKET_BARS = "market.bars.v1"
MARKET_INDICATORS = "market.indicators.v1"
MARKET_QUALITY = "market.quality.v1"
ACCOUNT_INPUTS = "account.inputs.v1"
STRATEGY_INPUTS = "strategy.inputs.v1"
STRATEGY_SIGNALS = "strategy.signals.v1"
STRATEGY_STATES = "strategy.states.v1"
VENUE_COMMANDS = "venue.commands.v1"
ORDER_EVENTS = "orders.events.v1"
ORDER_FILLS = "orders.fills.v1"
ORDER_RECEIPTS = "orders.receipts.v1"
RISK_DECISIONS = "risk.decisions.v1"
RISK_LIMITS = "risk.limits.v1"
RISK_BREAKER = "risk.breaker.v1"
PORTFOLIO_POSITIONS = "portfolio.positions.v1"
PORTFOLIO_ACCOUNTS = "portfolio.accounts.v1"
PORTFOLIO_EQUITY = "portfolio.equity.v1"
REFERENCE_INSTRUMENTS = "reference.instruments.v1"
REFERENCE_ACTIONS = "reference.actions.v1"
REFERENCE_RATES = "reference.rates.v1"
REFERENCE_TOPICS = (REFERENCE_INSTRUMENTS, REFERENCE_ACTIONS, REFERENCE_RATES)
CONTROL_CONFIG = "control.config.v1"
BACKTEST_REQUESTS = "backtest.requests.v1"
BACKTEST_PROGRESS = "backtest.progress.v1"
BACKTEST_RESULTS = "backtest.results.v1"
SYSTEM_RUNS = "system.runs.v1"
SYSTEM_ORDER_LOG = "system.order-log.v1"
SYSTEM_SNAPSHOTS = "system.snapshots.v1"
SYSTEM_DEAD_LETTERS = "system.dead-letters.v1"
SYSTEM_AUDIT = "system.audit.v1"

_WEEK = 7 * DAY_MS
_KEEP = -1

CATALOGUE: tuple[Topic, ...] = (
    Topic(
        MARKET_EVENTS,
        "instrument_id",
        _MARKET,
        4,
        _WEEK,
        False,
        "feeds, reference stage",
        "conflated",
        "Trades, quotes, books, status, watermarks; definitions and corporate actions among them.",
    ),
    Topic(
        MARKET_BARS,
        "instrument_id",
        (market_data.Bar, instruments.CorporateAction),
        4,
        _KEEP,
        False,
        "market stage",
        "conflated",
        "Bars, stamped at their close, corrections of them, and corporate actions between them.",
    ),
    Topic(
        MARKET_INDICATORS,
        "instrument_id",
        (market_data.IndicatorValue,),
        4,
        _WEEK,
        False,
        "market stage",
        "conflated",
        "Values of configured indicators.",
    ),
    Topic(
        MARKET_QUALITY,
        "instrument_id",
        (market_data.DataQuality,),
        4,
        _KEEP,
        False,
        "market stage",
        "complete",
        "What is wrong with market data.",
    ),
    Topic(
        ACCOUNT_INPUTS,
        "account_id",
        (
            commands.SubmitOrder,
            commands.ReplaceOrder,
            commands.CancelOrder,
            commands.ApproveOrder,
            commands.CheckOrder,
            *_VENUE_REPORTS,
            risk.SetLimits,
            risk.SetBreaker,
            risk.Kill,
            risk.SetAutonomy,
            market_data.ReferencePrice,
            market_data.InstrumentStatus,
            instruments.Instrument,
            instruments.CorporateAction,
            instruments.ExchangeRate,
        ),
        4,
        _KEEP,
        False,
        "strategies, venues, operators, market stage",
        "complete",
        "The one ordered input of the account stage.",
    ),
    Topic(
        STRATEGY_INPUTS,
        "strategy_id",
        (order_events.Fill, *ORDER_EVENT_TYPES, control.StrategyCommand),
        4,
        _KEEP,
        False,
        "account stage, operators",
        "complete",
        "A strategy's fills, ends of its orders, and commands to it.",
    ),
    Topic(
        STRATEGY_SIGNALS,
        "instrument_id",
        (control.StrategySignal,),
        4,
        _KEEP,
        False,
        "strategy stage",
        "complete",
        "Targets of strategies as they change.",
    ),
    Topic(
        STRATEGY_STATES,
        "strategy_id",
        (control.StrategyStateChanged,),
        1,
        _KEEP,
        True,
        "strategy stage",
        "state",
        "What each strategy is doing, with its parameters.",
    ),
    Topic(
        VENUE_COMMANDS,
        "instrument_id",
        (commands.VenueSubmit, commands.VenueReplace, commands.VenueCancel),
        4,
        _KEEP,
        False,
        "account stage",
        "complete",
        "Orders that the risk gate approved.",
    ),
    Topic(
        ORDER_EVENTS,
        "account_id",
        (order_events.OrderInitialized, *ORDER_EVENT_TYPES),
        4,
        _KEEP,
        False,
        "account stage",
        "complete",
        "The life of every order.",
    ),
    Topic(
        ORDER_FILLS,
        "account_id",
        (order_events.Fill,),
        4,
        _KEEP,
        False,
        "account stage",
        "complete",
        "Every execution, once.",
    ),
    Topic(
        ORDER_RECEIPTS,
        "account_id",
        (commands.CommandReceipt, commands.OrderChecked),
        4,
        _WEEK,
        False,
        "account stage",
        "complete",
        "Answers to commands that asked for one.",
    ),
    Topic(
        RISK_DECISIONS,
        "account_id",
        (risk.RiskDecision,),
        4,
        _KEEP,
        False,
        "account stage",
        "complete",
        "Every word of the risk gate.",
    ),
    Topic(
        RISK_LIMITS,
        "scope|scope_id",
        (risk.SetLimits,),
        1,
        _KEEP,
        True,
        "account stage",
        "state",
        "Limits by scope, as applied.",
    ),
    Topic(
        RISK_BREAKER,
        "scope|scope_id",
        (risk.BreakerChanged,),
        1,
        _KEEP,
        True,
        "account stage",
        "state",
        "Breaker state by scope.",
    ),
    Topic(
        PORTFOLIO_POSITIONS,
        "account_id",
        (portfolio.PositionChanged,),
        4,
        _KEEP,
        False,
        "account stage",
        "state",
        "Positions by account, strategy and instrument.",
    ),
    Topic(
        PORTFOLIO_ACCOUNTS,
        "account_id",
        (portfolio.AccountSnapshot,),
        4,
        _KEEP,
        False,
        "account stage",
        "conflated",
        "Accounts and strategies, marked to market.",
    ),
    Topic(
        PORTFOLIO_EQUITY,
        "account_id",
        (portfolio.EquityMark,),
        4,
        _KEEP,
        False,
        "account stage",
        "conflated",
        "Equity of accounts and strategies, one point a mark.",
    ),
    Topic(
        REFERENCE_INSTRUMENTS,
        "instrument_id",
        (instruments.Instrument,),
        1,
        _KEEP,
        # The order log names its records, and a part that is rebuilt needs every one of them.
        False,
        "operators",
        "state",
        "Definitions of instruments.",
    ),
    Topic(
        REFERENCE_ACTIONS,
        "instrument_id",
        (instruments.CorporateAction,),
        1,
        _KEEP,
        False,
        "operators",
        "complete",
        "Splits, dividends, symbol changes.",
    ),
    Topic(
        REFERENCE_RATES,
        "base_currency",
        (instruments.ExchangeRate,),
        1,
        _KEEP,
        False,
        "feeds",
        "conflated",
        "Exchange rates.",
    ),
    Topic(
        CONTROL_CONFIG,
        "name",
        (control.ConfigChanged,),
        1,
        _KEEP,
        True,
        "operators",
        "state",
        "Changes of configuration.",
    ),
    Topic(
        BACKTEST_REQUESTS,
        "task_id",
        (control.BacktestRequest, control.BacktestCancel, control.ParityRequest),
        1,
        _KEEP,
        False,
        "web",
        "complete",
        "Requests for backtests, cancels of them, and requests for comparisons.",
    ),
    Topic(
        BACKTEST_PROGRESS,
        "task_id",
        (control.BacktestProgress,),
        1,
        _WEEK,
        False,
        "backtest agent",
        "conflated",
        "How far backtests have come.",
    ),
    Topic(
        BACKTEST_RESULTS,
        "task_id",
        (control.BacktestResult, control.ParityResult),
        1,
        _KEEP,
        False,
        "backtest agent",
        "complete",
        "Finished backtests and comparisons.",
    ),
    Topic(
        SYSTEM_RUNS,
        "run_id",
        (control.RunManifest,),
        1,
        _KEEP,
        False,
        "runners",
        "complete",
        "Manifests of runs and their segments.",
    ),
    Topic(
        SYSTEM_ORDER_LOG,
        "stage|instance",
        (control.OrderLogEntry,),
        8,
        _KEEP,
        False,
        "runners",
        "complete",
        "The order in which stages consumed their inputs.",
    ),
    Topic(
        SYSTEM_SNAPSHOTS,
        "stage|instance|processor_version",
        (control.StageSnapshot,),
        4,
        _KEEP,
        True,
        "runners",
        "state",
        "States of stages, the newest of each version.",
    ),
    Topic(
        SYSTEM_DEAD_LETTERS,
        "topic",
        (control.DeadLetter,),
        1,
        _KEEP,
        False,
        "all stages",
        "complete",
        "Records that could not be used, with the reason.",
    ),
    Topic(
        SYSTEM_AUDIT,
        "operator",
        (control.ApiWrite,),
        1,
        _KEEP,
        False,
        "web app",
        "complete",
        "Every change that somebody asked for over HTTP, refused ones too.",
    ),
)

TOPIC_BY_NAME: dict[str, Topic] = {topic.name: topic for topic in CATALOGUE}
_KEY_FIELDS = {topic.name: tuple(topic.key.split("|")) for topic in CATALOGUE}


def key_of(topic: str, record: Any) -> str:
    """Return a record's key on Kafka; a field that it does not have is empty."""
    if topic == ACCOUNT_INPUTS and getattr(record, "scope", None) is Scope.ACCOUNT:
        return str(record.scope_id)
    fields = _KEY_FIELDS[topic]
    if len(fields) == 1:
        return str(getattr(record, fields[0], ""))
    return "|".join([str(getattr(record, field, "")) for field in fields])


def goes_everywhere(topic: str, record: Any) -> bool:
    """Return whether a record is for every partition of its topic, not for its key's.

    On ``account.inputs`` what names no account concerns all accounts; a command for one account's
    scope does name it. On ``market.events`` time and definitions concern all instruments.
    """
    if topic == MARKET_EVENTS:
        return isinstance(record, market_data.Watermark | instruments.Instrument)
    return (
        topic == ACCOUNT_INPUTS
        and not hasattr(record, "account_id")
        and getattr(record, "scope", None) is not Scope.ACCOUNT
    )
