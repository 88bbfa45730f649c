"""The account stage over one partition of ``account.inputs``, which fixes the order of everything.

Reference prices are consumed as columns, as everywhere: equity is marked at the instants that they
pass.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from agents.account.config import AccountStageConfig
from agents.account.stage import AccountStage
from agents.processor import Outbox
from agents.runners.kafka.parts.part import Part, partition_of
from schemas.columns import MarketBatch, PriceColumns
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.market_data import ReferencePrice
from schemas.rows import table_from_records
from schemas.sessions import SessionTable
from schemas.topics import ACCOUNT_INPUTS, PORTFOLIO_EQUITY


class AccountPart(Part):
    """The accounts whose key belongs to one partition."""

    STAGE = "account"
    VERSION = "account-kafka-1"

    def __init__(
        self,
        partition: int,
        universe: Universe,
        counts: Mapping[str, int],
        config: AccountStageConfig,
        sessions: Mapping[str, SessionTable],
    ) -> None:
        super().__init__(partition, universe, counts)
        count = counts[ACCOUNT_INPUTS]
        mine = tuple(a for a in config.accounts if partition_of(a.account_id, count) == partition)
        config = msgspec.structs.replace(config, accounts=mine)
        self._stage = AccountStage(config, universe, sessions)

    def _start(self, now_ns: int, out: Outbox) -> None:
        self._stage.start(now_ns, out)

    def _process(self, topic: str, batch: MarketBatch, out: Outbox) -> None:
        stage = self._stage
        stage.load(batch, self._prices(batch))
        for pos, _, record in batch.records:
            if not isinstance(record, ReferencePrice):
                stage.on_record(record, pos, int(batch.clock[pos]), out)
        self._rows(PORTFOLIO_EQUITY, stage.end(out, int(batch.clock[-1])), out)

    def _prices(self, batch: MarketBatch) -> PriceColumns:
        """Return the reference prices of a batch as columns; unknown instruments have none."""
        places: list[int] = []
        rows: list[Header] = []
        for pos, _, record in batch.records:
            if (
                isinstance(record, ReferencePrice)
                and self.universe.index(record.instrument_id) is not None
            ):
                places.append(pos)
                rows.append(record)
        if not rows:
            return PriceColumns.empty()
        table = table_from_records(self.universe, PriceColumns.KIND, rows)
        assert isinstance(table, PriceColumns)
        table.pos = np.array(places, np.int64)
        return table

    def _snapshot_stage(self) -> bytes:
        return self._stage.snapshot()

    def _restore_stage(self, state: bytes) -> None:
        self._stage.restore(state)
