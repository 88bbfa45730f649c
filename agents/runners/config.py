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

    market: str
    venue: str
    account: str
    strategy: str
    events: int
    clock_ns: int
    is_started: bool
