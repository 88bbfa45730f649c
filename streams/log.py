"""The port between a running engine and those who only read and write its topics.

A log has topics with offsets. Whoever listens gets every record that was published, once, in order,
after it is durable. In one process the journal is behind it; on Kafka, consumers and a producer
are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from schemas.envelope import Header


class Published(NamedTuple):
    """One record with the place it has in the log."""

    topic: str
    partition: int
    offset: int
    record: Header


Listener = Callable[[Sequence[Published]], None]


class Log(Protocol):
    """Read and write the topics of one run.

    ``epoch`` changes when offsets start anew (another run, a recreated topic): cursors of another
    epoch are void.
    """

    run_id: str
    epoch: str

    async def publish(self, topic: str, record: Header) -> None:
        """Publish one record; returns when it is durable.

        Raises StorageError if the log cannot take it, and TimeoutError if it does not within the
        log's deadline.
        """
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every group of published records from now on.

        Returns the way to stop it.
        """
        ...

    def read(self, topic: str, offset: int, limit: int) -> list[Published]:
        """Return up to ``limit`` records of ``topic`` from ``offset`` on."""
        ...

    def end_offset(self, topic: str) -> int:
        """Return the offset that the next record of ``topic`` will have."""
        ...

    def now_ns(self) -> int:
        """Return the time by which this log stamps incoming records (int64 ns UTC)."""
        ...


class SideLog(Protocol):
    """What an agent beside the stages needs of a log: to listen, and to publish without waiting."""

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every group of published records from now on."""
        ...

    def publish_side(self, topic: str, record: Header) -> None:
        """Publish a record that no stage reads."""
        ...

    def now_ns(self) -> int:
        """Return the log's time (int64 ns UTC)."""
        ...
