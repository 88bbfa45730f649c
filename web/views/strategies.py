"""Strategies: what each is doing, and the targets it wanted."""

from __future__ import annotations

import copy

from schemas.control import StrategySignal, StrategyStateChanged
from streams.log import Published
from web.views.kept import Kept


class Strategies:
    """What each strategy is doing, its last signal for each instrument, and its last signals."""

    def __init__(self, signals_max: int = 10_000) -> None:
        self.states: dict[str, StrategyStateChanged] = {}
        self.signals: dict[str, dict[str, StrategySignal]] = {}
        self.history = Kept(signals_max)
        self._own: frozenset[str] | None = None

    def only(self, names: frozenset[str]) -> Strategies:
        """Return these that are named: it follows this one, and knows of no other."""
        own = copy.copy(self)
        own._own = names
        return own

    def on_state(self, state: StrategyStateChanged) -> None:
        """Take in a strategy's state."""
        self.states[state.strategy_id] = state

    def on_signal(self, item: Published) -> None:
        """Take in a strategy's new target."""
        signal = item.record
        if isinstance(signal, StrategySignal):
            self.signals.setdefault(signal.strategy_id, {})[signal.instrument_id] = signal
            self.history.add(item)

    def names(self) -> set[str]:
        """Return the ids of all strategies that were heard of."""
        known = {*self.states, *self.signals}
        return known if self._own is None else known & self._own
