"""``millrace topics``: the catalogue, and the same topics on a Kafka cluster."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from cyclopts import App
from rich.console import Console

from infra.cli_worker import kafka_settings
from infra.docs import topics_markdown
from infra.kafka.settings import connection_of
from schemas.errors import ConfigError
from schemas.topics import CATALOGUE
from streams.kafka.topics import ClusterTopics, Difference

topics_app = App(name="topics", help="The topic catalogue, here and on a Kafka cluster.")
console = Console(highlight=False)


@topics_app.command(name="list")
def topics_list() -> None:
    """Print every topic with key, partitions and retention."""
    for topic in CATALOGUE:
        kept = (
            "compacted"
            if topic.is_compacted
            else ("kept" if topic.retention_ms < 0 else f"{topic.retention_ms // 86_400_000} d")
        )
        console.print(
            f"{topic.name:28} {topic.key:14} {topic.partitions} x  {kept:10} {topic.description}",
            markup=False,
            soft_wrap=True,
        )


@topics_app.command(name="docs")
def topics_docs() -> None:
    """Print the catalogue as Markdown."""
    sys.stdout.write(topics_markdown())


def _cluster(config: Path | None, bootstrap: str | None) -> ClusterTopics:
    settings = kafka_settings(config, bootstrap, None).kafka
    return ClusterTopics(
        connection_of(settings),
        replication=settings.replication,
        min_in_sync_replicas=settings.min_in_sync_replicas,
    )


def _show(differences: list[Difference]) -> None:
    for item in differences:
        console.print(
            f"{item.topic:28} {item.property:20} is {item.found or 'not set'},"
            f" should be {item.wanted}",
            markup=False,
            soft_wrap=True,
        )


@topics_app.command(name="apply")
def topics_apply(*, config: Path | None = None, bootstrap: str | None = None) -> None:
    """Create the missing topics on a cluster and set retention and compaction of all.

    Nothing is deleted, and no number of partitions is changed; what differs in that is an error.

    Parameters
    ----------
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    """
    left = asyncio.run(_cluster(config, bootstrap).apply())
    _show(left)
    if left:
        raise ConfigError(
            "topics differ in what is not changed without you",
            field="topic",
            value=left[0].topic,
            remedy="make them anew while nothing reads or writes them, or use another cluster",
        )
    console.print(f"{len(CATALOGUE)} topics are as the catalogue has them")


@topics_app.command(name="diff")
def topics_diff(*, config: Path | None = None, bootstrap: str | None = None) -> None:
    """Print in what the topics of a cluster differ from the catalogue.

    Parameters
    ----------
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    """
    found = asyncio.run(_cluster(config, bootstrap).differences())
    _show(found)
    if not found:
        console.print("no difference")


@topics_app.command(name="check")
def topics_check(*, config: Path | None = None, bootstrap: str | None = None) -> None:
    """Fail with exit status 2 if the topics of a cluster differ from the catalogue.

    Parameters
    ----------
    config
        settings file with a table [kafka]
    bootstrap
        address of the cluster; wins over the settings and MILLRACE_KAFKA_BOOTSTRAP
    """
    found = asyncio.run(_cluster(config, bootstrap).differences())
    _show(found)
    if found:
        raise ConfigError(
            f"{len(found)} differences from the catalogue",
            field="topic",
            value=found[0].topic,
            remedy="`millrace topics apply` mends what can be mended",
        )
    console.print(f"{len(CATALOGUE)} topics are as the catalogue has them")
