"""``millrace import``: market data into a folder that ``--data`` can name, with a report."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from streams.importing import import_files

from infra.display import progress_bar


def run_import(
    kind: str,
    path: Path,
    into: Path,
    symbols: tuple[str, ...],
    *,
    console: Console,
    errors: Console,
) -> None:
    """Import and print the report; raises InputError for the data, StorageError for the folder."""
    with progress_bar(errors, "import") as bar:
        report = import_files(kind, path, into, symbols=symbols or None, on_progress=bar.advance)
    for line in report.lines():
        console.print(line, markup=False, soft_wrap=True)
