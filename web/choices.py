"""What a field of a request may be, where that is one of a few names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec.inspect as inspect


def choices(kind: Any, steps: Sequence[str]) -> list[str]:
    """Return the names that the field at ``steps`` of type ``kind`` chooses from, else nothing."""
    found = _members(inspect.type_info(kind))
    for step in steps:
        found = [inner for outer in found for inner in _below(outer, step)]
    return list(dict.fromkeys(name for item in found for name in _names(item)))


def _members(kind: inspect.Type) -> list[inspect.Type]:
    return list(kind.types) if isinstance(kind, inspect.UnionType) else [kind]


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
