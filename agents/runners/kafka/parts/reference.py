"""The reference stage: what operators say of instruments, put among the market data.

Definitions, corporate actions and exchange rates come on topics of their own. Stages that need them
have one ordered input each, and what a definition or a split means depends on where it stands
there. So this stage alone reads the reference topics, and writes what it reads to those inputs: a
definition to every partition of ``market.events``, an action to its instrument's, a rate to every
account. The order log keeps the order in which it read.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.processor import Outbox
from agents.runners.kafka.parts.part import Part
from schemas.columns import MarketBatch
from schemas.instruments import ExchangeRate, Instrument, Universe
from schemas.topics import ACCOUNT_INPUTS, MARKET_EVENTS


class ReferencePart(Part):
    """The one instance; ``offsets`` tell where the session begins on the reference topics."""

    STAGE = "reference"
    VERSION = "reference-kafka-1"

    def __init__(
        self,
        partition: int,
        universe: Universe,
        counts: Mapping[str, int],
        offsets: Mapping[str, int],
    ) -> None:
        super().__init__(partition, universe, counts)
        self.offsets = {f"{topic}/{partition}": at for topic, at in offsets.items()}

    def _learn(self, topic: str, instrument: Instrument, out: Outbox) -> None:
        # The stages that trade decide whether it can be used.
        out.append((MARKET_EVENTS, instrument))

    def _process(self, topic: str, batch: MarketBatch, out: Outbox) -> None:
        for _, _, record in batch.records:
            target = ACCOUNT_INPUTS if isinstance(record, ExchangeRate) else MARKET_EVENTS
            out.append((target, record))

    def _snapshot_stage(self) -> bytes:
        return b""

    def _restore_stage(self, state: bytes) -> None:
        """Do nothing: what has been read is all there is to know."""
