"""What the stages refuse of market data, decided by the same code for those who show or store it.

The stages of a session know the instruments of its manifest, and on each partition those that are
defined there, from the definition on. So does this rule: where a partition is read from its first
record it decides as the stages do. Where it is read from further on, the definitions that stood in
front are not read: all that the cluster has are taken for known then.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, TypeGuard

from agents.runners.kafka.incoming import Taken, usable_records
from agents.runners.kafka.usable import KnownInstruments
from schemas.control import RunManifest
from schemas.envelope import Header
from schemas.errors import NewerSchemaError
from schemas.instruments import Instrument, Universe
from schemas.topics import MARKET_BARS, MARKET_EVENTS, REFERENCE_INSTRUMENTS, SYSTEM_RUNS
from streams.kafka.reading_rule import READABLE, Usable

KAFKA_MODE = "kafka"
"""The mode of manifests of sessions on a cluster."""

_MARKET_DATA = frozenset({MARKET_EVENTS, MARKET_BARS})


def begins_session(record: Header) -> TypeGuard[RunManifest]:
    """Return whether a record of ``system.runs`` is the manifest of a session on a cluster."""
    return (
        isinstance(record, RunManifest) and record.mode == KAFKA_MODE and bool(record.instruments)
    )


class StageRule:
    """A ``Rule`` (see ``streams.kafka.reading_rule``); of other topics all is good that decodes.

    ``begun`` are the instruments of the session's manifest, None while there is no session: until
    its manifest comes, instruments that are not known pass. ``defined`` are the definitions that
    the cluster has, in the order of their topic.
    """

    def __init__(
        self, begun: Sequence[Instrument] | None = None, defined: Iterable[Instrument] = ()
    ) -> None:
        self._begun = begun
        self._by_partition: dict[int, KnownInstruments] = {}
        # All that is defined anywhere. It bounds the numbers of bars, among which no definitions
        # stand, and is what is known where the definitions in front were not read.
        self._everything = Universe(list(begun or ()))
        self._everywhere = KnownInstruments(self._everything)
        _learn([self._everywhere], defined)

    @property
    def defined(self) -> list[Instrument]:
        """All instruments that it has heard of."""
        return self._everything.instruments

    def take(
        self,
        topic: str,
        partition: int,
        arrived: Sequence[Any],
        partitions: int,
        *,
        is_past: bool = False,
    ) -> Usable:
        """Return which records are good; see ``Rule``."""
        if topic not in _MARKET_DATA:
            found = READABLE.take(topic, partition, arrived, partitions)
            if topic in {SYSTEM_RUNS, REFERENCE_INSTRUMENTS} and not is_past:
                for _, record in found.records:
                    self._hear(record)
            return found
        if not arrived:
            return Usable([], [])
        known = self._known(topic, partition, arrived[0].offset, partitions, is_past=is_past)
        try:
            taken = usable_records(topic, partition, arrived, known, partitions)
        except NewerSchemaError:
            found = _one_by_one(topic, partition, arrived, known, partitions)
        else:
            found = _usable(taken)
        if Instrument in {type(record) for _, record in found.records} and not is_past:
            new = [record for _, record in found.records if isinstance(record, Instrument)]
            _learn([self._everywhere], new)
        return found

    def _known(
        self, topic: str, partition: int, offset: int, partitions: int, *, is_past: bool
    ) -> KnownInstruments:
        """Return what is known on a partition, which is read from ``offset`` on if it is new."""
        if topic == MARKET_BARS:
            return KnownInstruments(self._everything, partitions)
        known = self._by_partition.get(partition)
        if known is None or is_past:
            is_whole = self._begun is not None and not offset and not is_past
            instruments = self._begun if is_whole else self._everything.instruments
            known = KnownInstruments(
                Universe(list(instruments or ())), partitions, is_open=self._begun is None
            )
        if not is_past:
            self._by_partition[partition] = known
        return known

    def _hear(self, record: Header) -> None:
        """Learn what a session begins with; later definitions come among the market events."""
        new: list[Instrument] = []
        if isinstance(record, Instrument):
            new = [record]
        elif self._begun is None and begins_session(record):
            self._begun = new = record.instruments
            for known in self._by_partition.values():
                known.is_open = False
                _learn([known], new)
        if self._begun is None:
            _learn(self._by_partition.values(), new)
        _learn([self._everywhere], new)


def _learn(knowing: Iterable[KnownInstruments], instruments: Iterable[Instrument]) -> None:
    for instrument in instruments:
        for known in knowing:
            # Of what no stage can work with it tells the reason, and learns nothing.
            known.fault(MARKET_EVENTS, instrument)


def _usable(taken: Taken) -> Usable:
    return Usable(taken.records, [(letter.offset, letter.reason) for letter in taken.letters])


def _one_by_one(
    topic: str, partition: int, arrived: Sequence[Any], known: KnownInstruments, partitions: int
) -> Usable:
    """Pass over records of a newer schema version, at which a stage would stop."""
    found = Usable([], [])
    for item in arrived:
        try:
            taken = usable_records(topic, partition, [item], known, partitions)
        except NewerSchemaError as error:
            found.refused.append((item.offset, str(error)))
            continue
        one = _usable(taken)
        found.records.extend(one.records)
        found.refused.extend(one.refused)
    return found
