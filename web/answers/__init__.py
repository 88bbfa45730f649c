"""What the routes answer, as structs: money with its exact text, instants as text and ns.

One module for each subject. JavaScript rounds integers above 2**53, so every ``*_ns`` has an RFC
3339 twin beside it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from schemas.values import amount_text

_ENCODER = msgspec.json.Encoder()


def encode(answer: Any) -> bytes:
    """Return an answer as JSON, every Decimal a number written by ``amount_text``."""
    return _ENCODER.encode(_written(msgspec.to_builtins(answer, builtin_types=(Decimal,))))


def _written(node: Any) -> Any:
    """Return plain values with every Decimal as the JSON number that stands for it."""
    if isinstance(node, Decimal):
        return msgspec.Raw(amount_text(node).encode()) if node.is_finite() else None
    if isinstance(node, dict):
        return {key: _written(value) for key, value in node.items()}
    if isinstance(node, tuple):
        return [_written(value) for value in node]
    # Columns hold one kind of value, and long ones need not be walked for nothing.
    if isinstance(node, list) and node and not isinstance(node[0], (float, int, str)):
        return [_written(value) for value in node]
    return node
