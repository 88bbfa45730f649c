"""Waits for the record that answers a command: a receipt, a breaker's change, a backtest's result.

Whoever waits registers before the command is published, so an answer cannot pass by unseen. Where
no single record is the answer, ``until`` waits for the read models to say what is hoped for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from schemas.control import BacktestResult, ParityResult
from schemas.envelope import Header, Record
from schemas.topics import (
    BACKTEST_RESULTS,
    ORDER_RECEIPTS,
    RISK_BREAKER,
    RISK_DECISIONS,
    RISK_LIMITS,
    STRATEGY_STATES,
)
from streams.log import Published

_ANSWERS = frozenset(
    {
        ORDER_RECEIPTS,
        RISK_BREAKER,
        RISK_DECISIONS,
        RISK_LIMITS,
        STRATEGY_STATES,
        BACKTEST_RESULTS,
    }
)


class Waiters:
    """Futures by topic and by what the answer names: the command it was caused by, or the task."""

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], list[asyncio.Future[Published]]] = {}
        self._hopes: list[tuple[Callable[[], bool], asyncio.Future[None]]] = []

    @contextmanager
    def expect(self, topic: str, name: str) -> Iterator[asyncio.Future[Published]]:
        """Give the future of the answer on ``topic`` to the command, or of the task, ``name``."""
        future: asyncio.Future[Published] = asyncio.get_running_loop().create_future()
        futures = self._waiting.setdefault((topic, name), [])
        futures.append(future)
        try:
            yield future
        finally:
            future.cancel()
            futures.remove(future)
            if not futures:
                self._waiting.pop((topic, name), None)

    async def until(self, is_met: Callable[[], bool], timeout_s: float) -> bool:
        """Return whether ``is_met`` becomes true within ``timeout_s``.

        It is asked after every group of records that the read models have taken in.
        """
        if is_met():
            return True
        hope = (is_met, asyncio.get_running_loop().create_future())
        self._hopes.append(hope)
        try:
            async with asyncio.timeout(timeout_s):
                await hope[1]
        except TimeoutError:
            return is_met()
        finally:
            self._hopes.remove(hope)
        return True

    def apply(self, published: Sequence[Published]) -> None:
        """Wake those whose answer is among ``published``, or whose hope is met now."""
        for is_met, hope in self._hopes:
            if not hope.done() and is_met():
                hope.set_result(None)
        if not self._waiting:
            return
        for item in published:
            if item.topic not in _ANSWERS:
                continue
            for future in self._waiting.get((item.topic, _name(item)), ()):
                if not future.done():
                    future.set_result(item)


def _name(item: Published) -> str:
    record = item.record
    if isinstance(record, (BacktestResult, ParityResult)):
        return record.task_id
    if not isinstance(record, Record):
        return ""
    # Limits are published as they were asked for: the answer is the command itself.
    return record.event_id if item.topic == RISK_LIMITS else record.causation_id


async def within(future: asyncio.Future[Published], timeout_s: float) -> Header | None:
    """Return the answer, or None if it does not come within ``timeout_s``."""
    item = await item_within(future, timeout_s)
    return item.record if item is not None else None


async def item_within(future: asyncio.Future[Published], timeout_s: float) -> Published | None:
    """Return the answer with its place in the log, or None if it does not come in time."""
    try:
        async with asyncio.timeout(timeout_s):
            return await future
    except TimeoutError:
        return None
