"""The one place that converts between float64 columns, grid integers and Decimal.

Market data arrives as float64. Orders, fills, positions and cash are ``Decimal`` on the
instrument's grid. Between them stands the grid: an integer number of price increments (ticks) or
quantity increments (lots). All rounding of prices and quantities happens here and nowhere else;
money is never rounded, it is a sum of exact products.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Context, Decimal, DecimalException, localcontext

import numpy as np
import numpy.typing as npt

from schemas.errors import ConfigError, DataError

MONEY_CONTEXT = Context(prec=38, rounding=ROUND_HALF_EVEN)
"""Precision of all money arithmetic.

38 digits, enough that products and sums of realistic amounts are exact.
"""

_SPLIT_PLACES = 9
ZERO = Decimal(0)
ONE = Decimal(1)

MONEY_PLACES = 6
"""Decimal places to which a float64 amount of money can be relied on."""

_INCREMENT_LEAST, _INCREMENT_MOST = Decimal("1E-18"), Decimal("1E+9")
_LEAST = Decimal("1E-12")
_PLACES_LEAST = -12
_WIDE = Context(prec=999, rounding=ROUND_HALF_EVEN)


class Grid:
    """An increment, and the conversions to and from integers of it.

    ``increment`` must be a Decimal from 1E-18 to 1E+9. ``scale`` is the float by which grid
    integers are divided when the increment is a power of ten (the division is correctly rounded, so
    a column converts back exactly).
    """

    __slots__ = ("_divisor", "_factor", "increment", "places")

    def __init__(self, increment: Decimal) -> None:
        if not (increment.is_finite() and _INCREMENT_LEAST <= increment <= _INCREMENT_MOST):
            raise ConfigError(
                "an increment must be a positive number of a sensible size",
                field="increment",
                value=str(increment),
                remedy="give a price or quantity increment such as 0.01",
            )
        self.increment = increment
        exponent = increment.as_tuple().exponent
        self.places = max(0, -int(exponent))
        # increment = numerator / divisor with both exact in float64 for every realistic grid.
        self._divisor = float(10**self.places)
        self._factor = float(increment.scaleb(self.places))

    def __repr__(self) -> str:
        return f"Grid({self.increment})"

    def to_units(self, values: npt.NDArray[np.float64]) -> npt.NDArray[np.int64]:
        """Return float64 ``values`` as the nearest int64 grid units (half to even).

        Raises DataError if a value is not finite or too large for exact integers in float64 (2**53
        units).
        """
        scaled = values * self._divisor
        if self._factor != 1.0:
            scaled = scaled / self._factor
        units = np.rint(scaled)
        if units.size and not (np.abs(units).max() < 9007199254740992.0):
            bad = int(np.flatnonzero(~(np.abs(units) < 9007199254740992.0))[0])
            raise DataError(
                "a value does not fit the grid",
                field="value",
                value=float(values[bad]),
                remedy=f"check the price scale; the increment is {self.increment}",
            )
        return units.astype(np.int64)

    def to_unit(self, value: float) -> int:
        """Return one float as the nearest grid unit (half to even), as ``to_units`` does."""
        scaled = value * self._divisor
        if self._factor != 1.0:
            scaled = scaled / self._factor
        if not abs(scaled) < 9007199254740992.0:
            raise DataError(
                "a value does not fit the grid",
                field="value",
                value=value,
                remedy=f"check the price scale; the increment is {self.increment}",
            )
        return round(scaled)

    def nearest(self, value: float) -> Decimal:
        """Return one float as the nearest Decimal on the grid, as ``to_unit`` rounds it."""
        return self.to_unit(value) * self.increment

    def to_floats(self, units: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Return int64 grid ``units`` as float64 values."""
        return (units * self._factor / self._divisor).astype(np.float64, copy=False)

    def to_float(self, units: int) -> float:
        """Return one number of grid units as float64."""
        return units * self._factor / self._divisor

    def to_decimal(self, units: int) -> Decimal:
        """Return a number of grid units as an exact Decimal."""
        return units * self.increment

    def from_decimal(self, value: Decimal) -> int | None:
        """Return ``value`` in grid units, or None if it does not lie on the grid."""
        if not value.is_finite():
            return None
        try:
            units, rest = divmod(value, self.increment)
        except DecimalException:
            return None
        return None if rest else int(units)

    def holds(self, value: Decimal) -> bool:
        """Return whether ``value`` lies on the grid."""
        try:
            return not value % self.increment
        except DecimalException:
            return False

    def floor(self, value: Decimal) -> Decimal:
        """Return the largest multiple of the increment that is not above ``value``."""
        with localcontext(MONEY_CONTEXT):
            return (value // self.increment) * self.increment


def on_share_count(quantity: Decimal, ratio: Decimal, increment: Decimal) -> Decimal:
    """Return a quantity on the share count behind a split, before anything is cut to the grid.

    A ratio such as one third is no finite decimal. Without the rounding, to a billionth of the
    increment, 300 shares would become a little less than 100.
    """
    exponent = increment.scaleb(-_SPLIT_PLACES)
    return (quantity * ratio).quantize(exponent, context=MONEY_CONTEXT)


def from_float(value: float) -> Decimal:
    """Return a float64 as the Decimal it stands for: its 15 digits that can be relied on.

    A float64 holds 15 decimal digits; those behind are left by arithmetic, such as the last one of
    99193.92190000002.
    """
    return Decimal(format(value, ".15g"))


def money(value: float) -> Decimal:
    """Return a float64 amount of money, such as a mark's equity, as Decimal to 6 decimal places.

    It is the sum of larger amounts, so more of its last digits may be left by arithmetic than
    ``from_float`` takes off: 10.279999999995 of a strategy that moved thousands.
    """
    return from_float(tidy(value))


def tidy(value: float) -> float:
    """Return a float64 amount of money without the digits that arithmetic left, as ``money``."""
    return round(value, MONEY_PLACES)


def rounded(amount: Decimal) -> Decimal:
    """Return an amount to 12 decimal places, what is behind them left by a division."""
    return amount.quantize(_LEAST, context=_WIDE) if amount.is_finite() else amount


def amount_text(value: Decimal) -> str:
    """Return an amount as answers show it: never an exponent, at most 12 decimal places.

    Zeros at the end are left out from the third place on, so 165.10 stays and 1.25000 is 1.25.
    """
    if not value.is_finite():
        return str(value)
    text = format(rounded(value) if value.as_tuple().exponent < _PLACES_LEAST else value, "f")  # type: ignore[operator]
    whole, point, places = text.partition(".")
    kept = places.rstrip("0")
    text = f"{whole}{point}{kept.ljust(min(2, len(places)), '0')}"
    return text if value or not text.startswith("-") else text[1:]


def canonical(value: Decimal) -> Decimal:
    """Return the one form of a value: no exponent, no zeros at the end, no minus before a zero."""
    if not value.is_finite():
        return value
    whole, point, places = format(value, "f").partition(".")
    return Decimal(f"{whole}{point}{places.rstrip('0')}") if value else Decimal(0)


def decimal_text(value: Decimal) -> str:
    """Return ``value`` without exponent: the exact text that answers and tables show."""
    return format(value, "f")
