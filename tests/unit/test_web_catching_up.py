"""Clients that read history: side by side with everything else, and the same records once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from schemas import topics as t
from streams.memory_log import MemoryLog
from tests.unit.web_run import START_NS, fill
from web.catching_up import CatchingUp
from web.filters import Filters, Matcher
from web.frames import Text
from web.settings import WebSettings
from web.shared_pages import SharedPages
from web.subscription import Subscription

RECORDS = 2_000
TURNS = 2


def log_of(count: int) -> MemoryLog:
    log = MemoryLog("run-1", lambda: START_NS, history_max=10_000)
    log.append([(t.ORDER_FILLS, fill(f"o-{n}")) for n in range(count)])
    return log


class Reader:
    """A client with room for everything; notes in which pass of the loop it was given what."""

    def __init__(self, passes: list[int]) -> None:
        self.subscriptions = {t.ORDER_FILLS: Subscription(t.ORDER_FILLS, Matcher(Filters()), "all")}
        self.subscriptions[t.ORDER_FILLS].next_offsets = [0]
        self.items: list[Text] = []
        self.at: list[int] = []
        self.has_room = True
        self._passes = passes

    def offer(self, item: Text) -> None:
        """Take a frame."""
        self.offer_all([item])

    def offer_all(self, items: Iterable[Text]) -> None:
        """Take frames."""
        self.items += items
        self.at.append(self._passes[0])

    async def room(self) -> None:
        """Have room at once."""


async def test_few_take_their_turn_in_a_pass_of_the_event_loop() -> None:
    passes = [0]

    async def count() -> None:
        while True:
            await asyncio.sleep(0)
            passes[0] += 1

    log = log_of(RECORDS)
    pages, turns = SharedPages(log), asyncio.Semaphore(TURNS)
    readers = [Reader(passes) for _ in range(30)]
    counting = asyncio.create_task(count())
    await asyncio.gather(
        *(
            CatchingUp(r, r.subscriptions[t.ORDER_FILLS], log, WebSettings(), turns, pages).run()
            for r in readers
        )
    )
    counting.cancel()
    times = [at for reader in readers for at in reader.at]
    assert max(map(times.count, set(times))) <= TURNS
    expected = [item.payload for item in readers[0].items]
    assert len(expected) == RECORDS
    for reader in readers:
        assert [item.payload for item in reader.items] == expected
        # One frame for all: it is made and held once.
        assert all(a is b for a, b in zip(reader.items, readers[0].items, strict=True))


def test_what_is_not_full_is_read_again() -> None:
    log = log_of(15)
    pages = SharedPages(log)
    full, rest = pages.read(t.ORDER_FILLS, 0, 0, 10), pages.read(t.ORDER_FILLS, 0, 10, 10)
    assert (full.next_offset, rest.next_offset) == (10, 15)
    log.append([(t.ORDER_FILLS, fill("late"))])
    assert pages.read(t.ORDER_FILLS, 0, 0, 10) is full
    assert pages.read(t.ORDER_FILLS, 0, 10, 10).next_offset == 16


def test_only_the_pages_that_were_read_last_are_kept() -> None:
    log = log_of(200)
    pages = SharedPages(log)
    first = pages.read(t.ORDER_FILLS, 0, 0, 1)
    for offset in range(1, 200):
        pages.read(t.ORDER_FILLS, 0, offset, 1)
    assert pages.read(t.ORDER_FILLS, 0, 0, 1) is not first
    assert pages.read(t.ORDER_FILLS, 0, 199, 1) is pages.read(t.ORDER_FILLS, 0, 199, 1)


def test_page_that_is_no_longer_kept_is_not_given() -> None:
    log = MemoryLog("run-1", lambda: START_NS, history_max=10)
    log.append([(t.ORDER_FILLS, fill(f"o-{n}")) for n in range(10)])
    pages = SharedPages(log)
    first = pages.read(t.ORDER_FILLS, 0, 0, 5)
    assert [item.offset for item in first.records] == [0, 1, 2, 3, 4]
    log.append([(t.ORDER_FILLS, fill(f"p-{n}")) for n in range(10)])
    again = pages.read(t.ORDER_FILLS, 0, 0, 5)
    assert [item.offset for item in again.records] == [10, 11, 12, 13, 14]
