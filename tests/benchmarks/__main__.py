"""``make bench``: the replay engine against numpy and a Python loop over the same arrays.

Each case runs several times; the median is printed, with its ratio to the baselines of this very
run. Absolute figures drift with the machine, ratios hold better.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

import numpy as np

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.engine import EngineConfig
from agents.runners.replay import Identity, manifest_of, replay
from agents.strategy.api import Series, Strategy
from agents.strategy.builtin import BUILTIN
from agents.strategy.config import StrategyConfig
from agents.strategy.parameters import ParameterValue
from schemas.columns import BarColumns, Floats, MarketBatch
from schemas.instruments import Universe
from schemas.market_data import INTERVAL_NS, INTERVALS
from schemas.risk import LimitSet
from tests.generated import DAY_NS, START_NS, cut, trades, universe

BATCH = 65_536
LIMITS = LimitSet(
    max_quantity=Decimal(1000),
    max_notional=Decimal(1_000_000),
    price_collar=Decimal("0.1"),
    stale_after_s=60,
    max_position=Decimal(1000),
    max_position_notional=Decimal(10_000_000),
    max_gross_exposure=Decimal(10_000_000),
    max_net_exposure=Decimal(10_000_000),
    max_order_rate=100,
    order_rate_window_s=0.001,
    max_daily_loss=Decimal(900_000),
    max_drawdown=Decimal("0.9"),
    max_open_orders=50,
    allow_self_match=False,
)


class Alternate(Strategy):
    """Turns the position with every second trade: the engine's cost of an order round trip."""

    name = "alternate"

    def signals(self, series: Series) -> Floats:
        """Alternate between long and short; the count of elements is carried in ``seen``."""
        seen = getattr(self, "seen", 0)
        self.seen = seen + len(series)
        step = (np.arange(seen, seen + len(series)) // 2) % 2
        return np.where(step == 0, 1.0, -1.0)


class Case(NamedTuple):
    """One measured case: events a second of every run, and what it did."""

    label: str
    rates: list[float]
    detail: str = ""

    @property
    def median(self) -> float:
        """The median rate."""
        return statistics.median(self.rates)


def timed(events: int, runs: int, work: Callable[[], object]) -> list[float]:
    """Return events a second of each of ``runs`` runs, after one that does not count."""
    work()
    rates = []
    for _ in range(runs):
        started = time.perf_counter()
        work()
        rates.append(events / (time.perf_counter() - started))
    return rates


def numpy_crossover(price: Floats) -> int:
    """Compute the crossover with cumulative sums; return how often it turns."""
    ticks = np.rint(price * 100).astype(np.int64)
    total = np.concatenate(([0], np.cumsum(ticks)))
    fast = (total[50:] - total[:-50])[150:] / 50
    slow = (total[200:] - total[:-200]) / 200
    side = np.where(fast > slow, 1, -1)
    return int(np.count_nonzero(np.diff(side)))


def loop_crossover(price: list[float]) -> int:
    """Compute the crossover in a plain Python loop; return how often it turns."""
    fast = slow = 0.0
    turns = 0
    side = 0
    for i, value in enumerate(price):
        fast += value
        slow += value
        if i >= 50:
            fast -= price[i - 50]
        if i >= 200:
            slow -= price[i - 200]
            now = 1 if fast / 50 > slow / 200 else -1
            turns += now != side
            side = now
    return turns


def run_replay(
    instruments: Universe,
    batches: list[MarketBatch],
    name: str,
    on: str,
    parameters: dict[str, ParameterValue],
    folder: Path,
) -> int:
    """Replay with full risk, orders, venue, portfolio, journal and manifest; return the fills."""
    ids = tuple(i.instrument_id for i in instruments.instruments)
    strategies: tuple[StrategyConfig, ...] = ()
    if name:
        strategies = (
            StrategyConfig(
                strategy_id="bench",
                name=name,
                account_id="paper",
                instrument_ids=ids,
                on=on,
                parameters=parameters,
            ),
        )
    config = EngineConfig(
        accounts=AccountStageConfig(
            accounts=(AccountConfig(account_id="paper", cash=Decimal(1_000_000)),), limits=LIMITS
        ),
        strategies=strategies,
        market=MarketConfig(intervals=("1m",)),
    )
    manifest = manifest_of(config, [], Identity("bench", "bench"), "bench", "backtest")
    shutil.rmtree(folder, ignore_errors=True)
    result = replay(
        config,
        instruments,
        {},
        {**BUILTIN, "alternate": Alternate},
        batches,
        manifest,
        day_of=lambda ts: ts // DAY_NS,
        journal=folder,
    )
    return result.metrics.fills


def minute_bars(count: int, length: int) -> tuple[Universe, MarketBatch]:
    """Return ``length`` minute bars of each of ``count`` instruments, merged."""
    instruments = universe(tuple(f"I{k:03}" for k in range(count)))
    rng = np.random.default_rng(7)
    close = np.round(
        100 * np.exp(np.cumsum(rng.standard_normal((length, count)) * 1e-3, axis=0)), 2
    )
    minute = INTERVALS.index("1m")
    end = START_NS + (np.arange(length) + 1) * INTERVAL_NS[minute]
    n = length * count
    ts = np.repeat(end, count)
    flat = close.ravel()
    table = BarColumns(
        pos=np.arange(n),
        ts=ts,
        instrument=np.tile(np.arange(count), length),
        source=np.full(n, instruments.source_index("bars")),
        seq=np.repeat(np.arange(length), count),
        start=ts - INTERVAL_NS[minute],
        interval=np.full(n, minute),
        open=flat,
        high=flat + 0.05,
        low=flat - 0.05,
        close=flat,
        volume=np.full(n, 1000.0),
        vwap=flat,
        count=np.full(n, 10),
        partial=np.zeros(n, bool),
        revision=np.zeros(n),
    )
    return instruments, MarketBatch(instruments, ts, bars=table)


def main() -> None:
    """Run the cases and print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    events, runs = options.events, options.runs
    instruments = universe()
    whole = trades(instruments, events)
    batches = cut(whole, BATCH)
    price = whole.trades.price
    listed = price.tolist()
    folder = Path(tempfile.mkdtemp(prefix="millrace-bench-"))
    crossover: dict[str, ParameterValue] = {"fast": 50, "slow": 200, "quantity": 100.0}
    size: dict[str, ParameterValue] = {"quantity": 100.0}
    journal = folder / "journal"
    try:
        base_numpy = Case(
            "plain numpy, no engine", timed(events, runs, lambda: numpy_crossover(price))
        )
        base_loop = Case(
            "plain Python loop, no engine", timed(events, runs, lambda: loop_crossover(listed))
        )
        fills: list[int] = []

        def cross() -> None:
            fills.append(
                run_replay(instruments, batches, "momentum_crossover", "trade", crossover, journal)
            )

        engine = Case(
            "replay, crossover 50/200, all agents",
            timed(events, runs, cross),
            f"{fills[-1]:,} fills",
        )
        quiet = Case(
            "replay, nothing trades",
            timed(events, runs, lambda: run_replay(instruments, batches, "", "", {}, journal)),
        )
        few = batches[: max(1, len(batches) // 8)]
        few_events = sum(len(b) for b in few)
        trips: list[int] = []

        def turn() -> None:
            trips.append(run_replay(instruments, few, "alternate", "trade", size, journal))

        started = timed(1, runs, turn)
        round_trips = Case(
            "order round trips", [trips[-1] * rate for rate in started], f"{few_events:,} events"
        )
        many, bars = minute_bars(100, max(events // 400, 10))
        bar_batches = cut(bars, BATCH)
        slow: dict[str, ParameterValue] = {"fast": 50, "slow": 200, "quantity": 1.0}
        bar_fills: list[int] = []

        def on_bars() -> None:
            bar_fills.append(
                run_replay(many, bar_batches, "momentum_crossover", "1m", slow, journal)
            )

        hundred = Case(
            "replay, 100 instruments, minute bars",
            timed(len(bars), max(runs // 2, 1), on_bars),
            f"{bar_fills[-1]:,} fills",
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, numpy {np.__version__}; medians of {runs} runs"
    )
    print(f"{'case':40} {'per second':>14} {'to numpy':>9} {'to loop':>8}  detail")
    for case in (base_numpy, base_loop, engine, quiet, round_trips, hundred):
        print(
            f"{case.label:40} {case.median:14,.0f} {case.median / base_numpy.median:9.3f} "
            f"{case.median / base_loop.median:8.2f}  {case.detail}"
        )


main()
