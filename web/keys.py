"""Which records of a topic are one thing at different times: the newest takes the others' place.

Conflated and state topics are thinned out by these keys, and snapshots hold one record for each.
"""

from __future__ import annotations

from schemas import topics as t
from schemas.envelope import Header

Key = tuple[str, ...]

_FIELDS: dict[str, tuple[str, ...]] = {
    t.MARKET_EVENTS: ("instrument_id", "interval"),
    t.MARKET_BARS: ("instrument_id", "interval"),
    t.MARKET_INDICATORS: ("instrument_id", "name"),
    t.STRATEGY_STATES: ("strategy_id",),
    t.RISK_LIMITS: ("scope", "scope_id"),
    t.RISK_BREAKER: ("scope", "scope_id"),
    t.PORTFOLIO_POSITIONS: ("account_id", "strategy_id", "instrument_id"),
    t.PORTFOLIO_ACCOUNTS: ("account_id", "strategy_id"),
    t.PORTFOLIO_EQUITY: ("account_id", "strategy_id"),
    t.REFERENCE_INSTRUMENTS: ("instrument_id",),
    t.REFERENCE_RATES: ("base_currency", "quote_currency"),
    t.CONTROL_CONFIG: ("name",),
    t.BACKTEST_PROGRESS: ("task_id",),
    t.SYSTEM_SNAPSHOTS: ("stage", "instance"),
}


def record_key(topic: str, record: Header) -> Key:
    """Return the key of a record: topic, record type, and the fields that name it."""
    fields = _FIELDS.get(topic, ())
    return (topic, type(record).__name__, *[str(getattr(record, name, "")) for name in fields])


def keyed_topics() -> frozenset[str]:
    """Return the topics that have a key of this kind."""
    return frozenset(_FIELDS)
