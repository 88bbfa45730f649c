"""The market stage over one partition of ``market.events``: records in, records out.

The partition is its only input and so fixes the order; the same records give the same outputs, with
the same ids and producer sequences, however they are cut and wherever a snapshot falls between two
of them. That is what lets a worker repeat after a restart what it had published, and everybody else
recognise it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from agents.market.config import MarketConfig
from agents.market.stage import MarketOutput, MarketStage
from schemas.columns import Columns
from schemas.envelope import Header
from schemas.errors import RecordError
from schemas.instruments import Universe
from schemas.rows import records_from_table
from schemas.sessions import SessionTable
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    MARKET_INDICATORS,
    MARKET_QUALITY,
)
from streams.journal.batches import EARLIEST_NS, batch_of, records_piece

VERSION = "market-kafka-1"

Output = tuple[str, Header]


class _State(msgspec.Struct):
    """Everything that a partition's future outputs depend on."""

    version: str
    clock_ns: int
    next_offset: int
    events: int
    sequences: dict[str, int]
    stage: str


class MarketPartition:
    """The market stage of one partition."""

    def __init__(
        self,
        partition: int,
        universe: Universe,
        config: MarketConfig,
        sessions: Mapping[str, SessionTable],
    ) -> None:
        self.instance = f"market/{partition}"
        self.next_offset = 0
        self._universe = universe
        self._stage = MarketStage(universe, config, sessions)
        self._clock_ns = EARLIEST_NS
        self._events = 0
        self._sequences: dict[str, int] = {}

    @property
    def clock_ns(self) -> int:
        """The newest event time so far (int64 ns UTC)."""
        return self._clock_ns

    def take(self, records: Sequence[tuple[int, Header]], next_offset: int) -> list[Output]:
        """Take the next records, each with its offset; what was taken before is passed over.

        ``next_offset`` is that of the first record behind them, which may be further on than the
        last of them: dead letters have offsets too.
        """
        fresh = [record for offset, record in records if offset >= self.next_offset]
        self.next_offset = max(self.next_offset, next_offset)
        if not fresh:
            return []
        piece = records_piece(self._universe, [(MARKET_EVENTS, record) for record in fresh])
        batch = batch_of(self._universe, piece, self._clock_ns, self._events)
        self._clock_ns = int(batch.clock[-1])
        self._events += len(batch)
        return self._numbered(self._stage.process(batch))

    def _numbered(self, made: MarketOutput) -> list[Output]:
        """Return what a batch gave as records, numbered by topic."""
        out: list[Output] = []
        for topic, records in (
            (MARKET_BARS, self._rows(made.bars)),
            (ACCOUNT_INPUTS, self._rows(made.prices)),
            (MARKET_QUALITY, [record for _, record in made.quality]),
            (MARKET_INDICATORS, [value for _, value in made.indicators]),
        ):
            sequence = self._sequences.get(topic, 0)
            for record in records:
                sequence += 1
                record.producer, record.producer_seq = self.instance, sequence
                out.append((topic, record))
            self._sequences[topic] = sequence
        return out

    def _rows(self, table: Columns) -> Sequence[Any]:
        return records_from_table(self._universe, table, slice(None))

    def snapshot(self) -> bytes:
        """Return the whole state; equal states give equal bytes."""
        return msgspec.json.encode(
            _State(
                VERSION,
                self._clock_ns,
                self.next_offset,
                self._events,
                dict(sorted(self._sequences.items())),
                self._stage.snapshot().decode(),
            )
        )

    def restore(self, state: bytes) -> None:
        """Take over a state that ``snapshot`` gave; raises RecordError for another version."""
        known = msgspec.json.decode(state, type=_State)
        if known.version != VERSION:
            raise RecordError(
                "a snapshot of the market stage is of another version",
                field="version",
                value=known.version,
                remedy="rebuild the state from market.events",
            )
        self._clock_ns = known.clock_ns
        self.next_offset = known.next_offset
        self._events = known.events
        self._sequences = known.sequences
        self._stage.restore(known.stage.encode())
