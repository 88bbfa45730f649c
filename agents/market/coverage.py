"""From when on each instrument is seen, so that a bar that began before is known to be partial.

An instrument is covered from its own first event (a bar's start), or from the first watermark if
that came before: a watermark says that the source was listening, whatever traded. Other instruments
say nothing, for what an instrument's bars are must not depend on which others share its partition.
"""

from __future__ import annotations

import numpy as np

from agents.market.grouping import grown
from schemas.columns import Codes, Ints, MarketBatch
from schemas.instruments import Universe
from schemas.market_data import InstrumentStatus, Watermark

UNSEEN: int = np.iinfo(np.int64).max


class Coverage:
    """The start of each instrument's coverage: ``since``, int64 ns, ``UNSEEN`` before it."""

    def __init__(self, universe: Universe) -> None:
        self._universe = universe
        self.since: Ints = np.empty(0, np.int64)
        self.of_all = UNSEEN
        self._is_complete = False

    def grow(self) -> None:
        """Make room for the instruments that the universe has now."""
        if len(self._universe) > len(self.since):
            self.since = grown(self.since, len(self._universe), self.of_all)
            self._is_complete = False

    def note(self, batch: MarketBatch) -> None:
        """Take in the events of ``batch``; batches come in the order of the stream."""
        if self._is_complete and self.of_all != UNSEEN:
            return
        firsts: list[tuple[int, int, int]] = []
        if not self._is_complete:
            trades, quotes, bars = batch.trades, batch.quotes, batch.bars
            firsts += _firsts(self.since, trades.instrument, trades.pos, trades.ts)
            firsts += _firsts(self.since, quotes.instrument, quotes.pos, quotes.ts)
            firsts += _firsts(self.since, bars.instrument, bars.pos, bars.start)
        for pos, _, record in batch.records:
            if isinstance(record, InstrumentStatus):
                code = self._universe.index(record.instrument_id)
                if code is not None:
                    firsts.append((pos, code, record.ts_event_ns))
            elif isinstance(record, Watermark) and self.of_all == UNSEEN:
                self.of_all = record.ts_event_ns + 1
                firsts.append((pos, len(self.since), self.of_all))
        for _, code, ts in sorted(firsts):
            chosen = slice(None) if code == len(self.since) else slice(code, code + 1)
            self.since[chosen][self.since[chosen] == UNSEEN] = ts
        self._is_complete = bool(np.all(self.since != UNSEEN))


def _firsts(since: Ints, instrument: Codes, pos: Ints, ts: Ints) -> list[tuple[int, int, int]]:
    """Return the first row of each instrument not seen before: (position, instrument, time)."""
    rows = np.flatnonzero(since[instrument] == UNSEEN)
    if not len(rows):
        return []
    rows = rows[np.unique(instrument[rows], return_index=True)[1]]
    return list(zip(pos[rows].tolist(), instrument[rows].tolist(), ts[rows].tolist(), strict=True))
