"""``millrace demo``: the main job live on a terminal, and the proof that its replay is equal."""

from __future__ import annotations

import asyncio
import shutil
import time
from decimal import Decimal
from pathlib import Path

from rich.console import Console
from rich.live import Live

from agents.runners.parity import Rerun, rerun
from agents.venue.config import Latency, PerShareFee
from infra.display import progress_bar
from infra.parity import load_classes
from infra.screen import Screen
from infra.serve import LiveRun, check_port, open_run, serve
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

_FRAME_S = 0.1


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
    folder = data_folder() / "runs" / "demo"
    # Every demo is a session of its own; the last one gives way.
    if folder.exists():
        shutil.rmtree(folder)
    live = open_run(demo_settings(speed, port, strategy), folder, "demo")
    outcome: list[Rerun] = []

    async def work(stop: asyncio.Event) -> None:
        await _play(live, stop, console)
        if stop.is_set():
            return
        live_hash = live.runner.finish()
        console.print(f"session over: {live.runner.engine.events:,} events, outputs {live_hash}")
        result = await asyncio.to_thread(_prove, folder / "journal", live, console)
        outcome.append(result)
        if not is_exiting:
            console.print("still serving; Ctrl-C stops")
            await stop.wait()

    asyncio.run(serve(live, "127.0.0.1", port, work, console))
    if not outcome:
        console.print("stopped before the recording was over")
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


def _prove(journal: Path, live: LiveRun, console: Console) -> Rerun:
    """Run the recorded session again and print the comparison."""
    with progress_bar(console, "replay of the session") as bar:
        bar.total(live.runner.engine.events)
        result = rerun(journal, session_tables, load_classes(live.manifest), bar.advance)
    show_rerun(console, result)
    return result
