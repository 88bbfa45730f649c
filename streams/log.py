"""The port between a running engine and those who only read and write its topics.

A log has topics with partitions and offsets. Whoever listens gets every record that was published,
once, in the order of its partition, after it is durable. In one process the journal is behind it;
on Kafka, consumers and a producer are. A record stands at the same offset for every reader, today
and after a restart, so an offset is a place to come back to.
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


class Page(NamedTuple):
    """A stretch of one partition: what it holds from ``start`` to before ``next_offset``.

    ``start`` is the offset that was asked for, or a later one where older records are no longer
    kept. Offsets between may be missing: a record that its producer repeated, or that a newer one
    of its key has replaced, has no place of its own. A page that ends where it starts is the end.
    """

    records: list[Published]
    start: int
    next_offset: int


Listener = Callable[[Sequence[Published]], None]


class Log(Protocol):
    """Read and write the topics of one run.

    ``epoch`` names the log as a whole; ``epoch_of`` a topic: it changes when the topic's offsets
    start anew, and cursors of another epoch are void.
    """

    run_id: str
    epoch: str

    def epoch_of(self, topic: str) -> str:
        """Return the epoch of a topic: the same in every process, as long as the topic is there."""
        ...

    def partitions(self, topic: str) -> int:
        """Return how many partitions ``topic`` has."""
        ...

    async def publish(self, topic: str, record: Header) -> None:
        """Publish one record; returns when it is durable.

        Raises StorageError if the log cannot take it, and UnconfirmedError or TimeoutError if it
        does not say so within the log's deadline.
        """
        ...

    def listen(self, listener: Listener) -> Callable[[], None]:
        """Call ``listener`` with every group of published records from now on.

        Returns the way to stop it.
        """
        ...

    def read(self, topic: str, offset: int, limit: int, partition: int = 0) -> list[Published]:
        """Return up to ``limit`` records from ``offset`` on, of those that are at hand.

        Fewer than ``limit`` means that there are no more.
        """
        ...

    def at_hand(self, topic: str, partition: int = 0) -> int:
        """Return the offset from which on ``read`` has everything, without waiting."""
        ...

    async def fetch(self, topic: str, partition: int, offset: int, limit: int) -> Page:
        """Return about ``limit`` records from ``offset`` on, from wherever they are kept.

        Nothing is given that listeners have not been told. Raises StorageError if the records
        cannot be read.
        """
        ...

    def end_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset behind everything that listeners have been told."""
        ...

    def written_offset(self, topic: str, partition: int = 0) -> int:
        """Return the offset behind the last record that is written, as far as is known.

        Listeners may not have been told of it yet.
        """
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


def page_of(log: Log, topic: str, partition: int, offset: int, limit: int) -> Page:
    """Return a page of what a log has at hand."""
    start = max(offset, log.at_hand(topic, partition))
    records = log.read(topic, start, limit, partition)
    is_whole = len(records) < limit
    end = log.end_offset(topic, partition) if is_whole else records[-1].offset + 1
    return Page(records, start, max(start, end))
