"""A live run in a process of its own, to be killed.

``python -m tests.simulation.live_process FOLDER EVENTS``.

It plays generated trades as fast as they are taken, saves often, and prints the output hash when it
is done.
"""

from __future__ import annotations

import asyncio
import sys
from decimal import Decimal
from pathlib import Path

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.engine import Engine, EngineConfig
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.replay import Identity, manifest_of
from agents.strategy.builtin import BUILTIN
from agents.strategy.config import StrategyConfig
from agents.venue.config import Latency, VenueConfig
from schemas.risk import LimitSet
from tests.generated import cut, trades, universe


def engine_config() -> EngineConfig:
    """Return a configuration with two strategies, limits, latency and frequent marks."""
    instrument = ("GEN.XXXX",)
    return EngineConfig(
        accounts=AccountStageConfig(
            accounts=(AccountConfig(account_id="paper", cash=Decimal(1_000_000)),),
            limits=LimitSet(
                max_position=Decimal(500), max_order_rate=50, max_drawdown=Decimal("0.5")
            ),
        ),
        strategies=(
            StrategyConfig(
                strategy_id="cross",
                name="momentum_crossover",
                account_id="paper",
                instrument_ids=instrument,
                on="trade",
                parameters={"fast": 5, "slow": 20, "quantity": 100.0},
            ),
            StrategyConfig(
                strategy_id="revert",
                name="mean_reversion",
                account_id="paper",
                instrument_ids=instrument,
                on="1m",
                parameters={"quantity": 50.0},
            ),
        ),
        market=MarketConfig(intervals=("1m", "5m")),
        venue=VenueConfig(latency=Latency(submit_ns=3_000_000_000)),
    )


def make_runner(folder: Path, events: int) -> LocalRunner:
    """Return a runner over generated trades, continuing what ``folder`` holds."""
    instruments = universe()
    config = engine_config()
    batches = iter(cut(trades(instruments, events, days=2), 211))
    feed = RecordingFeed(batches, speed=0, first_ns=0)
    manifest = manifest_of(config, [], Identity("test", "test"), "killed", "paper")
    return LocalRunner(
        Engine(config, instruments, {}, BUILTIN), feed, folder, manifest, snapshot_interval_s=0.05
    )


async def play(runner: LocalRunner) -> str:
    """Run to the end of the recording and return the hash of all outputs."""
    running = asyncio.create_task(runner.run())
    while not runner.feed.is_done:
        await asyncio.sleep(0.005)
    digest = runner.finish()
    runner.stop()
    await running
    return digest


if __name__ == "__main__":
    started = make_runner(Path(sys.argv[1]), int(sys.argv[2]))
    print("ready", flush=True)
    print(asyncio.run(play(started)), flush=True)
