"""Values at the edges of every field of every stage's input: refused or worked with, never fatal.

A record that ended a stage would end it again at each restart, so that one sender could hold up
everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.usable import (
    STAGE_INPUTS,
    KnownInstruments,
    MarketData,
    home_of,
    unusable,
)
from agents.strategy.builtin import BUILTIN
from schemas.codec import decoder, encode
from schemas.envelope import Header
from schemas.instruments import Universe
from schemas.market_data import (
    Bar,
    BookLevel,
    BookSnapshot,
    InstrumentStatus,
    Quote,
    ReferencePrice,
    Trade,
)
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_BARS,
    MARKET_EVENTS,
    REFERENCE_INSTRUMENTS,
    TOPIC_BY_NAME,
    VENUE_COMMANDS,
)
from tests.generated import universe as generated_universe
from tests.kafka_bus import COUNTS, makers, places_of
from tests.kafka_case import CONFIG, Run, data, one_process_run
from tests.unit.account_records import (
    action,
    approve,
    cancel,
    canceled,
    expired,
    kill,
    rate,
    rejected,
    replace,
    replaced,
    set_autonomy,
    set_breaker,
    set_limits,
    status,
    triggered,
)

WHOLE = (-1, 0, 2**31, 2**63 - 1, 2**63, 2**64, -(2**63), 2**70)
FLOATS = (-1.0, 0.0, 5e-324, 1e18, 2.0**53, 1e300, -1e300)
DECIMALS = ("NaN", "sNaN", "Infinity", "1E+999999", "1E-999999", "-1", "0", "-0", "1E+30", "1E-18",
            "123456789012345678901234567890123456789.5")  # fmt: skip
TEXTS = ("", "x", "A" * 10_000, "\u0000", "é|é", "\u202e")
READERS = {
    "market": (MARKET_EVENTS,),
    "venue": (MARKET_EVENTS, VENUE_COMMANDS),
    "account": ("account.inputs.v1",),
    "strategy": ("strategy.inputs.v1", MARKET_EVENTS, MARKET_BARS),
}


SAID: tuple[Header, ...] = (
    cancel(), replace(quantity="2"), approve(), set_limits(max_quantity=Decimal(5)),
    set_breaker("HALTED"), set_autonomy("OBSERVE_ONLY"), kill("CANCEL_ALL"),
    canceled(), rejected(), expired(),
    triggered(), replaced(), rate("EUR", "USD", "1.1"), status("HALTED"),
    action("DIVIDEND", amount=Decimal(1)),
)  # fmt: skip
"""What operators and venues say that the day itself does not have."""


class Given(NamedTuple):
    """A record as the client gives it."""

    offset: int
    value: bytes
    timestamp: int
    key: bytes = b""


@pytest.fixture(scope="module")
def run() -> Run:
    return one_process_run()


def samples(run: Run, topic: str) -> list[Header]:
    """Return one record of each type that the day has on a topic, and some that it has not."""
    found: list[Header] = [*run.made.get(topic, [])]
    if topic == MARKET_EVENTS:
        ts = run.events[0].ts_event_ns  # type: ignore[attr-defined]
        found += run.events
        found += [
            Bar(
                ts_event_ns=ts, instrument_id="AA.XXXX", interval="1m", open=1.0, high=1.0,
                low=1.0, close=1.0, volume=1.0, vwap=1.0, trade_count=1, source="a", source_seq=4,
            ),
            InstrumentStatus(ts_event_ns=ts, instrument_id="AA.XXXX", state="HALTED"),  # type: ignore[arg-type]
            BookSnapshot(
                ts_event_ns=ts, instrument_id="AA.XXXX", bids=[BookLevel(1.0, 2.0)], asks=[]
            ),
        ]  # fmt: skip
        found.append(of_the_day(action("SPLIT", ratio=Decimal(2)), ts))
    if topic == ACCOUNT_INPUTS:
        ts = found[0].ts_event_ns  # type: ignore[attr-defined]
        found += [of_the_day(record, ts) for record in SAID]
        found += [of_the_day(action("SPLIT", ratio=Decimal(2)), ts), priced(5.0)]
    return list({type(record): record for record in found}.values())


def priced_trade(price: float, size: float) -> Trade:
    """Return a trade as a source tells it."""
    return Trade(ts_event_ns=5, instrument_id="AA.XXXX", price=price, size=size, source="a")


def priced_quote(bid: float) -> Quote:
    """Return a quote as a source tells it."""
    return Quote(
        ts_event_ns=5, instrument_id="AA.XXXX", bid_price=bid, ask_price=3.0, bid_size=1.0,
        ask_size=1.0, source="a",
    )  # fmt: skip


def daily_bar(**fields: Any) -> Bar:
    """Return a bar of a day as a source tells it."""
    values: dict[str, Any] = {"open": 1.0, "high": 1.0, "low": 1.0, "close": 1.0, **fields}
    return Bar(
        ts_event_ns=5, instrument_id="AA.XXXX", interval="1d", volume=1.0, vwap=1.0,
        trade_count=1, source="a", source_seq=4, **values,
    )  # fmt: skip


def priced(price: float, **fields: Any) -> ReferencePrice:
    """Return a reference price as the market stage makes it."""
    return ReferencePrice(
        event_id="feed:AA.XXXX:1", ts_event_ns=1, correlation_id="", causation_id="",
        instrument_id="AA.XXXX", price=price, **{"source": "feed", "source_seq": 1, **fields},
    )  # fmt: skip


def of_the_day(record: Header, ts_ns: int) -> Header:
    """Return a record as one of the day's accounts and instruments."""
    known = {"account_id": "one", "instrument_id": "AA.XXXX", "strategy_id": "cross-AA-1m"}
    fields = {name: value for name, value in known.items() if hasattr(record, name)}
    return msgspec.structs.replace(record, ts_event_ns=ts_ns, **fields)


def variants(record: msgspec.Struct) -> Iterator[tuple[str, bytes]]:
    """Yield a record with each of its fields at each edge that the field can name."""
    plain = msgspec.to_builtins(record)
    everything = {f.name: getattr(record, f.name) for f in msgspec.structs.fields(type(record))}
    for name, value in everything.items():
        edges: tuple[Any, ...] = TEXTS
        if isinstance(value, bool) or name == "schema_version":
            continue
        if isinstance(value, int):
            edges = WHOLE
        elif isinstance(value, float):
            edges = FLOATS
        elif value is None or isinstance(value, Decimal):
            edges = DECIMALS
        elif isinstance(value, msgspec.Struct):
            for case, inner in variants(value):
                changed = msgspec.json.encode({**plain, name: msgspec.Raw(inner)})
                yield f"{name}.{case}", changed
            continue
        for edge in edges:
            # As text, for msgspec writes no number beyond 64 bits.
            written = str(edge).encode() if isinstance(edge, int) else msgspec.json.encode(edge)
            changed = msgspec.json.encode({**plain, name: "EDGE"}).replace(b'"EDGE"', written)
            yield f"{name}={edge!r:.40}", changed


ON = ("1m", "trade", "quote")
EVERY_KIND = msgspec.structs.replace(
    CONFIG,
    strategies=tuple(
        msgspec.structs.replace(item, strategy_id=f"{item.strategy_id}-{on}", on=on)
        for item in CONFIG.strategies
        for on in ON
    ),
)
CASES = [(stage, topic) for stage, topics in READERS.items() for topic in topics]


@pytest.mark.parametrize(("stage", "topic"), CASES)
def test_no_value_ends_a_stage(run: Run, stage: str, topic: str) -> None:
    universe: Universe = data(40)[0]
    make = makers(EVERY_KIND, universe, BUILTIN)
    for record in samples(run, topic):
        home = home_of(topic, record, COUNTS[topic]) or 0
        parts = [make[stage](p) for p in range(4)]
        part = next(p for p in parts if (topic, home) in places_of(p))
        stamp_ms = record.ts_event_ns // 1_000_000  # type: ignore[attr-defined]
        cases = [("as it was", encode(record)), *variants(record), ("as it was", encode(record))]
        used = 0
        for offset, (case, value) in enumerate(cases):
            taken = take_records(
                topic, home, [Given(offset, value, stamp_ms)], universe, COUNTS[topic]
            )
            used += len(taken.records)
            try:
                made = part.take(topic, home, taken.records, offset + 1)
                for item in made:
                    decoder(item.topic).decode(encode(item.record))
                part.snapshot()
            except Exception as error:
                raise AssertionError(f"{type(record).__name__} with {case}: {error}") from error
            assert len(encode(taken.letters)) < 10_000
        assert 2 <= used < len(cases)


DAY_NS = 86_400_000_000_000
AT_NS = 1_700_000_000_000_000_000
TRADE = Trade(ts_event_ns=AT_NS, instrument_id="AA.XXXX", price=10.0, size=1.0)
QUOTE = Quote(
    ts_event_ns=AT_NS,
    instrument_id="AA.XXXX",
    bid_price=9.0,
    ask_price=10.0,
    bid_size=1.0,
    ask_size=1.0,
)


@settings(max_examples=500)
@given(
    record=st.sampled_from([TRADE, QUOTE]),
    field=st.sampled_from([*TRADE.__struct_fields__, *QUOTE.__struct_fields__]),
    value=st.sampled_from(
        [*WHOLE, *FLOATS, float("nan"), float("inf"), AT_NS + DAY_NS, AT_NS + DAY_NS + 1, "ZZ.XXXX"]
    ),
    partition=st.integers(0, 3),
)
def test_quick_look_lets_nothing_pass_that_is_unusable(
    record: Header, field: str, value: object, partition: int
) -> None:
    present = getattr(record, field, None)
    if isinstance(value, type(present)):
        record = msgspec.structs.replace(record, **{field: value})
    known = KnownInstruments(generated_universe(("AA",)))
    if MarketData(known, partition, 4).is_sound(record, AT_NS):
        assert unusable(MARKET_EVENTS, partition, 4, record, AT_NS) == ""
        assert known.fault(MARKET_EVENTS, record) == ""


def test_quick_look_knows_usual_trades_and_quotes() -> None:
    known = KnownInstruments(generated_universe(("AA",)))
    for record in (TRADE, QUOTE):
        home = home_of(MARKET_EVENTS, record, 4)
        assert home is not None
        assert MarketData(known, home, 4).is_sound(record, AT_NS)
        assert not MarketData(known, (home + 1) % 4, 4).is_sound(record, AT_NS)


ODD = [(0.0, 1.0), (-5.0, 1.0), (5.0, -1.0), (1e12, 1e14), (1e300, 1.0)]


@pytest.mark.parametrize(("price", "size"), ODD)
def test_quick_look_passes_no_trade_that_cannot_be_true(price: float, size: float) -> None:
    known = KnownInstruments(generated_universe(("AA",)))
    odd = msgspec.structs.replace(TRADE, price=price, size=size)
    home = home_of(MARKET_EVENTS, odd, 4)
    assert home is not None
    looking = MarketData(known, home, 4)
    assert not looking.is_sound(odd, AT_NS)
    assert looking.are_sound([TRADE] * 20, [AT_NS] * 20)
    assert not looking.are_sound([TRADE] * 20 + [odd], [AT_NS] * 21)


def test_every_input_of_a_stage_has_a_time() -> None:
    for topic in STAGE_INPUTS:
        for kind in TOPIC_BY_NAME[topic].values:
            assert "ts_event_ns" in kind.__struct_fields__


@pytest.mark.parametrize(
    ("topic", "record", "reason"),
    [
        (ACCOUNT_INPUTS, priced(5.0, source=""), "source is empty"),
        (ACCOUNT_INPUTS, priced(1e300), "beyond exact numbers"),
        (ACCOUNT_INPUTS, msgspec.structs.replace(cancel(), event_id=""), "event_id is empty"),
        (MARKET_EVENTS, action("SPLIT", ratio=Decimal("1E-18")), "new shares for one old"),
        (MARKET_EVENTS, action("SPLIT", ratio=Decimal("0." + "3" * 39)), "at most 38 digits"),
        (ACCOUNT_INPUTS, action("SPLIT", ratio=Decimal("1E+7")), "new shares for one old"),
        (MARKET_EVENTS, priced_trade(0.0, 1.0), "price is 0.0; give a price above 0"),
        (MARKET_EVENTS, priced_trade(-5.0, 1.0), "price is -5.0; give a price above 0"),
        (MARKET_EVENTS, priced_trade(5.0, -1.0), "size is -1.0; give a size of 0 or more"),
        (MARKET_EVENTS, priced_trade(1e12, 1e14), "size is 100000000000000.0, beyond exact"),
        (MARKET_EVENTS, priced_quote(-1.0), "bid_price is -1.0; give a price above 0"),
        (MARKET_EVENTS, daily_bar(low=2.0), "low is 2.0 and high 1.0; open and close lie"),
        (MARKET_EVENTS, daily_bar(start_ns=5), "start_ns is 5; give the instant"),
        (MARKET_EVENTS, daily_bar(start_ns=-1), "start_ns is -1; give the instant"),
    ],
)
def test_what_no_stage_can_work_with_is_told(topic: str, record: Header, reason: str) -> None:
    item = Given(0, encode(of_the_day(record, 5)), 10)
    home = home_of(topic, decoder(topic).decode(item.value), 4) or 0
    taken = take_records(topic, home, [item], generated_universe(("AA",)), 4)
    assert taken.records == []
    assert reason in taken.letters[0].reason


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"calendar": "NOCAL"}, "calendar"), ({"price_increment": Decimal(0)}, "increment")],
)
def test_definition_that_no_stage_could_learn_is_refused_where_it_comes_from(
    fields: dict[str, Any], reason: str
) -> None:
    (instrument,) = generated_universe(("AA",)).instruments
    odd = msgspec.structs.replace(instrument, **fields)
    taken = take_records(REFERENCE_INSTRUMENTS, 0, [Given(0, encode(odd), 10)], Universe(), 4)
    assert taken.records == []
    assert reason in taken.letters[0].reason


def test_definition_is_without_an_instant_on_every_topic() -> None:
    (instrument,) = generated_universe(("AA",)).instruments
    late = msgspec.structs.replace(instrument, ts_event_ns=2**63 - 1)
    for topic in (MARKET_EVENTS, ACCOUNT_INPUTS):
        taken = take_records(topic, 0, [Given(0, encode(late), 10)], Universe(), 4)
        assert taken.letters == []


def test_definition_that_is_refused_leaves_the_others_alone() -> None:
    instruments = generated_universe(("AA",))
    (known,) = instruments.instruments
    odd = msgspec.structs.replace(known, instrument_id="ZZ.XXXX", price_increment=Decimal("1E+300"))
    (refused, taken) = (Given(0, encode(odd), 10), Given(1, encode(known), 10))
    found = take_records(MARKET_EVENTS, 0, [refused, taken], instruments, 4)
    assert "increment" in found.letters[0].reason
    assert [offset for offset, _ in found.records] == [1]
    assert len(instruments.instruments) == len(instruments.price_grids) == 1
