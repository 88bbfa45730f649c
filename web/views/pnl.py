"""Realized results by day, strategy and instrument: what each change of a position added."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from decimal import Decimal
from typing import NamedTuple

import msgspec

from schemas.portfolio import PositionChanged
from schemas.values import ZERO
from streams.cursors import RecordPlace
from web.views.kept import Begin

DAY_NS = 86_400_000_000_000
_ENTRIES_MAX = 100_000


class PnlKey(NamedTuple):
    """Whose result it is; ``day`` counts days of UTC since 1970."""

    account_id: str
    strategy_id: str
    instrument_id: str
    currency: str
    day: int


class Pnl(msgspec.Struct):
    """What one position gained in one day: before fees, by average cost."""

    realized: Decimal = ZERO
    fees: Decimal = ZERO
    fills: int = 0


class Results:
    """Results by position and day; the oldest leave when there are too many.

    With a floor in ``begin`` they are not whole: changes of positions were missed.
    """

    def __init__(self) -> None:
        self.begin = Begin()
        self._entries: dict[PnlKey, Pnl] = {}
        self._accounts: frozenset[str] | None = None

    def of(self, accounts: frozenset[str]) -> Results:
        """Return the results of some accounts: they follow these, and know of no other account."""
        own = copy.copy(self)
        own._accounts = accounts
        return own

    def on_position(self, change: PositionChanged, before: PositionChanged | None) -> None:
        """Take in what a change added to the position as it was before.

        Under a new symbol a position keeps the results that it has: nothing is gained by the name.
        """
        if change.reason == "symbol_change":
            return
        key = PnlKey(
            change.account_id,
            change.strategy_id,
            change.instrument_id,
            change.currency,
            change.ts_event_ns // DAY_NS,
        )
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = Pnl()
            if len(self._entries) > _ENTRIES_MAX:
                left = next(iter(self._entries))
                self.begin.rise(RecordPlace((left.day + 1) * DAY_NS, 0, 0, ""))
                del self._entries[left]
        entry.realized += change.realized_pnl - (before.realized_pnl if before else ZERO)
        entry.fees += change.fees - (before.fees if before else ZERO)
        entry.fills += change.reason == "fill"

    def entries(self) -> Iterator[tuple[PnlKey, Pnl]]:
        """Yield all entries, in the order in which they began."""
        accounts = self._accounts
        for key, pnl in self._entries.items():
            if accounts is None or key.account_id in accounts:
                yield key, pnl
