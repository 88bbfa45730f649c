"""A strategy's own attributes in a form that JSON holds, and back: they survive a restart.

What JSON has stands as it is, but for NaN and infinities. Everything else becomes a dict with one
key: ``$state`` for objects with ``snapshot`` and ``restore`` (indicators), which ``on_start`` makes
anew, and a name for each other type below.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np

from agents.strategy.api import Strategy
from schemas.errors import ConfigError

_PLAIN = (bool, int, str, type(None))


def saved(strategy: Strategy) -> dict[str, Any]:
    """Return the attributes that are not the engine's; raises ConfigError for what cannot be."""
    found: dict[str, Any] = {}
    for name, value in vars(strategy).items():
        if name != "_view" and name not in type(strategy).parameters:
            found[name] = _plain(value, f"{type(strategy).__name__}.{name}")
    return found


def set_again(strategy: Strategy, attributes: dict[str, Any]) -> None:
    """Set attributes that ``saved`` gave, after ``on_start`` has made the objects among them."""
    for name, value in attributes.items():
        setattr(strategy, name, _object(value, getattr(strategy, name, None)))


def _plain(value: Any, path: str) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if type(value) in _PLAIN:
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"$float": repr(value)}
    if type(value) is list:
        return [_plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
    if type(value) is dict:
        return _dict(value, path)
    if callable(getattr(value, "snapshot", None)) and callable(getattr(value, "restore", None)):
        return {"$state": value.snapshot()}
    if isinstance(value, Decimal):
        return {"$decimal": str(value)}
    if type(value) is tuple:
        return {"$tuple": [_plain(item, path) for item in value]}
    if isinstance(value, deque):
        return {"$deque": [[_plain(item, path) for item in value], value.maxlen]}
    if isinstance(value, (set, frozenset)):
        # Sorted by their text: the order of a set differs between processes.
        items = sorted((_plain(item, path) for item in value), key=repr)
        return {"$set": items}
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        items = [_plain(item, path) for item in value.ravel().tolist()]
        return {"$array": [value.dtype.str, list(value.shape), items]}
    raise ConfigError(
        f"an attribute of a strategy cannot be saved: {type(value).__name__}",
        field="attribute",
        value=path,
        remedy="keep numbers, texts, lists, dicts, arrays or indicators in it",
    )


def _dict(value: dict[Any, Any], path: str) -> Any:
    if all(type(key) is str and not key.startswith("$") for key in value):
        return {key: _plain(item, f"{path}[{key!r}]") for key, item in value.items()}
    pairs = [[_plain(key, path), _plain(item, f"{path}[{key!r}]")] for key, item in value.items()]
    return {"$dict": pairs}


def _object(value: Any, there: Any) -> Any:
    """Return what ``_plain`` made ``value`` of; ``there`` is what ``on_start`` made for it."""
    if type(value) is list:
        made = there if type(there) is list else []
        return [_object(v, made[i] if i < len(made) else None) for i, v in enumerate(value)]
    if type(value) is not dict:
        return value
    if len(value) == 1:
        ((tag, content),) = value.items()
        if tag == "$state":
            there.restore(content)
            return there
        if tag in _MAKERS:
            return _MAKERS[tag](content, there)
    known = there if type(there) is dict else {}
    return {key: _object(item, known.get(key)) for key, item in value.items()}


def _items(content: list[Any]) -> list[Any]:
    return [_object(item, None) for item in content]


def _array(content: list[Any], _: Any) -> Any:
    dtype, shape, items = content
    return np.array(_items(items), np.dtype(dtype)).reshape(shape)


def _pairs(content: list[Any], there: Any) -> Any:
    known = there if type(there) is dict else {}
    made = ((_object(key, None), value) for key, value in content)
    return {key: _object(value, known.get(key)) for key, value in made}


_MAKERS: dict[str, Callable[[Any, Any], Any]] = {
    "$float": lambda content, _: float(content),
    "$decimal": lambda content, _: Decimal(content),
    "$tuple": lambda content, _: tuple(_items(content)),
    "$deque": lambda content, _: deque(_items(content[0]), content[1]),
    "$set": lambda content, _: set(_items(content)),
    "$array": _array,
    "$dict": _pairs,
}
