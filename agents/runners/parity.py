"""Parity: a recorded run made again, and every record compared.

The journal of a session holds its inputs in the order in which they were consumed, operators'
commands among them. Running them through a new engine of the same configuration must give the same
outputs, record by record. The journal of a backtest holds outputs only; its inputs are read again
from the data that its manifest names.

A session that was killed may end in the middle of a turn: the input is there, the last of its
outputs are not. What was never written cannot differ, so it is left out and counted.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec

from agents.runners.engine import Engine, EngineConfig, Outputs
from agents.runners.recorder import FINISH, Recorder
from agents.runners.replay import MANIFEST
from agents.strategy.api import Strategy
from schemas.columns import MarketBatch
from schemas.control import RunManifest
from schemas.errors import JournalError
from schemas.instruments import Universe
from schemas.sessions import SessionTable
from schemas.topics import CATALOGUE, REFERENCE_INSTRUMENTS
from streams.journal import Comparison, Entry, JournalReader, JournalWriter, Kind, compare

Sessions = Callable[[Universe, int, int], Mapping[str, SessionTable]]
Progress = Callable[[int], None]
_OUTPUTS = frozenset(
    topic.name
    for topic in CATALOGUE
    if not topic.name.startswith(
        ("backtest.", "reference.", "system.runs", "system.audit", "control.")
    )
)


class Rerun(NamedTuple):
    """The result of making a run again.

    ``events_left_out`` counts the input events of a last turn whose outputs were not all written,
    None if the journal ends with a whole turn. ``torn_bytes`` stand behind its last whole entry.
    """

    comparison: Comparison
    recorded_hash: str
    rerun_hash: str
    events: int
    events_left_out: int | None = None
    torn_bytes: int = 0


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


def input_span(manifest: RunManifest) -> tuple[int, int]:
    """Return the first and the last instant of a run's inputs (int64 ns UTC), 0 without any."""
    first_ns = min((item.first_ts_ns for item in manifest.inputs), default=0)
    last_ns = max((item.last_ts_ns for item in manifest.inputs), default=0)
    return first_ns, last_ns


def new_engine(
    manifest: RunManifest,
    universe: Universe,
    sessions: Sessions,
    classes: Mapping[str, type[Strategy]],
) -> Engine:
    """Return an engine as the run had it at its beginning."""
    tables = sessions(universe, *input_span(manifest))
    return Engine(engine_config(manifest), universe, tables, classes)


def rerun(
    folder: Path,
    sessions: Sessions,
    classes: Mapping[str, type[Strategy]],
    on_progress: Progress | None = None,
) -> Rerun:
    """Run the session in ``folder`` again in its recorded order and compare every output.

    One that goes on is compared as far as it had come at the beginning.
    """
    reader = JournalReader(folder, is_frozen=True)
    manifest = read_manifest(reader)
    universe = reader.universe()
    engine = new_engine(manifest, universe, sessions, classes)
    with _journal_again(manifest.run_id) as (again, writer):
        recorder = Recorder(writer, universe)
        recorder.write_side([(REFERENCE_INSTRUMENTS, item) for item in universe.instruments])
        turns = _Turns(engine, recorder, Recorder(None, universe), on_progress)
        for entry in reader.entries():
            turns.take(entry)
        left_out = turns.end()
        writer.flush()
        return _result(reader, again, turns.recorded, recorder, engine.events, left_out)


def rerun_backtest(
    folder: Path,
    universe: Universe,
    sessions: Sessions,
    classes: Mapping[str, type[Strategy]],
    batches: Iterable[MarketBatch],
    on_progress: Progress | None = None,
) -> Rerun:
    """Run the backtest in ``folder`` again over ``batches``, its data, and compare every output."""
    reader = JournalReader(folder, is_frozen=True)
    manifest = read_manifest(reader)
    engine = new_engine(manifest, universe, sessions, classes)
    recorded = Recorder(None, universe)
    for entry in reader.entries():
        _hash_outputs(recorded, entry)
    with _journal_again(manifest.run_id) as (again, writer):
        recorder = Recorder(writer, universe)
        for batch in batches:
            recorder.write(engine.process(batch))
            if on_progress is not None:
                on_progress(len(batch))
        recorder.write(engine.finish())
        writer.flush()
        return _result(reader, again, recorded, recorder, engine.events, None)


@contextmanager
def _journal_again(run_id: str) -> Iterator[tuple[Path, JournalWriter]]:
    """Yield folder and writer of a journal that lives as long as the block."""
    with tempfile.TemporaryDirectory(prefix="millrace-parity-") as name:
        again = Path(name) / "journal"
        with JournalWriter.open(again, run_id=run_id, sync_interval_s=None) as writer:
            yield again, writer


def _result(
    reader: JournalReader,
    again: Path,
    recorded: Recorder,
    recorder: Recorder,
    events: int,
    left_out: int | None,
) -> Rerun:
    assert recorder.hasher is not None  # both recorders hash
    assert recorded.hasher is not None
    tail = reader.torn_tail
    return Rerun(
        compare(reader, JournalReader(again), sorted(_OUTPUTS)),
        recorded.hasher.hexdigest(),
        recorder.hasher.hexdigest(),
        events,
        left_out,
        tail.bytes_cut if tail is not None else 0,
    )


def _hash_outputs(recorded: Recorder, entry: Entry) -> Counter[str]:
    """Hash the outputs that an entry holds, and return how many there are of each topic."""
    if entry.kind is Kind.COLUMNS:
        table = entry.table(recorded.universe)
        recorded.hash_table(entry.topic, table)
        return Counter({entry.topic: len(table)})
    if entry.kind is Kind.RECORDS:
        kept = [item for item in entry.records() if item[0] in _OUTPUTS]
        recorded.hash_records(kept)
        return Counter(topic for topic, _ in kept)
    return Counter()


class _Turns:
    """Takes the entries of a session and makes its turns again, one behind the journal.

    The outputs of a turn are written when the next entry that is no output shows that the journal
    has them all; those of the last turn only as far as the journal goes.
    """

    def __init__(
        self,
        engine: Engine,
        recorder: Recorder,
        recorded: Recorder,
        on_progress: Progress | None,
    ) -> None:
        self.recorded = recorded
        self._engine = engine
        self._recorder = recorder
        self._on_progress = on_progress
        self._made = Outputs([], [])
        self._events = 0
        self._found: list[Counter[str]] = []

    def take(self, entry: Entry) -> None:
        """Take the next entry of the session."""
        found = _hash_outputs(self.recorded, entry)
        if found:
            self._found.append(found)
            return
        self._close()
        if entry.kind is Kind.BATCH:
            batch = entry.batch(self.recorded.universe)
            self._recorder.consume(batch)
            self._made, self._events = self._engine.process(batch), len(batch)
            if self._on_progress is not None:
                self._on_progress(len(batch))
        elif entry.kind is Kind.MARK and entry.mark()[0] == FINISH:
            self._made = self._engine.finish()

    def end(self) -> int | None:
        """Write the last turn; return how many input events it has if it was cut off."""
        tables = [(topic, table) for topic, table in self._made.tables if len(table)]
        parts = [Counter({topic: len(table)}) for topic, table in tables]
        if self._made.records:
            parts.append(Counter(topic for topic, _ in self._made.records))
        # Entries are written whole and in this order, so a cut leaves the first of them, equal
        # each. Anything else is a difference, which the comparison finds.
        count = len(self._found)
        events = self._events
        is_cut = count < len(parts) and self._found == parts[:count]
        if is_cut:
            # The records come last, so a cut always takes them.
            self._made = Outputs([], tables[:count])
        self._close()
        return events if is_cut else None

    def _close(self) -> None:
        self._recorder.write(self._made)
        self._made, self._events, self._found = Outputs([], []), 0, []
