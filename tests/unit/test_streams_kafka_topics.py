"""The comparison of a cluster's topics while its brokers do not know of the same ones yet."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.admin import AIOKafkaAdminClient

from schemas.errors import StorageError
from schemas.topics import CATALOGUE
from streams.kafka.connection import Connection
from streams.kafka.topics import ClusterTopics, Difference, settings_of

_UNKNOWN, _NOT_ALLOWED = 3, 29
TOPIC = CATALOGUE[0]


class Admin:
    """Three brokers behind one client: each question goes to another, with a code for each."""

    def __init__(self, described: int, told: int) -> None:
        self._described, self._told = described, told

    async def list_topics(self) -> list[str]:
        """Return the topic, which the first broker knows."""
        return [TOPIC.name]

    async def describe_topics(self, _names: Sequence[str]) -> list[dict[str, Any]]:
        """Return its partitions, or none."""
        count = 0 if self._described else TOPIC.partitions
        partitions = [{"replicas": [1]} for _ in range(count)]
        return [{"topic": TOPIC.name, "error_code": self._described, "partitions": partitions}]

    async def describe_configs(self, _resources: Sequence[Any]) -> list[Any]:
        """Return its settings, or none."""
        entries = [] if self._told else list(settings_of(TOPIC).items())
        return [SimpleNamespace(resources=[(self._told, "", 2, TOPIC.name, entries)])]


async def differences(admin: Admin) -> list[Difference]:
    topics = ClusterTopics(Connection(), catalogue=[TOPIC])
    return await topics._differences(cast(AIOKafkaAdminClient, admin))


async def test_topic_that_every_broker_knows_differs_in_nothing() -> None:
    assert await differences(Admin(0, 0)) == []


@pytest.mark.parametrize("admin", [Admin(_UNKNOWN, 0), Admin(0, _UNKNOWN)])
async def test_topic_that_one_broker_does_not_know_yet_is_missing_and_waited_for(
    admin: Admin,
) -> None:
    assert await differences(admin) == [Difference(TOPIC.name, "topic", "missing", "there", True)]


async def test_settings_that_may_not_be_seen_are_told() -> None:
    with pytest.raises(StorageError, match="does not tell the settings"):
        await differences(Admin(0, _NOT_ALLOWED))
