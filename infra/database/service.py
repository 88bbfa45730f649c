"""The storage beside a run: a thread with an event loop of its own, so trading never waits for it.

It starts the embedded server if there is no DSN, migrates, stores what its source has, stores the
journals of finished backtests, and keeps retention. Whatever fails, it says so and tries again;
nothing of it reaches the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from infra.database.settings import DatabaseSettings, dsn_of, is_wanted, pools_of
from schemas.control import BacktestResult
from schemas.enums import RunStatus
from schemas.errors import ConfigError, MillraceError, StorageError
from streams.database.batches import Batch
from streams.database.connecting import Database, address_of
from streams.database.embedded import DATABASE, EmbeddedServer
from streams.database.journals import JournalSource
from streams.database.maintenance import check_keep, keep, refresh_aggregates
from streams.database.migrating import Status, migrate, status
from streams.database.preparing import make_database
from streams.database.queries import StoredHistory
from streams.database.queries_records import record_of
from streams.database.sinks import Sink, Source
from streams.database.tiers import Server
from streams.database.writing import PlaceMovedError
from streams.history import History, StorageState

_log = logging.getLogger(__name__)

_UPKEEP_S = 3600.0
_WATCH_S = 2.0
_SILENCE_S = 10.0
_RETRY_FIRST_S = 0.5
_RETRY_MAX_S = 15.0
_STOP_TIMEOUT_S = 10.0
_PATH = re.compile(r"(?<![\w:/])/[^\s/'\"]+/")


class StorageService:
    """A ``Storage`` over the database of the settings.

    ``folder`` is that of the embedded server. ``open_source`` gives what is stored, None for a
    program that only asks: ``stored_by`` names the sink that stores what it asks for. ``runs`` is
    the folder in which finished backtests lie.
    """

    def __init__(
        self,
        settings: DatabaseSettings,
        folder: Path,
        open_source: Callable[[], Source] | None = None,
        *,
        stored_by: str = "",
        runs: Path | None = None,
        wall_ns: Callable[[], int] = time.time_ns,
        silence_s: float = _SILENCE_S,
    ) -> None:
        check_keep(settings.keep_days)
        self._settings = settings
        self._pools = pools_of(settings)
        self._dsn = dsn_of(settings)
        self._embedded = None if self._dsn else EmbeddedServer(folder)
        self._open_source = open_source
        self._stored_by = stored_by
        self._holds_run = True
        self._runs = None if runs is None else runs.absolute()
        self._wall_ns = wall_ns
        self._options: dict[str, Any] | None = {"dsn": self._dsn} if self._dsn else None
        self._server: Server | None = None
        self._silence_s = silence_s
        self._answered_s = 0.0
        self._status = "starting"
        self._error = ""
        self._faults: dict[str, str] = {}
        self._logged = ""
        self._failures = 0
        self._sink: Sink | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._stored: set[str] = set()
        self._has_backtests = asyncio.Event()
        self._asked = Database(self._known_options, self._pools)
        self._history = StoredHistory(self._asked)

    @property
    def history(self) -> History:
        """The questions, for the event loop that asks first."""
        return self._history

    @property
    def holds_run(self) -> bool:
        """Whether the run that is asked for is stored; it may be until the database answers."""
        return self._holds_run

    @property
    def faults(self) -> dict[str, str]:
        """What went wrong beside the storing itself and stands so, by the part it happened in."""
        return dict(self._faults)

    def state(self) -> StorageState:
        """Return how the storage stands."""
        sink = self._sink.state if self._sink is not None else None
        running = sink if self._status == "storing" else None
        status = running.status if running is not None else self._status
        error = (running.last_error if running is not None else "") or self._error
        error = error or "; ".join(self._faults.values())
        silent_s = time.monotonic() - self._answered_s
        if running is not None and running.is_up and silent_s > self._silence_s:
            # What hangs ends no statement by itself.
            status, error = "away", f"the database has not answered for {silent_s:.0f} s"
        server = self._server
        return StorageState(
            status=status,
            tier=server.tier.value if server is not None else "",
            postgres=server.postgres if server is not None else "",
            timescaledb=server.timescaledb if server is not None else "",
            address="" if self._options is None else address_of(self._options),
            lag=sink.lag if sink is not None else 0,
            rows=sink.rows if sink is not None else 0,
            rejected=sink.rejected if sink is not None else 0,
            gaps=sink.gaps if sink is not None else 0,
            stored_ns=sink.stored_ns if sink is not None else 0,
            failures=self._failures + (sink.failures if sink is not None else 0),
            last_error=error,
        )

    async def close(self) -> None:
        """Close the connections of ``history``, in the event loop that used it."""
        await self._asked.close()

    # ---- the thread

    def start(self) -> None:
        """Begin; returns at once."""
        self._thread = threading.Thread(target=self._run, name="storage", daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float = _STOP_TIMEOUT_S) -> None:
        """Store what there is by now, and end; after ``timeout_s`` end anyway.

        What is not stored then is stored at the next start.
        """
        loop, thread = self._loop, self._thread
        if thread is None:
            return
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._ask_to_stop)
        thread.join(timeout_s)
        if thread.is_alive() and loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._cancel)
            thread.join(timeout_s)
        self._thread = None

    def _ask_to_stop(self) -> None:
        if self._sink is not None and self._sink.state.is_up:
            self._sink.stop()
        else:
            self._cancel()

    def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except asyncio.CancelledError:
            self._status = "stopped"
        finally:
            if self._embedded is not None:
                self._embedded.leave()

    async def _main(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        database = Database(self._known_options, self._pools)
        try:
            await self._until_ready(database)
            await self._work(database)
            self._status = "stopped"
        except MillraceError as error:
            # Waiting does not mend it: a person must.
            self._status, self._error = "failed", self._in_short(error)
        except Exception as error:  # noqa: BLE001 - a thread would end in silence
            fault = f"a fault of the program ({type(error).__name__}); its log says more"
            self._status, self._error = "failed", fault
            _log.exception("the storage ended by a fault of the program")
        finally:
            await database.close()

    async def _until_ready(self, database: Database) -> None:
        """Start, connect and migrate; a database that is away is waited for."""
        wait_s = _RETRY_FIRST_S
        while True:
            try:
                await self._start_server()
                if self._open_source is not None:
                    await migrate(database)
                found = await status(database)
                if found.is_new and self._open_source is None:
                    self._say_empty()
                else:
                    self._server = _checked(found, database)
                    self._error = ""
                    return
            except (StorageError, OSError) as error:
                self._status, self._error = "away", self._in_short(error)
                self._failures += 1
            await asyncio.sleep(wait_s)
            wait_s = min(2 * wait_s, _RETRY_MAX_S)

    def _say_empty(self) -> None:
        self._holds_run = False
        self._status, self._error = (
            "empty",
            "nothing of this run is stored: `millrace sink` does it",
        )

    async def _start_server(self) -> None:
        if self._embedded is None:
            return
        address = await asyncio.to_thread(self._embedded.join)
        await make_database(address.options(), DATABASE)
        self._options = {**address.options(), "database": DATABASE}

    async def _work(self, database: Database) -> None:
        helpers = [asyncio.create_task(self._upkeep(database))]
        if self._embedded is not None:
            helpers.append(asyncio.create_task(self._watch()))
        try:
            if self._open_source is None:
                await self._only_ask(database)
                return
            self._sink = Sink(
                database, self._open_source(), self._wall_ns, on_batch=self._see_batch
            )
            if self._runs is not None:
                helpers.append(asyncio.create_task(self._store_backtests(database)))
            self._answered_s = time.monotonic()
            self._status = "storing"
            helpers.append(asyncio.create_task(self._ask(database)))
            await self._sink.run()
        finally:
            for helper in helpers:
                helper.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)

    async def _only_ask(self, database: Database) -> None:
        while True:
            try:
                async with database.reading() as connection:
                    self._holds_run = await connection.fetchval(
                        "SELECT EXISTS (SELECT FROM sink_positions WHERE sink = $1)",
                        self._stored_by,
                    )
                self._status, self._error = "reading", ""
                if not self._holds_run:
                    self._say_empty()
            except StorageError as error:
                self._status, self._error = "away", str(error)
            await asyncio.sleep(_WATCH_S)

    async def _ask(self, database: Database) -> None:
        """Know when the database answered last, whether there is something to store or not."""
        while True:
            with contextlib.suppress(StorageError):
                async with database.reading() as connection:
                    await connection.fetchval("SELECT 1")
                self._answered_s = time.monotonic()
            await asyncio.sleep(_WATCH_S)

    async def _watch(self) -> None:
        """Start the embedded server again when it has died, unless somebody stopped it."""
        assert self._embedded is not None  # started only then
        while True:
            await asyncio.sleep(_WATCH_S)
            try:
                address = await asyncio.to_thread(self._embedded.revive)
                if address is not None:
                    self._options = {**address.options(), "database": DATABASE}
                self._faults.pop("server", None)
            except (MillraceError, OSError) as error:
                self._faults["server"] = self._in_short(error)

    def _in_short(self, error: MillraceError | OSError) -> str:
        """Return an error as any client may read it: one with a path is in the log whole."""
        text = str(error)
        if _PATH.search(text) is None:
            return text
        if text != self._logged:
            self._logged = text
            _log.warning("%s", text)
        message = error.message if isinstance(error, MillraceError) else str(error.strerror)
        if _PATH.search(message) is not None:
            message = message.partition(": ")[0]
        return f"{message}; the log of this program says more"

    async def _upkeep(self, database: Database) -> None:
        if self._open_source is None:
            return
        while True:
            wait_s = _UPKEEP_S
            try:
                await keep(database, self._settings.keep_days, self._wall_ns())
                self._faults.pop("upkeep", None)
            except StorageError as error:
                self._faults["upkeep"], wait_s = self._in_short(error), _RETRY_MAX_S
            await asyncio.sleep(wait_s)

    # ---- finished backtests

    def _see_batch(self, batch: Batch) -> None:
        if "backtests" in batch.flows:
            self._has_backtests.set()

    async def _store_backtests(self, database: Database) -> None:
        """Store the journal of every finished backtest; what fails is tried at the next one."""
        while True:
            try:
                for folder in await self._finished(database):
                    await store_journal(database, folder / "journal", self._wall_ns)
                    self._stored.add(str(folder))
                self._faults.pop("backtests", None)
            except PlaceMovedError:
                pass  # another program stores the same journal
            except MillraceError as error:
                self._faults["backtests"] = self._in_short(error)
            try:
                async with asyncio.timeout(_UPKEEP_S):
                    await self._has_backtests.wait()
            except TimeoutError:
                continue
            self._has_backtests.clear()

    async def _finished(self, database: Database) -> list[Path]:
        """Return the folders of finished backtests that may not be stored yet."""
        async with database.reading() as connection:
            rows = await connection.fetch(
                "SELECT run_id, event_id, body FROM backtests"
                " WHERE record_type = 'backtest_result' AND status = $1 ORDER BY ts_ns",
                RunStatus.COMPLETED.value,
            )
        results: list[BacktestResult] = [record_of("backtests", row) for row in rows]
        return await asyncio.to_thread(self._with_journal, [item.detail for item in results])

    def _with_journal(self, folders: Sequence[str]) -> list[Path]:
        """Return those of the folders that have a journal and are not stored.

        The texts come from a log: only the folder of runs is looked into.
        """
        paths = [Path(text).absolute() for text in folders]
        return [
            path
            for path in paths
            if path.parent == self._runs
            and str(path) not in self._stored
            and (path / "journal").is_dir()
        ]

    def _known_options(self) -> Mapping[str, Any]:
        if self._status == "failed":
            # Such as the rows of another journal of this name, which are not this run's history.
            raise StorageError(
                f"the storage has ended: {self._error}",
                field="database",
                value="" if self._options is None else address_of(self._options),
                remedy="mend that and start again",
            )
        if self._options is None:
            raise StorageError(
                "the database is being started",
                field="database",
                value=self._error,
                remedy="ask again in a moment",
            )
        return self._options


async def store_journal(database: Database, journal: Path, wall_ns: Callable[[], int]) -> int:
    """Store a whole journal and return the rows that were new.

    Raises NotFoundError or JournalError for the journal, StorageError for the database.
    """
    sink = Sink(database, JournalSource(journal), wall_ns)
    await sink.drain()
    if sink.state.rows:
        await refresh_aggregates(database)
    return sink.state.rows


def _checked(found: Status, database: Database) -> Server:
    """Return the server; raises StorageError if its tables are not those of this program."""
    if not found.is_current:
        raise StorageError(
            "the database is not of this version",
            field="database",
            value=database.address,
            remedy="`millrace db migrate` brings it up",
        )
    return found.server


def refuse_disabled(settings: DatabaseSettings) -> None:
    """Raise ConfigError if the settings switch the database off."""
    if not is_wanted(settings):
        raise ConfigError(
            "the database is switched off",
            field="database.enabled",
            value=False,
            remedy="take it out of the settings, and `off` out of MILLRACE_DATABASE_DSN",
        )
