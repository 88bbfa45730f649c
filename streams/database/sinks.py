"""The loop of a sink: read, write, wait, try again, and say how it stands.

While the database is away the source keeps what it has, so nothing is held in memory; when it is
back, the sink goes on from the place that the database knows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from schemas.errors import MillraceError, StorageError
from streams.database.batches import Batch, Place
from streams.database.connecting import Database
from streams.database.writing import PlaceMovedError, Stored, Writer

POLL_S = 0.25
STANDBY_S = 2.0
_WAIT_FIRST_S = 0.25
_WAIT_MAX_S = 15.0
_IDLE_READS = 50


class Source(Protocol):
    """What a sink reads from."""

    sink: str

    async def begin(self) -> dict[Place, int]:
        """Return where each partition begins, for those in which the sink has no place."""
        ...

    async def seek(self, known: Mapping[Place, Stored]) -> dict[Place, int]:
        """Go to the places that the database knows.

        Return those behind which the source has nothing any more, with the first offset it has.
        """
        ...

    async def read(self) -> Batch | None:
        """Return the next records as rows, None if there are none just now."""
        ...

    async def lag(self) -> int:
        """Return how many records (of a journal, entries) are not read yet."""
        ...

    async def close(self) -> None:
        """Let go of what is open."""
        ...


class SinkState(msgspec.Struct, kw_only=True):
    """How a sink stands: is the database there, how far behind, what is wrong.

    ``status`` is starting, storing, standby (another sink of the name is at work), away or stopped.
    ``lag`` counts records of the source (of a journal, entries) that are not stored yet.
    """

    sink: str
    status: str = "starting"
    tier: str = ""
    lag: int = 0
    rows: int = 0
    rejected: int = 0
    gaps: int = 0
    stored_ns: int = 0
    failures: int = 0
    last_error: str = ""

    @property
    def is_up(self) -> bool:
        """Whether rows reach the database."""
        return self.status in {"storing", "standby"}


class Sink:
    """Stores what ``source`` has. ``wall_ns`` is the wall clock (int64 ns UTC)."""

    def __init__(
        self,
        database: Database,
        source: Source,
        wall_ns: Callable[[], int],
        *,
        poll_s: float = POLL_S,
        on_batch: Callable[[Batch], None] | None = None,
    ) -> None:
        self.state = SinkState(sink=source.sink)
        self._database = database
        self._source = source
        self._wall_ns = wall_ns
        self._poll_s = poll_s
        self._on_batch = on_batch
        self._writer = Writer(source.sink)
        self._known: dict[Place, Stored] = {}
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """Ask the sink to end after the present batch."""
        self._stop.set()

    async def run(self) -> None:
        """Store what comes until ``stop``; failures of the database are waited out.

        Raises MillraceError for what waiting does not mend: a journal that contradicts itself, a
        database of another version.
        """
        try:
            await self._run()
        finally:
            self.state.status = "stopped"
            await self._source.close()

    async def _run(self) -> None:
        wait_s = _WAIT_FIRST_S
        while not self._stop.is_set():
            try:
                await self._open()
                while not self._stop.is_set():
                    is_stored = await self.step()
                    # Not before: a full disk lets in whoever writes nothing.
                    wait_s = _WAIT_FIRST_S
                    if not is_stored:
                        await self._pause(self._poll_s)
            except PlaceMovedError as moved:
                self.state.status, self.state.last_error = "standby", str(moved)
                await self._pause(STANDBY_S)
            except StorageError as error:
                self.state.status, self.state.last_error = "away", str(error)
                self.state.failures += 1
                await self._note_lag()
                await self._pause(wait_s)
                wait_s = min(wait_s * 2, _WAIT_MAX_S)

    async def drain(self) -> None:
        """Store what the source has by now, and return.

        Raises StorageError if the database goes away, PlaceMovedError if another sink is at it.
        """
        try:
            await self._open()
            idle = 0
            while not self._stop.is_set() and idle < _IDLE_READS:
                if await self.step():
                    idle = 0
                elif await self._source.lag():
                    # Slow to come, or the end of a partition is not a record.
                    idle += 1
                else:
                    break
        finally:
            self.state.status = "stopped"
            await self._source.close()

    async def step(self) -> bool:
        """Store the next batch; return whether there was one."""
        batch = await self._source.read()
        if batch is None:
            self._say_storing()
            self.state.lag = 0
            return False
        async with self._database.writing() as connection:
            self._known |= await self._writer.write(connection, batch, self._known)
        self._say_storing()
        self.state.rows += batch.rows
        self.state.rejected = self._writer.rejected
        self.state.stored_ns = self._wall_ns()
        await self._note_lag()
        if self._on_batch is not None:
            self._on_batch(batch)
        return True

    def _say_storing(self) -> None:
        self.state.status, self.state.last_error = "storing", ""

    async def _open(self) -> None:
        """Take up the places that the database knows."""
        async with self._database.writing() as connection:
            server = await self._writer.prepare(connection, self._wall_ns())
            self.state.tier = server.tier.value
            await self._writer.begin(connection, await self._source.begin())
            known = await self._writer.positions(connection)
            gone = await self._source.seek(known)
            for place, first in gone.items():
                await self._writer.pass_over(connection, place, known[place].next_offset, first)
                known[place] = Stored(first, known[place].state)
                self.state.gaps += 1
            if gone:
                await self._source.seek(known)
            self._known = known

    async def _note_lag(self) -> None:
        try:
            self.state.lag = await self._source.lag()
        except MillraceError as error:
            self.state.last_error = str(error)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        except TimeoutError:
            return
