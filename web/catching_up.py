"""Reads what a topic holds from a client's place to its end, so that the client can go on live.

Older stretches may have to be fetched; what is at hand is read without waiting. So in the last
round nothing is awaited between the last record that is read and the moment the client is live: no
record falls between, and none comes twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Protocol

from streams.log import Log
from web.frames import Text, control
from web.server_frames import Gap
from web.settings import WebSettings
from web.shared_pages import SharedPage, SharedPages
from web.subscription import Subscription, expired

_PAGE = 500


class Expired(Exception):  # noqa: N818 - it says what has happened
    """What the client still had to read is no longer kept."""


class Receiver(Protocol):
    """The client that catches up."""

    @property
    def subscriptions(self) -> Mapping[str, Subscription]:
        """The client's subscriptions by topic."""
        ...

    def offer(self, item: Text) -> None:
        """Let a frame wait for the client."""
        ...

    def offer_all(self, items: Iterable[Text]) -> None:
        """Let frames wait for the client."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether the client has room."""
        ...

    async def room(self) -> None:
        """Wait until the client has room."""
        ...


@asynccontextmanager
async def in_turn(turns: asyncio.Semaphore) -> AsyncIterator[None]:
    """Take one of ``turns`` over a pass of the event loop, so that few take theirs in each."""
    async with turns:
        await asyncio.sleep(0)
        yield


class CatchingUp:
    """One subscription on its way to the end of its topic; all share ``turns`` and ``pages``."""

    def __init__(
        self,
        client: Receiver,
        subscription: Subscription,
        log: Log,
        settings: WebSettings,
        turns: asyncio.Semaphore,
        pages: SharedPages,
    ) -> None:
        self._client = client
        self._subscription = subscription
        self._log = log
        self._turns = turns
        self._pages = pages
        self._topic = subscription.topic
        self._partitions = range(len(subscription.next_offsets))
        # A round over all partitions fits into the half of the outbox that is free.
        share = settings.outbox_max_frames // (4 * len(self._partitions))
        self._page_max = max(1, min(_PAGE, share))

    async def run(self) -> None:
        """Return when the client has everything, or a newer subscription took this one's place.

        Raises Expired, and StorageError if the log cannot be read.
        """
        for partition, first, last in self._subscription.skipped:
            self._tell_gap(partition, first, last)
        while self._is_wanted():
            far = [p for p in self._partitions if self._at(p) < self._log.at_hand(self._topic, p)]
            if far:
                await self._fetch(far[0])
            else:
                async with self._turn():
                    if self._is_wanted() and self._read_round():
                        return

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until the client has room and few others read; nothing may be awaited within.

        However many clients catch up, the event loop does little of it between other things.
        """
        while True:
            await self._client.room()
            async with in_turn(self._turns):
                # Another subscription of the client may have taken the room meanwhile.
                if self._client.has_room:
                    yield
                    return

    def _at(self, partition: int) -> int:
        return self._subscription.next_offsets[partition]

    def _is_wanted(self) -> bool:
        return self._client.subscriptions.get(self._topic) is self._subscription

    def _read_round(self) -> bool:
        """Take a page of each partition; return whether that was all."""
        for partition in self._partitions:
            at = self._at(partition)
            self._take(partition, self._pages.read(self._topic, partition, at, self._page_max))
        return all(self._at(p) == self._log.end_offset(self._topic, p) for p in self._partitions)

    async def _fetch(self, partition: int) -> None:
        at = self._at(partition)
        async with self._turns:
            page = await self._log.fetch(self._topic, partition, at, self._page_max)
        if self._is_wanted() and page.start > at:
            self._skip(partition, at, page.start)
        # Kafka gives as much as its blocks hold.
        for start in range(0, max(1, len(page.records)), self._page_max):
            async with self._turn():
                if not self._is_wanted():
                    return
                records = page.records[start : start + self._page_max]
                is_last = start + self._page_max >= len(page.records)
                end = page.next_offset if is_last else records[-1].offset + 1
                self._take(partition, self._pages.shared(self._topic, records, end))

    def _take(self, partition: int, page: SharedPage) -> None:
        matches = self._subscription.matcher.matches
        self._client.offer_all(
            page.frame(index) for index, item in enumerate(page.records) if matches(item.record)
        )
        self._subscription.next_offsets[partition] = page.next_offset

    def _skip(self, partition: int, at: int, start: int) -> None:
        """Say that what was to come next has gone while older records were being sent."""
        if self._subscription.keeps_all:
            raise Expired(expired(self._topic, partition, at, start))
        self._tell_gap(partition, at, start - 1)

    def _tell_gap(self, partition: int, first: int, last: int) -> None:
        gap = Gap(
            topic=self._topic, partition=partition, first=first, last=last, reason="no_longer_kept"
        )
        self._client.offer(control(gap))
