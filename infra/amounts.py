"""Checks of the numbers in settings: what a type alone does not refuse.

A TOML file may hold ``nan``, ``inf`` and amounts that no account has; decoded they would pass as
numbers and end a run much later, at the first comparison.
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import msgspec

from schemas.errors import ConfigError

LARGEST = 10**15
"""Largest number of a setting; money beyond it would lose cents in float64 columns."""

PLACES_MAX = 38
"""Most decimal places of a setting; a float has no more unless it is next to nothing."""

_MAY_BE_NEGATIVE = frozenset({"seed", "maker_basis_points", "taker_basis_points"})


def check_numbers(settings: msgspec.Struct, prefix: str = "") -> None:
    """Check every number of a struct and of the structs within it.

    Raises ConfigError, with the path of the setting, for one that is not finite, too large, or
    negative where that means nothing.
    """
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        items: list[Any] = list(value) if isinstance(value, (tuple, list)) else [value]
        for item in items:
            if isinstance(item, msgspec.Struct):
                check_numbers(item, f"{prefix}{name}.")
            elif isinstance(item, (Decimal, float, int)) and not isinstance(item, bool):
                check_number(f"{prefix}{name}", item, can_be_negative=name in _MAY_BE_NEGATIVE)


def check_number(
    field: str, value: Decimal | float | int, *, can_be_negative: bool = False
) -> None:
    """Check one number; raises ConfigError that says which are allowed."""
    lowest = -LARGEST if can_be_negative else 0
    if isinstance(value, Decimal):
        is_finite = value.is_finite()
    else:
        is_finite = isinstance(value, int) or math.isfinite(value)
    if not (is_finite and lowest <= value <= LARGEST):
        raise ConfigError(
            "a number cannot be used",
            field=field,
            value=str(value),
            remedy=f"give one from {lowest:,} to {LARGEST:,}",
        )
    exponent = value.as_tuple().exponent if isinstance(value, Decimal) else 0
    if isinstance(exponent, int) and exponent < -PLACES_MAX:
        # Written out, 1E-999999999 would fill the memory.
        raise ConfigError(
            "a number has too many decimal places",
            field=field,
            value=str(value),
            remedy=f"give at most {PLACES_MAX}",
        )
