"""Work that one request at a time may do: a bounded queue, and a deadline over wait and work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from web.problems import unavailable

_WAITING_MAX = 16


@asynccontextmanager
async def deadline(timeout_s: float, late: str) -> AsyncIterator[None]:
    """Bound how long the work within may take; raises ProblemError (503) that says ``late``."""
    limit = asyncio.timeout(timeout_s)
    try:
        async with limit:
            yield
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise unavailable(late, code="timeout") from error


class Turns:
    """A queue of requests; ``busy`` and ``late`` are what is said to those it does not serve."""

    def __init__(self, timeout_s: float, *, busy: str, late: str) -> None:
        self._timeout_s = timeout_s
        self._busy = busy
        self._late = late
        self._turn = asyncio.Lock()
        self._waiting = 0

    @asynccontextmanager
    async def mine(self) -> AsyncIterator[None]:
        """Wait for those who asked before; raises ProblemError (503) for too many or too long."""
        if self._waiting >= _WAITING_MAX:
            raise unavailable(self._busy, code="busy")
        self._waiting += 1
        try:
            async with deadline(self._timeout_s, self._late), self._turn:
                yield
        finally:
            self._waiting -= 1
