"""Reference data that comes while a session on Kafka runs: definitions, actions, rates."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec import structs

from agents.pipeline import PIPELINE
from agents.runners.kafka.incoming import take_records
from agents.runners.kafka.parts.reference import ReferencePart
from agents.runners.kafka.stages import stage_specs
from agents.runners.kafka.usable import KnownInstruments, home_of
from agents.strategy.builtin import BUILTIN
from schemas.codec import encode
from schemas.enums import CorporateActionKind
from schemas.envelope import Header
from schemas.errors import NotFoundError
from schemas.instruments import CorporateAction, ExchangeRate, Instrument
from schemas.market_data import Trade
from schemas.topics import (
    ACCOUNT_INPUTS,
    MARKET_EVENTS,
    REFERENCE_ACTIONS,
    REFERENCE_INSTRUMENTS,
    REFERENCE_RATES,
)
from streams.calendars import SessionTables, check_calendar, session_tables
from tests.generated import START_NS, universe
from tests.kafka_bus import COUNTS
from tests.kafka_case import CONFIG

NEW = Instrument(ts_event_ns=0, instrument_id="NEW.XXXX", symbol="NEW", venue="XXXX")
SPLIT = CorporateAction(
    ts_event_ns=START_NS,
    event_id="split",
    instrument_id="AA.XXXX",
    kind=CorporateActionKind.SPLIT,
    ratio=Decimal(2),
)


class Item:
    """A record as the Kafka client gives it."""

    def __init__(self, offset: int, record: Header) -> None:
        self.offset = offset
        self.timestamp = START_NS // 1_000_000
        self.key = None
        self.value = encode(record)


def trade(instrument_id: str) -> Trade:
    return Trade(ts_event_ns=START_NS, instrument_id=instrument_id, price=10.0, size=1.0)


def test_a_definition_counts_for_what_stands_behind_it() -> None:
    known = universe(("AA",))
    items = [Item(i, r) for i, r in enumerate((trade("NEW.XXXX"), NEW, trade("NEW.XXXX")))]
    taken = take_records(MARKET_EVENTS, 0, items, known, 1)
    assert [offset for offset, _ in taken.records] == [1, 2]
    (letter,) = taken.letters
    assert letter.offset == 0
    assert "NEW.XXXX is not known" in letter.reason


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (structs.replace(NEW, calendar="NOWHERE"), "calendar"),
        (structs.replace(NEW, time_zone="Moon/Crater"), "time_zone"),
        (
            structs.replace(NEW, instrument_id="AA.XXXX", price_increment=Decimal("0.05")),
            "price_increment of a known instrument",
        ),
        (
            structs.replace(NEW, instrument_id="AA.XXXX", time_zone="Asia/Tokyo"),
            "time_zone of a known instrument",
        ),
        (
            structs.replace(NEW, instrument_id="AA.XXXX", multiplier=Decimal(50)),
            "multiplier of a known instrument",
        ),
        (structs.replace(SPLIT, ratio=Decimal(0)), "new shares for one old share"),
        (structs.replace(SPLIT, instrument_id="NO.XXXX"), "NO.XXXX is not known"),
        (structs.replace(SPLIT, ts_event_ns=0), "ts_event_ns"),
    ],
)
def test_what_no_stage_could_use_is_a_dead_letter(record: Header, reason: str) -> None:
    known = universe(("AA",))
    taken = take_records(MARKET_EVENTS, 0, [Item(5, record)], known, 1)
    assert taken.records == []
    assert reason in taken.letters[0].reason
    assert len(known) == 1


@pytest.mark.parametrize(
    ("new_symbol", "partitions", "reason"),
    [
        ("BB.XXXX", 1, ""),
        ("BB", 1, ""),
        ("NO", 1, "new_symbol NO is not known"),
        ("FF", 1, "another multiplier"),
        ("BB.XXXX", 4, "AA.XXXX has its orders and positions in partition"),
    ],
)
def test_change_of_a_symbol_that_nothing_could_follow_is_a_dead_letter(
    new_symbol: str, partitions: int, reason: str
) -> None:
    known = universe(("AA", "BB"))
    known.add(structs.replace(NEW, instrument_id="FF.XXXX", symbol="FF", multiplier=Decimal(50)))
    home = home_of(MARKET_EVENTS, SPLIT, partitions)
    assert partitions == 1 or home != home_of(
        MARKET_EVENTS, structs.replace(SPLIT, instrument_id="BB.XXXX"), partitions
    )
    renaming = structs.replace(SPLIT, kind=CorporateActionKind.SYMBOL_CHANGE, new_symbol=new_symbol)

    taken = take_records(MARKET_EVENTS, home or 0, [Item(5, renaming)], known, partitions)

    assert len(taken.records) == (not reason)
    assert all(reason in letter.reason for letter in taken.letters)
    assert len(taken.letters) == bool(reason)


def test_a_recording_knows_the_same_instruments() -> None:
    known = KnownInstruments(universe(("AA",)))
    records = [trade("NEW.XXXX"), NEW, trade("NEW.XXXX"), SPLIT]
    reasons = [known.fault(MARKET_EVENTS, record) for record in records]
    assert [bool(reason) for reason in reasons] == [True, False, False, False]


def test_an_action_keeps_its_id() -> None:
    taken = take_records(MARKET_EVENTS, 0, [Item(5, SPLIT)], universe(("AA",)), 1)
    assert [record.event_id for _, record in taken.records] == ["split"]  # type: ignore[attr-defined]


def test_an_action_without_a_name_gets_the_same_one_everywhere() -> None:
    nameless = structs.replace(SPLIT, event_id="")
    known = universe(("AA",))
    ((_, named),) = take_records(REFERENCE_ACTIONS, 0, [Item(5, nameless)], None, 1).records
    ((_, passed_on),) = take_records(MARKET_EVENTS, 0, [Item(9, named)], known, 1).records
    assert named.event_id  # type: ignore[attr-defined]
    assert passed_on == named


def test_the_reference_stage_puts_everything_where_it_is_read() -> None:
    part = ReferencePart(0, universe(("AA",)), COUNTS, {REFERENCE_INSTRUMENTS: 7})
    assert part.take(REFERENCE_INSTRUMENTS, 0, [(6, NEW)], 7) == []  # the session began with it
    defined = part.take(REFERENCE_INSTRUMENTS, 0, [(7, NEW)], 8)
    assert [(o.topic, o.partition) for o in defined] == [(MARKET_EVENTS, p) for p in range(4)]
    acted = part.take(REFERENCE_ACTIONS, 0, [(0, SPLIT)], 1)
    (trades,) = {o.partition for o in acted}
    assert [o.topic for o in acted] == [MARKET_EVENTS]
    rate = ExchangeRate(
        ts_event_ns=START_NS, base_currency="EUR", quote_currency="USD", rate=Decimal("1.1")
    )
    rated = part.take(REFERENCE_RATES, 0, [(0, rate)], 1)
    assert [(o.topic, o.partition) for o in rated] == [(ACCOUNT_INPUTS, p) for p in range(4)]
    again = ReferencePart(0, universe(("AA",)), COUNTS, {})
    again.restore(part.snapshot())
    assert again.offsets == part.offsets
    (next_one,) = again.take(REFERENCE_ACTIONS, 0, [(1, SPLIT)], 2)
    assert next_one.partition == trades
    assert next_one.record.producer_seq == acted[0].record.producer_seq + 1


def test_tables_made_on_demand_are_those_made_beforehand() -> None:
    end_ns = START_NS + 90 * 86_400_000_000_000
    both = universe(("AA",))
    both.add(structs.replace(NEW, calendar="XNYS", time_zone="America/New_York"))
    made = session_tables(both, START_NS, end_ns)
    tables = SessionTables(START_NS, end_ns)
    assert set(made) == {"XNYS", "America/New_York"}
    for name, table in made.items():
        assert tables[name].open_ns.tolist() == table.open_ns.tolist()
        assert tables[name].day.tolist() == table.day.tolist()
    assert tables.get("NOWHERE") is None
    with pytest.raises(NotFoundError):
        check_calendar(structs.replace(NEW, calendar="NOWHERE"))


def test_workers_run_the_stages_of_the_pipeline() -> None:
    specs = stage_specs(CONFIG, {}, BUILTIN)
    assert list(specs) == [stage.name for stage in PIPELINE]
    for stage in PIPELINE:
        spec = specs[stage.name]
        assert set(spec.topics) <= set(stage.reads)
        assert spec.is_recorded == (stage.order == "recorded")
