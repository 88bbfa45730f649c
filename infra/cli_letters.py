"""``millrace deadletter``: records that could not be used, and a second chance for them."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import App, Parameter
from rich.console import Console

from infra.cli_worker import check_topic, kafka_settings
from infra.kafka.letters import dead_letters, find_letters, retry_letters
from infra.kafka.settings import connection_of
from infra.times import format_time
from schemas.errors import ConfigError
from streams.kafka.connection import Connection

letters_app = App(name="deadletter", help="Records that could not be used, with the reason.")
console = Console(highlight=False)


def _connection(config: Path | None, bootstrap: str | None) -> Connection:
    return connection_of(kafka_settings(config, bootstrap, None).kafka)


def _shown(text: str) -> str:
    """Return text of strangers without what would steer the terminal."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


@letters_app.command(name="list")
def letters_list(
    *, topic: str = "", config: Path | None = None, bootstrap: str | None = None
) -> None:
    """Print a line for each dead letter: where its record stands, when it was written, and why.

    Parameters
    ----------
    topic
        only those of one topic
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    """
    if topic:
        check_topic(topic)
    found = asyncio.run(dead_letters(_connection(config, bootstrap)))
    chosen = [item for item in found if not topic or item.topic == topic]
    for item in chosen:
        console.print(
            f"{item.topic}/{item.partition}/{item.offset}  {format_time(item.ts_event_ns)}"
            f"  {_shown(item.reason)}",
            markup=False,
            soft_wrap=True,
        )
    if not chosen:
        console.print("no dead letter")


@letters_app.command(name="show")
def letters_show(letter: str, *, config: Path | None = None, bootstrap: str | None = None) -> None:
    """Print one dead letter as JSON; its value as text as far as it is text.

    Parameters
    ----------
    letter
        its id, or topic/partition/offset
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    """
    (found,) = asyncio.run(find_letters(_connection(config, bootstrap), [letter]))
    values = msgspec.to_builtins(found) | {"value": found.value.decode(errors="replace")}
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(values), indent=2).decode() + "\n")


@letters_app.command(name="retry")
def letters_retry(
    *letters: str,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    config: Path | None = None,
    bootstrap: str | None = None,
) -> None:
    """Write the records of dead letters again, if they can be used by now; exit status 1 if not.

    Parameters
    ----------
    letters
        ids, or topic/partition/offset
    all_
        every one there is
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    """
    connection = _connection(config, bootstrap)
    if bool(letters) == all_:
        raise ConfigError(
            "which letters to send again is not said",
            field="letters",
            value=" ".join(letters),
            remedy="name some, or give --all",
        )

    async def work() -> bool:
        found = await (dead_letters(connection) if all_ else find_letters(connection, letters))
        done = await retry_letters(connection, found)
        for item in done:
            name = f"{item.letter.topic}/{item.letter.partition}/{item.letter.offset}"
            how = _shown(item.reason)
            if item.offset is not None:
                how = f"written again to partition {item.partition} at offset {item.offset}"
            console.print(f"{name}  {how}", markup=False, soft_wrap=True)
        return all(item.offset is not None for item in done)

    sys.exit(0 if asyncio.run(work()) else 1)
