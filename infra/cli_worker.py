"""``millrace worker``, ``publish``, ``web`` and ``live``: a session on Kafka."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import uvloop
from cyclopts import App, Parameter
from rich.console import Console

from infra.display import progress_bar
from infra.kafka.settings import addressed, connection_of
from infra.settings import Settings, data_folder, load_settings
from infra.times import parse_time
from schemas.errors import ConfigError, ConflictError, InputError, MillraceError
from schemas.topics import TOPIC_BY_NAME

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
_END_S = 10.0
"""How long the event loop may take to close."""


def kafka_settings(config: Path | None, bootstrap: str | None, run: str | None) -> Settings:
    """Return the settings of a file, with what the command line says in its place."""
    # What the clients log on their way to an error is in the error.
    for name in ("aiokafka", "faust", "mode"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    settings = Settings() if config is None else load_settings(config)
    kafka = addressed(settings.kafka, bootstrap)
    if run is not None:
        kafka = msgspec.structs.replace(kafka, run=run)
    return msgspec.structs.replace(settings, kafka=kafka)


def check_topic(name: str) -> None:
    """Raise ConfigError for a topic that the catalogue does not have."""
    if name not in TOPIC_BY_NAME:
        raise ConfigError(
            "the catalogue has no such topic",
            field="topic",
            value=name,
            remedy="`millrace topics list` shows the names",
        )


def add_worker_commands(app: App) -> None:
    """Put the commands on the command line."""
    app.command(worker)
    app.command(publish)
    app.command(web)
    app.command(live)


def worker(
    *,
    stages: str = "all",
    config: Path | None = None,
    bootstrap: str | None = None,
    run: str | None = None,
    host: str = "127.0.0.1",
    port: int = 0,
    wait: float = 0.0,
    supervise: bool = False,
    supervised: Annotated[bool, Parameter(show=False, negative="")] = False,
) -> None:
    """Work on stages of a session on Kafka until Ctrl-C; several workers share the load.

    Parameters
    ----------
    stages
        all, or some of reference, market, venue, account, strategy, with commas
    config
        settings file, the same for all workers of a session
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    run
        name of the session; wins over the settings
    host
        interface of health and metrics; they show no secret, but nobody is asked for a key
    port
        port of /healthz, /readyz and /metrics (0 takes a free one)
    wait
        seconds to wait for Kafka, its topics and instruments before giving up
    supervise
        start the worker again when it ends by a failure that a restart may mend
    supervised
        a supervisor has started this worker
    """
    from infra.kafka.supervising import FAILED
    from infra.kafka.supervising import supervise as run_supervisor
    from infra.kafka.watchdog import end_within
    from infra.kafka.working import chosen_stages, work

    names = chosen_stages(stages)
    settings = kafka_settings(config, bootstrap, run)
    if supervise:
        arguments = [item for item in sys.argv[1:] if item != "--supervise"]
        sys.exit(run_supervisor([*arguments, "--supervised"], errors))
    joined: list[str] = []

    async def status() -> int:
        """Work, tell what ended it, and return the exit status."""
        found = 0
        try:
            await work(
                settings,
                names,
                host,
                port,
                console,
                wait_s=wait,
                on_join=joined.append,
                leash=sys.stdin.fileno() if supervised else None,
            )
        except MillraceError as error:
            errors.print(f"error: {error}", markup=False, soft_wrap=True)
            # No restart mends an input; and whoever started what never began looks at it.
            is_lasting = isinstance(error, InputError | ConflictError)
            found = 2 if is_lasting or not (joined or supervised) else FAILED
        end_within(_END_S, found)
        return found

    sys.exit(uvloop.run(status()))


def publish(
    data: str = "demo",
    *,
    symbols: str = "",
    from_: Annotated[str, Parameter(name="--from")] = "",
    to: str = "",
    speed: float = 1.0,
    config: Path | None = None,
    bootstrap: str | None = None,
) -> None:
    """Play a recording, an import or a run's journal into the topics.

    Parameters
    ----------
    data
        as --data of backtest
    symbols
        comma-separated; all without it
    from_
        first day or time
    to
        last day or time
    speed
        multiple of real time; 0 is as fast as Kafka takes it
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    """
    from infra.kafka.publishing import publish_recording

    connection = connection_of(kafka_settings(config, bootstrap, None).kafka)
    chosen = tuple(part.strip() for part in symbols.split(",") if part.strip())
    start_ns = parse_time(from_, "from") if from_ else None
    end_ns = parse_time(to, "to", is_end=True) if to else None

    async def play() -> int:
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        with progress_bar(errors, f"publish {data}") as bar:
            return await publish_recording(
                connection, data, symbols=chosen, start_ns=start_ns, end_ns=end_ns,
                speed=speed, stop=stop, on_total=bar.total, on_progress=bar.advance,
            )  # fmt: skip

    console.print(f"published {asyncio.run(play()):,} events of {data}")


def web(
    *,
    config: Path | None = None,
    bootstrap: str | None = None,
    run: str | None = None,
    port: int | None = None,
    wait: float = 0.0,
) -> None:
    """Serve the API over the topics of a cluster until Ctrl-C.

    Parameters
    ----------
    config
        settings file, the same as the workers'
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    run
        name of the session; wins over the settings
    port
        port of the HTTP server, wins over the settings
    wait
        seconds to wait for Kafka and its topics before giving up
    """
    from infra.database.service import StorageService
    from infra.database.settings import is_wanted
    from infra.kafka.serving import serve_web, stop_on_signals
    from streams.database.topics import sink_of

    settings = kafka_settings(config, bootstrap, run)
    listen = settings.run.port if port is None else port
    storage = None
    if is_wanted(settings.database):
        # It only asks: `millrace sink` stores.
        storage = StorageService(
            settings.database,
            data_folder() / "database",
            stored_by=sink_of(settings.kafka.run),
        )

    async def serve() -> None:
        await serve_web(settings, listen, stop_on_signals(), console, wait_s=wait, storage=storage)

    uvloop.run(serve())


def live(
    *,
    speed: float = 1.0,
    port: int = 8000,
    exit_: Annotated[bool, Parameter(name="--exit", negative="")] = False,
) -> None:
    """Run everything on a Kafka of its own: broker, two workers, web app, the demo's recording.

    Parameters
    ----------
    speed
        multiple of real time at which the recording is played
    port
        port of the HTTP server (0 takes a free one)
    exit_
        end when the recording is played instead of serving until Ctrl-C
    """
    from infra.kafka.live import run_live

    kafka_settings(None, None, None)  # quiets the clients' logs
    sys.exit(uvloop.run(run_live(speed, port, is_exiting=exit_, console=console)))
