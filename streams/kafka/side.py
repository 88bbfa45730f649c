"""Writes records that nobody waits for: in order, kept and tried again while Kafka is away.

At most ``waiting_max`` records wait. What comes beyond them, what Kafka refuses for good (too
large, no right to write), and what still waits at the end or comes behind it is lost: it is
counted, and stands whole in the program's log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from aiokafka.errors import KafkaError

from schemas.codec import encode
from schemas.envelope import Header
from schemas.errors import StorageError, UnconfirmedError

_WAITING_MAX = 10_000
_PAUSE_S = 1.0
_END_S = 5.0

_log = logging.getLogger(__name__)


class SideWriter:
    """A queue in front of ``write``, which raises StorageError for a record that is not stored.

    ``write`` should wait for as long as a client keeps a record that was given to it: one that is
    given twice is stored twice. ``pause_s`` lies between two tries, ``end_s`` is for what waits at
    the end. ``lost`` counts records, ``trouble`` is why the last one tried is not stored, if it is
    not, and ``is_refused`` tells that it never will be.
    """

    def __init__(
        self,
        write: Callable[[str, Header], Awaitable[object]],
        *,
        waiting_max: int = _WAITING_MAX,
        pause_s: float = _PAUSE_S,
        end_s: float = _END_S,
    ) -> None:
        self.lost = 0
        self.trouble = ""
        self.is_refused = False
        self._is_over = False
        self._write = write
        self._pause_s = pause_s
        self._end_s = end_s
        self._queue: asyncio.Queue[tuple[str, Header]] = asyncio.Queue(waiting_max)
        self._current: tuple[str, Header] | None = None

    @property
    def waiting(self) -> int:
        """How many records are not stored yet."""
        return self._queue.qsize() + (self._current is not None)

    def put(self, topic: str, record: Header) -> None:
        """Take a record; with too many in front of it, or behind the end, it is lost."""
        if self._is_over:
            self._lose(topic, record, "the program ends")
            return
        try:
            self._queue.put_nowait((topic, record))
        except asyncio.QueueFull:
            self._lose(topic, record, "too many records are waiting for Kafka")

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            self._current = await self._queue.get()
            await self._store(*self._current)
            self._current = None
            self._queue.task_done()

    async def end(self) -> None:
        """Give ``run`` a last moment for what waits; what is left then is lost."""
        try:
            async with asyncio.timeout(self._end_s):
                await self._queue.join()
        except TimeoutError:
            if self._current is not None:
                self._lose(*self._current, "the program ends")
            while not self._queue.empty():
                self._lose(*self._queue.get_nowait(), "the program ends")
        finally:
            self._is_over = True

    async def _store(self, topic: str, record: Header) -> None:
        while True:
            try:
                await self._write(topic, record)
            except StorageError as error:
                if not self.trouble:
                    _log.warning("%s is not written: %s", topic, error)
                self.trouble, self.is_refused = error.message, _is_final(error)
                if self.is_refused:
                    self._lose(topic, record, str(error))
                    return
                await asyncio.sleep(self._pause_s)
            else:
                self.trouble, self.is_refused = "", False
                return

    def _lose(self, topic: str, record: Header, reason: str) -> None:
        self.lost += 1
        text = encode(record).decode()
        _log.error("a record of %s is not written, %s: %s", topic, reason, text)


def _is_final(error: StorageError) -> bool:
    """Return whether the same record would be refused again."""
    cause = error.__cause__
    is_unknown = isinstance(error, UnconfirmedError)
    return isinstance(cause, KafkaError) and not cause.retriable and not is_unknown
