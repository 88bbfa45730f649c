"""The closed vocabularies of the records: sides, kinds, states, reasons.

They are plain string enums, so the wire shows words and Python shows constants.
"""

from __future__ import annotations

from enum import StrEnum


class Side(StrEnum):
    """Side of an order or of a fill."""

    BUY = "BUY"
    SELL = "SELL"


class OrderType(StrEnum):
    """How an order is priced."""

    MARKET = "MARKET"
    LIMIT = "LIMIT"
    STOP = "STOP"
    STOP_LIMIT = "STOP_LIMIT"


class TimeInForce(StrEnum):
    """How long an order stands."""

    DAY = "DAY"
    GTC = "GTC"
    IOC = "IOC"
    FOK = "FOK"


class OrderStatus(StrEnum):
    """Where an order stands in its life."""

    INITIALIZED = "INITIALIZED"
    PENDING_APPROVAL = "PENDING_APPROVAL"
    DENIED = "DENIED"
    SUBMITTED = "SUBMITTED"
    ACCEPTED = "ACCEPTED"
    TRIGGERED = "TRIGGERED"
    PARTIALLY_FILLED = "PARTIALLY_FILLED"
    FILLED = "FILLED"
    PENDING_CANCEL = "PENDING_CANCEL"
    CANCELED = "CANCELED"
    EXPIRED = "EXPIRED"
    REJECTED = "REJECTED"
    UNKNOWN = "UNKNOWN"


class LiquiditySide(StrEnum):
    """Whether a fill took or made liquidity."""

    TAKER = "TAKER"
    MAKER = "MAKER"


class InstrumentKind(StrEnum):
    """What an instrument is."""

    EQUITY = "EQUITY"
    ETF = "ETF"
    FUTURE = "FUTURE"
    FX = "FX"
    CRYPTO = "CRYPTO"


class InstrumentState(StrEnum):
    """Whether a venue trades an instrument just now."""

    OPEN = "OPEN"
    HALTED = "HALTED"
    CLOSED = "CLOSED"


class CorporateActionKind(StrEnum):
    """What a company did to its shares."""

    SPLIT = "SPLIT"
    DIVIDEND = "DIVIDEND"
    SYMBOL_CHANGE = "SYMBOL_CHANGE"


class BreakerState(StrEnum):
    """State of the circuit breaker; the order is the order of strictness."""

    ACTIVE = "ACTIVE"
    REDUCING = "REDUCING"
    HALTED = "HALTED"


class Scope(StrEnum):
    """What a limit or a breaker is about; narrower scopes come later."""

    GLOBAL = "GLOBAL"
    ACCOUNT = "ACCOUNT"
    STRATEGY = "STRATEGY"
    INSTRUMENT = "INSTRUMENT"


class AutonomyMode(StrEnum):
    """Who lets an order go: the engine, a person, or nobody."""

    AUTOMATIC = "AUTOMATIC"
    SEMI_AUTOMATIC = "SEMI_AUTOMATIC"
    OBSERVE_ONLY = "OBSERVE_ONLY"


class AccountKind(StrEnum):
    """How an account may borrow."""

    CASH = "CASH"
    REG_T = "REG_T"


class StrategyAction(StrEnum):
    """What a strategy is told to do."""

    START = "START"
    STOP = "STOP"
    PAUSE = "PAUSE"
    RESUME = "RESUME"
    SET_PARAMETERS = "SET_PARAMETERS"


class StrategyStatus(StrEnum):
    """What a strategy is doing."""

    WARMING_UP = "WARMING_UP"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    STOPPED = "STOPPED"
    FAILED = "FAILED"


class KillAction(StrEnum):
    """The three different acts of stopping."""

    STOP_ENTRIES = "STOP_ENTRIES"
    CANCEL_ALL = "CANCEL_ALL"
    FLATTEN = "FLATTEN"


class ReceiptOutcome(StrEnum):
    """What became of a command at the door of its stage."""

    ACCEPTED = "ACCEPTED"
    DUPLICATE = "DUPLICATE"
    CONFLICT = "CONFLICT"
    REFUSED = "REFUSED"


class QualityKind(StrEnum):
    """What is wrong with market data."""

    GAP = "GAP"
    OUT_OF_ORDER = "OUT_OF_ORDER"
    CROSSED = "CROSSED"
    JUMP = "JUMP"
    LATE = "LATE"
    INVALID = "INVALID"
    OFF_GRID = "OFF_GRID"


class RunStatus(StrEnum):
    """How far a backtest has come."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELED = "CANCELED"
