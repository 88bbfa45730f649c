"""What a request may hold: the names of its fields, and values that are of a few names."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec.inspect as inspect

_FIELDS_MAX = 15
_NAME_MAX = 60


def choices(kind: Any, steps: Sequence[str]) -> list[str]:
    """Return the names that the field at ``steps`` of type ``kind`` chooses from, else nothing."""
    return list(dict.fromkeys(name for item in _at(kind, steps) for name in _names(item)))


def bounds(kind: Any, steps: Sequence[str]) -> str:
    """Return what number the field at ``steps`` of type ``kind`` may be, empty if it is none."""
    found = [item for item in _at(kind, steps) if not isinstance(item, inspect.NoneType)]
    item = found[0] if len(found) == 1 else None
    if isinstance(item, inspect.DecimalType):
        return "a number"
    if not isinstance(item, (inspect.IntType, inspect.FloatType)):
        return ""
    ends = (("from", item.ge), ("above", item.gt), ("to", item.le), ("below", item.lt))
    told = " ".join(f"{word} {_plain(end)}" for word, end in ends if end is not None)
    what = "a whole number" if isinstance(item, inspect.IntType) else "a number"
    return f"{what} {told}".strip()


def _plain(end: float) -> str:
    return str(int(end)) if end == int(end) else str(end)


def instead_of(name: str, kind: Any, steps: Sequence[str]) -> str:
    """Return what to do about a field that what is at ``steps`` of type ``kind`` does not have."""
    known = [
        field.encode_name
        for item in _at(kind, steps)
        if isinstance(item, inspect.StructType)
        for field in item.fields
    ]
    # Comparing is slow for long names, and nobody mistypes one that much.
    near = difflib.get_close_matches(name, known, 1) if len(name) <= _NAME_MAX else []
    if near:
        return f"did you mean {near[0]}?"
    if not known:
        return "leave it out"
    more = ", ... (see /openapi.json)" if len(known) > _FIELDS_MAX else ""
    return f"leave it out, or use one of {', '.join(known[:_FIELDS_MAX])}{more}"


def _at(kind: Any, steps: Sequence[str]) -> list[inspect.Type]:
    """Return the types that may stand at ``steps`` of a type."""
    found = _members(inspect.type_info(kind))
    for step in steps:
        found = [inner for outer in found for inner in _below(outer, step)]
    return found


def _members(kind: inspect.Type) -> list[inspect.Type]:
    if isinstance(kind, inspect.Metadata):
        return _members(kind.type)
    if isinstance(kind, inspect.UnionType):
        return [member for inner in kind.types for member in _members(inner)]
    return [kind]


def _below(kind: inspect.Type, step: str) -> Iterator[inspect.Type]:
    """Yield what may stand one step below."""
    if isinstance(kind, inspect.StructType):
        for field in kind.fields:
            if field.encode_name == step:
                yield from _members(field.type)
    elif isinstance(kind, inspect.DictType):
        yield from _members(kind.value_type)
    elif isinstance(kind, inspect.CollectionType):
        yield from _members(kind.item_type)


def _names(kind: inspect.Type) -> Iterator[str]:
    if isinstance(kind, inspect.EnumType):
        yield from (str(member.value) for member in kind.cls)
    elif isinstance(kind, inspect.LiteralType):
        yield from map(str, kind.values)
