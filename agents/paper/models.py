"""The venue's models: slippage in ticks, fee in money, latency in ns. Each answers one question, exactly."""

from __future__ import annotations

from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from agents.paper.config import (
    BasisPointFee,
    BasisPointSlippage,
    Fee,
    Latency,
    MakerTakerFee,
    PerShareFee,
    Slippage,
    SpreadSlippage,
    TickSlippage,
)
from schemas.enums import LiquiditySide
from schemas.identifiers import derived_base


_TEN_THOUSAND = Decimal(10_000)

SlippageModel = Callable[[int, int], int]
"""(price in ticks, quoted spread in ticks) -> ticks against the order, 0 or more."""

FeeModel = Callable[[Decimal, Decimal, LiquiditySide, Decimal, Decimal], Decimal]
"""(value traded, quantity, liquidity, order's quantity before, order's fees before) -> fee, positive when paid."""


def slippage_model(config: Slippage) -> SlippageModel | None:
    """Return the slippage function of ``config``; None is no slippage."""
    if isinstance(config, TickSlippage):
        ticks = config.ticks
        return lambda price, spread: ticks
    if isinstance(config, BasisPointSlippage):
        rate = config.basis_points / _TEN_THOUSAND
        return lambda price, spread: int((price * rate).to_integral_value(ROUND_CEILING))
    if isinstance(config, SpreadSlippage):
        share = config.share
        return lambda price, spread: int((max(spread, 0) * share).to_integral_value(ROUND_CEILING))
    return None


def fee_model(config: Fee) -> FeeModel | None:
    """Return the fee function of ``config``; None is no fee."""
    if isinstance(config, PerShareFee):
        rate, minimum = config.rate, config.minimum
        return lambda value, quantity, side, before, paid: max(rate * (before + quantity), minimum) - paid
    if isinstance(config, BasisPointFee):
        share = config.basis_points / _TEN_THOUSAND
        return lambda value, quantity, side, before, paid: value * share
    if isinstance(config, MakerTakerFee):
        maker = config.maker_basis_points / _TEN_THOUSAND
        taker = config.taker_basis_points / _TEN_THOUSAND
        return lambda value, quantity, side, before, paid: value * (
            maker if side is LiquiditySide.MAKER else taker
        )
    return None


def latency_ns(config: Latency, kind_ns: int, seed: int, command_id: str) -> int:
    """Return the latency of one command; its jitter depends on seed and command alone."""
    if not config.jitter_ns:
        return kind_ns
    draw = int(derived_base(f"latency:{seed}", command_id)[:12], 16)
    return kind_ns + draw * (config.jitter_ns + 1) // 16**12


def allowance(participation: Decimal | None, size_units: int) -> int | None:
    """Return how many units orders may take of an event of ``size_units``; None is no bound."""
    if participation is None:
        return None
    return int((participation * size_units).to_integral_value(ROUND_FLOOR))


