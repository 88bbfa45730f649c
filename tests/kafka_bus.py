"""Kafka's topics as lists, and parts that read them: the pipeline without a broker or a clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from agents.runners.config import EngineConfig
from agents.runners.kafka.parts.account import AccountPart
from agents.runners.kafka.parts.market import MarketPart
from agents.runners.kafka.parts.part import Output, Part, partition_of
from agents.runners.kafka.parts.strategy import StrategyPart
from agents.runners.kafka.parts.venue import VenuePart
from agents.strategy.api import Strategy
from schemas.codec import decode, encode
from schemas.envelope import Header
from schemas.instruments import CorporateAction, Universe
from schemas.topics import (
    ACCOUNT_INPUTS,
    CATALOGUE,
    MARKET_EVENTS,
    STRATEGY_INPUTS,
    VENUE_COMMANDS,
    goes_everywhere,
    key_of,
)

COUNTS = {topic.name: topic.partitions for topic in CATALOGUE}
Place = tuple[str, int]


class Consumed(NamedTuple):
    """A batch that a part consumed."""

    place: Place
    first: int
    stop: int


class Bus:
    """All partitions of all topics, as bytes."""

    def __init__(self) -> None:
        self.logs: dict[Place, list[bytes]] = {}

    def log(self, place: Place) -> list[bytes]:
        """Return a partition."""
        return self.logs.setdefault(place, [])

    def feed(self, record: Header) -> None:
        """Publish a market event by its key, or to every partition."""
        count = COUNTS[MARKET_EVENTS]
        targets: Iterable[int] = (partition_of(key_of(MARKET_EVENTS, record), count),)
        if goes_everywhere(MARKET_EVENTS, record):
            targets = range(count)
        for partition in targets:
            self.log((MARKET_EVENTS, partition)).append(encode(record))

    def publish(self, outputs: Iterable[Output]) -> None:
        """Append what a part made."""
        for topic, partition, record in outputs:
            self.log((topic, partition)).append(encode(record))

    def records(self, topic: str) -> list[Header]:
        """Return what is on a topic, each producer's record once, partition by partition."""
        found: list[Header] = []
        for partition in range(COUNTS[topic]):
            marks: dict[str, int] = {}
            for value in self.log((topic, partition)):
                record = decode(topic, value)
                if record.producer and record.producer_seq <= marks.get(record.producer, 0):
                    continue
                marks[record.producer] = record.producer_seq
                found.append(record)
        return found

    def made(self, topic: str) -> list[Header]:
        """Return ``records`` but for corporate actions that are only passed on."""
        return [r for r in self.records(topic) if not isinstance(r, CorporateAction)]


class Consumer:
    """One part with its places on the bus; remembers in which order it consumed."""

    def __init__(self, bus: Bus, part: Part) -> None:
        self.bus = bus
        self.part = part
        self.consumed: list[Consumed] = []
        self.made: list[list[Output]] = []
        self.saved: tuple[int, bytes] = (0, part.snapshot())

    def at(self, place: Place) -> int:
        """Return the next offset that the part takes of a place."""
        return self.part.offsets.get(f"{place[0]}/{place[1]}", 0)

    def waiting(self) -> list[Place]:
        """Return the places that have something for the part."""
        places = sorted(places_of(self.part))
        return [place for place in places if self.at(place) < len(self.bus.log(place))]

    def take(self, place: Place, count: int) -> list[Output]:
        """Let the part consume the next batch of a place."""
        first = self.at(place)
        stop = min(first + count, len(self.bus.log(place)))
        self.consumed.append(Consumed(place, first, stop))
        self.made.append(self.repeat(self.part, self.consumed[-1]))
        return self.made[-1]

    def save(self) -> None:
        """Keep a snapshot of the part."""
        self.saved = len(self.consumed), self.part.snapshot()

    def repeat(self, part: Part, consumed: Consumed) -> list[Output]:
        """Let a part consume a batch that was consumed before."""
        (topic, partition), first, stop = consumed
        values = self.bus.log(consumed.place)[first:stop]
        records = [(first + i, decode(topic, value)) for i, value in enumerate(values)]
        return part.take(topic, partition, records, stop)


Makers = dict[str, Callable[[int], Part]]


def makers(
    config: EngineConfig, universe: Universe, classes: Mapping[str, type[Strategy]]
) -> Makers:
    """Return what makes each stage's parts, each with a universe of its own."""

    def known() -> Universe:
        return Universe(universe.instruments)

    return {
        "market": lambda p: MarketPart(p, known(), COUNTS, config.market, {}),
        "venue": lambda p: VenuePart(p, known(), COUNTS, config.venue, {}),
        "account": lambda p: AccountPart(p, known(), COUNTS, config.accounts, {}),
        "strategy": lambda p: StrategyPart(p, known(), COUNTS, config.strategies, classes),
    }


def places_of(part: Part) -> set[Place]:
    """Return what a part reads."""
    if isinstance(part, StrategyPart):
        return {(STRATEGY_INPUTS, part.partition), *part.follows}
    topics = {
        "market": (MARKET_EVENTS,),
        "venue": (MARKET_EVENTS, VENUE_COMMANDS),
        "account": (ACCOUNT_INPUTS,),
    }[part.STAGE]
    return {(topic, part.partition) for topic in topics}


def consumers(bus: Bus, make: Makers, partitions: int = 4) -> list[Consumer]:
    """Return all parts of all stages, as consumers."""
    parts = [make[stage](p) for stage in make for p in range(partitions)]
    return [Consumer(bus, part) for part in parts]


def drain(
    all_of_them: list[Consumer], rng: random.Random, most: int = 50, steps: int | None = None
) -> None:
    """Let parts consume in random order, in batches of random size, until all is consumed.

    At most ``steps`` batches, if that is given.
    """
    while ready := [(c, place) for c in all_of_them for place in c.waiting()]:
        if steps is not None and (steps := steps - 1) < 0:
            return
        consumer, place = rng.choice(ready)
        consumer.bus.publish(consumer.take(place, rng.randint(1, most)))
        if rng.random() < 0.05:
            consumer.save()
