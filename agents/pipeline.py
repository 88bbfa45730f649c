"""The pipeline as one table: stages, what they read and write, how their inputs are ordered.

Every runner is built from this table; nothing else differs between live on Kafka, live in one
process and replay.
"""

from __future__ import annotations

from typing import NamedTuple

from schemas import topics as t


class Stage(NamedTuple):
    """One unit of deployment: one agent, one consumer group, its processors in sequence.

    ``order``: how the order of its inputs is fixed: ``one partition`` (the partition is the
    sequencer) or ``recorded`` (an order log says which batch of which partition was consumed next).
    """

    name: str
    key: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    processors: tuple[str, ...]
    order: str


PIPELINE: tuple[Stage, ...] = (
    Stage(
        "reference",
        "instrument",
        t.REFERENCE_TOPICS,
        (t.MARKET_EVENTS, t.ACCOUNT_INPUTS),
        ("reference data",),
        "recorded",
    ),
    Stage(
        "market",
        "instrument",
        (t.MARKET_EVENTS,),
        (t.MARKET_BARS, t.MARKET_INDICATORS, t.MARKET_QUALITY, t.ACCOUNT_INPUTS),
        ("bars", "indicators", "quality", "reference prices"),
        "one partition",
    ),
    Stage(
        "venue",
        "instrument",
        (t.MARKET_EVENTS, t.VENUE_COMMANDS),
        (t.ACCOUNT_INPUTS,),
        ("paper venue",),
        "recorded",
    ),
    Stage(
        "account",
        "account",
        (t.ACCOUNT_INPUTS,),
        (
            t.ORDER_EVENTS,
            t.ORDER_FILLS,
            t.ORDER_RECEIPTS,
            t.RISK_DECISIONS,
            t.RISK_LIMITS,
            t.RISK_BREAKER,
            t.PORTFOLIO_POSITIONS,
            t.PORTFOLIO_ACCOUNTS,
            t.PORTFOLIO_EQUITY,
            t.VENUE_COMMANDS,
            t.STRATEGY_INPUTS,
            t.SYSTEM_DEAD_LETTERS,
        ),
        ("risk gate", "order manager", "portfolio"),
        "one partition",
    ),
    Stage(
        "strategy",
        "strategy",
        (t.MARKET_EVENTS, t.MARKET_BARS, t.STRATEGY_INPUTS),
        (t.ACCOUNT_INPUTS, t.STRATEGY_SIGNALS, t.STRATEGY_STATES),
        ("strategies",),
        "recorded",
    ),
)
"""In the order in which stages act on one event: data, fills, the account, strategies."""
