"""``millrace parity`` of a session on Kafka, from the cluster or from a recording of its topics."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from agents.runners.kafka.cluster_log import ClusterLog, RecordedLog
from agents.runners.kafka.rerun import Mismatch, PartRerun, SessionLog, rerun_session
from infra.display import progress_bar
from infra.kafka.session import MODE, Session, manifests, session_of
from infra.origin import load_classes
from schemas.control import RunManifest
from schemas.envelope import Header
from schemas.topics import CATALOGUE, SYSTEM_RUNS
from streams.datasets.topics_folder import TopicsFolder
from streams.kafka.connection import Connection
from streams.kafka.ranges import PlaceReader
from streams.kafka.topics import check_counts


async def cluster_parity(
    connection: Connection, run_id: str, strategies: Sequence[str], errors: Console
) -> list[PartRerun]:
    """Run a session on the cluster again; raises NotFoundError if there is none."""
    known = await manifests(connection, run_id)
    session = _session(known, run_id, strategies)
    async with PlaceReader(connection) as reader:
        counts = await reader.counts(topic.name for topic in CATALOGUE)
    check_counts(counts)
    return await _rerun(ClusterLog(connection, session.instruments, counts), session, errors)


async def recorded_parity(
    folder: Path, run_id: str | None, strategies: Sequence[str], errors: Console
) -> list[PartRerun]:
    """Run a recorded session again: the one that is named, or the first of the recording."""
    topics = TopicsFolder(folder)
    found: list[RunManifest] = []
    for partition in range(topics.counts.get(SYSTEM_RUNS, 0)):
        for group in topics.records(SYSTEM_RUNS, partition):
            found += [r for _, r in group if isinstance(r, RunManifest) and r.mode == MODE]
    name = run_id or (found[0].run_id if found else "")
    session = _session([m for m in found if m.run_id == name], name, strategies)
    return await _rerun(RecordedLog(topics, session.instruments), session, errors)


def _session(known: list[RunManifest], run_id: str, strategies: Sequence[str]) -> Session:
    return session_of(known, run_id, load_classes(known[0], strategies) if known else {})


async def _rerun(log: SessionLog, session: Session, errors: Console) -> list[PartRerun]:
    specs = session.specs()
    with progress_bar(errors, "re-run") as bar:
        return await rerun_session(log, specs.values(), session.instruments, bar.advance)


def show_parity(found: Sequence[PartRerun], *, is_json: bool, console: Console) -> int:
    """Print what was found; return 0 if there is no difference, else 1."""
    differences = sum(item.differences for item in found)
    if is_json:
        parts = [{**item._asdict(), "first": _words(item.first)} for item in found]
        print(json.dumps({"differences": differences, "parts": parts}))
        return 0 if not differences else 1
    table = Table(box=None, pad_edge=False)
    for name in ("part", "inputs", "outputs compared", "differences", "not yet published"):
        table.add_column(name, justify="left" if name == "part" else "right")
    for item in found:
        cells = (item.inputs, item.compared, item.differences, item.unpublished)
        table.add_row(item.instance, *(f"{cell:,}" for cell in cells))
    console.print(table)
    for item in found:
        if item.first is not None:
            console.print(f"{item.instance}: {_words(item.first)}", markup=False, soft_wrap=True)
    compared = sum(item.compared for item in found)
    console.print(f"{compared:,} outputs compared, {differences:,} differences")
    return 0 if not differences else 1


def _words(mismatch: Mismatch | None) -> str:
    if mismatch is None:
        return ""
    return (
        f"on {mismatch.topic}/{mismatch.partition}: published {_record(mismatch.published)};"
        f" the re-run makes {_record(mismatch.made)}"
    )


def _record(record: Header | None) -> str:
    return "nothing" if record is None else msgspec.json.encode(record).decode()
