"""The paper venue over one partition: its market data, and the commands for its instruments.

The two inputs meet in the order in which the worker consumed them, which the order log keeps.
"""

from __future__ import annotations

from collections.abc import Mapping

from agents.market.validity import Validity
from agents.processor import Outbox
from agents.runners.kafka.parts.part import Part
from agents.venue.config import VenueConfig
from agents.venue.paper_venue import PaperVenue
from schemas.columns import MarketBatch
from schemas.commands import VenueCancel, VenueReplace, VenueSubmit
from schemas.instruments import CorporateAction, Universe
from schemas.sessions import SessionTable
from schemas.topics import ACCOUNT_INPUTS, MARKET_EVENTS


class VenuePart(Part):
    """Orders of the instruments of one partition."""

    STAGE = "venue"
    VERSION = "venue-kafka-1"

    def __init__(
        self,
        partition: int,
        universe: Universe,
        counts: Mapping[str, int],
        config: VenueConfig,
        sessions: Mapping[str, SessionTable],
    ) -> None:
        super().__init__(partition, universe, counts)
        self._venue = PaperVenue(config, universe, sessions)
        self._validity = Validity(universe)

    def _process(self, topic: str, batch: MarketBatch, out: Outbox) -> None:
        venue = self._venue
        if topic == MARKET_EVENTS:
            venue.load(self._validity.usable(batch))
            self._fire(0, out)
            for pos, _, record in batch.records:
                if isinstance(record, CorporateAction):
                    venue.on_corporate_action(record, pos, int(batch.clock[pos]), out)
                    # Accounts must see it behind the fills of the old share count.
                    out.append((ACCOUNT_INPUTS, record))
            self._fire(len(batch), out)
            venue.end()
            return
        # An order sees what its instruments' partition brings from here on.
        now_ns = self._clocks.get(f"{MARKET_EVENTS}/{self.partition}", 0)
        for pos, _, record in batch.records:
            if isinstance(record, VenueSubmit | VenueReplace | VenueCancel):
                venue.on_command(record, -1, max(now_ns, int(batch.clock[pos])), out)

    def _fire(self, stop: int, out: Outbox) -> None:
        while (pos := self._venue.next()) < stop:
            self._venue.fire(pos, out)

    def _snapshot_stage(self) -> bytes:
        return self._venue.snapshot()

    def _restore_stage(self, state: bytes) -> None:
        self._venue.restore(state)
