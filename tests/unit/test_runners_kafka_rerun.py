"""Parity of a session: what the re-run of a part takes for a difference."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from msgspec import structs

from agents.runners.kafka.parts.part import Output
from agents.runners.kafka.rerun import Chunk, PartRerun, rerun_session
from agents.runners.kafka.stages import StageSpec
from schemas.control import OrderLogEntry
from schemas.envelope import Header
from schemas.topics import CATALOGUE, MARKET_EVENTS, ORDER_EVENTS, SYSTEM_ORDER_LOG
from tests.unit.web_run import submit, submitted, trade


def event(number: int, **changes: Any) -> Header:
    """Return what the part makes as its output ``number``."""
    record = submitted(submit(f"n-{number}"))
    return structs.replace(record, producer="echo/0", producer_seq=number, **changes)


class Echo:
    """A part that makes three outputs of its one input."""

    instance = "echo/0"

    def take(
        self, topic: str, partition: int, records: Sequence[tuple[int, Header]], next_offset: int
    ) -> list[Output]:
        """Make them."""
        return [Output(ORDER_EVENTS, 0, event(number)) for number in (1, 2, 3)]


class Topics:
    """A session of one input, and these order events."""

    def __init__(self, published: Sequence[Header], notes: Sequence[Header]) -> None:
        self.open = 0
        self._held: dict[str, list[Header]] = {
            MARKET_EVENTS: [trade(1.0)] * (3 if notes else 1),
            ORDER_EVENTS: [*published],
            SYSTEM_ORDER_LOG: [*notes],
        }

    @property
    def counts(self) -> Mapping[str, int]:
        """One partition each."""
        return {topic.name: 1 for topic in CATALOGUE}

    async def chunks(self, topic: str, partition: int) -> AsyncGenerator[Chunk, None]:
        """Yield one record after the other."""
        self.open += 1
        try:
            for offset, record in enumerate(self._held.get(topic, [])):
                yield Chunk([(offset, record)], offset + 1)
        finally:
            self.open -= 1


async def rerun(*published: Header, notes: Sequence[Header] = ()) -> PartRerun:
    def make(*_: object) -> Any:
        return Echo()

    spec = StageSpec("echo", (MARKET_EVENTS,), make, bool(notes))
    topics = Topics(published, notes)
    (found,) = await rerun_session(topics, [spec], [])
    assert topics.open == 0
    return found


async def test_what_is_all_there_is_equal() -> None:
    found = await rerun(event(1), event(2), event(3))
    assert (found.compared, found.differences, found.unpublished) == (3, 0, 0)


async def test_last_outputs_may_not_be_published_yet() -> None:
    found = await rerun(event(1), event(2))
    assert (found.compared, found.differences, found.unpublished) == (2, 0, 1)


async def test_output_that_is_missing_in_front_of_others_is_a_difference() -> None:
    found = await rerun(event(1), event(3))
    assert (found.compared, found.differences, found.unpublished) == (2, 1, 0)
    assert found.first is not None
    assert (found.first.published, found.first.made) == (None, event(2))


async def test_equal_numbers_that_are_written_otherwise_are_a_difference() -> None:
    found = await rerun(event(1), event(2, quantity=Decimal("10.0")), event(3))
    assert (found.compared, found.differences) == (3, 1)


async def test_producer_that_contradicts_itself_differs() -> None:
    found = await rerun(event(1), event(1, quantity=Decimal("10.0")), event(2), event(3))
    assert found.differences == 1


async def test_partition_that_a_part_stopped_to_read_is_left_closed() -> None:
    claim = OrderLogEntry(ts_event_ns=0, stage="echo", instance="echo/0", epoch=1, is_claim=True)
    note = structs.replace(claim, is_claim=False, topic=MARKET_EVENTS)
    found = await rerun(event(1), event(2), event(3), notes=[claim, note])
    assert (found.inputs, found.compared, found.differences) == (1, 3, 0)
