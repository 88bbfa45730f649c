"""Parity: a recorded session run again in its recorded order, and every record compared.

The journal of a session holds its inputs in the order in which they were consumed, operators'
commands among them. Running them through a new engine of the same configuration must give the same
outputs, record by record.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec

from agents.runners.engine import Engine, EngineConfig
from agents.runners.recorder import FINISH, Recorder
from agents.runners.replay import MANIFEST
from agents.strategy.api import Strategy
from schemas.control import RunManifest
from schemas.errors import JournalError
from schemas.instruments import Universe
from schemas.sessions import SessionTable
from schemas.topics import CATALOGUE, REFERENCE_INSTRUMENTS
from streams.journal import Comparison, JournalReader, JournalWriter, Kind, compare

_OUTPUTS = frozenset(
    topic.name
    for topic in CATALOGUE
    if not topic.name.startswith(("backtest.", "reference.", "system.runs", "control."))
)


class Rerun(NamedTuple):
    """The result of running a session again."""

    comparison: Comparison
    recorded_hash: str
    rerun_hash: str
    events: int


def read_manifest(reader: JournalReader) -> RunManifest:
    """Return the newest manifest of a journal; raises JournalError if it has none."""
    mark = reader.last_mark(MANIFEST)
    if mark is None:
        raise JournalError(
            "the journal has no manifest",
            field="folder",
            value=str(reader.folder),
            remedy="it is not the journal of a run",
        )
    return msgspec.json.decode(mark[1], type=RunManifest)


def engine_config(manifest: RunManifest) -> EngineConfig:
    """Return the configuration that a manifest holds."""
    return msgspec.convert(manifest.config, EngineConfig, strict=False)


def rerun(
    folder: Path,
    sessions: Callable[[Universe, int, int], Mapping[str, SessionTable]],
    classes: Mapping[str, type[Strategy]],
    on_progress: Callable[[int], None] | None = None,
) -> Rerun:
    """Run the session in ``folder`` again in its recorded order and compare every output."""
    reader = JournalReader(folder)
    manifest = read_manifest(reader)
    universe = reader.universe()
    first = min((item.first_ts_ns for item in manifest.inputs), default=0)
    last = max((item.last_ts_ns for item in manifest.inputs), default=0)
    engine = Engine(engine_config(manifest), universe, sessions(universe, first, last), classes)
    with tempfile.TemporaryDirectory(prefix="millrace-parity-") as name:
        again = Path(name) / "journal"
        with JournalWriter.open(again, run_id=manifest.run_id, sync_interval_s=None) as writer:
            recorder = Recorder(writer, universe)
            recorded = Recorder(None, universe)
            recorder.write_side([(REFERENCE_INSTRUMENTS, item) for item in universe.instruments])
            for entry in reader.entries():
                if entry.kind is Kind.BATCH:
                    batch = entry.batch(universe)
                    recorder.consume(batch)
                    recorder.write(engine.process(batch))
                    if on_progress is not None:
                        on_progress(len(batch))
                elif entry.kind is Kind.MARK and entry.mark()[0] == FINISH:
                    recorder.write(engine.finish())
                elif entry.kind is Kind.COLUMNS:
                    recorded.hash_table(entry.topic, entry.table(universe))
                elif entry.kind is Kind.RECORDS:
                    recorded.hash_records([item for item in entry.records() if item[0] in _OUTPUTS])
            writer.flush()
            comparison = compare(reader, JournalReader(again), sorted(_OUTPUTS))
        assert recorder.hasher is not None  # both recorders hash
        assert recorded.hasher is not None
        return Rerun(
            comparison, recorded.hasher.hexdigest(), recorder.hasher.hexdigest(), engine.events
        )
