"""What a worker of each stage reads through its consumer group, and how its parts are made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from agents.runners.config import EngineConfig
from agents.runners.kafka.parts.account import AccountPart
from agents.runners.kafka.parts.market import MarketPart
from agents.runners.kafka.parts.part import Part
from agents.runners.kafka.parts.reference import ReferencePart
from agents.runners.kafka.parts.strategy import StrategyPart
from agents.runners.kafka.parts.venue import VenuePart
from agents.strategy.api import Strategy
from schemas.instruments import Universe
from schemas.sessions import SessionTable
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_EVENTS,
    REFERENCE_TOPICS,
    STRATEGY_INPUTS,
    VENUE_COMMANDS,
)

Maker = Callable[[int, Universe, Mapping[str, int]], Part]


class StageSpec(NamedTuple):
    """One stage as a worker runs it.

    ``topics`` are shared out by partition to the workers of the group. ``is_recorded``: the order
    of its inputs is written to the order log.
    """

    name: str
    topics: tuple[str, ...]
    make: Maker
    is_recorded: bool


def stage_specs(
    config: EngineConfig,
    sessions: Mapping[str, SessionTable],
    classes: Mapping[str, type[Strategy]],
    reference_offsets: Mapping[str, int] = {},
) -> dict[str, StageSpec]:
    """Return every stage of the pipeline, by name.

    ``reference_offsets``: where the session begins on the reference topics.
    """
    specs = (
        StageSpec(
            "reference",
            REFERENCE_TOPICS,
            lambda p, u, counts: ReferencePart(p, u, counts, reference_offsets),
            True,
        ),
        StageSpec(
            "market",
            (MARKET_EVENTS,),
            lambda p, u, counts: MarketPart(p, u, counts, config.market, sessions),
            False,
        ),
        StageSpec(
            "venue",
            (MARKET_EVENTS, VENUE_COMMANDS),
            lambda p, u, counts: VenuePart(p, u, counts, config.venue, sessions),
            True,
        ),
        StageSpec(
            "account",
            (ACCOUNT_INPUTS,),
            lambda p, u, counts: AccountPart(p, u, counts, config.accounts, sessions),
            False,
        ),
        StageSpec(
            "strategy",
            (STRATEGY_INPUTS,),
            lambda p, u, counts: StrategyPart(p, u, counts, config.strategies, classes),
            True,
        ),
    )
    return {spec.name: spec for spec in specs}
