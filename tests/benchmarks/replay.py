"""The replay engine against numpy and a Python loop over the same arrays."""

from __future__ import annotations

import shutil
import statistics
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
from agents.venue.config import VenueConfig
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
    execution_data: str = "trade",
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
        venue=VenueConfig(execution_data=execution_data),
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


def measure_replay(events: int, runs: int, folder: Path) -> list[Case]:
    """Run all cases; journals go into ``folder``."""
    instruments = universe()
    whole = trades(instruments, events)
    batches = cut(whole, BATCH)
    price = whole.trades.price
    listed = price.tolist()
    crossover: dict[str, ParameterValue] = {"fast": 50, "slow": 200, "quantity": 100.0}
    size: dict[str, ParameterValue] = {"quantity": 100.0}
    many, bars = minute_bars(100, max(events // 400, 10))
    bar_batches = cut(bars, BATCH)
    fills: dict[str, int] = {}

    def cross() -> None:
        fills["cross"] = run_replay(
            instruments, batches, "momentum_crossover", "trade", crossover, folder
        )

    def turn() -> None:
        few = batches[: max(1, len(batches) // 8)]
        fills["turn"] = run_replay(instruments, few, "alternate", "trade", size, folder)

    def on_bars() -> None:
        fills["bars"] = run_replay(
            many, bar_batches, "momentum_crossover", "1m", crossover, folder, "bar"
        )

    cases = [
        Case("plain numpy, no engine", timed(events, runs, lambda: numpy_crossover(price))),
        Case("plain Python loop, no engine", timed(events, runs, lambda: loop_crossover(listed))),
    ]
    rates = timed(events, runs, cross)
    cases.append(Case("replay, crossover 50/200, all agents", rates, f"{fills['cross']:,} fills"))
    rates = timed(events, runs, lambda: run_replay(instruments, batches, "", "", {}, folder))
    cases.append(Case("replay, nothing trades", rates))
    rates = [fills["turn"] * rate for rate in timed(1, runs, turn)]
    cases.append(Case("order round trips", rates, f"{fills['turn']:,} fills"))
    rates = timed(len(bars), max(runs // 2, 1), on_bars)
    cases.append(Case("replay, 100 instruments, minute bars", rates, f"{fills['bars']:,} fills"))
    return cases


def show_replay(cases: list[Case], title: str) -> None:
    """Print the cases with their ratios to the first two, the baselines."""
    numpy_rate, loop_rate = cases[0].median, cases[1].median
    print(f"{title:40} {'per second':>14} {'to numpy':>9} {'to loop':>8}  detail")
    for case in cases:
        rate = case.median
        print(
            f"{case.label:40} {rate:14,.0f} {rate / numpy_rate:9.4f} {rate / loop_rate:8.3f}"
            f"  {case.detail}"
        )
