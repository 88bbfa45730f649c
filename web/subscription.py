"""One client's interest in one topic: filters, where it goes on, whether it reads history."""

from __future__ import annotations

from schemas.topics import TOPIC_BY_NAME
from streams.log import Log, Published
from web.filters import Matcher
from web.frames import Subscribe
from web.views.models import Views


class SubscriptionError(Exception):
    """A subscription that cannot be given; ``code`` is stable."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class Subscription:
    """While ``is_live`` is False the topic's history is read; live records are left to that."""

    __slots__ = ("is_live", "matcher", "next_offsets", "skipped_to", "topic")

    def __init__(
        self, topic: str, matcher: Matcher, next_offsets: dict[int, int], *, is_live: bool
    ) -> None:
        self.topic = topic
        self.matcher = matcher
        self.next_offsets = next_offsets
        self.is_live = is_live
        self.skipped_to: int | None = None

    def wants(self, item: Published) -> bool:
        """Return whether a live record is to be sent."""
        return (
            self.is_live
            and item.offset >= self.next_offsets.get(item.partition, 0)
            and self.matcher.matches(item.record)
        )


def open_subscriptions(request: Subscribe, log: Log, views: Views) -> list[Subscription]:
    """Return a subscription for each topic of ``request``; raises SubscriptionError."""
    unknown = [topic for topic in request.topics if topic not in TOPIC_BY_NAME]
    if unknown:
        detail = f"no topic {', '.join(unknown)[:200]}; hello lists the topics"
        raise SubscriptionError("unknown_topic", detail)
    if request.epoch and request.epoch != log.epoch:
        detail = (
            f"cursor of epoch {request.epoch[:100]}, this is {log.epoch}; "
            "subscribe anew with a snapshot"
        )
        raise SubscriptionError("epoch_changed", detail)
    matcher = Matcher(request.filters)
    return [_open(topic, matcher, request, log, views) for topic in dict.fromkeys(request.topics)]


def _open(topic: str, matcher: Matcher, request: Subscribe, log: Log, views: Views) -> Subscription:
    if request.origin == "latest":
        # What the read models have seen is in the snapshot, whatever comes after it is not.
        seen = {int(partition): offset for partition, offset in views.next_offsets(topic).items()}
        return Subscription(topic, matcher, seen or {0: log.end_offset(topic)}, is_live=True)
    if request.origin == "earliest":
        return Subscription(topic, matcher, {0: 0}, is_live=False)
    assert isinstance(request.origin, dict)
    offsets = request.origin.get(topic)
    if offsets is None or set(offsets) != {"0"}:
        detail = f"the cursor must name partition 0 of {topic} and no other; hello lists the topics"
        raise SubscriptionError("bad_cursor", detail)
    wanted, end = offsets["0"], log.end_offset(topic)
    if wanted > end:
        detail = (
            f"offset {wanted} of {topic} is not written yet, the next is {end}; check the cursor"
        )
        raise SubscriptionError("bad_cursor", detail)
    subscription = Subscription(topic, matcher, {0: wanted}, is_live=False)
    first = log.read(topic, wanted, 1)
    if first and first[0].offset > wanted:
        if TOPIC_BY_NAME[topic].websocket == "complete":
            detail = (
                f"{topic} is kept from offset {first[0].offset} on, not from {wanted}; "
                "start with a snapshot"
            )
            raise SubscriptionError("cursor_expired", detail)
        subscription.skipped_to = first[0].offset - 1
    return subscription
