"""Which offsets may be committed: never past a batch that is still in work.

Upstream's bookkeeping can commit past a message in flight when the hole lies right behind the last
commit, forgets the same guard while nothing or offset 0 is committed, and takes a commit for done
that failed. Here a partition's batches form a queue; only its finished head counts, and only what
the broker confirmed is committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


class _Partition:
    """Batches of one partition, oldest first, as [first offset, last offset]."""

    __slots__ = ("batches", "committed", "done", "finished", "limit")

    def __init__(self) -> None:
        self.batches: deque[tuple[int, int]] = deque()
        self.finished: set[int] = set()
        self.done: int | None = None
        self.committed: int | None = None
        self.limit: int | None = None


class Commits(Generic[P]):
    """Offsets of all partitions of a consumer.

    With ``is_held`` nothing is committed beyond what ``allow`` named: the state that makes it safe
    has to be durable first.
    """

    def __init__(self, *, is_held: bool = False) -> None:
        self.is_held = is_held
        self._partitions: dict[P, _Partition] = {}

    def __iter__(self) -> Iterator[P]:
        return iter(list(self._partitions))

    def take(self, partition: P, first: int, last: int) -> None:
        """Note that the batch of offsets ``first`` to ``last`` is in work.

        Between two batches offsets may be missing (compaction, transactions): no record of them
        will ever come.
        """
        self._partitions.setdefault(partition, _Partition()).batches.append((first, last))

    def finish(self, partition: P, last: int) -> None:
        """Note that the batch that ends at ``last`` is finished; unknown ones are passed over."""
        known = self._partitions.get(partition)
        if known is None:
            return
        known.finished.add(last)
        while known.batches and known.batches[0][1] in known.finished:
            _, end = known.batches.popleft()
            known.finished.discard(end)
            known.done = end + 1
        if not known.batches:
            known.finished.clear()

    def allow(self, partition: P, offset: int) -> None:
        """Allow commits up to ``offset``, the first record that a restart would need."""
        known = self._partitions.setdefault(partition, _Partition())
        known.limit = offset if known.limit is None else max(known.limit, offset)

    def due(self, partition: P) -> int | None:
        """Return the offset to commit, or None if there is nothing new."""
        known = self._partitions.get(partition)
        if known is None or known.done is None:
            return None
        offset = known.done
        if self.is_held:
            if known.limit is None:
                return None
            offset = min(offset, known.limit)
        return offset if known.committed is None or offset > known.committed else None

    def is_idle(self, partition: P) -> bool:
        """Return whether no batch of a partition is in work."""
        known = self._partitions.get(partition)
        return known is None or not known.batches

    def confirm(self, partition: P, offset: int) -> None:
        """Note that the broker has committed ``offset``."""
        known = self._partitions.get(partition)
        if known is not None:
            known.committed = offset

    def restart(self, partition: P) -> int | None:
        """Return the first offset whose work is not finished, or None if nothing was taken."""
        known = self._partitions.get(partition)
        if known is None:
            return None
        return known.batches[0][0] if known.batches else known.done

    def forget(self, partition: P) -> None:
        """Drop everything about a partition: it was revoked, or is read anew."""
        self._partitions.pop(partition, None)
