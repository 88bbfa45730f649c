"""``millrace parity``: is the run what its journal says; would a backtest do the same?

The re-run answers the first: the run's inputs in their recorded order through a new engine, every
output compared. The backtest answers the second: the session's data without its operators, under
the configured models; fills that differ are counted by class.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from rich.console import Console

from agents.runners.divergence import CLASSES, Divergence, backtest_against_live
from agents.runners.parity import Rerun, new_engine, read_manifest, rerun, rerun_backtest
from infra.display import progress_bar
from infra.origin import load_classes, open_origin
from infra.runs import list_runs, run_folder
from infra.tables import show_rerun
from infra.times import format_time
from schemas.control import RunManifest
from schemas.order_events import Fill
from streams.calendars import session_tables
from streams.journal import JournalReader

__all__ = ["list_runs", "load_classes", "run_folder", "run_parity"]

BACKTEST = "backtest"
NOT_LIVE = "does not apply: this run is a backtest, there is no live session to compare it with"


def run_parity(
    name: str,
    *,
    is_json: bool,
    console: Console,
    errors: Console,
    strategies: Sequence[str] = (),
    data: str = "",
) -> int:
    """Print both comparisons of a run; return 0 if the re-run has no differences, else 1.

    ``strategies`` are strategy files as path/to/file.py:Class, ``data`` is the data of a backtest;
    both win over what the run's manifest names. Raises MillraceError for what cannot be run again.
    """
    reader = JournalReader(run_folder(name), is_frozen=True)
    manifest = read_manifest(reader)
    classes = load_classes(manifest, strategies)
    against: Divergence | None = None
    with progress_bar(errors, "re-run") as bar:
        if manifest.mode == BACKTEST:
            source, origin = open_origin(manifest, data)
            batches = source.batches(
                start_ns=origin.start_ns, end_ns=origin.end_ns, symbols=origin.symbols or None
            )
            result = rerun_backtest(
                reader.folder, source.universe, session_tables, classes, batches, bar.advance
            )
        else:
            result = rerun(reader.folder, session_tables, classes, bar.advance)
            universe = reader.universe()
            engine = new_engine(manifest, universe, session_tables, classes)
            against = backtest_against_live(reader, universe, engine)
    if is_json:
        print(json.dumps({"rerun": _rerun_values(result), **_against_values(against)}))
    else:
        _show(console, manifest, result, against)
    return 0 if result.comparison.differences == 0 else 1


def end_lines(result: Rerun) -> list[str]:
    """Return a line for each way in which the journal does not end whole."""
    lines = []
    if result.torn_bytes:
        lines.append(
            f"torn tail: the last {result.torn_bytes:,} bytes of the journal are no whole entry;"
            " nothing of them was compared"
        )
    if result.events_left_out is not None:
        lines.append(
            "the journal ends in the middle of a turn: the outputs of its last"
            f" {result.events_left_out:,} events are left out as far as they were not written"
            if result.events_left_out
            else "the journal ends while its session was being finished (0 events left out)"
        )
    return lines


def _show(
    console: Console, manifest: RunManifest, result: Rerun, against: Divergence | None
) -> None:
    order = "over the same data" if manifest.mode == BACKTEST else "in recorded order"
    console.print(f"[bold]re-run {order}[/bold]")
    show_rerun(console, result)
    for line in end_lines(result):
        console.print(line, markup=False, soft_wrap=True)
    console.print("[bold]backtest against live[/bold]")
    if against is None:
        console.print(NOT_LIVE, soft_wrap=True)
        return
    for key, count in _counts(against).items():
        console.print(f"{key:18} {count:,}", markup=False)
    for key, found in against.classes.items():
        console.print(f"{key:18} {found.fills:,}  ({CLASSES[key]})", markup=False, soft_wrap=True)
        if found.fills:
            text = f"  first: live {_shown(found.live)}; backtest {_shown(found.backtest)}"
            console.print(text, markup=False, soft_wrap=True)


def _shown(fill: Fill | None) -> str:
    if fill is None:
        return "nothing"
    return (
        f"{fill.client_order_id} {fill.side.name} {fill.quantity} {fill.instrument_id}"
        f" at {fill.price}, fee {fill.fee}, {format_time(fill.ts_event_ns)}"
    )


def _counts(against: Divergence) -> dict[str, int]:
    return {
        "fills live": against.fills_live,
        "fills backtest": against.fills_backtest,
        "equal": against.equal,
        "late events": against.late_events,
    }


def _rerun_values(result: Rerun) -> dict[str, Any]:
    return {
        "records_compared": result.comparison.records_compared,
        "differences": result.comparison.differences,
        "recorded_hash": result.recorded_hash,
        "rerun_hash": result.rerun_hash,
        "events_left_out": result.events_left_out,
        "torn_bytes": result.torn_bytes,
    }


def _against_values(against: Divergence | None) -> dict[str, Any]:
    if against is None:
        return {"backtest_against_live": None, "reason": NOT_LIVE}
    classes = {
        key: {
            "count": found.fills,
            "first": {"live": _shown(found.live), "backtest": _shown(found.backtest)}
            if found.fills
            else None,
        }
        for key, found in against.classes.items()
    }
    return {"backtest_against_live": {**_counts(against), "classes": classes}}
