"""The order log: what a stage with several inputs consumed next, and who may go on.

Every batch is noted, and the note acknowledged, before anything that follows from it is published;
notes that nothing waits for are kept and written with the next, or after a second at the latest.
A worker that takes a part over claims it with the next epoch: notes of a lower epoch behind the
claim are void. A worker whose note does not stand right behind its last one reads what lies
between, and stops if another has claimed the part. So whatever was published can be repeated word
for word from the notes, and a worker that lost a part without knowing it can add nothing to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from agents.runners.kafka.parts.part import Part
from agents.runners.kafka.restoring import check_tail
from schemas.codec import decode
from schemas.control import OrderLogEntry
from schemas.errors import MillraceError
from schemas.topics import SYSTEM_ORDER_LOG
from streams.kafka.publisher import Publisher, outgoing
from streams.kafka.ranges import Place, PlaceReader

_KEPT_S = 1.0
_SECOND_HALF = "strategy"
"""The stage whose notes begin in the middle of the log; those of the others begin at its first.

So the venue's and the strategies' parts, which note every batch, have partitions of their own.
"""


class SupersededError(MillraceError):
    """Another worker has claimed a part that this one worked on."""


class Note(NamedTuple):
    """What a part consumes next: offsets ``first`` to ``last`` of a partition."""

    part: Part
    topic: str
    partition: int
    first: int
    last: int


def valid_entries(entries: Iterable[OrderLogEntry], epoch: int = 0) -> list[OrderLogEntry]:
    """Return the notes of one part that hold, in order; ``epoch`` is the one in front of them."""
    valid = []
    for entry in entries:
        if entry.is_claim:
            epoch = max(epoch, entry.epoch)
        elif entry.epoch == epoch:
            valid.append(entry)
    return valid


def superseded(part: Part) -> SupersededError:
    """Return the error that a part is another worker's now."""
    return SupersededError(
        f"{part.instance} was taken over by another worker",
        field="epoch",
        value=part.epoch,
        remedy="none is needed: the other goes on; restart this worker to help it",
    )


class OrderLog:
    """The order log as one worker sees it; ``counts`` holds how many partitions each topic has.

    Notes wait ``_KEPT_S`` at most for others to be written with.
    """

    def __init__(
        self, reader: PlaceReader, publisher: Publisher, counts: Mapping[str, int]
    ) -> None:
        self._reader = reader
        self._publisher = publisher
        self._counts = counts
        self._tails: dict[Place, list[tuple[int, OrderLogEntry]]] = {}
        self._read_to: dict[Place, int] = {}
        self._kept: list[Note] = []
        self._lost: set[Part] = set()
        self._kept_since_s = 0.0

    def place(self, part: Part) -> Place:
        """Return where the notes of a part stand: with no other part's, if there is room.

        Behind a note of another part a worker has to read on before it may publish.
        """
        count = self._counts[SYSTEM_ORDER_LOG]
        first = count // 2 if part.STAGE == _SECOND_HALF else 0
        return SYSTEM_ORDER_LOG, (first + part.partition) % count

    async def claim(self, parts: Sequence[Part]) -> dict[str, list[OrderLogEntry]]:
        """Take parts over; return what each has consumed behind its snapshot, in order.

        A part's ``epoch`` and ``log_offset`` say what its snapshot knows. Raises ConfigError if
        notes behind it are gone: what was published then cannot be repeated.
        """
        starts: dict[Place, int] = {}
        self._kept = []
        self._lost = set()
        for part in parts:
            place = self.place(part)
            starts[place] = min(starts.get(place, part.log_offset), part.log_offset)
        self._tails = {place: [] for place in starts}
        self._read_to = dict(starts)
        beginnings = await self._reader.beginnings(starts)
        for part in parts:
            check_tail(part.instance, {self.place(part): part.log_offset}, beginnings)
        await self._reader.put(starts)
        for place, end in (await self._reader.ends(starts)).items():
            await self._read(place, end)
        return {part.instance: await self._claim(part) for part in parts}

    async def _claim(self, part: Part) -> list[OrderLogEntry]:
        place, before = self.place(part), (part.epoch, part.log_offset)
        while True:
            epoch = 1 + max([before[0], *(e.epoch for e in self._of(part, before[1]))])
            part.epoch = epoch
            claim = self._entry(part, is_claim=True)
            (at,) = await self._publisher.publish([outgoing(*self._addressed(part, claim))])
            await self._read(place, at + 1)
            seen = self._of(part, before[1])
            if not any(e.is_claim and e.epoch >= epoch for e in seen[:-1]):
                break
        part.log_offset = at + 1
        return valid_entries(seen, before[0])

    def wait_s(self, now_s: float) -> float | None:
        """Return how long the notes that are kept may still wait; None if there are none."""
        return max(self._kept_since_s + _KEPT_S - now_s, 0.0) if self._kept else None

    def note(self, notes: Iterable[Note], now_s: float) -> None:
        """Keep what parts consume next, in order, until ``write``."""
        if not self._kept:
            self._kept_since_s = now_s
        # Never joined: a strategy's failure is told of with the batch in which it failed, so
        # whoever repeats it has to cut as it was cut.
        self._kept.extend(notes)

    def is_lost(self, part: Part) -> bool:
        """Return whether a part of the last claim has been seen to be another worker's."""
        return part in self._lost

    async def write(self) -> list[Part]:
        """Write what is kept and await it; return parts that are another worker's now."""
        if not self._kept:
            return []
        kept, self._kept = self._kept, []
        entries = [(note.part, self._entry(*note)) for note in kept]
        places = await self._publisher.publish(
            [outgoing(*self._addressed(part, entry)) for part, entry in entries]
        )
        lost: list[Part] = []
        for (part, _), at in zip(entries, places, strict=True):
            if part in lost:
                continue
            if at != part.log_offset and await self._is_claimed(part, at):
                lost.append(part)
            else:
                part.log_offset = at + 1
        self._lost.update(lost)
        return lost

    async def _is_claimed(self, part: Part, at: int) -> bool:
        """Return whether another worker has claimed a part between its last note and ``at``."""
        await self._read(self.place(part), at + 1)
        later = [e for e in self._of(part, part.log_offset) if e.is_claim]
        return any(e.epoch > part.epoch for e in later)

    async def _read(self, place: Place, stop: int) -> None:
        """Read on up to ``stop``; keeps what belongs to parts of this worker."""
        if stop <= self._read_to[place]:
            return
        for item in await self._reader.read(place, stop):
            record = decode(SYSTEM_ORDER_LOG, item.value)
            if isinstance(record, OrderLogEntry):
                self._tails[place].append((item.offset, record))
        self._read_to[place] = stop

    def forget(self, parts: Sequence[Part]) -> None:
        """Drop what has been read of the log: all parts stand behind it."""
        for place in self._tails:
            at = min((p.log_offset for p in parts if self.place(p) == place), default=0)
            self._tails[place] = [item for item in self._tails[place] if item[0] >= at]

    def _of(self, part: Part, start: int) -> list[OrderLogEntry]:
        return [
            entry
            for at, entry in self._tails[self.place(part)]
            if at >= start and entry.instance == part.instance
        ]

    def _addressed(self, part: Part, entry: OrderLogEntry) -> tuple[str, OrderLogEntry, int]:
        return SYSTEM_ORDER_LOG, entry, self.place(part)[1]

    def _entry(
        self,
        part: Part,
        topic: str = "",
        partition: int = 0,
        first: int = 0,
        last: int = 0,
        *,
        is_claim: bool = False,
    ) -> OrderLogEntry:
        return OrderLogEntry(
            event_id=f"order:{part.instance}:{part.epoch}:{topic}:{partition}:{first}",
            ts_event_ns=max(part.clock_ns, 0),
            stage=part.STAGE,
            instance=part.instance,
            epoch=part.epoch,
            topic=topic,
            partition=partition,
            first_offset=first,
            last_offset=last,
            is_claim=is_claim,
        )
