"""The driver of the tests of the account stage: it plays steps and keeps what comes out.

The stage is a black box to it: records and reference prices in, records and equity marks out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from decimal import Decimal, localcontext
from itertools import pairwise
from typing import Any

import numpy as np

from agents.account.config import AccountConfig, AccountStageConfig
from agents.account.stage import AccountStage
from agents.processor import Outbox
from schemas.codec import encode
from schemas.columns import MarketBatch, PriceColumns
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Instrument, Universe
from schemas.portfolio import AccountSnapshot, EquityMark
from schemas.risk import LimitSet
from schemas.rows import records_from_table
from schemas.sessions import SessionTable
from schemas.values import MONEY_CONTEXT
from tests.unit.account_records import (
    DAY_S,
    NS,
    SESSION_S,
    START_NS,
    AnyRecord,
    Price,
    Step,
    at_ns,
    instruments,
)


def sessions() -> dict[str, SessionTable]:
    """Return the sessions of three days."""
    opens = np.array([at_ns(day * DAY_S) for day in range(3)])
    days = np.array([20131007, 20131008, 20131009])
    return {"XNYS": SessionTable(opens, opens + SESSION_S * NS, days)}


def account(account_id: str = "paper", cash: str = "100000", **fields: Any) -> AccountConfig:
    """Return an account with cash in dollars."""
    return AccountConfig(account_id=account_id, cash=Decimal(cash), **fields)


def stage_config(
    *accounts: AccountConfig, limits: LimitSet | None = None, **fields: Any
) -> AccountStageConfig:
    """Return a configuration of the stage; without accounts it has the one named paper."""
    return AccountStageConfig(
        accounts=accounts or (account(),), limits=limits or LimitSet(), **fields
    )


def time_of(step: Step) -> int:
    """Return the instant of a step (int64 ns UTC)."""
    if isinstance(step, Price):
        return at_ns(step.at)
    instant: int = step.ts_event_ns  # type: ignore[attr-defined]
    return instant


def of(records: Iterable[Header], kind: type[AnyRecord]) -> list[AnyRecord]:
    """Return the records of one type."""
    return [record for record in records if isinstance(record, kind)]


def only(records: Iterable[Header], kind: type[AnyRecord]) -> AnyRecord:
    """Return the one record of its type."""
    found = of(records, kind)
    assert len(found) == 1, f"{len(found)} records are a {kind.__name__}"
    return found[0]


class Driver:
    """Plays steps on an account stage as the engine does, and keeps what comes out.

    ``out`` holds every (topic, record) and ``marks`` every equity mark, in order.
    """

    def __init__(
        self,
        config: AccountStageConfig | None = None,
        listed: Sequence[Instrument] | None = None,
    ) -> None:
        self.config = config or stage_config()
        self.listed = list(listed or instruments())
        self.out: Outbox = []
        self.marks: list[EquityMark] = []
        self.clock_ns = START_NS
        self.played = 0
        self.stage = self._new_stage()

    def _new_stage(self) -> AccountStage:
        self.universe = Universe(list(self.listed))
        return AccountStage(self.config, self.universe, sessions())

    def play(self, *steps: Step) -> list[Header]:
        """Play steps as one batch, cut at corporate actions; return the records that came out."""
        first = len(self.out)
        edges = {0, len(steps)}
        for pos, step in enumerate(steps):
            if isinstance(step, CorporateAction):
                edges |= {pos, pos + 1}
        for start, stop in pairwise(sorted(edges)):
            self.play_whole(*steps[start:stop])
        return [record for _, record in self.out[first:]]

    def play_whole(self, *steps: Step) -> None:
        """Play steps as one batch."""
        times = np.array([self.clock_ns, *map(time_of, steps)], np.int64)
        clock = np.maximum.accumulate(times)[1:]
        with localcontext(MONEY_CONTEXT):
            self.stage.load(MarketBatch(self.universe, clock), self._columns(steps))
            for pos, step in enumerate(steps):
                if not isinstance(step, Price):
                    self.stage.on_record(step, pos, int(clock[pos]), self.out)
            rows = self.stage.end(self.out, int(clock[-1]))
        self.clock_ns = int(clock[-1])
        self.played += len(steps)
        self.marks += of(records_from_table(self.universe, rows, slice(None)), EquityMark)

    def _columns(self, steps: Sequence[Step]) -> PriceColumns:
        rows = [(pos, step) for pos, step in enumerate(steps) if isinstance(step, Price)]
        source = self.universe.source_index("prices")
        return PriceColumns(
            pos=np.array([pos for pos, _ in rows]),
            ts=np.array([time_of(step) for _, step in rows]),
            instrument=np.array([self.universe.index(step.name) for _, step in rows]),
            source=np.array([source] * len(rows)),
            seq=np.array([self.played + pos for pos, _ in rows]),
            price=np.array([step.price for _, step in rows]),
        )

    def restart(self) -> None:
        """Go on with a new stage that takes over the state of this one."""
        state = self.stage.snapshot()
        self.resume(state)
        assert self.stage.snapshot() == state

    def resume(self, state: bytes) -> None:
        """Go on with a new stage in ``state``."""
        self.stage = self._new_stage()
        with localcontext(MONEY_CONTEXT):
            self.stage.restore(state)

    def account(self, account_id: str = "paper") -> AccountSnapshot:
        """Return the account as the stage would publish it at the end of a run here."""
        published: Outbox = []
        twin = AccountStage(self.config, Universe(list(self.listed)), sessions())
        with localcontext(MONEY_CONTEXT):
            twin.restore(self.stage.snapshot())
            twin.finish(self.clock_ns, published)
        found = of([record for _, record in published], AccountSnapshot)
        return next(snapshot for snapshot in found if snapshot.account_id == account_id)

    def on_topic(self, topic: str) -> list[Header]:
        """Return everything that was published on one topic."""
        return [record for name, record in self.out if name == topic]

    def published(self) -> list[bytes]:
        """Return everything that came out as bytes: the records, then the equity marks."""
        records = [f"{topic} ".encode() + encode(record) for topic, record in self.out]
        return [*records, *map(encode, self.marks)]


def same(one: Driver, other: Driver) -> bool:
    """Return whether two drivers published the same bytes and stand in the same state."""
    assert one.published() == other.published()
    for item in one.config.accounts:
        assert one.account(item.account_id) == other.account(item.account_id)
    return one.stage.snapshot() == other.stage.snapshot()
