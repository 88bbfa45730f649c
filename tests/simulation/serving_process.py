"""A live run with its API in a process of its own, to be killed and started again.

``python -m tests.simulation.serving_process FOLDER PORT EVENTS SECONDS`` plays generated trades
over about that many seconds, then goes on serving. It prints ``ready`` when it serves and ``done``
when all is played.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

import uvloop

from agents.runners.engine import Engine
from agents.runners.feeds import RecordingFeed
from agents.runners.local import LocalRunner
from agents.runners.replay import Identity, manifest_of
from agents.strategy.builtin import BUILTIN
from tests.generated import DAY_NS, START_NS, cut, trades, universe
from tests.simulation.live_process import engine_config
from web.app import WebSettings, create_app
from web.server import WebServer

_DAYS = 2


def make_runner(folder: Path, events: int, seconds: float) -> LocalRunner:
    """Return a runner that plays at a pace, continuing what ``folder`` holds."""
    instruments = universe()
    config = engine_config()
    feed = RecordingFeed(
        iter(cut(trades(instruments, events, days=_DAYS), 211)),
        speed=_DAYS * DAY_NS / 1e9 / seconds,
        first_ns=START_NS,
    )
    manifest = manifest_of(config, [], Identity("test", "test"), "served", "paper")
    engine = Engine(config, instruments, {}, BUILTIN)
    return LocalRunner(engine, feed, folder, manifest, snapshot_interval_s=0.5)


async def serve(folder: Path, port: int, events: int, seconds: float) -> None:
    """Serve until killed."""
    runner = make_runner(folder, events, seconds)
    numbers = itertools.count()
    app = create_app(runner, WebSettings(), lambda: f"id-{next(numbers)}")
    await WebServer(app, "127.0.0.1", port).start()
    print("ready", flush=True)
    running = asyncio.create_task(runner.run())
    while not runner.feed.is_done:
        await asyncio.sleep(0.05)
    print("done", flush=True)
    await running


if __name__ == "__main__":
    uvloop.run(serve(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
