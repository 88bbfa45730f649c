"""What of a partition may be shown or stored, and why the rest may not: a rule that is handed in.

Stages make dead letters of records that they cannot use. Whoever shows or stores the same topics
must leave out the same ones, and is therefore given the stages' own decision as a ``Rule``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from schemas.codec import decode
from schemas.envelope import Header
from schemas.errors import RecordError


class Usable(NamedTuple):
    """Records with their offsets, in order, and the offsets of all others with the reason."""

    records: list[tuple[int, Header]]
    refused: list[tuple[int, str]]


class Rule(Protocol):
    """Decides over the records of partitions, each read in its order."""

    def take(
        self,
        topic: str,
        partition: int,
        arrived: Sequence[Any],
        partitions: int,
        *,
        is_past: bool = False,
    ) -> Usable:
        """Return which records, none of them a tombstone, are good.

        The topic has ``partitions`` partitions. ``is_past``: they stand in front of what was
        read before, and nothing is learned from them.
        """
        ...


class Readable:
    """The rule that everything is good that can be decoded."""

    def take(
        self,
        topic: str,
        partition: int,
        arrived: Sequence[Any],
        partitions: int,
        *,
        is_past: bool = False,
    ) -> Usable:
        """Return what can be decoded."""
        found = Usable([], [])
        for item in arrived:
            try:
                found.records.append((item.offset, decode(topic, item.value)))
            except RecordError as error:
                found.refused.append((item.offset, str(error)))
        return found


READABLE = Readable()
