"""Finds runs by name, and lists them."""

from __future__ import annotations

import contextlib
from pathlib import Path

from agents.runners.parity import read_manifest
from infra.settings import data_folder
from infra.times import format_time
from schemas.errors import ConfigError, MillraceError, NotFoundError
from streams.journal import JournalReader

_CANDIDATES_MAX = 10


def run_folder(name: str) -> Path:
    """Return the journal folder of the run that ``name`` names.

    In this order: the path of a run's folder or journal, the name of a folder under the data
    folder, a run id there, the beginning of exactly one of these names or ids. Raises NotFoundError
    for an unknown name, ConfigError for one that stands for several runs; both name candidates.
    """
    folder = _journal_in(Path(name)) if name else None
    if folder is not None:
        return folder
    runs = journals(data_folder())
    if name in runs:
        return runs[name]
    ids = {run: _run_id(journal) for run, journal in runs.items()}
    found = [run for run, run_id in ids.items() if run_id == name and name]
    if not found and name:
        found = [
            run for run, run_id in ids.items() if run.startswith(name) or run_id.startswith(name)
        ]
    if len(found) == 1:
        return runs[found[0]]
    if found:
        raise ConfigError(
            "the name stands for several runs",
            field="run",
            value=name,
            remedy=f"choose one of {_some(found)}",
        )
    raise NotFoundError(
        "run not found", field="run", value=name, remedy=f"there are {_some(list(runs))}"
    )


def list_runs(root: Path) -> list[str]:
    """Return a line for each run under ``root``: name, mode, first event, output hash."""
    lines = []
    for name, folder in journals(root).items():
        try:
            manifest = read_manifest(JournalReader(folder))
        except MillraceError as error:
            lines.append(f"{name}  unreadable: {error}")
            continue
        lines.append(
            f"{name:32} {manifest.mode:9} "
            f"{format_time(manifest.ts_event_ns)} {manifest.output_hash}"
        )
    return lines


def journals(root: Path) -> dict[str, Path]:
    """Return the journals under ``root`` by the name of their folder.

    A name with a dot in front is that of a backtest that is being written.
    """
    found = {}
    for folder in sorted((root / "runs").glob("*")):
        journal = None if folder.name.startswith(".") else _journal_in(folder)
        if journal is not None:
            found[folder.name] = journal
    return found


def _journal_in(folder: Path) -> Path | None:
    for journal in (folder / "journal", folder):
        # What the system cannot even look up (a name too long for it) is no folder.
        with contextlib.suppress(OSError):
            if journal.is_dir() and next(journal.glob("segment-*"), None) is not None:
                return journal
    return None


def _run_id(journal: Path) -> str:
    """Return the run id of a journal, empty if it cannot be read: it has its folder's name then."""
    try:
        return JournalReader(journal).run_id
    except MillraceError:
        return ""


def _some(names: list[str]) -> str:
    more = len(names) - _CANDIDATES_MAX
    shown = ", ".join(sorted(names)[:_CANDIDATES_MAX]) or "none"
    return f"{shown} and {more} more" if more > 0 else shown
