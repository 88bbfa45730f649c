"""``millrace run`` and ``millrace replay``.

The one-process engine with its API in front, until Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

import msgspec
from rich.console import Console

from agents.runners.engine import Engine
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.parity import engine_config, read_manifest
from agents.runners.replay import manifest_of
from infra.backtest_agent import BacktestAgent
from infra.composition import compose
from infra.data import open_whole
from infra.identity import identity
from infra.settings import Settings, data_folder
from schemas.control import RunManifest
from schemas.errors import ConfigError, ConflictError
from streams.journal import JournalReader
from web.app import WebSettings, create_app
from web.server import WebServer

_STOP_TIMEOUT_S = 2.0
_PORT_MAX = 65_535


class LiveRun(NamedTuple):
    """A runner over a recording, ready to start."""

    runner: LocalRunner
    feed: RecordingFeed
    total: int
    manifest: RunManifest


def open_run(settings: Settings, folder: Path, run_id: str) -> LiveRun:
    """Compose a live run over a recording in ``folder``, continuing the session that is there.

    Raises InputError for what does not fit, StorageError for the folder, ConflictError if the
    session in the folder was begun with another configuration.
    """
    source = settings.source
    if not (math.isfinite(source.speed) and source.speed >= 0):
        raise ConfigError(
            "history cannot be played at this speed",
            field="speed",
            value=source.speed,
            remedy="give a multiple of real time, or 0 for as fast as it goes",
        )
    data = open_whole(source.data, symbols=source.symbols or None)
    symbols = list(source.symbols) or None
    setup = compose(settings, data, symbols=symbols)
    manifest = manifest_of(setup.config, setup.inputs, identity(), run_id, "paper")
    manifest = _continued(folder, manifest)
    first_ns = min(item.first_ts_ns for item in setup.inputs)
    feed = RecordingFeed(data.batches(symbols=symbols), speed=source.speed, first_ns=first_ns)
    engine = Engine(setup.config, setup.universe, setup.sessions, setup.classes)
    runner = LocalRunner(
        engine,
        feed,
        folder / "journal",
        manifest,
        snapshot_interval_s=settings.run.snapshot_interval_s,
        sync_interval_s=settings.run.sync_interval_s,
    )
    return LiveRun(runner, feed, sum(item.count for item in setup.inputs), manifest)


def _continued(folder: Path, manifest: RunManifest) -> RunManifest:
    """Return the manifest of the session in ``folder`` if there is one.

    Its configuration must be the same.
    """
    journal = folder / "journal"
    if not journal.is_dir() or not any(journal.iterdir()):
        return manifest
    known = read_manifest(JournalReader(journal))
    if engine_config(known) != engine_config(manifest):
        raise ConflictError(
            "the session in this folder was begun with another configuration",
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


def run_engine(
    settings: Settings, *, port: int | None, folder: Path | None, console: Console
) -> int:
    """Run the engine with its API until Ctrl-C or SIGTERM; return the exit status."""
    target = folder or (
        Path(settings.run.folder) if settings.run.folder else data_folder() / "runs" / "paper"
    )
    listen = settings.run.port if port is None else port
    check_port(listen)
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
        console.print(f"run {runner.run_id} in {target}; Ctrl-C stops it")
        while not stop.is_set() and not live.feed.is_done:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.2):
                    await stop.wait()
        if live.feed.is_done and not stop.is_set():
            console.print(
                f"the recording is played: {runner.engine.events:,} events; serving until Ctrl-C"
            )
        await stop.wait()

    return asyncio.run(serve(live, settings.run.host, listen, announce, console))


def check_port(port: int) -> None:
    """Raise ConfigError for a number that is no port."""
    if not 0 <= port <= _PORT_MAX:
        raise ConfigError(
            "there is no such port",
            field="port",
            value=port,
            remedy=f"give one from 1 to {_PORT_MAX}, or 0 for a free one",
        )


async def serve(
    live: LiveRun,
    host: str,
    port: int,
    work: Callable[[asyncio.Event], Awaitable[object]],
    console: Console,
) -> int:
    """Serve the API while ``work`` runs.

    ``work`` gets the event that a signal sets. Stop within 2 s. Raises ConfigError for an address
    that cannot be used.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    runner = live.runner
    agent = BacktestAgent(runner)
    web = WebServer(create_app(runner, WebSettings(), lambda: uuid.uuid4().hex), host, port)
    await web.start()
    console.print(f"serving http://{host}:{web.port}  (API docs at /docs)")
    running = asyncio.create_task(runner.run())
    working = asyncio.create_task(_as_task(work, stop))
    try:
        await asyncio.wait({running, working}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.set()
        await agent.stop()
        await web.stop()
        runner.stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await asyncio.shield(working)
        await running
    if working.done():
        working.result()
    return 0


async def _as_task(work: Callable[[asyncio.Event], Awaitable[object]], stop: asyncio.Event) -> None:
    await work(stop)
