"""``millrace import``: market data into a folder that ``--data`` can name, with a report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from infra.display import progress_bar
from streams.importing import ImportReport, SourceKind, import_files

_NS = 1_000_000_000


def run_import(
    kind: SourceKind,
    path: Path,
    into: Path,
    symbols: tuple[str, ...],
    interval: str = "",
    is_bar_start: bool = False,
    calendar: str = "",
    *,
    console: Console,
    errors: Console,
) -> None:
    """Import and print the report; raises InputError for the data, StorageError for the folder."""
    seen: dict[str, int] = {}
    with progress_bar(errors, f"import {path.name}") as bar:

        def note(file: str, rows: int) -> None:
            bar.advance(rows - seen.get(file, 0))
            seen[file] = rows

        report = import_files(
            kind,
            path,
            into,
            symbols=symbols or None,
            interval=interval or None,
            is_bar_start=is_bar_start,
            calendar=calendar,
            on_progress=note,
        )
    for line in report_lines(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def report_lines(report: ImportReport) -> list[str]:
    """Return what an import did and found, for people."""
    quality = report.quality
    lines = [
        (
            f"{quality.rows_read:,} rows read: {report.rows_added:,} added to {report.folder}, "
            f"{report.rows_present:,} were there already, {quality.rows_rejected:,} rejected"
        ),
        f"instruments: {', '.join(report.instrument_ids)}",
    ]
    if report.actions_added:
        lines.append(f"{report.actions_added:,} corporate actions added")
    found = quality.warnings()
    if quality.gaps:
        found.append(f"the longest gap {quality.longest_gap_ns / _NS:,.0f} s")
    lines.append(f"quality: {'; '.join(found) if found else 'nothing found'}")
    if quality.reject_file:
        lines.append(f"rejected rows with their line numbers: {quality.reject_file}")
    return lines
