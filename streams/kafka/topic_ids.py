"""The ids that a cluster gives its topics: a topic that was deleted and made anew has another one.

aiokafka speaks versions of the metadata request that do not tell them, so here is the one that
does. A broker that does not know it (before Kafka 2.8) has no ids to tell.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from io import BytesIO
from typing import Any

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError
from aiokafka.protocol.abstract import AbstractType
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.metadata import MetadataRequest
from aiokafka.protocol.types import (
    Boolean,
    CompactArray,
    CompactString,
    Int16,
    Int32,
    Schema,
    TaggedFields,
)

from schemas.errors import StorageError
from streams.kafka.connection import Connection, missing_topic

_DEADLINE_S = 20.0
_UUID_BYTES = 16
_NO_ID = bytes(_UUID_BYTES)


class _Uuid(AbstractType):  # type: ignore[misc]
    @classmethod
    def encode(cls, value: bytes) -> bytes:
        return value

    @classmethod
    def decode(cls, data: BytesIO) -> bytes:
        return data.read(_UUID_BYTES)


class _TopicIdsResponse(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            CompactArray(
                ("node_id", Int32),
                ("host", CompactString("utf-8")),
                ("port", Int32),
                ("rack", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_id", CompactString("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            CompactArray(
                ("error_code", Int16),
                ("topic", CompactString("utf-8")),
                ("topic_id", _Uuid),
                ("is_internal", Boolean),
                (
                    "partitions",
                    CompactArray(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", CompactArray(Int32)),
                        ("isr", CompactArray(Int32)),
                        ("offline_replicas", CompactArray(Int32)),
                        ("tags", TaggedFields),
                    ),
                ),
                ("authorized_operations", Int32),
                ("tags", TaggedFields),
            ),
        ),
        ("cluster_authorized_operations", Int32),
        ("tags", TaggedFields),
    )


class _TopicIdsRequestV10(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 10
    RESPONSE_TYPE = _TopicIdsResponse
    FLEXIBLE_VERSION = True
    SCHEMA = Schema(
        (
            "topics",
            CompactArray(
                ("topic_id", _Uuid),
                ("topic", CompactString("utf-8")),
                ("tags", TaggedFields),
            ),
        ),
        ("allow_auto_topic_creation", Boolean),
        ("with_cluster_operations", Boolean),
        ("with_topic_operations", Boolean),
        ("tags", TaggedFields),
    )


class _TopicIdsRequest(Request[_TopicIdsRequestV10]):  # type: ignore[misc]
    """Asks any broker for the ids of topics, and of the cluster."""

    API_KEY = 3

    def __init__(self, topics: Sequence[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_TopicIdsRequestV10]) -> _TopicIdsRequestV10:
        asked: list[Any] = [(_NO_ID, topic, {}) for topic in self._topics]
        return request_struct_class(asked, False, False, False, {})


async def topic_ids(connection: Connection, topics: Sequence[str]) -> dict[str, str]:
    """Return an id for each topic: its own, or that of the cluster where topics have none.

    Raises ConfigError for a topic that is not there, StorageError if the cluster does not answer.
    """
    client = AIOKafkaClient(**connection.client())
    try:
        async with asyncio.timeout(_DEADLINE_S):
            await client.bootstrap()
            try:
                answer = await client.send(client.get_random_node(), _TopicIdsRequest(topics))
            except NotImplementedError:
                answer = await client.send(client.get_random_node(), MetadataRequest(list(topics)))
                return dict.fromkeys(topics, str(answer.cluster_id))
        return {name: _id_of(answer, name) for name in topics}
    except (KafkaError, OSError, TimeoutError) as error:
        raise StorageError(
            f"the ids of topics cannot be looked up: {str(error) or type(error).__name__}",
            field="kafka.bootstrap",
            value=connection.bootstrap,
            remedy="start it (`millrace kafka start`), or check address and credentials",
        ) from error
    finally:
        await client.close()


def _id_of(answer: Any, name: str) -> str:
    for code, topic, topic_id, *_ in answer.topics:
        if topic == name and not code:
            return bytes(topic_id).hex()
    raise missing_topic(name)
