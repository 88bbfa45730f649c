"""``millrace record`` and what else reads topics of a cluster as history."""

from __future__ import annotations

import asyncio
import re
import signal
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from cyclopts import App
from rich.console import Console

from agents.runners.kafka.recording import record_topics
from infra.cli_worker import check_topic, kafka_settings
from infra.display import progress_bar
from infra.kafka.parity import cluster_parity, recorded_parity, show_parity
from infra.kafka.settings import connection_of
from schemas.errors import ConfigError
from schemas.topics import (
    CATALOGUE,
    MARKET_EVENTS,
    REFERENCE_ACTIONS,
    REFERENCE_INSTRUMENTS,
)
from streams.datasets.topics_folder import TOPICS
from streams.kafka.connection import Connection
from streams.kafka.ranges import PlaceReader

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)
_OFFSETS = re.compile(r"(\d+)=(\d*):(\d*)")


def add_recording_commands(app: App) -> None:
    """Put the commands on the command line."""
    app.command(record)


def record(
    folder: Path,
    *,
    topics: str = "",
    follow: bool = False,
    config: Path | None = None,
    bootstrap: str | None = None,
) -> None:
    """Copy topics into a folder of journals; a recording that is there is continued.

    The folder can be replayed (`--data FOLDER`), played into topics again, and proved
    (`millrace parity FOLDER`).

    Parameters
    ----------
    folder
        where the recording is, or begins
    topics
        names with commas; all of the catalogue without it
    follow
        go on with what comes until Ctrl-C
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    """
    connection = connection_of(kafka_settings(config, bootstrap, None).kafka)
    names = _topics(topics)
    check_folder(folder)
    count = asyncio.run(copy(connection, folder, names, is_following=follow))
    console.print(f"{count:,} records copied to {folder}", soft_wrap=True)


def check_folder(folder: Path) -> None:
    """Raise ConfigError for a folder that holds something else than a recording."""
    if folder.exists() and (
        not folder.is_dir() or (any(folder.iterdir()) and not (folder / TOPICS).is_dir())
    ):
        raise ConfigError(
            "a recording would stand among other files",
            field="folder",
            value=str(folder.absolute()),
            remedy="name a new or empty folder, or that of a recording to go on with",
        )


def _topics(text: str) -> list[str]:
    names = [part.strip() for part in text.split(",") if part.strip()]
    for name in names:
        check_topic(name)
    return names or [topic.name for topic in CATALOGUE]


@contextmanager
def kafka_history(config: Path | None, bootstrap: str | None, offsets: str) -> Iterator[Path]:
    """Yield a folder with the market history of a cluster, which lives as long as the block.

    ``offsets`` bounds partitions of market.events.v1, as in 0=100:2000,1=50: (the end excluded).
    """
    connection = connection_of(kafka_settings(config, bootstrap, None).kafka)
    ranges = {(MARKET_EVENTS, p): bounds for p, bounds in parse_offsets(offsets).items()}
    topics = [MARKET_EVENTS, REFERENCE_INSTRUMENTS, REFERENCE_ACTIONS]
    with tempfile.TemporaryDirectory(prefix="millrace-history-") as folder:
        asyncio.run(
            copy(
                connection, Path(folder), topics, is_following=False, is_history=True, ranges=ranges
            )
        )
        yield Path(folder)


def parse_offsets(text: str) -> dict[int, tuple[int, int | None]]:
    """Return first and last offset by partition; raises ConfigError for another form."""
    found: dict[int, tuple[int, int | None]] = {}
    for part in (item.strip() for item in text.split(",") if item.strip()):
        match = _OFFSETS.fullmatch(part)
        if match is None:
            raise ConfigError(
                "a range of offsets cannot be read",
                field="offsets",
                value=part,
                remedy="write partition=first:last, such as 0=100:2000,1=50: (last is excluded)",
            )
        partition, first, last = match.groups()
        found[int(partition)] = (int(first or 0), int(last) if last else None)
    return found


def check_ranges(
    ranges: Mapping[tuple[str, int], tuple[int, int | None]], counts: Mapping[str, int]
) -> None:
    """Raise ConfigError for a partition that there is not, or a range without an offset."""
    for (topic, partition), (first, last) in ranges.items():
        text = f"{partition}={first}:{'' if last is None else last}"
        if partition >= counts[topic]:
            raise ConfigError(
                f"{topic} has {counts[topic]} partitions, numbered from 0",
                field="offsets",
                value=text,
                remedy="bound one of these",
            )
        if last is not None and last <= first:
            raise ConfigError(
                "a range of offsets is empty",
                field="offsets",
                value=text,
                remedy="write partition=first:last with first below last, which is excluded",
            )


async def copy(
    connection: Connection,
    folder: Path,
    topics: Sequence[str],
    *,
    is_following: bool,
    is_history: bool = False,
    ranges: Mapping[tuple[str, int], tuple[int, int | None]] = {},
) -> int:
    """Record topics with a progress bar, until they are copied or a signal comes."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with PlaceReader(connection) as reader:
        counts = await reader.counts(topics)
    check_ranges(ranges, counts)
    with progress_bar(errors, "record") as bar:
        return await record_topics(
            connection, folder, counts, stop=stop, is_following=is_following,
            is_history=is_history, ranges=ranges,
            on_total=bar.total, on_progress=bar.advance,
        )  # fmt: skip


def kafka_parity(
    run: str,
    strategies: Sequence[str],
    *,
    is_json: bool,
    from_cluster: bool,
    config: Path | None,
    bootstrap: str | None,
) -> int:
    """Prove a session on Kafka; return the exit status."""
    if from_cluster:
        settings = kafka_settings(config, bootstrap, run or None).kafka
        work = cluster_parity(connection_of(settings), settings.run, strategies, errors)
    else:
        work = recorded_parity(Path(run), None, strategies, errors)
    return show_parity(asyncio.run(work), is_json=is_json, console=console)
