"""The scheduled jobs of a process that serves the API: snapshot, reconcile, report, retention."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from agents.runners.local import LocalRunner
from agents.runners.parity import read_manifest
from infra.runs import journals
from infra.scheduler import NS, Job
from schemas.errors import InvariantError, MillraceError
from schemas.values import ZERO
from streams.journal import JournalReader
from web.answers import encode
from web.context import Context
from web.reports import day_report

SNAPSHOT_S = 300.0
RECONCILE_S = 300.0
RETENTION_S = 3600.0
_REPORT_AT_S = 22 * 3600
_STALE_S = 3600.0
_SHOWN = 5


def jobs(
    context: Context, runner: LocalRunner | None, reports: Path, root: Path, retention_days: float
) -> list[Job]:
    """Return the jobs over an app's read models.

    ``runner`` is the engine in this process, None where workers run it. Reports go to ``reports``;
    ``root`` is the data folder with the runs of backtests, which are kept ``retention_days``, 0 for
    ever.
    """
    found = [
        Job(
            "end-of-day-report",
            "writes accounts, results, orders and risk of the day to a file",
            _report(context, reports),
            at_s=_REPORT_AT_S,
        ),
        Job(
            "reconcile",
            "compares positions with the fills behind them, and with the engine's",
            _reconcile(context, runner),
            every_s=RECONCILE_S,
        ),
        Job(
            "retention",
            "removes what killed backtests left, and backtests older than they are kept",
            _retention(root, retention_days),
            every_s=RETENTION_S,
        ),
    ]
    if runner is not None:
        found.append(
            Job(
                "snapshot",
                "saves the state of the engine for a quick restart",
                _snapshot(runner),
                every_s=SNAPSHOT_S,
            )
        )
    return found


def _snapshot(runner: LocalRunner) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        runner.save()
        return f"saved behind {runner.engine.events:,} events"

    return work


def _reconcile(context: Context, runner: LocalRunner | None) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        differences = reconcile(context, runner)
        count = len(context.views.portfolio.positions)
        if differences:
            shown = "; ".join(differences[:_SHOWN])
            raise InvariantError(f"{len(differences)} differences: {shown}")
        beside = "" if runner is None else " and with the engine"
        return f"{count} positions agree with their fills{beside}"

    return work


def reconcile(context: Context, runner: LocalRunner | None) -> list[str]:
    """Return where positions of the read models differ from their fills, and from the engine's."""
    views = context.views
    found = []
    for key, position in sorted(views.portfolio.positions.items()):
        lots = sum((quantity for quantity, _ in views.lots.of(key)), ZERO)
        if lots != position.quantity:
            found.append(f"{'/'.join(key)}: position {position.quantity}, fills {lots}")
    if runner is None:
        return found
    for account_id, account in sorted(runner.engine.account.accounts.items()):
        net = views.portfolio.net_of(account_id)
        for instrument_id, holding in sorted(account.holdings.items()):
            shown = net.get(instrument_id, ZERO)
            if shown != holding.quantity:
                found.append(
                    f"{account_id}/{instrument_id}: shown {shown}, engine {holding.quantity}"
                )
        rows = (row for row in views.orders.newest_first() if row.account_id == account_id)
        is_shown = {row.client_order_id for row in rows if row.is_open}
        for order_id in sorted(is_shown ^ set(account.open_orders)):
            where = "shown" if order_id in is_shown else "in the engine"
            found.append(f"{account_id}: order {order_id} is open {where} alone")
    return found


def _report(context: Context, folder: Path) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        report = await day_report(context)
        path = folder / f"{report.day}.json"
        content = msgspec.json.format(encode(report), indent=2)
        await asyncio.to_thread(_write, path, content)
        return f"wrote {path}"

    return work


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".partial")
    draft.write_bytes(content + b"\n")
    draft.replace(path)


def _retention(root: Path, days: float) -> Callable[[], Awaitable[str]]:
    async def work() -> str:
        return await asyncio.to_thread(clean, root, days, time.time_ns())

    return work


def clean(root: Path, days: float, now_ns: int) -> str:
    """Remove what nobody needs below ``root``; return a line about it.

    These are drafts of backtests whose process is gone, and with ``days`` above 0 finished
    backtests that are older. Sessions are never removed.
    """
    drafts = old = 0
    for draft in (root / "runs").glob(".*.partial"):
        if now_ns - draft.stat().st_mtime_ns > _STALE_S * NS:
            shutil.rmtree(draft, ignore_errors=True)
            drafts += 1
    for journal in journals(root).values() if days > 0 else ():
        if now_ns - journal.stat().st_mtime_ns > days * 86_400 * NS and _is_backtest(journal):
            shutil.rmtree(journal.parent, ignore_errors=True)
            old += 1
    kept = f"backtests are kept {days:g} days" if days > 0 else "backtests are kept for ever"
    return f"removed {drafts} drafts and {old} backtests; {kept}"


def _is_backtest(journal: Path) -> bool:
    if journal.name != "journal":
        return False
    try:
        return read_manifest(JournalReader(journal)).mode == "backtest"
    except MillraceError:
        return False
