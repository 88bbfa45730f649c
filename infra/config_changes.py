"""What differs between two configurations of a run, so that a refused restart can name it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from agents.runners.config import EngineConfig

_TOLD_MAX = 3
_TEXT_MAX = 60


def changes(begun: EngineConfig, asked: EngineConfig) -> str:
    """Return the first values that differ, as ``name old, now new``; empty if none does."""
    found = list(_differing(msgspec.to_builtins(begun), msgspec.to_builtins(asked), ""))
    told = [f"{name} {_text(old)}, now {_text(new)}" for name, old, new in found[:_TOLD_MAX]]
    more = [f"and {len(found) - _TOLD_MAX} more"] if len(found) > _TOLD_MAX else []
    return "; ".join(told + more)


def _differing(old: Any, new: Any, name: str) -> Iterator[tuple[str, Any, Any]]:
    """Yield names and values of what differs, as deep down as it can be told."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _differing(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
    elif isinstance(old, (list, tuple)) and isinstance(new, (list, tuple)):
        if len(old) != len(new):
            yield name, f"{len(old)} of them", f"{len(new)} of them"
        for number, (one, other) in enumerate(zip(old, new, strict=False)):
            yield from _differing(one, other, f"{name}[{number}]")
    elif old != new:
        yield name, old, new


def _text(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _TEXT_MAX else f"{text[: _TEXT_MAX - 3]}..."
