"""``millrace kafka``: a real Kafka on this machine, for whoever has none."""

from __future__ import annotations

import sys
from pathlib import Path

from cyclopts import App
from rich.console import Console

from infra.kafka.node import Node
from infra.ports import check_port
from infra.settings import data_folder

kafka_app = App(name="kafka", help="A Kafka node on this machine.")
console = Console(highlight=False)


def _folder(folder: Path | None) -> Path:
    return folder or data_folder() / "kafka" / "node"


@kafka_app.command
def start(*, folder: Path | None = None, port: int = 9092, heap: str = "1g") -> None:
    """Start a Kafka node and wait until it answers; its jars come through Maven once.

    Parameters
    ----------
    folder
        data, settings and log of the node; data/kafka/node without it
    port
        0 takes a free one, and the same again at the next start
    heap
        memory of the Java machine
    """
    check_port(port)
    with console.status("starting Kafka"):
        node = Node(_folder(folder), port=port, heap=heap)
        running = node.start()
    console.print(f"kafka {running.address}  (process {running.pid}, log {node.log_file})")


@kafka_app.command
def stop(*, folder: Path | None = None) -> None:
    """Stop the node cleanly; its data stays.

    Parameters
    ----------
    folder
        the folder it was started with
    """
    with console.status("stopping Kafka"):
        was_running = Node(_folder(folder)).stop()
    console.print("kafka stopped" if was_running else "kafka was not running")


@kafka_app.command
def status(*, folder: Path | None = None) -> None:
    """Say whether the node runs; exit status 0 if it does, else 1.

    Parameters
    ----------
    folder
        the folder it was started with
    """
    node = Node(_folder(folder))
    running = node.running()
    if running is None:
        console.print("kafka is not running")
        sys.exit(1)
    console.print(f"kafka {running.address}  (process {running.pid}, log {node.log_file})")
