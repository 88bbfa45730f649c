"""One form for equal configurations: what is equal has one config hash, and one output."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from schemas.values import canonical

T = TypeVar("T")


def canonical_config(config: T) -> T:
    """Return a configuration with each Decimal in its one form: 1000 for 1000.0 and 1E+3.

    The digits of an amount reach what is computed from it, and so its texts.
    """
    found: T = _canonical(config)
    return found


def _canonical(value: Any) -> Any:
    if isinstance(value, Decimal):
        return canonical(value)
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **_canonical(fields))
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return type(value)(_canonical(item) for item in value)
    return value
