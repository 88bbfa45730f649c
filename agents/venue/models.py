"""The venue's models: slippage, fee, latency, participation. Each answers one question, exactly.

A model is a struct of its settings with one method. Configuration chooses by the field ``type``:

    slippage       none | ticks | basis_points | spread_share     how many ticks against the order?
    fee            none | per_share | basis_points | maker_taker  what does this execution cost?
    latency        one                                            when does a command take effect?
    participation  a share (``Share``)                            what may orders take of an event?

Slippage is rounded against the order to a whole price increment. Fees are exact products.
"""

from __future__ import annotations

from decimal import Decimal

import msgspec

from schemas.errors import ConfigError
from schemas.identifiers import derived_base
from schemas.values import ZERO

TEN_THOUSAND = Decimal(10_000)
_DRAWS = 16**12


class Share:
    """A share of integers, rounded without error; the decimal context plays no part in it."""

    __slots__ = ("_denominator", "_numerator")

    def __init__(self, share: Decimal, divisor: int = 1) -> None:
        numerator, denominator = share.as_integer_ratio()
        self._numerator, self._denominator = numerator, denominator * divisor

    def floor(self, amount: int) -> int:
        """Return the share of ``amount``, rounded down."""
        return amount * self._numerator // self._denominator

    def ceiling(self, amount: int) -> int:
        """Return the share of ``amount``, rounded up."""
        return -(-amount * self._numerator // self._denominator)


class NoSlippage(msgspec.Struct, frozen=True, tag="none"):
    """Fills at the event's price."""

    def against(self, price: int, spread: int) -> int:
        """Return the ticks that an order pays beyond ``price``."""
        return 0


class TickSlippage(msgspec.Struct, frozen=True, tag="ticks"):
    """A fixed number of price increments, against the order."""

    ticks: int

    def __post_init__(self) -> None:
        _not_negative("venue.slippage.ticks", self.ticks)

    def against(self, price: int, spread: int) -> int:
        """Return the ticks that an order pays beyond ``price``."""
        return self.ticks


class BasisPointSlippage(msgspec.Struct, frozen=True, tag="basis_points"):
    """A share of the price in 1/10,000, rounded up to a whole increment."""

    basis_points: Decimal

    def __post_init__(self) -> None:
        _not_negative("venue.slippage.basis_points", self.basis_points)

    def against(self, price: int, spread: int) -> int:
        """Return the ticks that an order pays beyond ``price`` (ticks)."""
        return Share(self.basis_points, 10_000).ceiling(price)


class SpreadSlippage(msgspec.Struct, frozen=True, tag="spread_share"):
    """A share of the quoted spread, rounded up to a whole increment; 0 where there is no spread."""

    share: Decimal

    def __post_init__(self) -> None:
        _not_negative("venue.slippage.share", self.share)

    def against(self, price: int, spread: int) -> int:
        """Return the ticks that an order pays beyond ``price``; ``spread`` is in ticks."""
        return Share(self.share).ceiling(max(spread, 0))


Slippage = NoSlippage | TickSlippage | BasisPointSlippage | SpreadSlippage


class Execution(msgspec.Struct, gc=False):
    """What a fee is charged for.

    ``notional`` is quantity times price times multiplier; ``filled_before`` and ``paid_before`` are
    the order's quantity and fees before this execution.
    """

    notional: Decimal
    quantity: Decimal
    filled_before: Decimal
    paid_before: Decimal
    is_maker: bool


class NoFee(msgspec.Struct, frozen=True, tag="none"):
    """No fee."""

    def of(self, execution: Execution) -> Decimal:
        """Return the fee, positive when paid."""
        return ZERO


class PerShareFee(msgspec.Struct, frozen=True, tag="per_share"):
    """``rate`` a unit, at least ``minimum`` an order: charged at once, credited to later fills."""

    rate: Decimal
    minimum: Decimal = ZERO

    def __post_init__(self) -> None:
        _not_negative("venue.fee.rate", self.rate)
        _not_negative("venue.fee.minimum", self.minimum)

    def of(self, execution: Execution) -> Decimal:
        """Return the fee, positive when paid: what the order owes in all less what it paid."""
        owed = self.rate * (execution.filled_before + execution.quantity)
        return max(owed, self.minimum) - execution.paid_before


class BasisPointFee(msgspec.Struct, frozen=True, tag="basis_points"):
    """A share of the value traded, in 1/10,000."""

    basis_points: Decimal

    def of(self, execution: Execution) -> Decimal:
        """Return the fee, positive when paid."""
        return execution.notional * self.basis_points / TEN_THOUSAND


class MakerTakerFee(msgspec.Struct, frozen=True, tag="maker_taker"):
    """Shares of the value traded in 1/10,000, by liquidity; a negative rate is a rebate."""

    maker_basis_points: Decimal
    taker_basis_points: Decimal

    def of(self, execution: Execution) -> Decimal:
        """Return the fee, positive when paid."""
        rate = self.maker_basis_points if execution.is_maker else self.taker_basis_points
        return execution.notional * rate / TEN_THOUSAND


Fee = NoFee | PerShareFee | BasisPointFee | MakerTakerFee


class Latency(msgspec.Struct, frozen=True):
    """Time from a command to its effect at the venue, ns.

    ``jitter_ns`` adds 0 to that much. It is drawn by a hash of seed and order, once for all
    commands of an order, so commands of one kind never overtake each other.
    """

    submit_ns: int = 0
    replace_ns: int = 0
    cancel_ns: int = 0
    jitter_ns: int = 0

    def __post_init__(self) -> None:
        for name in self.__struct_fields__:
            _not_negative(f"venue.latency.{name}", getattr(self, name))

    def jitter(self, seed: int, order_key: str) -> int:
        """Return the order's draw, ns."""
        if not self.jitter_ns:
            return 0
        draw = int(derived_base(f"latency:{seed}", order_key)[:12], 16)
        return draw * (self.jitter_ns + 1) // _DRAWS


def _not_negative(field: str, value: int | Decimal) -> None:
    # What is no number at all compares with none.
    if (isinstance(value, Decimal) and value.is_nan()) or value < 0:
        raise ConfigError(
            "a venue setting must not be negative",
            field=field,
            value=str(value),
            remedy="give 0 or more",
        )
