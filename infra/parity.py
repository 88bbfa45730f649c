"""``millrace parity``: is the session what its journal says; would a backtest do the same?

The re-run answers the first: the session's inputs in their recorded order through a new engine,
every output compared. The backtest answers the second: the session's market data in merged order,
without its operators, under the configured models; differences of decisions and fills are counted
by class.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.runners.engine import Engine
from agents.runners.parity import Rerun, engine_config, read_manifest, rerun
from agents.strategy.api import Strategy
from infra.display import progress_bar
from infra.settings import data_folder
from infra.strategies import known_strategies
from infra.tables import show_rerun
from infra.times import format_time
from schemas.control import RunManifest
from schemas.envelope import Header
from schemas.errors import MillraceError, NotFoundError
from schemas.order_events import Fill
from schemas.topics import ACCOUNT_INPUTS, ORDER_FILLS, STRATEGY_INPUTS
from streams.calendars import session_tables
from streams.journal import JournalReader, Kind


def run_folder(name: str) -> Path:
    """Return the journal folder of a run, by name under the data folder or by path."""
    for base in (Path(name), data_folder() / "runs" / name):
        for folder in (base / "journal", base):
            if (folder.is_dir() and any(folder.glob("*.log"))) or any(folder.glob("*.arrow")):
                return folder
    known = ", ".join(line.split()[0] for line in list_runs(data_folder())) or "none"
    raise NotFoundError(
        f"run {name} not found", field="run", value=name, remedy=f"there are {known}"
    )


def list_runs(root: Path) -> list[str]:
    """Return a line for each run under ``root``: name, mode, first event, output hash."""
    lines = []
    for folder in sorted((root / "runs").glob("*/journal")) if root.is_dir() else []:
        try:
            manifest = read_manifest(JournalReader(folder))
        except MillraceError as error:
            lines.append(f"{folder.parent.name}  unreadable: {error}")
            continue
        lines.append(
            f"{folder.parent.name:32} {manifest.mode:9} "
            f"{format_time(manifest.ts_event_ns)} {manifest.output_hash}"
        )
    return lines


def load_classes(manifest: RunManifest) -> dict[str, type[Strategy]]:
    """Return the classes of a manifest's strategies.

    Raises NotFoundError for one that is not installed.
    """
    classes = dict(known_strategies())
    for strategy in engine_config(manifest).strategies:
        if strategy.name not in classes:
            raise NotFoundError(
                f"strategy {strategy.name} not found",
                field="strategy",
                value=strategy.name,
                remedy="a session of a strategy file is re-run where the file is registered "
                "as an entry point",
            )
    return classes


def run_parity(name: str, *, is_json: bool, console: Console, errors: Console) -> int:
    """Print both comparisons of a session; return the exit status."""
    folder = run_folder(name)
    reader = JournalReader(folder)
    manifest = read_manifest(reader)
    classes = load_classes(manifest)
    with progress_bar(errors, "re-run") as bar:
        result = rerun(folder, session_tables, classes, bar.advance)
    against = backtest_against_live(folder, manifest, classes)
    if is_json:
        comparison = result.comparison
        report = {
            "rerun": {
                "records_compared": comparison.records_compared,
                "differences": comparison.differences,
                "recorded_hash": result.recorded_hash,
                "rerun_hash": result.rerun_hash,
            },
            "backtest_against_live": against,
        }
        print(json.dumps(report))
    else:
        console.print("[bold]re-run in recorded order[/bold]")
        show_rerun(console, result)
        console.print("[bold]backtest against live[/bold]")
        for key, count in against.items():
            console.print(f"{key:28} {count:,}", markup=False)
    return 0 if _is_equal(result) else 1


def _is_equal(result: Rerun) -> bool:
    return result.comparison.differences == 0


def backtest_against_live(
    folder: Path, manifest: RunManifest, classes: dict[str, type[Strategy]]
) -> dict[str, int]:
    """Run the session's market data in merged order without its operators.

    Count differing fills by class.
    """
    reader = JournalReader(folder)
    universe = reader.universe()
    first = min((item.first_ts_ns for item in manifest.inputs), default=0)
    last = max((item.last_ts_ns for item in manifest.inputs), default=0)
    engine = Engine(
        engine_config(manifest), universe, session_tables(universe, first, last), classes
    )
    backtest: dict[str, Fill] = {}
    out_of_order = 0
    for batch in reader.market_batches(universe):
        for table in (batch.trades, batch.quotes, batch.bars):
            out_of_order += int((table.ts < batch.clock[table.pos]).sum())
        _collect(engine.process(batch).records, backtest)
    _collect(engine.finish().records, backtest)
    live: dict[str, Fill] = {}
    operators: set[str] = set()
    for entry in reader.entries():
        if entry.kind is Kind.RECORDS:
            _collect(entry.records(frozenset({ORDER_FILLS})), live)
        elif entry.kind is Kind.BATCH:
            operators |= _operator_orders(entry.batch(universe).records)
    counts = {
        "fills live": len(live),
        "fills backtest": len(backtest),
        "equal": 0,
        "operator action": 0,
        "fill model": 0,
        "order of inputs": 0,
        "late data": out_of_order,
    }
    for order_id in sorted({*live, *backtest}):
        a, b = live.get(order_id), backtest.get(order_id)
        if (
            a is not None
            and b is not None
            and (a.ts_event_ns, a.price, a.quantity) == (b.ts_event_ns, b.price, b.quantity)
        ):
            counts["equal"] += 1
        elif order_id.split("#")[0] in operators:
            counts["operator action"] += 1
        elif a is not None and b is not None:
            counts["fill model"] += 1
        else:
            counts["order of inputs"] += 1
    return counts


def _collect(records: list[tuple[str, Header]], fills: dict[str, Fill]) -> None:
    for topic, record in records:
        if topic == ORDER_FILLS and isinstance(record, Fill):
            fills[f"{record.client_order_id}#{record.market_event_id}"] = record


def _operator_orders(records: list[tuple[int, str, Any]]) -> set[str]:
    """Return the client order ids of commands that came from outside."""
    return {
        record.client_order_id
        for _, topic, record in records
        if topic in (ACCOUNT_INPUTS, STRATEGY_INPUTS) and hasattr(record, "client_order_id")
    }
