"""``millrace demo``: the main job live on a terminal, and the proof that its replay is equal."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import uvloop
from rich.console import Console
from rich.live import Live

from agents.runners.parity import Rerun, rerun
from agents.venue.config import Latency, PerShareFee
from infra.demo_sessions import RUN_ID, SESSIONS_MAX, elsewhere, put_aside
from infra.display import progress_bar
from infra.parity import load_classes
from infra.ports import check_port
from infra.screen import Screen
from infra.serve import LiveRun, open_run, serve
from infra.settings import (
    AccountSettings,
    MarketSettings,
    RiskSettings,
    RunSettings,
    Settings,
    SourceSettings,
    StrategySettings,
    VenueSettings,
    data_folder,
)
from infra.tables import show_rerun
from schemas.risk import LimitSet
from streams.calendars import session_tables
from web.server import check_serving

_HOST = "127.0.0.1"
_FRAME_S = 0.1
_STOP_TIMEOUT_S = 1.0


def demo_settings(speed: float, port: int, strategy: str) -> Settings:
    """Return the demo's settings: the bundled recording, one strategy, fees, latency and limits."""
    return Settings(
        run=RunSettings(port=port, snapshot_interval_s=5.0),
        source=SourceSettings(data="demo", speed=speed),
        account=AccountSettings(cash=Decimal(100_000)),
        risk=RiskSettings(
            limits=LimitSet(
                max_notional=Decimal(200_000),
                max_position=Decimal(1000),
                price_collar=Decimal("0.05"),
                max_order_rate=20,
                max_daily_loss=Decimal(5000),
                max_drawdown=Decimal("0.2"),
                stale_after_s=300.0,
                allow_self_match=False,
            )
        ),
        venue=VenueSettings(
            fee=PerShareFee(Decimal("0.005"), Decimal(1)),
            latency=Latency(submit_ns=5_000_000, cancel_ns=5_000_000),
        ),
        market=MarketSettings(
            intervals=("1s", "1m"), mark_interval_s=1.0, snapshot_interval_s=60.0
        ),
        strategies=(
            StrategySettings(
                name=strategy, strategy_id="demo", on="1m", parameters=_parameters(strategy)
            ),
        ),
    )


def _parameters(strategy: str) -> dict[str, bool | int | float | str]:
    if strategy == "momentum_crossover":
        return {"fast": 5, "slow": 20, "weight": 0.5}
    return {}


def run_demo(*, is_exiting: bool, speed: float, port: int, strategy: str, console: Console) -> int:
    """Play the demo; return 0 if its replay had no difference."""
    check_port(port)
    check_serving(_HOST, port)  # before the last session is put aside
    folder = data_folder() / "runs" / "demo"
    aside = put_aside(folder)
    with elsewhere():
        live = open_run(demo_settings(speed, port, strategy), folder, RUN_ID)
    outcome: list[Rerun] = []
    is_over = threading.Event()

    async def work(stop: asyncio.Event) -> None:
        if aside is not None:
            console.print(
                f"the last demo is kept as {aside.name}, like the last {SESSIONS_MAX} sessions",
                soft_wrap=True,
            )
        await _play(live, stop, console)
        if stop.is_set():
            return
        is_over.set()
        live_hash = live.runner.finish()
        console.print(f"session over: {live.runner.engine.events:,} events, outputs {live_hash}")
        result = await _in_thread(lambda: _prove(folder / "journal", live, console, stop), stop)
        if result is None:
            return
        outcome.append(result)
        if not is_exiting:
            console.print("still serving; Ctrl-C stops")
            await stop.wait()

    uvloop.run(serve(live, _HOST, port, work, console))
    if not outcome:
        what = "comparison" if is_over.is_set() else "recording"
        console.print(f"stopped before the {what} was over")
        return 0
    return 0 if outcome[0].comparison.differences == 0 else 1


async def _play(live: LiveRun, stop: asyncio.Event, console: Console) -> None:
    """Show the session until the recording is over or somebody stops it."""
    screen = Screen(live)
    unlisten = live.runner.listen(screen.apply)
    try:
        if console.is_terminal:
            with Live(
                screen.render(), console=console, refresh_per_second=10, transient=False
            ) as view:
                while not stop.is_set() and not live.feed.is_done:
                    await asyncio.sleep(_FRAME_S)
                    view.update(screen.render())
        else:
            shown_at = 0.0
            while not stop.is_set() and not live.feed.is_done:
                await asyncio.sleep(_FRAME_S)
                if time.monotonic() - shown_at >= 5.0:
                    shown_at = time.monotonic()
                    console.print(screen.line(), markup=False, soft_wrap=True)
            console.print(screen.line(), markup=False, soft_wrap=True)
    finally:
        unlisten()


class _StoppedError(Exception):
    """Somebody stopped the comparison."""


def _prove(journal: Path, live: LiveRun, console: Console, stop: asyncio.Event) -> Rerun:
    """Run the recorded session again and print the comparison."""
    with progress_bar(console, "replay of the session") as bar:
        bar.total(live.runner.engine.events)

        def advance(events: int) -> None:
            if stop.is_set():
                raise _StoppedError
            bar.advance(events)

        result = rerun(journal, session_tables, load_classes(live.manifest), advance)
    if not stop.is_set():
        show_rerun(console, result)
    return result


async def _in_thread(work: Callable[[], Rerun], stop: asyncio.Event) -> Rerun | None:
    """Run ``work`` beside the event loop; None if it was stopped.

    The thread does not hold up the end of the process, as one of the loop's own would.
    """
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    found: list[Rerun | BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:  # noqa: BLE001 - handed to the waiting task
            found.append(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, daemon=True).start()
    waiting = {asyncio.create_task(done.wait()), asyncio.create_task(stop.wait())}
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in waiting:
        task.cancel()
    if not done.is_set():
        # A moment for the thread to see it and to remove what it wrote.
        await asyncio.wait({asyncio.create_task(done.wait())}, timeout=_STOP_TIMEOUT_S)
    if not found or isinstance(found[0], _StoppedError):
        return None
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]
