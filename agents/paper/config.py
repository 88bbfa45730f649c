"""Which models and rules the paper venue works by."""

from __future__ import annotations

from decimal import Decimal

import msgspec


class NoSlippage(msgspec.Struct, frozen=True, tag="none"):
    """Fills at the event's price."""


class TickSlippage(msgspec.Struct, frozen=True, tag="ticks"):
    """A fixed number of price increments, against the order."""

    ticks: int


class BasisPointSlippage(msgspec.Struct, frozen=True, tag="basis_points"):
    """A share of the price in 1/10,000, rounded up to a whole increment."""

    basis_points: Decimal


class SpreadSlippage(msgspec.Struct, frozen=True, tag="spread_share"):
    """A share of the quoted spread, rounded up to a whole increment; 0 where there is no quote."""

    share: Decimal


Slippage = NoSlippage | TickSlippage | BasisPointSlippage | SpreadSlippage


class NoFee(msgspec.Struct, frozen=True, tag="none"):
    """No fee."""


class PerShareFee(msgspec.Struct, frozen=True, tag="per_share"):
    """``rate`` a unit, at least ``minimum`` an order (charged with its first fill and credited to later ones)."""

    rate: Decimal
    minimum: Decimal = Decimal(0)


class BasisPointFee(msgspec.Struct, frozen=True, tag="basis_points"):
    """A share of the value traded, in 1/10,000."""

    basis_points: Decimal


class MakerTakerFee(msgspec.Struct, frozen=True, tag="maker_taker"):
    """Shares of the value traded in 1/10,000, by liquidity; a negative maker rate is a rebate."""

    maker_basis_points: Decimal
    taker_basis_points: Decimal


Fee = NoFee | PerShareFee | BasisPointFee | MakerTakerFee


class Latency(msgspec.Struct, frozen=True):
    """Time from a command to its effect at the venue, ns; ``jitter_ns`` adds 0 to that much, drawn by hash of the order."""

    submit_ns: int = 0
    replace_ns: int = 0
    cancel_ns: int = 0
    jitter_ns: int = 0


class VenueConfig(msgspec.Struct, frozen=True, kw_only=True):
    """The paper venue's settings.

    ``execution_data``: which data fills orders, "trade", "quote" or "bar"; ``execution_by_instrument`` overrides it.
    ``limit_fill``: a resting limit order fills when the price "touch"es it or only when it goes "through".
    ``participation``: the share of an event's size that orders may take together; None is no bound.
    """

    execution_data: str = "trade"
    execution_by_instrument: dict[str, str] = {}
    limit_fill: str = "touch"
    participation: Decimal | None = None
    slippage: Slippage = NoSlippage()
    fee: Fee = NoFee()
    latency: Latency = Latency()
    seed: int = 0
