"""Answers about strategies."""

from __future__ import annotations

import msgspec


class Signal(msgspec.Struct):
    """A strategy's target for one instrument and the price it was decided at."""

    instrument_id: str
    target: float
    price: float
    time: str
    time_ns: int


class Strategy(msgspec.Struct):
    """What a strategy is doing, and its last signals."""

    strategy_id: str
    name: str | None
    account_id: str | None
    status: str | None
    parameters: dict[str, bool | int | float | str]
    instrument_ids: list[str]
    detail: str
    signals: list[Signal]


class Strategies(msgspec.Struct):
    """All strategies of the run."""

    strategies: list[Strategy]
