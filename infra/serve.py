"""``millrace run`` and ``millrace replay``.

The one-process engine with its API in front, until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import msgspec
import uvloop
from rich.console import Console

from agents.runners.engine import Engine
from agents.runners.feeds import RecordingFeed, check_speed, with_closing
from agents.runners.live_feed import LiveFeed
from agents.runners.local import LocalRunner
from agents.runners.parity import engine_config, read_manifest
from agents.runners.replay import MANIFEST, manifest_of
from agents.runners.steady_clock import since_boot_ns
from infra.access import access_of
from infra.backtest_agent import BacktestAgent
from infra.composition import Setup, compose
from infra.config_changes import changes
from infra.data import open_whole
from infra.database.service import StorageService
from infra.database.settings import is_wanted
from infra.feeds import open_feed
from infra.identity import identity
from infra.operating import Operating, operations
from infra.origin import with_origin
from infra.ports import check_port
from infra.run_store import JournalRuns
from infra.settings import Settings, SourceSettings, data_folder
from schemas.control import RunManifest, StrategyStateChanged
from schemas.enums import StrategyStatus
from schemas.errors import ConfigError, ConflictError, MillraceError, NotFoundError
from schemas.instruments import Universe
from schemas.topics import REFERENCE_INSTRUMENTS, SYSTEM_AUDIT, SYSTEM_RUNS
from streams.database.journals import JournalSource
from streams.feeds import FeedAdapter, one_line
from streams.history import Storage
from streams.journal import JournalReader
from streams.log import Published
from web.app import WebSettings, create_app
from web.server import WebServer, check_serving

_DEFAULTS = Settings()
_STOP_TIMEOUT_S = 2.0
_TURN_EVENTS = 8_192
"""Most events of one turn: requests, commands and signals wait until it is over."""

_ADAPTER_TIMEOUT_S = 0.5
_CALENDAR_NS = 365 * 86_400_000_000_000
_WATCH_S = 0.2
_TELL_S = 10.0


class LiveRun(NamedTuple):
    """A runner over a recording or a live feed, ready to start; only a live feed has an adapter."""

    runner: LocalRunner
    feed: RecordingFeed | LiveFeed
    total: int
    manifest: RunManifest
    adapter: FeedAdapter | None = None


def open_run(
    settings: Settings,
    folder: Path,
    run_id: str,
    *,
    now_ns: Callable[[], int] = time.time_ns,
    steady_ns: Callable[[], int] = since_boot_ns,
) -> LiveRun:
    """Compose a run over the source of the settings, continuing the session that is in ``folder``.

    ``now_ns`` is the wall clock of a live feed, ``steady_ns`` one that does not jump. Raises
    InputError for what does not fit, StorageError for the folder, ConflictError if the session in
    the folder was begun with another configuration or source.
    """
    check_source(settings.source)
    known = _manifest_in(folder)
    if settings.source.feed:
        return _open_live(settings, folder, run_id, known, now_ns, steady_ns)
    source = settings.source
    data = open_whole(source.data or "demo", symbols=source.symbols or None)
    symbols = list(source.symbols) or None
    setup = compose(settings, data, symbols=symbols)
    first_ns = min(item.first_ts_ns for item in setup.inputs)
    batches = with_closing(data.batches(_TURN_EVENTS, symbols=symbols))
    feed = RecordingFeed(batches, speed=source.speed, first_ns=first_ns)
    manifest = _continued(folder, _manifest(setup, run_id), known)
    runner = _runner(settings, setup, feed, folder, manifest)
    total = sum(item.count for item in setup.inputs) + 1  # the closing watermark
    return LiveRun(runner, feed, total, manifest)


def _open_live(
    settings: Settings,
    folder: Path,
    run_id: str,
    known: RunManifest | None,
    now_ns: Callable[[], int],
    steady_ns: Callable[[], int],
) -> LiveRun:
    first_ns = now_ns()
    until_ns = first_ns + _CALENDAR_NS
    if known is not None and known.inputs:
        # The calendars that the session was begun with, or a restart would see other sessions.
        first_ns, until_ns = known.inputs[0].first_ts_ns, known.inputs[0].last_ts_ns
    adapter, source = open_feed(settings.source, first_ns, until_ns)
    setup = compose(settings, source)
    manifest = _continued(folder, _manifest(setup, run_id), known)
    if known is not None:
        _check_instruments(folder, setup.universe)
    feed = LiveFeed(
        setup.universe,
        source.name,
        source.kinds,
        now_ns=now_ns,
        steady_ns=steady_ns,
        until_ns=until_ns,
        unselected=source.unselected,
        lateness_s=settings.source.lateness_s,
    )
    runner = _runner(settings, setup, feed, folder, manifest)
    feed.on_arrival = runner.wake
    return LiveRun(runner, feed, 0, manifest, adapter)


def check_source(source: SourceSettings) -> None:
    """Raise ConfigError for settings of a source that contradict each other or themselves."""
    check_speed(source.speed)
    if not source.feed:
        if source.options:
            raise ConfigError(
                "only a feed has options",
                field="source.options",
                value=", ".join(source.options),
                remedy="name the feed as source.feed, or take the options out",
            )
        return
    if source.data:
        raise ConfigError(
            "a source is either a recording or a feed",
            field="source.data",
            value=source.data,
            remedy="take out source.data or source.feed",
        )
    if source.speed != 1:
        raise ConfigError(
            "a live feed has no speed",
            field="source.speed",
            value=source.speed,
            remedy="take it out",
        )


def _manifest(setup: Setup, run_id: str) -> RunManifest:
    manifest = manifest_of(setup.config, setup.inputs, identity(), run_id, "paper")
    return with_origin(manifest, setup.classes)


def _runner(
    settings: Settings,
    setup: Setup,
    feed: RecordingFeed | LiveFeed,
    folder: Path,
    manifest: RunManifest,
) -> LocalRunner:
    return LocalRunner(
        Engine(setup.config, setup.universe, setup.sessions, setup.classes),
        feed,
        folder / "journal",
        manifest,
        snapshot_interval_s=settings.run.snapshot_interval_s,
        sync_interval_s=settings.run.sync_interval_s,
    )


def _manifest_in(folder: Path) -> RunManifest | None:
    """Return the manifest of the session in ``folder``.

    None if there is none, or if it was killed before its manifest was written.
    """
    journal = folder / "journal"
    if not journal.is_dir():
        return None
    try:
        reader = JournalReader(journal)
    except NotFoundError:
        return None
    begun = {REFERENCE_INSTRUMENTS, SYSTEM_RUNS}
    if set(reader.next_offsets) <= begun and reader.last_mark(MANIFEST) is None:
        return None
    return read_manifest(reader)


def _continued(folder: Path, manifest: RunManifest, known: RunManifest | None) -> RunManifest:
    """Return ``manifest`` as the next segment of the session ``known``.

    Its configuration and its source must be the same.
    """
    if known is None:
        return manifest
    begun, asked = engine_config(known), engine_config(manifest)
    for is_same, what in (
        (begun == asked, f"configuration: {changes(begun, asked)}"),
        (known.inputs == manifest.inputs, "source"),
    ):
        if not is_same:
            raise ConflictError(
                f"the session in this folder was begun with another {what}",
                field="folder",
                value=str(folder),
                remedy="use the settings it was begun with, or another --folder for a new session",
            )
    return msgspec.structs.replace(
        manifest,
        run_id=known.run_id,
        event_id=f"run:{known.run_id}:{known.segment + 1}",
        segment=known.segment + 1,
    )


def _check_instruments(folder: Path, universe: Universe) -> None:
    """Raise ConflictError if the session was begun with other definitions of its instruments."""
    begun = JournalReader(folder / "journal").read(REFERENCE_INSTRUMENTS, 0, len(universe))
    for (_, record), instrument in zip(begun, universe.instruments, strict=True):
        if record != instrument:
            raise ConflictError(
                "the session in this folder was begun with another definition of an instrument",
                field="instrument_id",
                value=instrument.instrument_id,
                remedy="let the feed give the definition it gave, or use another --folder",
            )


def run_engine(
    settings: Settings, *, port: int | None, folder: Path | None, console: Console
) -> int:
    """Run the engine with its API until Ctrl-C or SIGTERM; return the exit status."""
    target = folder or (
        Path(settings.run.folder) if settings.run.folder else data_folder() / "runs" / "paper"
    )
    listen = settings.run.port if port is None else port
    check_port(listen)
    # Whatever can be refused is, before the session's folder is begun: it holds to the settings of
    # its first start, so that corrected ones would be refused.
    check_serving(settings.run.host, listen, access_of(settings, settings.run.host).tls)
    storage = storage_of(settings, target / "journal")
    live = open_run(settings, target, target.name)

    async def announce(stop: asyncio.Event) -> None:
        runner = live.runner
        if runner.torn_tail is not None:
            console.print(
                f"cut a torn tail of {runner.torn_tail.bytes_cut} bytes of {runner.torn_tail.path}"
            )
        if runner.recovered_events:
            console.print(
                f"continued run {runner.run_id} behind {runner.recovered_events:,} events"
            )
        console.print(f"run {runner.run_id} in {target}; Ctrl-C stops it", soft_wrap=True)
        refusals = _Refusals(console)
        runner.listen(lambda published: _tell_failures(published, console))
        while not stop.is_set() and not live.feed.is_done:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_S):
                    await stop.wait()
            if isinstance(live.feed, LiveFeed):
                refusals.tell(live.feed, asyncio.get_running_loop().time(), is_last=stop.is_set())
        if live.feed.is_done and not stop.is_set():
            over = "feed has ended" if live.adapter is not None else "recording is played"
            console.print(f"the {over}: {runner.engine.events:,} events; serving until Ctrl-C")
        await stop.wait()

    if isinstance(live.feed, LiveFeed):
        live.feed.on_note = lambda text: console.print(
            f"feed: {text}", markup=False, soft_wrap=True
        )
    if storage is not None:
        storage.start()
    try:
        return uvloop.run(
            serve(live, settings.run.host, listen, announce, console, settings, storage)
        )
    finally:
        if storage is not None:
            storage.stop()


def storage_of(settings: Settings, journal: Path) -> StorageService | None:
    """Return what stores the journal of a run, None if the settings want no database.

    Raises ConfigError for settings of the database that do not fit.
    """
    if not is_wanted(settings.database):
        return None
    return StorageService(
        settings.database,
        data_folder() / "database",
        lambda: JournalSource(journal),
        runs=data_folder() / "runs",
    )


class _Refusals:
    """Tells the operator of refused records: how many, and why the last one, now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told = 0
        self._told_at_s = -math.inf

    def tell(self, feed: LiveFeed, now_s: float, *, is_last: bool) -> None:
        if feed.refused == self._told:
            return
        if is_last or now_s - self._told_at_s >= _TELL_S:
            self._told, self._told_at_s = feed.refused, now_s
            self._console.print(
                f"feed: {feed.refused:,} records refused so far (system.dead-letters.v1),"
                f" the last: {feed.last_reason}",
                markup=False,
                soft_wrap=True,
            )


async def serve(
    live: LiveRun,
    host: str,
    port: int,
    work: Callable[[asyncio.Event], Awaitable[object]],
    console: Console,
    settings: Settings = _DEFAULTS,
    storage: Storage | None = None,
) -> int:
    """Serve the API while ``work`` runs.

    ``work`` gets the event that a signal sets; ``storage`` answers what the run has forgotten. Stop
    within 2 s. Raises ConfigError for an address that cannot be used.
    """
    access = access_of(settings, host)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = live.runner
    agent = BacktestAgent(runner)
    runs = JournalRuns(data_folder(), {runner.run_id: runner.folder})
    web_settings = WebSettings(
        autonomy_mode=settings.risk.autonomy,
        approval_timeout_s=settings.risk.approval_timeout_s,
        default_account_id=settings.account.account_id,
        allowed_hosts=access.allowed_hosts,
    )
    app = create_app(
        runner,
        web_settings,
        lambda: uuid.uuid4().hex,
        runs=runs,
        history=storage.history if storage is not None else None,
        operations=operations(settings, storage),
        gate=access.gate,
        audit=partial(runner.publish_side, SYSTEM_AUDIT),
    )
    operating = Operating(
        app.state.context,
        agent,
        settings,
        runner=runner,
        reports=runner.folder.parent / "reports",
        root=data_folder(),
    )
    web = WebServer(app, host, port, tls=access.tls, proxies=access.proxies)
    await web.start()
    operating.start()
    console.print(f"serving {access.scheme}://{host}:{web.port}  (API docs at /docs)")
    running = asyncio.create_task(runner.run())
    working = asyncio.create_task(_as_task(work, stop))
    feeding = asyncio.create_task(_feed(live, stop))
    try:
        await asyncio.wait({running, working, feeding}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        runner.hold()  # each wait below would cost a turn full of events
        feeding.cancel()
        # An adapter that does not let itself be cancelled cannot keep the journal from closing.
        await asyncio.wait({feeding}, timeout=_ADAPTER_TIMEOUT_S)
        await operating.stop()
        await agent.stop()
        await web.stop()
        runner.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await asyncio.shield(working)
        await running
    if feeding.done() and not feeding.cancelled():
        feeding.result()
    if working.done():
        working.result()
    return 0


async def _feed(live: LiveRun, stop: asyncio.Event) -> None:
    """Run the adapter, if there is one; raises MillraceError when it fails for good."""
    if live.adapter is not None and isinstance(live.feed, LiveFeed):
        try:
            await live.adapter.run(live.feed)
        except MillraceError:
            raise
        except (Exception, asyncio.CancelledError) as error:
            if stop.is_set():
                raise
            raise ConfigError(
                f"the feed has failed: {one_line(error)}",
                field="source.feed",
                value=type(live.adapter).__name__,
                remedy="check its source and options, or mend the adapter, and start again",
            ) from error
        live.feed.end()
    await stop.wait()


def _tell_failures(published: Sequence[Published], console: Console) -> None:
    for item in published:
        record = item.record
        if isinstance(record, StrategyStateChanged) and record.status is StrategyStatus.FAILED:
            console.print(f"stopped: {record.detail}", markup=False, soft_wrap=True)


async def _as_task(work: Callable[[asyncio.Event], Awaitable[object]], stop: asyncio.Event) -> None:
    await work(stop)
