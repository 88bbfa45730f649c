"""Feed adapters: live market data from outside, as records."""

from __future__ import annotations

from streams.feeds.backoff import Backoff
from streams.feeds.base import Emit, FeedAdapter, check_kinds
from streams.feeds.jsonl import JsonLinesFeed
from streams.feeds.options import make_adapter, one_line

FEEDS: dict[str, type[FeedAdapter]] = {"jsonl": JsonLinesFeed}
"""The built-in adapters by name."""

__all__ = [
    "FEEDS",
    "Backoff",
    "Emit",
    "FeedAdapter",
    "JsonLinesFeed",
    "check_kinds",
    "make_adapter",
    "one_line",
]
