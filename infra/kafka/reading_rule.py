"""The rule of the stages for those who show or store topics, with what the cluster knows by now."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from agents.runners.kafka.restoring import learned_instruments, read_snapshots
from agents.runners.kafka.stage_rule import StageRule, begins_session
from schemas.codec import decode
from schemas.envelope import Header
from schemas.errors import RecordError
from schemas.instruments import Instrument
from schemas.topics import REFERENCE_INSTRUMENTS, SYSTEM_RUNS
from streams.kafka.connection import Connection
from streams.kafka.reading import read_to_end


class StageRules:
    """Makes a rule as often as a reader begins somewhere."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._last: StageRule | None = None

    async def make(self) -> StageRule:
        """Return a rule that knows the session's instruments and the cluster's definitions.

        Raises StorageError while Kafka is away, ConfigError for topics that are missing.
        """
        begun: list[Instrument] | None = None
        async with aclosing(_records(self._connection, SYSTEM_RUNS)) as manifests:
            async for manifest in manifests:
                if begins_session(manifest):
                    begun = manifest.instruments
                    break
        async with aclosing(_records(self._connection, REFERENCE_INSTRUMENTS)) as records:
            defined = [record async for record in records if isinstance(record, Instrument)]
        if self._last is not None:
            # A sink that stands by begins every two seconds: snapshots are too large for that.
            defined += self._last.defined
        elif begun is not None:
            # Some are defined among the market events alone.
            defined += learned_instruments(await read_snapshots(self._connection))
        self._last = StageRule(begun, defined)
        return self._last


async def _records(connection: Connection, topic: str) -> AsyncGenerator[Header, None]:
    """Yield what of a topic can be decoded."""
    async with aclosing(read_to_end(connection, topic)) as items:
        async for item in items:
            try:
                record = decode(topic, item.value or b"")
            except RecordError:
                continue
            yield record
