"""Declared parameters of strategies: typed, bounded, documented, checked before a run starts."""

from __future__ import annotations

import difflib
import math
from typing import Any, TypeVar, cast

from schemas.errors import ConfigError

_INT_MAX = 2**63
ParameterValue = bool | int | float | str
T = TypeVar("T", bool, int, float, str)


class Parameter:
    """One declared parameter: its default fixes its type.

    ``minimum`` and ``maximum`` are inclusive.
    """

    __slots__ = ("choices", "default", "description", "maximum", "minimum", "name")

    def __init__(
        self,
        default: ParameterValue,
        minimum: float | None,
        maximum: float | None,
        choices: tuple[str, ...],
        description: str,
    ) -> None:
        self.name = ""
        self.default = default
        self.minimum = minimum
        self.maximum = maximum
        self.choices = choices
        self.description = description

    def __set_name__(self, owner: type[object], name: str) -> None:
        self.name = name

    def check(self, value: object) -> ParameterValue:
        """Return ``value`` as this parameter's type; raise ConfigError if it does not fit."""
        kind = type(self.default)
        parsed = _parse(kind, value)
        if parsed is None:
            raise self._error(value, f"give a value of type {kind.__name__}")
        if isinstance(parsed, (int, float)) and not isinstance(parsed, bool):
            low, high = self.minimum, self.maximum
            if (
                (isinstance(parsed, int) and abs(parsed) >= _INT_MAX)
                or not math.isfinite(parsed)
                or (low is not None and parsed < low)
                or (high is not None and parsed > high)
            ):
                raise self._error(value, f"give a finite value {self.range_text()}".rstrip())
        if self.choices and parsed not in self.choices:
            raise self._error(value, f"choose one of {', '.join(self.choices)}")
        return parsed

    def range_text(self) -> str:
        """Return the range in words."""
        if self.choices:
            return f"of {', '.join(self.choices)}"
        low = "" if self.minimum is None else f"from {self.minimum:g}"
        high = "" if self.maximum is None else f"to {self.maximum:g}"
        return f"{low} {high}".strip()

    def _error(self, value: object, remedy: str) -> ConfigError:
        return ConfigError(
            "a strategy parameter cannot be used", field=self.name, value=value, remedy=remedy
        )


def _parse(kind: type[ParameterValue], value: object) -> ParameterValue | None:
    """Return ``value`` as ``kind``, reading text as a command line gives it.

    None if it does not fit.
    """
    if kind is str:
        return value if isinstance(value, str) else None
    if kind is bool:
        if isinstance(value, str):
            return {"true": True, "false": False, "1": True, "0": False}.get(value.lower())
        return value if isinstance(value, bool) else None
    if isinstance(value, bool):
        return None
    try:
        if kind is int:
            if isinstance(value, float) and not value.is_integer():
                return None
            return int(value)  # type: ignore[call-overload, no-any-return]
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def parameter(
    default: T,
    *,
    minimum: float | None = None,
    maximum: float | None = None,
    choices: tuple[str, ...] = (),
    description: str = "",
) -> T:
    """Declare a parameter in the body of a strategy class.

    The attribute then holds the value of the run.

    ``default`` fixes the type (bool, int, float or str); numbers may be bounded, texts limited to
    ``choices``.
    """
    declared = Parameter(default, minimum, maximum, choices, description)
    is_bounded = minimum is not None or maximum is not None
    if is_bounded and not isinstance(default, (int, float)):
        raise ConfigError(
            "a text has no bounds",
            field="parameter",
            value=default,
            remedy="give choices instead of minimum and maximum",
        )
    try:
        declared.check(default)
    except ConfigError as error:
        raise ConfigError(
            "the default of a parameter does not fit it",
            field="default",
            value=default,
            remedy=error.remedy,
        ) from error
    return cast(T, declared)


def collect(cls: type[object]) -> dict[str, Parameter]:
    """Return the parameters that a class and its bases declare, bases first."""
    return {
        name: value
        for base in reversed(cls.__mro__)
        for name, value in vars(base).items()
        if isinstance(value, Parameter)
    }


def resolve(
    declared: dict[str, Parameter], given: dict[str, Any], strategy: str
) -> dict[str, ParameterValue]:
    """Return the values of all declared parameters.

    Raise ConfigError for one that is unknown or does not fit.
    """
    for name, value in given.items():
        if name not in declared:
            near = difflib.get_close_matches(name, declared, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(
                f"strategy {strategy} has no such parameter",
                field=name,
                value=value,
                remedy=f"{hint}it has {', '.join(declared) or 'none'}",
            )
    return {
        name: declared[name].check(given[name]) if name in given else declared[name].default
        for name in declared
    }
