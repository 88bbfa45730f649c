"""Partitions of market events come back in the order of the data set that was published."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.market_data import Trade, Watermark
from schemas.topics import MARKET_EVENTS
from streams.datasets import open_data
from streams.datasets.partitions import merge
from streams.journal.batches import records_piece, recut
from tests.generated import universe

UNIVERSE = universe(("AA", "BB", "CC"))
IDS = [instrument.instrument_id for instrument in UNIVERSE.instruments]


def whole(known: Universe, streams: list[Iterator[MarketBatch]]) -> MarketBatch:
    """Return all that is merged as one batch."""
    (batch,) = recut(known, merge(known, streams), 10**9)
    return batch


@pytest.mark.parametrize("name", ["demo", "daily"])
@pytest.mark.parametrize("symbols", [["IBM", "SPY"], ["SPY", "IBM"]])
def test_instruments_in_partitions_of_their_own_come_as_in_the_data_set(
    name: str, symbols: list[str]
) -> None:
    data = open_data(name)
    first_ns, last_ns = data.range()
    end_ns = min(last_ns, first_ns + 600_000_000_000) if name == "demo" else None
    streams = [
        data.batches(size, symbols=[symbol], end_ns=end_ns)
        for size, symbol in zip((97, 1000), symbols, strict=True)
    ]

    found = whole(data.universe, streams)

    (wanted,) = data.batches(10**9, end_ns=end_ns)
    for ours, theirs in zip(
        (found.trades, found.quotes, found.bars),
        (wanted.trades, wanted.quotes, wanted.bars),
        strict=True,
    ):
        for column in ours.names():
            if column != "pos":
                assert np.array_equal(getattr(ours, column), getattr(theirs, column)), column
        assert np.array_equal(np.argsort(ours.pos), np.argsort(theirs.pos))
    kinds = [np.concatenate([b.trades.pos, b.quotes.pos, b.bars.pos]) for b in (found, wanted)]
    assert np.array_equal(np.argsort(kinds[0]), np.argsort(kinds[1]))


def event(at: int, instrument: int, number: int) -> Header:
    """Return a trade of one of the instruments, or a watermark."""
    if instrument == len(IDS):
        return Watermark(ts_event_ns=at, source="s", source_seq=number)
    return Trade(
        event_id="",
        ts_event_ns=at,
        instrument_id=IDS[instrument],
        source="s",
        source_seq=number,
        price=10.0,
        size=1.0,
    )


def told(batch: MarketBatch) -> list[int]:
    """Return the numbers of the events in their order."""
    rows: list[tuple[int, Any]] = [
        *zip(batch.trades.pos.tolist(), batch.trades.seq.tolist(), strict=True),
        *((pos, record.source_seq) for pos, _, record in batch.records),
    ]
    return [number for _, number in sorted(rows)]


EVENTS = st.lists(
    st.tuples(st.integers(1, 4), st.integers(0, len(IDS)), st.integers(0, 2)), max_size=30
)


@given(EVENTS, st.lists(st.integers(1, 5), min_size=3, max_size=3))
def test_cuts_never_show_and_partitions_keep_their_order(
    events: list[tuple[int, int, int]], sizes: list[int]
) -> None:
    parts: list[list[Header]] = [[], [], []]
    for number, (at, instrument, partition) in enumerate(events):
        parts[partition].append(event(at, instrument, number))

    def streams(cuts: list[int]) -> list[Iterator[MarketBatch]]:
        pieces = [
            [records_piece(UNIVERSE, [(MARKET_EVENTS, record) for record in part])] if part else []
            for part in parts
        ]
        return [recut(UNIVERSE, piece, cut) for piece, cut in zip(pieces, cuts, strict=True)]

    if not events:
        assert list(merge(UNIVERSE, streams(sizes))) == []
        return
    found = told(whole(UNIVERSE, streams(sizes)))

    assert found == told(whole(UNIVERSE, streams([100, 100, 100])))
    for part in parts:
        own = [record.source_seq for record in part]
        assert [number for number in found if number in own] == own
