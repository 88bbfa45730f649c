"""Market data that cannot be worked with: no stage but the one that reports it meets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agents.runners.engine import Engine, Outputs
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.recorder import SNAPSHOT
from agents.runners.replay import Identity, manifest_of
from agents.strategy.builtin import BUILTIN
from schemas.columns import MarketBatch, TradeColumns, merge
from schemas.enums import QualityKind
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.market_data import DataQuality
from schemas.order_events import Fill
from schemas.topics import PORTFOLIO_EQUITY
from streams.journal import JournalReader, Kind
from tests.generated import cut, session, universe
from tests.simulation.live_process import engine_config

BAD = [(-5.0, 1.0), (np.nan, 1.0), (1e300, 1.0), (np.inf, 1.0), (100.0, 1e16), (100.0, -1.0)]


def spoiled(known: Universe, batch: MarketBatch) -> MarketBatch:
    """Return a session with trades in between that cannot be worked with."""
    times = batch.trades.ts[50 :: len(batch.trades) // (2 * len(BAD))][: len(BAD)]
    count = len(times)
    assert count == len(BAD)
    bad = TradeColumns(
        pos=np.arange(count),
        ts=times,
        instrument=np.zeros(count, np.int32),
        source=np.full(count, known.source_index("bad"), np.int32),
        seq=np.arange(count),
        price=np.array([price for price, _ in BAD]),
        size=np.array([size for _, size in BAD]),
    )
    tables = [t.moved(np.arange(len(t))) for t in (batch.trades, batch.quotes)]
    return merge(known, [*tables, bad], [(topic, r) for _, topic, r in batch.records])


def run(known: Universe, batch: MarketBatch, size: int) -> tuple[list[Any], list[Any], int]:
    """Return fills, equity and the number of trades that were reported as left out."""
    engine = Engine(engine_config(), known, {}, BUILTIN)
    records: list[Header] = []
    equity: list[Any] = []
    for outputs in [*(engine.process(part) for part in cut(batch, size)), engine.finish()]:
        records += [record for _, record in outputs.records]
        for topic, table in outputs.tables:
            if topic == PORTFOLIO_EQUITY:
                equity += zip(table.ts.tolist(), table.equity.tolist(), strict=True)  # type: ignore[attr-defined]
    left_out = sum(
        r.count for r in records if isinstance(r, DataQuality) and r.kind is QualityKind.INVALID
    )
    return [record for record in records if isinstance(record, Fill)], equity, left_out


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_run_is_as_if_what_cannot_be_worked_with_were_not_there(size: int) -> None:
    known = universe()
    sound = session(known, 300)

    fills, equity, left_out = run(known, spoiled(known, sound), size)

    wanted_fills, wanted_equity, none = run(known, sound, size)
    assert (left_out, none) == (len(BAD), 0)
    assert len(fills) > 3
    assert fills == wanted_fills
    assert equity == wanted_equity


def test_state_of_a_run_that_an_error_ended_is_not_saved(tmp_path: Path) -> None:
    """It would be that of half a batch, and a restart would go on behind the other half."""
    known, config = universe(), engine_config()
    feed = RecordingFeed(iter(cut(session(known, 300), 100)), speed=0, first_ns=0)
    manifest = manifest_of(config, [], Identity("test", "test"), "run", "paper")
    engine = Engine(config, known, {}, BUILTIN)
    runner = LocalRunner(engine, feed, tmp_path, manifest, snapshot_interval_s=1000.0)
    runner.turn()

    class Broken(Exception):  # noqa: N818 - not an error of ours
        pass

    def process(batch: MarketBatch) -> Outputs:
        raise Broken(batch)

    engine.process = process  # type: ignore[method-assign]
    with pytest.raises(Broken):
        runner.turn()
    runner.close()

    entries = JournalReader(tmp_path).entries()
    marks = [entry.mark() for entry in entries if entry.kind is Kind.MARK]
    assert SNAPSHOT not in [name for name, _ in marks]
