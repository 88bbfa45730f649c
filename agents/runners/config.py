"""What an engine is told to do, and what it saves: the structs of ``agents.runners.engine``."""

from __future__ import annotations

import msgspec

from agents.account.config import AccountStageConfig
from agents.market.config import MarketConfig
from agents.strategy.config import StrategyConfig
from agents.venue.config import VenueConfig


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what comes out of a run, but for the data."""

    accounts: AccountStageConfig
    strategies: tuple[StrategyConfig, ...] = ()
    market: MarketConfig = MarketConfig()
    venue: VenueConfig = VenueConfig()
    seed: int = 0


class EngineState(msgspec.Struct):
    """The snapshot of an engine: those of its stages, and how far it came."""

    market: msgspec.Raw
    venue: msgspec.Raw
    account: msgspec.Raw
    strategy: msgspec.Raw
    events: int
    clock_ns: int
    is_started: bool


def nested(state: msgspec.Raw) -> bytes:
    """Return a state that is part of another; older journals have it as a text within the text."""
    value = bytes(state)
    return msgspec.json.decode(value, type=str).encode() if value.startswith(b'"') else value
