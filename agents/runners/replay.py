"""Replay: history through the engine at full speed, into a journal, with metrics and a manifest.

A backtest is nothing else than this. The journal of a replay holds what came out; what went in is
named in the manifest by source, range and content hash. Corporate actions and exchange rates are in
the journal too: they are few, and without them nobody could say what a position was paid.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from agents.domain.metrics import Metrics
from agents.runners.engine import Engine, EngineConfig, Outputs
from agents.runners.recorder import Recorder
from agents.runners.results import Files, OrderTally, Results
from agents.strategy.api import Strategy
from schemas.columns import Ints, MarketBatch
from schemas.control import InputRange, RunManifest
from schemas.envelope import SCHEMA_VERSION, Header
from schemas.identifiers import content_hash
from schemas.instruments import CorporateAction, ExchangeRate, Universe
from schemas.sessions import SessionTable
from schemas.topics import CATALOGUE, REFERENCE_ACTIONS, REFERENCE_RATES
from schemas.values import ZERO
from streams.journal import JournalWriter

Progress = Callable[[int], None]
MANIFEST = "manifest"


class ReplayResult(NamedTuple):
    """A finished replay."""

    manifest: RunManifest
    metrics: Metrics
    events: int
    denials: dict[str, int]
    digests: dict[str, str]
    orders: OrderTally


class Identity(NamedTuple):
    """What names the code that runs: version and hash of the sources."""

    engine_version: str
    code_hash: str


def manifest_of(
    config: EngineConfig, inputs: list[InputRange], identity: Identity, run_id: str, mode: str
) -> RunManifest:
    """Return the manifest of a run that is about to begin.

    Equal manifests give equal output hashes.
    """
    plain = msgspec.to_builtins(config, str_keys=True)
    return RunManifest(
        event_id=f"run:{run_id}:0",
        ts_event_ns=inputs[0].first_ts_ns if inputs else 0,
        run_id=run_id,
        mode=mode,
        engine_version=identity.engine_version,
        code_hash=identity.code_hash,
        config_hash=content_hash(msgspec.json.encode(plain, order="sorted")),
        config=plain,
        schema_versions={topic.name: SCHEMA_VERSION for topic in CATALOGUE},
        inputs=inputs,
        seed=config.seed,
    )


def replay(
    config: EngineConfig,
    universe: Universe,
    sessions: Mapping[str, SessionTable],
    classes: Mapping[str, type[Strategy]],
    batches: Iterable[MarketBatch],
    manifest: RunManifest,
    *,
    day_of: Callable[[Ints], Ints],
    journal: Path | None = None,
    out: Path | None = None,
    on_progress: Progress | None = None,
    on_outputs: Callable[[Outputs], None] | None = None,
) -> ReplayResult:
    """Run ``batches`` through the engine and return what came of it.

    ``journal`` is the folder of the run's journal, ``out`` a folder for CSV files. ``on_progress``
    is called with the number of events of each batch. Raises StorageError if a folder cannot be
    written.
    """
    engine = Engine(config, universe, sessions, classes)
    account = config.accounts.accounts[0]
    results = Results(
        universe,
        account.account_id,
        account.cash,
        day_of,
        Files(out) if out is not None else None,
        trade_from_ns=min((item.trade_from_ns for item in config.strategies), default=0),
    )
    writer = (
        JournalWriter.open(journal, run_id=manifest.run_id, sync_interval_s=None, is_sealing=False)
        if journal is not None
        else None
    )
    recorder = Recorder(writer, universe)
    was_collecting = gc.isenabled()
    # Records are not tracked by the collector, so its passes over the heap find nothing and cost
    # time.
    gc.disable()
    try:
        if writer is not None:
            writer.append_mark(MANIFEST, msgspec.json.encode(manifest))
        for batch in batches:
            results.see_input(batch)
            recorder.write_side(_reference(batch))
            outputs = engine.process(batch)
            _check_strategies(engine)
            recorder.write(outputs)
            results.apply(outputs)
            if on_outputs is not None:
                on_outputs(outputs)
            if on_progress is not None:
                # Prices, as the inputs count them; corporate actions come beside.
                on_progress(len(batch) - len(batch.records))
        outputs = engine.finish()
        _check_strategies(engine)
        recorder.write(outputs)
        results.apply(outputs)
        if on_outputs is not None:
            on_outputs(outputs)
        assert recorder.hasher is not None  # a replay is always hashed
        for account_state in engine.account.accounts.values():
            results.add_dividends(
                sum((p.dividends for p in account_state.positions.values()), ZERO)
            )
        done = msgspec.structs.replace(
            manifest,
            counts=dict(sorted(recorder.hasher.counts.items())),
            output_hash=recorder.hasher.hexdigest(),
        )
        if writer is not None:
            writer.append_mark(MANIFEST, msgspec.json.encode(done))
            writer.flush()
        return ReplayResult(
            done,
            results.metrics(),
            engine.events,
            results.denials,
            recorder.hasher.topic_digests(),
            results.orders,
        )
    finally:
        results.close()
        if writer is not None:
            writer.close()
        if was_collecting:
            gc.enable()


def _reference(batch: MarketBatch) -> list[tuple[str, Header]]:
    """Return the corporate actions and exchange rates of a batch, by their topics."""
    found: list[tuple[str, Header]] = []
    for _, _, record in batch.records:
        if isinstance(record, CorporateAction):
            found.append((REFERENCE_ACTIONS, record))
        elif isinstance(record, ExchangeRate):
            found.append((REFERENCE_RATES, record))
    return found


def _check_strategies(engine: Engine) -> None:
    """Raise the error of a strategy that failed: a backtest of it would mean nothing."""
    for instance in engine.strategies.failures:
        if instance.failure is not None:
            raise instance.failure
