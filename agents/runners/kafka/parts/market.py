"""The market stage over one partition of ``market.events``.

The partition is its only input and so fixes the order: the same records give the same outputs.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter

from agents.market.config import MarketConfig
from agents.market.stage import MarketStage
from agents.processor import Outbox
from agents.runners.kafka.parts.part import Part
from schemas.columns import MarketBatch, PriceColumns
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.market_data import InstrumentStatus
from schemas.rows import records_from_table
from schemas.sessions import SessionTable
from schemas.topics import ACCOUNT_INPUTS, MARKET_BARS, MARKET_INDICATORS, MARKET_QUALITY


class MarketPart(Part):
    """Bars, indicators, quality and reference prices of the instruments of one partition."""

    STAGE = "market"
    VERSION = "market-kafka-2"

    def __init__(
        self,
        partition: int,
        universe: Universe,
        counts: Mapping[str, int],
        config: MarketConfig,
        sessions: Mapping[str, SessionTable],
    ) -> None:
        super().__init__(partition, universe, counts)
        self._stage = MarketStage(universe, config, sessions)

    def _process(self, topic: str, batch: MarketBatch, out: Outbox) -> None:
        made = self._stage.process(batch)
        self._rows(MARKET_BARS, made.bars, out)
        # Behind the last bars of the old share count: those who decide on bars learn of it here.
        out.extend((MARKET_BARS, r) for _, _, r in batch.records if isinstance(r, CorporateAction))
        self._send_to_accounts(batch, made.prices, out)
        out.extend((MARKET_QUALITY, record) for _, record in made.quality)
        out.extend((MARKET_INDICATORS, value) for _, value in made.indicators)

    def _learn(self, topic: str, instrument: Instrument, out: Outbox) -> None:
        super()._learn(topic, instrument, out)
        # Any account may hold it, and knows it before its first price.
        out.append((ACCOUNT_INPUTS, instrument))

    def _send_to_accounts(self, batch: MarketBatch, prices: PriceColumns, out: Outbox) -> None:
        """Add reference prices and halts, in the order of the events that brought them."""
        rows = records_from_table(self.universe, prices, slice(None))
        found = list(zip(prices.pos.tolist(), rows, strict=True))
        found += [(pos, r) for pos, _, r in batch.records if isinstance(r, InstrumentStatus)]
        found.sort(key=itemgetter(0))
        out.extend((ACCOUNT_INPUTS, record) for _, record in found)

    def _snapshot_stage(self) -> bytes:
        return self._stage.snapshot()

    def _restore_stage(self, state: bytes) -> None:
        self._stage.restore(state)
