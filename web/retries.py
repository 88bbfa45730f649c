"""Which dead letters this process has written again, or is writing: each is written once."""

from __future__ import annotations

_KEPT_MAX = 2_000
"""Twice the letters that the read models keep: whoever leaves here is not listed any more."""


class Retries:
    """Ids of letters in the order in which they were taken; the oldest are let go of."""

    def __init__(self, kept_max: int = _KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._ids: dict[str, None] = {}

    def __contains__(self, letter_id: str) -> bool:
        """Return whether a letter was taken."""
        return letter_id in self._ids

    def take(self, letter_id: str) -> bool:
        """Take a letter for writing; return False if somebody has."""
        if letter_id in self._ids:
            return False
        self._ids[letter_id] = None
        if len(self._ids) > self._kept_max:
            del self._ids[next(iter(self._ids))]
        return True

    def release(self, letter_id: str) -> None:
        """Let a letter be taken again: nothing was written."""
        self._ids.pop(letter_id, None)
