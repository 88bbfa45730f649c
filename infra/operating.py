"""What a process that serves the API tells of itself: health, settings, version, jobs."""

from __future__ import annotations

import platform
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from agents.runners.live_feed import LiveFeed
from agents.runners.local import LocalRunner
from infra.backtest_agent import Asked, BacktestAgent
from infra.identity import identity
from infra.jobs import jobs
from infra.scheduler import Scheduler
from infra.settings import Settings
from schemas.control import BacktestRequest
from schemas.envelope import SCHEMA_VERSION
from streams.history import Storage
from web.context import Context
from web.operations import Component, Operations, StorageState, Version
from web.views.backtests import Backtests

_SECRET = re.compile(r"password|secret|token|credential|api_?key|^key$|dsn", re.IGNORECASE)
_MASK = "***"


def operations(settings: Settings, storage: Storage | None = None) -> Operations:
    """Return what is known before the app is made: settings, secrets masked, version, storage."""
    known = identity()
    version = Version(
        known.engine_version, known.code_hash, SCHEMA_VERSION, platform.python_version()
    )
    known_settings = masked(msgspec.to_builtins(settings))
    if storage is None:
        return Operations(settings=known_settings, version=version)
    return Operations(
        settings=known_settings,
        version=version,
        storage=lambda: _storage_state(storage),
        holds_run=lambda: storage.holds_run,
    )


def _storage_state(storage: Storage) -> StorageState:
    state = storage.state()
    detail = state.status
    if state.is_ready or state.lag:  # Else nobody has been able to count them.
        detail += f", {state.lag:,} records not stored yet"
    if state.last_error:
        detail += f"; {state.last_error}"
    return StorageState(state.tier, state.is_ready, detail)


def masked(values: Any) -> Any:
    """Return settings with every value of a secret's name masked, an empty one as it is."""
    if isinstance(values, list):
        return [masked(item) for item in values]
    if not isinstance(values, dict):
        return values
    return {
        key: _MASK if _is_secret(key, value) else masked(value) for key, value in values.items()
    }


def _is_secret(name: str, value: Any) -> bool:
    return bool(_SECRET.search(name) and value) and not isinstance(value, dict)


class Operating:
    """The scheduler and the probes of a process, begun with ``start`` and ended with ``stop``."""

    def __init__(
        self,
        context: Context,
        agent: BacktestAgent,
        settings: Settings,
        *,
        runner: LocalRunner | None,
        reports: Path,
        root: Path,
    ) -> None:
        days = settings.run.retention_days
        self._scheduler = Scheduler(jobs(context, runner, reports, root, days), time.time_ns)
        context.operations.jobs = self._scheduler
        self._agent, self._backtests = agent, context.views.backtests
        context.operations.components.append(lambda: _agent(agent))
        if runner is not None:
            context.operations.components.append(lambda: _engine(runner))
            context.operations.feed = lambda: market_fault(runner)
            context.operations.feed_again = runner.feed_again

    def start(self) -> None:
        """Begin to run jobs, and end the backtests that a process before this one has left."""
        self._agent.take_over(left_of(self._backtests))
        self._scheduler.start()

    async def stop(self) -> None:
        """Stop them."""
        await self._scheduler.stop()


def left_of(backtests: Backtests) -> Iterator[Asked]:
    """Yield the requests on the log that have no result."""
    for row in backtests.rows.values():
        if row.result is None and row.request is not None:
            yield Asked(row.request, row.agent)
        elif row.result is None and row.progress is not None:
            # The topic no longer holds the request.
            told = row.progress
            yield Asked(
                BacktestRequest(
                    event_id=told.causation_id,
                    ts_event_ns=told.ts_event_ns,
                    task_id=row.task_id,
                    strategy_name="",
                ),
                row.agent,
            )
    for task_id, request in backtests.parity_requests.items():
        if task_id not in backtests.parity_results:
            yield Asked(request, backtests.parity_agents.get(task_id, ""))


def _agent(agent: BacktestAgent) -> Component:
    running = agent.running or "nothing"
    return Component("backtests", "pass", f"{running} runs, {agent.waiting} wait")


def _engine(runner: LocalRunner) -> Component:
    if runner.is_stopped:
        return Component("engine", "fail", "has stopped", is_required=True)
    return Component("engine", "pass", f"{runner.engine.events:,} events", is_required=True)


def market_fault(runner: LocalRunner) -> Component | None:
    """Return what is wrong with the market data of a run, None if nothing is."""
    feed = runner.feed
    if isinstance(feed, LiveFeed):
        if fault := feed.fault(runner.engine.clock_ns):
            return Component("market data", "fail", fault)
        if jump := feed.jump():
            return Component("market data", "warn", f"{jump}, which is not followed")
    if feed.is_done:
        over = "the feed has ended" if isinstance(feed, LiveFeed) else "the recording is played"
        return Component(
            "market data", "warn", f"{over}: no event follows that could fill an order"
        )
    return None
