"""What a processor is: the pure, synchronous mind of an agent.

A processor reads batches of market data and single records, and writes records to publish into an
``Outbox``. It never reads a clock, makes no random id and does no I/O: time is the clock column of
the batch or the instant handed in. Its outputs are the same for every way of cutting its input into
batches.

Processors that react to feedback are driven by positions. The driver loads a batch, asks each for
the next position at which it would emit something, lets the one with the smallest position act,
routes what it emitted, and goes on; nothing is sliced for each step.
"""

from __future__ import annotations

from typing import Protocol

from schemas.columns import MarketBatch
from schemas.envelope import Header

Outbox = list[tuple[str, Header]]
"""Records to publish, as (topic, record), in the order in which they were made."""


class Snapshotting(Protocol):
    """State that can be carried over a restart."""

    def snapshot(self) -> bytes:
        """Return the whole state as bytes (JSON); equal states give equal bytes."""
        ...

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave."""
        ...


class PositionDriven(Snapshotting, Protocol):
    """A processor that acts at chosen positions of a batch."""

    def load(self, batch: MarketBatch) -> None:
        """Take a batch to work on; positions count from 0 in it."""
        ...

    def next(self) -> int:
        """Return the next position at which ``fire`` would emit, or ``len(batch)``."""
        ...

    def fire(self, pos: int, out: Outbox) -> None:
        """Do what is due at ``pos`` (a value that ``next`` returned)."""
        ...

    def end(self) -> None:
        """Carry over what later batches need; the batch is finished."""
        ...
