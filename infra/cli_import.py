"""``millrace import``: market data into a folder that ``--data`` can name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cyclopts import App, Parameter
from rich.console import Console

from infra.data import symbols_of
from streams.importing import SourceKind

import_app = App(name="import", help="Import market data into a folder that --data can name.")
console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


@Parameter(name="*")
@dataclass(frozen=True)
class _TableOptions:
    """What files with columns may be told.

    Parameters
    ----------
    into
        the folder of the imported set; importing twice adds nothing
    symbols
        comma-separated; all without it
    interval
        interval of bars; without it, the commonest step between them
    bar_start
        the timestamp of bars is their start; without it, their close
    calendar
        session calendar of symbols that are not known, such as XNYS; without it, they have none
    """

    into: Path
    symbols: str = ""
    interval: str = ""
    bar_start: bool = False
    calendar: str = ""


def _import(kind: SourceKind, path: str, asked: _TableOptions) -> None:
    from infra.imports import run_import

    run_import(
        kind,
        Path(path),
        asked.into,
        symbols_of(asked.symbols),
        asked.interval,
        asked.bar_start,
        asked.calendar,
        console=console,
        errors=errors,
    )


@import_app.command(name="lean")
def import_lean(path: str, *, into: Path, symbols: str = "") -> None:
    """Import LEAN zip files, or a folder of them.

    Parameters
    ----------
    path
        a zip file or a folder
    into
        the folder of the imported set; importing twice adds nothing
    symbols
        comma-separated; all without it
    """
    _import("lean", path, _TableOptions(into, symbols))


@import_app.command(name="csv")
def import_csv(path: str, *, asked: _TableOptions) -> None:
    """Import a CSV file.

    Parameters
    ----------
    path
        the file
    """
    _import("csv", path, asked)


@import_app.command(name="parquet")
def import_parquet(path: str, *, asked: _TableOptions) -> None:
    """Import a Parquet file.

    Parameters
    ----------
    path
        the file
    """
    _import("parquet", path, asked)
