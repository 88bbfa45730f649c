"""One client's interest in one topic: filters, mode, and where it stands in each partition."""

from __future__ import annotations

import asyncio

from schemas.topics import TOPIC_BY_NAME
from streams.log import Log
from web.access import Client, scope_of
from web.filters import Matcher
from web.frames import Cursor, Subscribe, TopicPlace
from web.security.accounts import is_shared_topic, may_read

_WAIT_S = 2.0
_POLL_S = 0.02


class SubscriptionError(Exception):
    """A subscription that cannot be given; ``code`` is stable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Subscription:
    """While ``is_live`` is False the topic's history is read; live records are left to that.

    ``next_offsets`` has one entry a partition. ``skipped`` are stretches that are no longer kept,
    as partition, first and last offset. ``keeps_all``: nothing may be left out.
    """

    __slots__ = ("is_live", "keeps_all", "matcher", "next_offsets", "skipped", "topic")

    def __init__(self, topic: str, matcher: Matcher, mode: str | None) -> None:
        self.topic = topic
        self.matcher = matcher
        self.keeps_all = mode == "all" or TOPIC_BY_NAME[topic].websocket == "complete"
        self.next_offsets: list[int] = []
        self.skipped: list[tuple[int, int, int]] = []
        self.is_live = False

    def go_live(self, log: Log) -> None:
        """Stand at the end of the topic: behind everything that was told."""
        count = log.partitions(self.topic)
        self.next_offsets = [log.end_offset(self.topic, partition) for partition in range(count)]
        self.is_live = True

    def place(self, epoch: str) -> TopicPlace:
        """Return where the subscription stands, as a cursor says it."""
        return TopicPlace(epoch, {str(p): offset for p, offset in enumerate(self.next_offsets)})


async def open_subscriptions(request: Subscribe, log: Log, client: Client) -> list[Subscription]:
    """Return a subscription for each topic of ``request``; raises SubscriptionError.

    Those that begin with what comes next are given no place yet: it is the end of the topic at the
    moment in which they go live.
    """
    unknown = [topic for topic in request.topics if topic not in TOPIC_BY_NAME]
    if unknown:
        detail = f"no topic {', '.join(unknown)[:200]}; hello lists the topics"
        raise SubscriptionError("unknown_topic", detail)
    for topic in request.topics:
        _check_allowed(topic, request.mode, client)
    opened = []
    for topic in dict.fromkeys(request.topics):
        accounts = None if is_shared_topic(topic) else client.accounts
        matcher = Matcher(request.filters, accounts)
        subscription = Subscription(topic, matcher, request.mode)
        if request.origin == "earliest":
            subscription.next_offsets = [
                (await log.fetch(topic, partition, 0, 1)).start
                for partition in range(log.partitions(topic))
            ]
        elif isinstance(request.origin, dict):
            await _resume(subscription, request.origin, log)
        opened.append(subscription)
    return opened


def _check_allowed(topic: str, mode: str | None, client: Client) -> None:
    if not client.may(scope_of(topic)):
        detail = f"{topic} needs the scope {scope_of(topic)}; use a key that has it"
        raise SubscriptionError("forbidden", detail)
    if client.accounts is not None and not may_read(topic):
        detail = f"{topic} is for keys of all accounts; this one is bound to some"
        raise SubscriptionError("forbidden", detail)
    if mode == "conflated" and TOPIC_BY_NAME[topic].websocket == "complete":
        detail = f"{topic} is complete, nothing of it is left out; ask without a mode"
        raise SubscriptionError("bad_mode", detail)


async def _resume(subscription: Subscription, cursor: Cursor, log: Log) -> None:
    """Place a subscription at a cursor; raises SubscriptionError if it cannot go on there."""
    topic = subscription.topic
    count, epoch = log.partitions(topic), log.epoch_of(topic)
    place = cursor.get(topic)
    if place is None:
        raise SubscriptionError("bad_cursor", f"the cursor has no place in {topic}; give one")
    if place.epoch != epoch:
        detail = (
            f"the cursor counts in epoch {place.epoch[:100]} of {topic}, this is {epoch}; "
            "subscribe anew with a snapshot"
        )
        raise SubscriptionError("epoch_changed", detail)
    if set(place.offsets) != {str(partition) for partition in range(count)}:
        detail = f"the cursor must name partitions 0 to {count - 1} of {topic}, each of them"
        raise SubscriptionError("bad_cursor", detail)
    for partition in range(count):
        wanted = place.offsets[str(partition)]
        await _wait_for(log, topic, partition, wanted)
        start = (await log.fetch(topic, partition, wanted, 1)).start
        if start > wanted:
            if subscription.keeps_all:
                raise SubscriptionError("cursor_expired", expired(topic, partition, wanted, start))
            subscription.skipped.append((partition, wanted, start - 1))
        subscription.next_offsets.append(start)


async def _wait_for(log: Log, topic: str, partition: int, offset: int) -> None:
    """Wait for a log that is a moment behind the one that the cursor is from."""
    try:
        async with asyncio.timeout(_WAIT_S):
            # A log tells of records, not of having come so far: holes end a topic, too.
            while log.end_offset(topic, partition) < offset:  # noqa: ASYNC110
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        end = log.end_offset(topic, partition)
        detail = (
            f"offset {offset} of {topic}/{partition} is not written yet, the next is {end}; "
            "check the cursor"
        )
        raise SubscriptionError("bad_cursor", detail) from None


def expired(topic: str, partition: int, wanted: int, first: int) -> str:
    """Return the sentence that a place in a topic is no longer kept."""
    return (
        f"{topic}/{partition} is kept from offset {first} on, not from {wanted}; "
        "start with a snapshot"
    )
