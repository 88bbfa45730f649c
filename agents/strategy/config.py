"""How a strategy is set up in a run."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from agents.strategy.parameters import ParameterValue


class StrategyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One strategy of a run.

    ``on`` is what drives it: "trade", "quote" or a bar interval such as "1m". ``capital`` is what
    it begins with, of which each instrument of the array form has an equal share. Before
    ``trade_from_ns`` the strategy warms up: the same code runs, its orders are withheld.
    """

    strategy_id: str
    name: str
    account_id: str
    instrument_ids: tuple[str, ...]
    on: str = "trade"
    capital: Decimal = Decimal(10000)
    parameters: dict[str, ParameterValue] = {}
    trade_from_ns: int = 0

    @property
    def short_name(self) -> str:
        """The name without the hash of its source, which that of a strategy of a file has."""
        return self.name.partition("@")[0]
