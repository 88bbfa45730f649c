"""The catalogue's topics on a cluster: what is there, what is missing, what differs.

``apply`` creates what is missing and sets retention, compaction and in-sync replicas. It never
deletes a topic, and never changes a number of partitions: that would send the records of one key to
another partition than those before, and the order of a key is what everything rests on.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from schemas.errors import ConfigError, StorageError
from schemas.topics import CATALOGUE, SYSTEM_SNAPSHOTS, Topic
from streams.kafka.connection import Connection
from streams.kafka.ranges import PlaceReader
from streams.kafka.starting import failed, start_client

_VISIBLE_TIMEOUT_S = 20.0
_POLL_S = 0.1
_TOPIC_EXISTS = 36


TIME_SETTING = "message.timestamp.type"
"""Who gives a record its stamp, by which stages judge event times and Kafka retention."""

SNAPSHOT_MAX_BYTES = 33_554_432
"""A state is one record: with a day's orders it is larger than the 1 MB that Kafka takes else."""


class Difference(NamedTuple):
    """One thing in which a topic differs from the catalogue.

    ``property`` is "topic" (it is missing), "partitions", "replication" or the name of a setting.
    ``is_mended_by_apply`` says whether ``apply`` changes it.
    """

    topic: str
    property: str
    found: str
    wanted: str
    is_mended_by_apply: bool


def settings_of(topic: Topic, min_in_sync_replicas: int = 1) -> dict[str, str]:
    """Return the topic settings that the catalogue asks for."""
    settings = {
        "cleanup.policy": "compact" if topic.is_compacted else "delete",
        "min.insync.replicas": str(min_in_sync_replicas),
        # By the broker's clock: a writer whose own is wrong may neither have its records refused
        # nor deleted early.
        TIME_SETTING: "LogAppendTime",
    }
    if not topic.is_compacted:
        # -1 keeps for ever; the size bound must not delete what the time bound keeps.
        settings["retention.ms"] = str(topic.retention_ms)
        settings["retention.bytes"] = "-1"
    if topic.name == SYSTEM_SNAPSHOTS:
        settings["max.message.bytes"] = str(SNAPSHOT_MAX_BYTES)
        # Only closed segments are compacted, and who takes over a part reads all that is left: by
        # a broker's own settings that would be gigabytes.
        settings["segment.bytes"] = str(2 * SNAPSHOT_MAX_BYTES)
        settings["segment.ms"] = "600000"
        settings["min.cleanable.dirty.ratio"] = "0.1"
    return settings


class ClusterTopics:
    """The topics of a cluster, compared with the catalogue."""

    def __init__(
        self,
        connection: Connection,
        *,
        replication: int = 1,
        min_in_sync_replicas: int = 1,
        catalogue: Sequence[Topic] = CATALOGUE,
    ) -> None:
        if not 1 <= min_in_sync_replicas <= replication:
            raise ConfigError(
                "in-sync replicas are some of all replicas",
                field="kafka.min_in_sync_replicas",
                value=min_in_sync_replicas,
                remedy=f"give 1 to {replication}",
            )
        self._connection = connection
        self._replication = replication
        self._min_in_sync = min_in_sync_replicas
        self._catalogue = catalogue

    async def differences(self) -> list[Difference]:
        """Return in what the cluster differs from the catalogue, in the catalogue's order.

        Raises StorageError if the cluster does not answer.
        """
        async with _admin(self._connection) as admin:
            return await self._differences(admin)

    async def apply(self) -> list[Difference]:
        """Create what is missing, set what differs, and return what is left; all can be written to.

        Raises StorageError if the cluster refuses.
        """
        async with _admin(self._connection) as admin:
            found = await self._differences(admin)
            missing = {d.topic for d in found if d.property == "topic"}
            await self._create(admin, [t for t in self._catalogue if t.name in missing])
            changed = {d.topic for d in found if d.is_mended_by_apply} - missing
            await self._set(admin, [t for t in self._catalogue if t.name in changed])
            # The metadata of a new topic reaches all brokers a little later.
            deadline_s = asyncio.get_running_loop().time() + _VISIBLE_TIMEOUT_S
            while True:
                left = await self._differences(admin)
                is_late = asyncio.get_running_loop().time() > deadline_s
                if is_late or not any(d.is_mended_by_apply for d in left):
                    break
                await asyncio.sleep(_POLL_S)
            absent = {d.topic for d in left if d.property == "topic"}
            await self._await_leaders([t for t in self._catalogue if t.name in missing - absent])
            return left

    async def _await_leaders(self, topics: Sequence[Topic]) -> None:
        """Wait until every partition is served: who wrote at once would be refused at first."""
        if not topics:
            return
        async with PlaceReader(self._connection) as reader:
            await reader.ends([(t.name, p) for t in topics for p in range(t.partitions)])

    async def _differences(self, admin: AIOKafkaAdminClient) -> list[Difference]:
        known = set(await admin.list_topics())
        names = [t.name for t in self._catalogue if t.name in known]
        # A broker may not know yet what another has just told of.
        answers = await admin.describe_topics(names) if names else []
        described = {d["topic"]: d for d in answers if not d["error_code"]}
        settings = await _settings(admin, names)
        found: list[Difference] = []
        for topic in self._catalogue:
            if topic.name not in described or topic.name not in settings:
                found.append(Difference(topic.name, "topic", "missing", "there", True))
                continue
            partitions = described[topic.name]["partitions"]
            if len(partitions) != topic.partitions:
                there, wanted = str(len(partitions)), str(topic.partitions)
                found.append(Difference(topic.name, "partitions", there, wanted, False))
            replicas = min((len(p["replicas"]) for p in partitions), default=0)
            if replicas < self._replication:
                there, wanted = str(replicas), str(self._replication)
                found.append(Difference(topic.name, "replication", there, wanted, False))
            for name, wanted in settings_of(topic, self._min_in_sync).items():
                there = settings[topic.name].get(name, "")
                if there != wanted:
                    found.append(Difference(topic.name, name, there, wanted, True))
        return found

    async def _create(self, admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
        if not topics:
            return
        wanted = [
            NewTopic(
                topic.name,
                topic.partitions,
                self._replication,
                topic_configs=settings_of(topic, self._min_in_sync),
            )
            for topic in topics
        ]
        answer = await admin.create_topics(wanted)
        for name, code, *rest in answer.topic_errors:
            # Another process may create them at the same time.
            if code not in (0, _TOPIC_EXISTS):
                raise StorageError(
                    f"Kafka did not create a topic: {rest[0] if rest else ''} {for_code(code)}",
                    field="topic",
                    value=name,
                    remedy="check replication and what the cluster allows this user",
                )

    async def _set(self, admin: AIOKafkaAdminClient, topics: Sequence[Topic]) -> None:
        if not topics:
            return
        # The request replaces all settings of a topic, so those that others made are sent again.
        now = await _settings(admin, [t.name for t in topics], is_own_only=True)
        resources = [
            ConfigResource(
                ConfigResourceType.TOPIC,
                topic.name,
                {**now[topic.name], **settings_of(topic, self._min_in_sync)},
            )
            for topic in topics
            if topic.name in now
        ]
        for answer in await admin.alter_configs(resources):
            for code, message, _, name in answer.resources:
                if code:
                    raise StorageError(
                        f"Kafka did not change a topic: {message or for_code(code)}",
                        field="topic",
                        value=name,
                        remedy="check what the cluster allows this user",
                    )


async def _settings(
    admin: AIOKafkaAdminClient, names: Sequence[str], *, is_own_only: bool = False
) -> dict[str, dict[str, str]]:
    """Return the settings of topics; with ``is_own_only`` those alone that a topic was given.

    A topic that the asked broker does not know is left out.
    """
    if not names:
        return {}
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    found: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _, name, entries in answer.resources:
            if code == UnknownTopicOrPartitionError.errno:
                continue
            if code:
                raise StorageError(
                    f"Kafka does not tell the settings of a topic: {message or for_code(code)}",
                    field="topic",
                    value=name,
                    remedy="check what the cluster allows this user",
                )
            found[name] = {
                entry[0]: entry[1]
                for entry in entries
                if not is_own_only or entry[3] == _OF_THE_TOPIC
            }
    return found


_OF_THE_TOPIC = 1
"""The source of a setting that was given to the topic itself."""


@asynccontextmanager
async def _admin(connection: Connection) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(**connection.client())
    await start_client(admin, connection)
    try:
        yield admin
    except (KafkaError, OSError, TimeoutError) as error:
        raise failed(connection, "Kafka does not answer", error) from error
    finally:
        await admin.close()


def check_counts(counts: Mapping[str, int]) -> None:
    """Raise ConfigError if a topic has another number of partitions than the catalogue says."""
    for topic in CATALOGUE:
        if counts[topic.name] != topic.partitions:
            what = f"has {counts[topic.name]} partitions"
            raise unlike(topic.name, what, topic.partitions)


def unlike(topic: str, what: str, wanted: object) -> ConfigError:
    """Return the error of a topic that is not as the catalogue has it."""
    return ConfigError(
        f"a topic of the cluster {what}; the catalogue says {wanted}",
        field="topic",
        value=topic,
        remedy="`millrace topics apply` makes what is missing; `topics diff` shows all",
    )
