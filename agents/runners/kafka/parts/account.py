"""The account stage over one partition of ``account.inputs``, which fixes the order of everything.

Reference prices are consumed as columns, as everywhere: equity is marked at the instants that they
pass.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np

from agents.account.config import AccountStageConfig
from agents.account.stage import AccountStage
from agents.processor import Outbox
from agents.runners.kafka.parts.part import Part, partition_of
from schemas.columns import MarketBatch, PriceColumns
from schemas.control import DeadLetter
from schemas.enums import BreakerState
from schemas.envelope import Header
from schemas.instruments import Instrument, Universe
from schemas.market_data import ReferencePrice
from schemas.rows import table_from_records
from schemas.sessions import SessionTable
from schemas.topics import (
    ACCOUNT_INPUTS,
    ORDER_RECEIPTS,
    PORTFOLIO_EQUITY,
    RISK_BREAKER,
    RISK_LIMITS,
    SYSTEM_DEAD_LETTERS,
    goes_everywhere,
)

_SPOKESMAN = 0
"""The partition whose part confirms what every part was told."""

_ANSWERS = frozenset({RISK_LIMITS, RISK_BREAKER, ORDER_RECEIPTS, SYSTEM_DEAD_LETTERS})


class AccountPart(Part):
    """The accounts whose key belongs to one partition."""

    STAGE = "account"
    VERSION = "account-kafka-4"

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
        calendars = {account.calendar for account in config.accounts}
        config = msgspec.structs.replace(config, accounts=mine)
        self._stage = AccountStage(config, universe, sessions, calendars)

    @property
    def breaker_states(self) -> Mapping[str, BreakerState]:
        """Return the breakers that are not active, by ``SCOPE|id``."""
        return self._stage.breakers.states

    def _start(self, now_ns: int, out: Outbox) -> None:
        if self.partition == _SPOKESMAN:
            self._stage.start(now_ns, out)

    def _process(self, topic: str, batch: MarketBatch, out: Outbox) -> None:
        stage = self._stage
        stage.load(batch, self._prices(batch))
        for pos, _, record in batch.records:
            if not isinstance(record, ReferencePrice):
                begin = len(out)
                stage.on_record(record, pos, int(batch.clock[pos]), out)
                self._tidy(topic, record, out, begin)
        self._rows(PORTFOLIO_EQUITY, stage.end(out, int(batch.clock[-1])), out)

    def _learn(self, topic: str, instrument: Instrument, out: Outbox) -> None:
        """Let the stage take in a definition; it keeps it, or says why it cannot."""
        made: Outbox = []
        self._stage.on_record(instrument, -1, max(self.clock_ns, 0), made)
        self._tidy(topic, instrument, made, 0)
        out.extend(made)

    def _tidy(self, topic: str, record: Any, out: Outbox, begin: int) -> None:
        """Put dead letters where their record stands; let one part alone confirm a broadcast."""
        made = out[begin:]
        del out[begin:]
        name = getattr(record, "event_id", "")
        is_silent = self.partition != _SPOKESMAN and goes_everywhere(topic, record)
        for made_topic, item in made:
            is_answer = made_topic in _ANSWERS and name in (
                getattr(item, "causation_id", ""),
                getattr(item, "event_id", ""),
            )
            if is_answer and is_silent:
                continue
            if isinstance(item, DeadLetter):
                offset = next((at for at, taken in self._taken if taken is record), 0)
                item = msgspec.structs.replace(item, partition=self.partition, offset=offset)  # noqa: PLW2901
            out.append((made_topic, item))

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
