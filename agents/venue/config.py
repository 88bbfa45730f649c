"""Which models and rules the paper venue works by."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from agents.venue.models import (
    BasisPointFee,
    BasisPointSlippage,
    Fee,
    Latency,
    MakerTakerFee,
    NoFee,
    NoSlippage,
    PerShareFee,
    Slippage,
    SpreadSlippage,
    TickSlippage,
)
from schemas.errors import ConfigError
from schemas.market_data import INTERVALS

TRADE, QUOTE, BAR = "trade", "quote", "bar"
"""The tiers: which data fills orders."""

TOUCH, THROUGH = "touch", "through"


class VenueConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The paper venue's settings.

    ``execution_data``: which data fills orders, "trade", "quote" or "bar";
    ``execution_by_instrument`` overrides it. ``bar_interval``: bars of this interval fill orders;
    empty takes every bar, which is right where an instrument has bars of one interval only.
    ``limit_fill``: a limit order fills when the price "touch"es it or only when it goes "through".
    ``participation``: the share of an event's size that orders may take together; None is no bound.
    ``seed`` feeds the latency's jitter. Raises ConfigError for a value that does not exist.
    """

    execution_data: str = TRADE
    execution_by_instrument: dict[str, str] = {}
    bar_interval: str = ""
    limit_fill: str = TOUCH
    participation: Decimal | None = None
    slippage: Slippage = NoSlippage()
    fee: Fee = NoFee()
    latency: Latency = Latency()
    seed: int = 0

    def __post_init__(self) -> None:
        tiers = (TRADE, QUOTE, BAR)
        _check("venue.execution_data", self.execution_data, tiers)
        for instrument_id, tier in self.execution_by_instrument.items():
            _check(f"venue.execution_by_instrument.{instrument_id}", tier, tiers)
        _check("venue.bar_interval", self.bar_interval, ("", *INTERVALS))
        _check("venue.limit_fill", self.limit_fill, (TOUCH, THROUGH))
        if self.participation is not None and not 0 < self.participation <= 1:
            raise ConfigError(
                "participation is a share",
                field="venue.participation",
                value=str(self.participation),
                remedy="give more than 0 and at most 1, or leave it out for no bound",
            )

    def tier(self, instrument_id: str) -> str:
        """Return which data fills the orders of an instrument."""
        return self.execution_by_instrument.get(instrument_id, self.execution_data)


def _check(field: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(
            "a venue setting has no such choice",
            field=field,
            value=value,
            remedy=f"choose {' or '.join(choice for choice in choices if choice)}",
        )


__all__ = [
    "BAR",
    "QUOTE",
    "THROUGH",
    "TOUCH",
    "TRADE",
    "BasisPointFee",
    "BasisPointSlippage",
    "Fee",
    "Latency",
    "MakerTakerFee",
    "NoFee",
    "NoSlippage",
    "PerShareFee",
    "Slippage",
    "SpreadSlippage",
    "TickSlippage",
    "VenueConfig",
]
