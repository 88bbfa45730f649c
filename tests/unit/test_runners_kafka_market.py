"""The market stage over a Kafka partition: as in one process, for every cut and restart."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from agents.market.config import MarketConfig
from agents.market.stage import MarketStage
from agents.runners.kafka.parts.market import MarketPart
from agents.runners.kafka.parts.part import Output
from schemas.codec import encode
from schemas.envelope import Header
from schemas.rows import records_from_table
from schemas.topics import ACCOUNT_INPUTS, MARKET_BARS, MARKET_EVENTS
from tests.generated import session, universe
from tests.kafka_bus import COUNTS

CONFIG = MarketConfig(intervals=("1s", "1m"), indicators=("sma:3@1m",))
SYMBOLS = ("AAA", "BBB")


def events() -> list[tuple[int, Header]]:
    """Return trades and quotes of two instruments with their offsets, of which some are missing."""
    instruments = universe(SYMBOLS)
    batch = session(instruments, 1500)
    placed: list[tuple[int, Header]] = []
    for table in (batch.trades, batch.quotes, batch.bars):
        rows = records_from_table(instruments, table, slice(None))
        placed += zip(table.pos.tolist(), rows, strict=True)
    placed.sort(key=lambda item: item[0])
    return [(3 * i, record) for i, (_, record) in enumerate(placed)]


EVENTS = events()


def partition() -> MarketPart:
    return MarketPart(2, universe(SYMBOLS), COUNTS, CONFIG, {})


def take(stage: MarketPart, records: list[tuple[int, Header]], next_offset: int) -> list[Output]:
    return stage.take(MARKET_EVENTS, 2, records, next_offset)


def wire(outputs: list[Output]) -> dict[str, list[bytes]]:
    """Return the outputs as bytes, by partition: between partitions there is no order."""
    found: dict[str, list[bytes]] = {}
    for topic, target, record in outputs:
        found.setdefault(f"{topic}/{target}", []).append(encode(record))
    return found


WHOLE = take(partition(), EVENTS, EVENTS[-1][0] + 1)


def test_bars_and_prices_are_those_of_the_stage_itself() -> None:
    instruments = universe(SYMBOLS)
    made = MarketStage(instruments, CONFIG, {}).process(session(instruments, 1500))
    bars = records_from_table(instruments, made.bars, slice(None))
    prices = records_from_table(instruments, made.prices, slice(None))
    assert len(bars) > 100
    for topic, expected in ((MARKET_BARS, bars), (ACCOUNT_INPUTS, prices)):
        ids = list(dict.fromkeys(o.record.event_id for o in WHOLE if o.topic == topic))  # type: ignore[attr-defined]
        assert ids == [record.event_id for record in expected]  # type: ignore[attr-defined]


def test_outputs_of_a_partition_are_numbered_without_a_gap() -> None:
    for place in {(o.topic, o.partition) for o in WHOLE}:
        records = [o.record for o in WHOLE if (o.topic, o.partition) == place]
        assert [r.producer_seq for r in records] == list(range(1, len(records) + 1))
        assert {r.producer for r in records} == {"market/2"}


def test_every_account_partition_hears_of_prices() -> None:
    assert {o.partition for o in WHOLE if o.topic == ACCOUNT_INPUTS} == {0, 1, 2, 3}


@settings(max_examples=15)
@given(st.sets(st.integers(1, len(EVENTS) - 1), max_size=12), st.data())
def test_cuts_restarts_and_repetitions_never_show(cuts: set[int], data: st.DataObject) -> None:
    stage, out = partition(), []
    for first, last in pairwise(sorted({0, len(EVENTS), *cuts})):
        repeated = data.draw(st.integers(0, first), label="records read again")
        out += take(stage, EVENTS[first - repeated : last], EVENTS[last - 1][0] + 1)
        if data.draw(st.booleans(), label="restart"):
            state = stage.snapshot()
            stage = partition()
            stage.restore(state)
            assert stage.snapshot() == state
    assert wire(out) == wire(WHOLE)
    assert stage.offsets[f"{MARKET_EVENTS}/2"] == EVENTS[-1][0] + 1


def test_offsets_of_refused_records_are_passed_as_well() -> None:
    stage = partition()
    assert take(stage, [], 40) == []
    assert stage.offsets[f"{MARKET_EVENTS}/2"] == 40
    assert take(stage, EVENTS[:10], 41) == []  # offsets below 40 were taken before
