"""The strategy of the README, in the array form."""

import numpy as np

from millrace import Series, Strategy, indicators, parameter


class RsiSwing(Strategy):
    """Long when the market is oversold, flat when it has recovered."""

    window: int = parameter(14, minimum=2, maximum=500, description="length of the RSI")
    low: float = parameter(30.0, minimum=1, maximum=50, description="buy below")
    high: float = parameter(55.0, minimum=50, maximum=99, description="sell above")

    def on_start(self) -> None:
        self.rsi = indicators.RSI(self.window)

    def signals(self, series: Series) -> np.ndarray:
        value = self.rsi.update(series.ticks)
        target = np.full(len(series), np.nan)  # NaN: no new opinion
        target[value < self.low] = 1.0
        target[value > self.high] = 0.0
        return target
