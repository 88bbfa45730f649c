"""The stages over partitions: equal to the one-process run, whatever the order and the cuts."""

from __future__ import annotations

import random
from decimal import Decimal
from operator import itemgetter

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.account.config import AccountConfig, AccountStageConfig
from agents.market.config import MarketConfig
from agents.runners.config import EngineConfig
from agents.runners.engine import Engine
from agents.strategy.builtin import BUILTIN
from agents.strategy.config import StrategyConfig
from schemas.codec import decode, encode
from schemas.columns import MarketBatch
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.market_data import Watermark
from schemas.order_events import Fill
from schemas.portfolio import PositionChanged
from schemas.rows import records_from_table
from schemas.topics import (
    MARKET_BARS,
    MARKET_EVENTS,
    ORDER_FILLS,
    PORTFOLIO_POSITIONS,
    STRATEGY_SIGNALS,
    SYSTEM_DEAD_LETTERS,
)
from streams.journal.batches import EARLIEST_NS, batch_of, records_piece
from tests.generated import session, universe
from tests.kafka_bus import Bus, Consumer, Makers, consumers, drain, makers

SYMBOLS = ("AA", "BB", "CC")
STRATEGIES = tuple(
    StrategyConfig(
        strategy_id=f"cross-{symbol}",
        name="momentum_crossover",
        account_id=account,
        instrument_ids=(f"{symbol}.XXXX",),
        on="1m",
        parameters={"fast": 3, "slow": 8},
    )
    for symbol, account in zip(SYMBOLS, ("one", "two", "one"), strict=True)
)
CONFIG = EngineConfig(
    accounts=AccountStageConfig(
        accounts=(
            AccountConfig(account_id="one", cash=Decimal(100_000)),
            AccountConfig(account_id="two", cash=Decimal(100_000)),
        )
    ),
    strategies=STRATEGIES,
    market=MarketConfig(intervals=("1m",)),
)


def data(count: int = 500) -> tuple[Universe, MarketBatch, list[Header]]:
    """Return a day of trades and quotes, as a batch and as records in its order."""
    instruments = universe(SYMBOLS)
    batch = session(instruments, count, days=1)
    events = [
        (pos, record)
        for table in (batch.trades, batch.quotes)
        for pos, record in zip(
            table.pos.tolist(), records_from_table(instruments, table, slice(None)), strict=True
        )
    ]
    events.sort(key=itemgetter(0))
    records = [record for _, record in events]
    end_ns = records[-1].ts_event_ns + 120_000_000_000  # type: ignore[attr-defined]
    records.append(Watermark(source="test", source_seq=1, ts_event_ns=end_ns))
    piece = records_piece(instruments, [(MARKET_EVENTS, record) for record in records])
    return instruments, batch_of(instruments, piece, EARLIEST_NS, 0), records


def content(record: Header) -> bytes:
    """Return a record without what its transport added."""
    return msgspec.json.encode(msgspec.structs.replace(record, producer="", producer_seq=0))


def by_id(records: list[Header]) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for record in records:
        name = record.event_id  # type: ignore[attr-defined]
        assert found.setdefault(name, content(record)) == content(record)
    return found


class Run:
    """What the one-process engine makes of the data, records by topic."""

    def __init__(self, universe: Universe, events: list[Header]) -> None:
        self.universe = universe
        self.events = events
        self.made: dict[str, list[Header]] = {}


@pytest.fixture(scope="module")
def run() -> Run:
    instruments, batch, events = data()
    outputs = Engine(CONFIG, instruments, {}, BUILTIN).process(batch)
    run = Run(instruments, events)
    made = run.made
    for topic, table in outputs.tables:
        made.setdefault(topic, []).extend(records_from_table(instruments, table, slice(None)))
    for topic, record in outputs.records:
        made.setdefault(topic, []).append(record)
    return run


def check_books(bus: Bus) -> None:
    """Positions are the fold of the fills, and nothing was left over."""
    assert bus.records(SYSTEM_DEAD_LETTERS) == []
    held: dict[tuple[str, str, str], Decimal] = {}
    for fill in bus.records(ORDER_FILLS):
        assert isinstance(fill, Fill)
        key = (fill.account_id, fill.strategy_id, fill.instrument_id)
        signed = fill.quantity if fill.side == "BUY" else -fill.quantity
        held[key] = held.get(key, Decimal(0)) + signed
    last: dict[tuple[str, str, str], Decimal] = {}
    for position in bus.records(PORTFOLIO_POSITIONS):
        assert isinstance(position, PositionChanged)
        key = (position.account_id, position.strategy_id, position.instrument_id)
        last[key] = position.quantity
    assert last == held


def test_in_lockstep_everything_is_as_in_one_process(run: Run) -> None:
    """Event by event, with the stages in the engine's order, not even a fill differs."""
    bus = Bus()
    everyone = consumers(bus, makers(CONFIG, run.universe, BUILTIN))

    def settle() -> None:
        worked = True
        while worked:
            worked = False
            for consumer in everyone:
                for place in consumer.waiting():
                    is_later = place[0] == MARKET_EVENTS and consumer.part.STAGE != "market"
                    if not is_later:
                        bus.publish(consumer.take(place, 1))
                        worked = True

    for event in run.events:
        bus.feed(event)
        settle()
        # The bars that an event closed, and what is decided on them, come before the event.
        for stage in ("venue", "strategy"):
            for consumer in everyone:
                for place in consumer.waiting():
                    if stage == consumer.part.STAGE:
                        bus.publish(consumer.take(place, 1))
            settle()
    assert len(run.made[ORDER_FILLS]) > 20
    for topic in (MARKET_BARS, STRATEGY_SIGNALS, ORDER_FILLS, PORTFOLIO_POSITIONS):
        assert by_id(bus.records(topic)) == by_id(run.made[topic])
    check_books(bus)
    assert not any(c.part.duplicates or c.part.gaps for c in everyone)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32), most=st.sampled_from([1, 7, 200, 5000]))
def test_any_order_and_any_cut_give_the_same_bars_and_signals(
    run: Run, seed: int, most: int
) -> None:
    bus = Bus()
    make = makers(CONFIG, run.universe, BUILTIN)
    everyone = consumers(bus, make)
    rng = random.Random(seed)
    for start in range(0, len(run.events), 100):
        for event in run.events[start : start + 100]:
            bus.feed(event)
        drain(everyone, rng, most, steps=rng.randint(0, 100))
    drain(everyone, rng, most)
    for topic in (MARKET_BARS, STRATEGY_SIGNALS):
        assert by_id(bus.records(topic)) == by_id(run.made[topic])
    check_books(bus)
    for consumer in everyone:
        check_restart(consumer, make)


def check_restart(consumer: Consumer, make: Makers) -> None:
    """From a snapshot, a new part repeats in the recorded order what was made behind it."""
    count, state = consumer.saved
    again = make[consumer.part.STAGE](consumer.part.partition)
    again.restore(state)
    for consumed, made in zip(consumer.consumed[count:], consumer.made[count:], strict=True):
        assert [encode(o.record) for o in consumer.repeat(again, consumed)] == [
            encode(o.record) for o in made
        ]
    assert again.snapshot() == consumer.part.snapshot()


def test_what_a_producer_repeats_is_dropped_and_gaps_are_told(run: Run) -> None:
    bus = Bus()
    make = makers(CONFIG, run.universe, BUILTIN)
    everyone = consumers(bus, make)
    for event in run.events:
        bus.feed(event)
    drain(everyone, random.Random(1))
    account = next(c for c in everyone if c.part.STAGE == "account" and c.consumed)
    place = account.places[0]
    before = account.part.snapshot()
    bus.log(place).extend(bus.log(place)[-20:])
    assert account.take(place, 100) == []
    assert account.part.duplicates == 20
    assert account.part.gaps == []
    assert before != account.part.snapshot()  # it stands further on
    last = decode(place[0], bus.log(place)[-1])
    last.producer_seq += 5
    bus.log(place).append(encode(last))
    account.take(place, 1)
    assert [(gap.producer, gap.seen - gap.last) for gap in account.part.gaps] == [
        (last.producer, 5)
    ]
