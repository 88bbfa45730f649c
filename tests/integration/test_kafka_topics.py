"""The catalogue's topics on a real cluster: made, compared, mended, never broken."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.errors import StorageError
from schemas.topics import Topic
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher
from streams.kafka.topics import ClusterTopics, Difference


def topic(name: str, *, partitions: int = 2, is_compacted: bool = False) -> Topic:
    """Return a topic of a name that no other test has."""
    unique = f"{name}.{uuid.uuid4().hex[:8]}"
    return Topic(unique, "key", (), partitions, 60_000, is_compacted, "test", "complete", "")


@pytest.fixture
async def admin(bootstrap: str) -> AsyncIterator[AIOKafkaAdminClient]:
    """Give an administrator of the session's cluster."""
    client = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    await client.start()
    yield client
    await client.close()


def cluster(bootstrap: str, *catalogue: Topic) -> ClusterTopics:
    return ClusterTopics(Connection(bootstrap=bootstrap), catalogue=catalogue)


async def change(admin: AIOKafkaAdminClient, name: str, **settings: str) -> None:
    values = {key.replace("_", "."): value for key, value in settings.items()}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, name, values)])


async def settings_of(admin: AIOKafkaAdminClient, name: str) -> dict[str, str]:
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    return {entry[0]: entry[1] for entry in answer.resources[0][4]}


async def test_missing_topics_are_told_then_made_as_the_catalogue_has_them(
    bootstrap: str, admin: AIOKafkaAdminClient
) -> None:
    timed, newest = topic("timed"), topic("newest", partitions=3, is_compacted=True)
    topics = cluster(bootstrap, timed, newest)
    assert await topics.differences() == [
        Difference(item.name, "topic", "missing", "there", True) for item in (timed, newest)
    ]
    assert await topics.apply() == []
    assert await topics.differences() == []
    assert (await settings_of(admin, timed.name))["retention.ms"] == "60000"
    assert (await settings_of(admin, newest.name))["cleanup.policy"] == "compact"
    described = await admin.describe_topics([timed.name, newest.name])
    assert {d["topic"]: len(d["partitions"]) for d in described} == {
        timed.name: 2,
        newest.name: 3,
    }


async def test_changed_settings_are_mended_and_what_others_set_stays(
    bootstrap: str, admin: AIOKafkaAdminClient
) -> None:
    item = topic("changed")
    topics = cluster(bootstrap, item)
    await topics.apply()
    await change(admin, item.name, retention_ms="5", max_message_bytes="2000000")

    (found,) = [d for d in await topics.differences() if d.property == "retention.ms"]
    assert found == Difference(item.name, "retention.ms", "5", "60000", True)
    assert await topics.apply() == []
    assert (await settings_of(admin, item.name))["max.message.bytes"] == "2000000"


async def test_another_number_of_partitions_is_told_and_left_alone(
    bootstrap: str, admin: AIOKafkaAdminClient
) -> None:
    item = topic("few", partitions=4)
    await admin.create_topics([NewTopic(item.name, 1, 1)])
    left = await cluster(bootstrap, item).apply()
    assert left == [Difference(item.name, "partitions", "1", "4", False)]


async def test_name_that_kafka_refuses_is_told(bootstrap: str) -> None:
    with pytest.raises(StorageError, match="did not create"):
        await cluster(bootstrap, topic("a b")).apply()


async def test_two_at_once_make_the_topics_once(bootstrap: str) -> None:
    topics = cluster(bootstrap, *(topic(f"both{i}") for i in range(5)))
    first, second = await asyncio.gather(topics.apply(), topics.apply())
    assert (first, second) == ([], [])


async def test_topics_just_made_can_be_written_to_at_once(
    bootstrap: str, caplog: pytest.LogCaptureFixture
) -> None:
    made = [topic(f"served{number}", partitions=4) for number in range(12)]
    assert await cluster(bootstrap, *made).apply() == []
    async with Publisher(Connection(bootstrap=bootstrap)) as publisher:
        await publisher.publish(
            [Outgoing(item.name, b"key", b"value", p) for item in made for p in range(4)]
        )
    assert [r.message for r in caplog.records if "NotLeader" in r.message] == []


def command(*words: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("millrace")
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def test_commands_apply_diff_and_check(bootstrap: str) -> None:
    for words, said in (("apply", "as the catalogue"), ("diff", "no diff"), ("check", "as the")):
        done = command("topics", words, "--bootstrap", bootstrap)
        assert (done.returncode, done.stderr) == (0, "")
        assert said in done.stdout


def test_no_broker_is_one_line_and_exit_status_2() -> None:
    done = command("topics", "check", "--bootstrap", "127.0.0.1:1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "Kafka does not answer" in line
