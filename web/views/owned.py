"""A dict as some accounts may see it: whose keys begin with another account are not there.

A key that is bound to accounts gets read models of its own with every request. A copy would cost as
much as the run is long, whatever is asked for; this costs when it is read, and what is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

_Key = TypeVar("_Key", bound=tuple[str, ...])
_Value = TypeVar("_Value")


class Owned(Mapping[_Key, _Value]):
    """The part of ``whole`` that is of ``accounts``; it follows ``whole``."""

    def __init__(self, whole: Mapping[_Key, _Value], accounts: frozenset[str]) -> None:
        self._whole = whole
        self._accounts = accounts

    def __getitem__(self, key: _Key) -> _Value:
        if key[0] not in self._accounts:
            raise KeyError(key)
        return self._whole[key]

    def __iter__(self) -> Iterator[_Key]:
        return (key for key in self._whole if key[0] in self._accounts)

    def __len__(self) -> int:
        return sum(1 for _ in self)
