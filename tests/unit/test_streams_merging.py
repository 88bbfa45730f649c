"""Partitions merged by time: read models hear of a fill, its position and a split in order."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from decimal import Decimal

from schemas import topics as t
from schemas.envelope import Header
from streams.log import Published
from streams.merging import in_order_of_time
from tests.unit.account_records import A, action, price, traded
from tests.unit.account_script import Driver
from tests.unit.web_run import fill, submit, submitted
from web.views.models import Views
from web.views.orders import OrderBook


class Part:
    """A partition that is read two records a page; counts the pages that were read."""

    def __init__(self, number: int, times: Sequence[int]) -> None:
        self.read = 0
        self._items = []
        for offset, ts_ns in enumerate(times):
            record = fill(f"{number}-{offset}")
            record.ts_event_ns = ts_ns
            self._items.append(Published(t.ORDER_FILLS, number, offset, record))

    async def pages(self) -> AsyncIterator[list[Published]]:
        """Yield the pages, an empty one first."""
        yield []
        for start in range(0, len(self._items), 2):
            self.read += 1
            yield self._items[start : start + 2]


async def test_earliest_record_comes_first_and_pages_are_read_when_they_are_needed() -> None:
    parts = [Part(0, [1, 5, 6, 9]), Part(1, []), Part(2, [5, 2, 7, 8, 20])]
    found: list[tuple[int, int]] = []
    read: list[list[int]] = []

    async for group in in_order_of_time([part.pages() for part in parts]):
        found += [(item.partition, item.offset) for item in group]
        read.append([part.read for part in parts])

    # Within a partition the order stays: what is stamped 2 comes behind 5.
    assert found == [(0, 0), (0, 1), (2, 0), (2, 1), (0, 2), (2, 2), (2, 3), (0, 3), (2, 4)]
    assert read[0] == [1, 0, 1]
    assert read[-1] == [2, 0, 3]


async def test_split_stands_between_the_fills_that_it_stood_between() -> None:
    driver = Driver()
    split = action("SPLIT", ratio=Decimal(2), at=5)
    driver.play(
        price(10.0),
        *traded("a", "BUY", "10", "10"),
        split,
        *traded("b", "SELL", "8", "6", at=6),
    )
    topics: dict[str, Sequence[Header]] = {
        t.REFERENCE_INSTRUMENTS: driver.listed,
        t.REFERENCE_ACTIONS: [split],
        t.ORDER_FILLS: driver.on_topic(t.ORDER_FILLS),
        t.PORTFOLIO_POSITIONS: driver.on_topic(t.PORTFOLIO_POSITIONS),
    }

    async def pages(topic: str) -> AsyncIterator[list[Published]]:
        for offset, record in enumerate(topics[topic]):
            yield [Published(topic, 0, offset, record)]

    views = Views()
    async for group in in_order_of_time([pages(topic) for topic in topics]):
        views.apply(group)

    assert views.lots.of(("paper", "s", A)) == [(Decimal(12), Decimal(5))]
    assert views.portfolio.positions["paper", "s", A].quantity == 12


def test_order_whose_refusal_is_no_longer_kept_leaves_but_no_open_one_does() -> None:
    book = OrderBook(4)
    for number in range(30):
        order = submit(f"o-{number:02}", at=number)
        book.on_input(Published(t.ACCOUNT_INPUTS, 0, number, order))
        if number == 20:
            # The stage comes to an order long after it was asked for.
            late = submit("o-15", at=15)
            book.on_event(Published(t.ORDER_EVENTS, 0, 0, submitted(late)))

    names = [row.client_order_id for row in book.newest_first()]

    assert names == ["o-29", "o-28", "o-27", "o-26", "o-15"]
    assert book.floor is not None
