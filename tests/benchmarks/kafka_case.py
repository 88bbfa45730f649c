"""What the Kafka benchmarks trade: four instruments, one in each partition, a strategy on each.

An order goes out with every ``EVERY``-th trade of an instrument, so that the share of ticks that
cost a whole round trip is known.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal

import numpy as np

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.config import EngineConfig
from agents.strategy.api import Series, Strategy
from agents.strategy.config import StrategyConfig
from schemas.codec import encode
from schemas.columns import Floats
from schemas.instruments import Instrument
from schemas.market_data import Trade
from schemas.topics import MARKET_EVENTS
from streams.kafka.publisher import Outgoing, partition_of
from tests.generated import START_NS, universe

PARTITIONS = 4
EVERY = 20


def _one_in_each(name: str) -> tuple[str, ...]:
    """Return names of a form that are keys of different partitions, in the partitions' order."""
    found: dict[int, int] = {}
    for code in range(1000):
        key = name.format(code).encode()
        found.setdefault(partition_of(key, PARTITIONS), code)
    return tuple(name.format(found[partition]) for partition in range(PARTITIONS))


SYMBOLS = tuple(name.partition(".")[0] for name in _one_in_each("S{:03}.XXXX"))
INSTRUMENTS: tuple[Instrument, ...] = tuple(universe(SYMBOLS).instruments)


class EveryNth(Strategy):
    """Turns the position with every ``EVERY``-th trade."""

    name = "every_nth"

    def signals(self, series: Series) -> Floats:
        """Alternate between long and short; the count of trades is carried in ``seen``."""
        seen = getattr(self, "seen", 0)
        self.seen = seen + len(series)
        step = (np.arange(seen, seen + len(series)) // EVERY) % 2
        return np.where(step == 0, 1.0, -1.0)


CLASSES: dict[str, type[Strategy]] = {EveryNth.name: EveryNth}


def engine_config() -> EngineConfig:
    """Return a strategy on each instrument, with an account and partitions of its own."""
    accounts = tuple(
        AccountConfig(account_id=name, cash=Decimal(1_000_000)) for name in _one_in_each("acc-{}")
    )
    strategies = tuple(
        StrategyConfig(
            strategy_id=strategy_id,
            name=EveryNth.name,
            account_id=account.account_id,
            instrument_ids=(f"{symbol}.XXXX",),
            on="trade",
            parameters={"quantity": 1.0},
        )
        for symbol, strategy_id, account in zip(
            SYMBOLS, _one_in_each("nth-{}"), accounts, strict=True
        )
    )
    return EngineConfig(
        # A day's orders in a minute: with the default all of them would be kept.
        accounts=AccountStageConfig(accounts=accounts, closed_order_retention_s=5.0),
        strategies=strategies,
        market=MarketConfig(intervals=("1m",)),
    )


def trade(number: int, ts_event_ns: int) -> Trade:
    """Return the ``number``-th trade: the instruments take turns."""
    return Trade(
        source="bench",
        source_seq=number,
        ts_event_ns=ts_event_ns,
        instrument_id=INSTRUMENTS[number % PARTITIONS].instrument_id,
        price=100 + number % 97 / 100,
        size=100.0,
        condition="regular",
    )


def outgoing_trade(number: int, ts_event_ns: int) -> Outgoing:
    """Return a trade of about 150 bytes for its partition."""
    record = trade(number, ts_event_ns)
    key = record.instrument_id.encode()
    return Outgoing(MARKET_EVENTS, key, encode(record), number % PARTITIONS)


def history(first: int, count: int) -> Iterable[Outgoing]:
    """Return ``count`` trades, 10,000 in a second of market time."""
    return (outgoing_trade(n, START_NS + n * 100_000) for n in range(first, first + count))
