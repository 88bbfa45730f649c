"""Waits for the record that answers a command: a receipt, a breaker's change, a backtest's result.

Whoever waits registers before the command is published, so an answer cannot pass by unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from schemas.control import BacktestResult
from schemas.envelope import Header, Record
from schemas.topics import BACKTEST_RESULTS, ORDER_RECEIPTS, RISK_BREAKER
from streams.log import Published

_ANSWERS = frozenset({ORDER_RECEIPTS, RISK_BREAKER, BACKTEST_RESULTS})


class Waiters:
    """Futures by topic and by what the answer names: the command it was caused by, or the task."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[asyncio.Future[Header]]] = {}

    @contextmanager
    def expect(self, topic: str, name: str) -> Iterator[asyncio.Future[Header]]:
        """Give the future of the answer on ``topic`` to the command, or of the task, ``name``."""
        future: asyncio.Future[Header] = asyncio.get_running_loop().create_future()
        futures = self._waiting.setdefault((topic, name), [])
        futures.append(future)
        try:
            yield future
        finally:
            future.cancel()
            futures.remove(future)
            if not futures:
                self._waiting.pop((topic, name), None)

    def apply(self, published: Sequence[Published]) -> None:
        """Wake those whose answer is among ``published``."""
        if not self._waiting:
            return
        for item in published:
            if item.topic not in _ANSWERS:
                continue
            for future in self._waiting.get((item.topic, _name(item.record)), ()):
                if not future.done():
                    future.set_result(item.record)


def _name(record: Header) -> str:
    if isinstance(record, BacktestResult):
        return record.task_id
    return record.causation_id if isinstance(record, Record) else ""


async def within(future: asyncio.Future[Header], timeout_s: float) -> Header | None:
    """Return the answer, or None if it does not come within ``timeout_s``."""
    try:
        async with asyncio.timeout(timeout_s):
            return await future
    except TimeoutError:
        return None
