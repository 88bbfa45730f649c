"""The strategies that come with Millrace; each is an example of the array form as well."""

from __future__ import annotations

import numpy as np

from agents.domain.indicators import SMA, Donchian, ZScore
from agents.strategy.api import Series, Strategy
from agents.strategy.parameters import parameter
from schemas.columns import Floats
from schemas.errors import ConfigError


class MomentumCrossover(Strategy):
    """Long while the fast moving average is above the slow one, otherwise short (or flat)."""

    name = "momentum_crossover"
    fast: int = parameter(50, minimum=1, maximum=100_000, description="length of the fast average")
    slow: int = parameter(200, minimum=2, maximum=100_000, description="length of the slow average")
    allow_short: bool = parameter(True, description="go short below, instead of flat")

    def on_start(self) -> None:
        """Make the averages."""
        if self.fast >= self.slow:
            raise ConfigError(
                "the fast average must be shorter than the slow one",
                field="fast",
                value=self.fast,
                remedy=f"give a value below slow ({self.slow})",
            )
        self.fast_average = SMA(self.fast)
        self.slow_average = SMA(self.slow)

    def signals(self, series: Series) -> Floats:
        """Compare the averages of the same element."""
        fast = self.fast_average.update(series.ticks)
        slow = self.slow_average.update(series.ticks)
        below = -1.0 if self.allow_short else 0.0
        return np.where(np.isnan(slow), np.nan, np.where(fast > slow, 1.0, below))


class MeanReversion(Strategy):
    """Buy what fell far below its mean, sell what rose far above it, leave near the mean."""

    name = "mean_reversion"
    window: int = parameter(
        20, minimum=2, maximum=100_000, description="length of mean and deviation"
    )
    entry_z: float = parameter(2.0, minimum=0.1, maximum=20, description="z-score that opens")
    exit_z: float = parameter(
        0.5, minimum=0, maximum=20, description="z-score within which it closes"
    )
    allow_short: bool = parameter(True, description="open short positions too")

    def on_start(self) -> None:
        """Make the z-score."""
        if self.exit_z >= self.entry_z:
            raise ConfigError(
                "the exit must lie nearer to the mean than the entry",
                field="exit_z",
                value=self.exit_z,
                remedy=f"give a value below entry_z ({self.entry_z})",
            )
        self.z_score = ZScore(self.window)
        self.state = 0.0

    def signals(self, series: Series) -> Floats:
        """Walk the z-score; what is held decides what closes it."""
        scores = self.z_score.update(series.ticks)
        out = np.full(len(series), np.nan)
        # Between the bands nothing changes: only elements outside the entry or inside the exit
        # matter.
        with np.errstate(invalid="ignore"):
            matters = np.flatnonzero(
                (np.abs(scores) >= self.entry_z) | (np.abs(scores) <= self.exit_z)
            )
        state = self.state
        targets = np.empty(len(matters))
        for k, score in enumerate(scores[matters].tolist()):
            if score <= -self.entry_z:
                state = 1.0
            elif score >= self.entry_z:
                state = -1.0 if self.allow_short else 0.0
            else:
                state = 0.0
            targets[k] = state
        out[matters] = targets
        self.state = state
        return out


class Breakout(Strategy):
    """Long above the highest of the last prices, out (or short) below the lowest."""

    name = "breakout"
    window: int = parameter(55, minimum=2, maximum=100_000, description="length of the channel")
    allow_short: bool = parameter(False, description="go short below, instead of flat")

    def on_start(self) -> None:
        """Make the channel, of the elements before the present one."""
        self.channel = Donchian(self.window, include_current=False)

    def signals(self, series: Series) -> Floats:
        """Compare each price with the channel of those before it."""
        upper, lower = self.channel.update(series.high, series.low)
        below = -1.0 if self.allow_short else 0.0
        out = np.full(len(series), np.nan)
        with np.errstate(invalid="ignore"):
            out[series.ticks < lower] = below
            out[series.ticks > upper] = 1.0
        return out


class BuyAndHold(Strategy):
    """Buy at the first price, reinvest dividends, never sell."""

    name = "buy_and_hold"
    reinvest: bool = parameter(True, description="buy more with dividends")

    def signals(self, series: Series) -> Floats:
        """Always long."""
        return np.ones(len(series))


BUILTIN: dict[str, type[Strategy]] = {
    cls.name: cls for cls in (MomentumCrossover, MeanReversion, Breakout, BuyAndHold)
}
