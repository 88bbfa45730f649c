"""The stages over partitions: equal to the one-process run, whatever the order and the cuts."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs

from agents.account.stage import AccountStage
from agents.runners.kafka.parts.account import AccountPart
from agents.strategy.builtin import BUILTIN
from schemas.codec import decode, encode
from schemas.commands import ApproveOrder
from schemas.control import DeadLetter
from schemas.enums import BreakerState, Scope
from schemas.retries import written_again
from schemas.risk import LimitSet, SetBreaker, SetLimits
from schemas.sessions import SessionTable
from schemas.topics import (
    ACCOUNT_INPUTS,
    CATALOGUE,
    MARKET_BARS,
    MARKET_EVENTS,
    ORDER_FILLS,
    PORTFOLIO_POSITIONS,
    RISK_BREAKER,
    RISK_LIMITS,
    STRATEGY_SIGNALS,
    SYSTEM_DEAD_LETTERS,
)
from streams.kafka.publisher import addressed
from tests.kafka_bus import Bus, Consumer, Makers, consumers, drain, makers, places_of
from tests.kafka_case import CONFIG, Run, by_id, check_books, one_process_run


@pytest.fixture(scope="module")
def run() -> Run:
    return one_process_run()


def check_all(bus: Bus, run: Run) -> None:
    assert bus.records(SYSTEM_DEAD_LETTERS) == []
    check_books(bus.records(ORDER_FILLS), bus.records(PORTFOLIO_POSITIONS), run.actions)


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
        assert by_id(bus.made(topic)) == by_id(run.made[topic])
    check_all(bus, run)
    assert not any(c.part.duplicates or c.part.gaps for c in everyone)


@settings(max_examples=5)
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
        assert by_id(bus.made(topic)) == by_id(run.made[topic])
    check_all(bus, run)
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
    (place,) = places_of(account.part)
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


def test_letter_that_is_retried_by_two_processes_is_taken_once(run: Run) -> None:
    bus = Bus()
    everyone = consumers(bus, makers(CONFIG, run.universe, BUILTIN))
    for event in run.events:
        bus.feed(event)
    drain(everyone, random.Random(1))
    account = next(c for c in everyone if c.part.STAGE == "account" and c.consumed)
    (place,) = places_of(account.part)
    approval = ApproveOrder("x", 1, "c", "c", "nobody", "o-1", True, "ada")
    again = [written_again(letter_id, approval) for letter_id in ("a", "a", "b", "a")]
    bus.log(place).extend(encode(record) for record in again)

    out = account.take(place, 100)

    letters = [item.record for item in out if isinstance(item.record, DeadLetter)]
    assert [letter.causation_id for letter in letters] == ["retry:a", "retry:b"]
    assert len({letter.event_id for letter in letters}) == 2
    assert (account.part.duplicates, account.part.gaps) == (2, [])


def test_what_every_part_is_told_one_part_confirms(run: Run) -> None:
    counts = {topic.name: topic.partitions for topic in CATALOGUE}
    breaker = SetBreaker(
        event_id="trip",
        ts_event_ns=1,
        correlation_id="",
        causation_id="",
        scope=Scope.GLOBAL,
        scope_id="",
        state=BreakerState.HALTED,
        operator="me",
        reason="test",
    )
    assert len(addressed(ACCOUNT_INPUTS, breaker, counts)) == counts[ACCOUNT_INPUTS]
    said = []
    for partition in range(counts[ACCOUNT_INPUTS]):
        config = structs.replace(CONFIG.accounts, limits=LimitSet(max_open_orders=5))
        part = AccountPart(partition, run.universe, counts, config, {})
        wrong = structs.replace(breaker, event_id="reset", state=BreakerState.ACTIVE, reason="")
        said.append(part.take(ACCOUNT_INPUTS, partition, [(7, breaker), (8, wrong)], 9))
        assert part._stage.breakers.states == {"GLOBAL|": BreakerState.HALTED}
    assert [{item.topic for item in made} for made in said] == [
        {RISK_LIMITS, RISK_BREAKER, SYSTEM_DEAD_LETTERS},
        set(),
        set(),
        set(),
    ]
    letter = next(item.record for item in said[0] if isinstance(item.record, DeadLetter))
    assert (letter.partition, letter.offset) == (0, 8)


def test_accounts_are_marked_at_the_same_instants_whichever_part_has_them(run: Run) -> None:
    opens = {"XNYS": 14, "XLON": 8}
    sessions = {
        name: SessionTable(np.array([hour]), np.array([hour + 8]), np.array([20_131_007]))
        for name, hour in opens.items()
    }
    accounts = [
        structs.replace(account, calendar=calendar)
        for account, calendar in zip(CONFIG.accounts.accounts, opens, strict=True)
    ]
    config = structs.replace(CONFIG.accounts, accounts=tuple(accounts))
    counts = {topic.name: topic.partitions for topic in CATALOGUE}
    parts = [
        AccountPart(partition, run.universe, counts, config, sessions)
        for partition in range(counts[ACCOUNT_INPUTS])
    ]

    one_process = AccountStage(config, run.universe, sessions)
    expected = one_process.marks.open_ns.tolist()
    assert sorted(opens.values()) == expected[:2]
    assert [part._stage.marks.open_ns.tolist() for part in parts] == [expected] * len(parts)
    assert {len(part._stage.accounts) for part in parts} >= {0, 1}


def test_a_command_for_one_account_goes_to_its_partition() -> None:
    counts = {ACCOUNT_INPUTS: 4}
    limits = SetLimits("l", 1, "", "", Scope.ACCOUNT, "two", LimitSet(), "me")
    (sent,) = addressed(ACCOUNT_INPUTS, limits, counts)
    assert sent.key == b"two"
    assert (
        len(addressed(ACCOUNT_INPUTS, structs.replace(limits, scope=Scope.STRATEGY), counts)) == 4
    )
