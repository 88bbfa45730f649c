"""Several instruments at once: bars of one instant, a timer, indicators that survive restarts."""

from decimal import Decimal
from typing import Any

import numpy as np

from millrace import Bar, Strategy, indicators, parameter

DAY_NS = 86_400_000_000_000


class PerInstrument(dict[str, indicators.SMA]):
    """An average for each instrument; ``snapshot`` and ``restore`` take it over a restart."""

    def snapshot(self) -> dict[str, Any]:
        return {name: average.snapshot() for name, average in self.items()}

    def restore(self, state: dict[str, Any]) -> None:
        for name, average in self.items():
            average.restore(state[name])


class StrongestTrend(Strategy):
    """Holds the instrument that stands highest above its average, or nothing if all are below."""

    window: int = parameter(100, minimum=2, maximum=2000, description="bars of the average")
    days: float = parameter(7.0, minimum=0.001, maximum=366, description="days between decisions")

    def on_start(self) -> None:
        self.averages = PerInstrument({i: indicators.SMA(self.window) for i in self.instrument_ids})
        self.strength: dict[str, float] = {}
        self.is_timed = False

    def on_bars(self, time_ns: int, bars: dict[str, Bar]) -> None:
        for name, bar in bars.items():
            ticks = self.instrument(name).price_grid().to_unit(bar.close)
            average = float(self.averages[name].update(np.array([ticks]))[0])
            if not np.isnan(average):
                self.strength[name] = ticks / average - 1
        if not self.is_timed:
            self.is_timed = True
            self.wait()

    def on_timer(self, due_ns: int) -> None:
        self.wait()
        best = max(self.instrument_ids, key=lambda name: self.strength.get(name, 0.0))
        for name in self.instrument_ids:
            if name != best or self.strength.get(name, 0.0) <= 0:
                self.target(name, 0)
        if self.strength.get(best, 0.0) > 0 and not self.position(best):
            self.target_weight(best, self.weight)

    def on_split(self, instrument_id: str, ratio: Decimal) -> None:
        self.averages[instrument_id].rescale(ratio)

    def wait(self) -> None:
        """Ask to be called when the next decision is due."""
        self.set_timer(self.now_ns + int(self.days * DAY_NS))
