"""The AsyncAPI 3 document: topics on Kafka and the WebSocket, from the catalogue and structs."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, get_args

from schemas.envelope import SCHEMA_VERSION
from schemas.json_schema import PARTITIONER, plain_text, wire_schemas
from schemas.topics import CATALOGUE, Topic
from web.frames import Request
from web.server_frames import AnyServerFrame

_SCHEMA = "#/components/schemas/{name}"
_WRITTEN_BY_OTHERS = ("feeds", "operators", "strategies", "web")
_SOCKET = "websocket"


def document(version: str) -> dict[str, Any]:
    """Return the document as plain values; ``version`` is the program's."""
    records = sorted({kind for topic in CATALOGUE for kind in topic.values}, key=_tag_of)
    requests, frames = get_args(Request), get_args(AnyServerFrame)
    _, schemas = wire_schemas([*records, *requests, *frames], _SCHEMA)
    messages = {_tag_of(kind): _message(kind) for kind in records}
    messages |= {_frame_name(kind): _message(kind) for kind in (*requests, *frames)}
    channels = {topic.name: _topic_channel(topic) for topic in CATALOGUE}
    channels[_SOCKET] = _socket_channel([*requests, *frames])
    return {
        "asyncapi": "3.0.0",
        "id": "urn:millrace",
        "info": {
            "title": "Millrace",
            "version": version,
            "x-schema-version": SCHEMA_VERSION,
            "description": (
                "Every topic of a run, on Kafka and over one WebSocket. Queries and commands over "
                f"HTTP are in `/openapi.json`. Records have schema version {SCHEMA_VERSION}."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "kafka": {"host": "127.0.0.1:9092", "protocol": "kafka"},
            "web": {"host": "127.0.0.1:8000", "protocol": "ws"},
        },
        "channels": channels,
        "operations": _operations(requests, frames),
        "components": {
            "schemas": {name: schemas[name] for name in sorted(schemas)},
            "messages": messages,
        },
    }


def _tag_of(kind: type[Any]) -> str:
    return str(kind.__struct_config__.tag)


def _frame_name(kind: type[Any]) -> str:
    """Return the name of a frame's message; some records are called as frames are."""
    return f"ws.{_tag_of(kind)}"


def _message(kind: type[Any]) -> dict[str, Any]:
    return {
        "name": _tag_of(kind),
        "title": kind.__name__,
        "summary": plain_text(inspect.getdoc(kind) or kind.__name__).split("\n")[0],
        "payload": {"$ref": _SCHEMA.format(name=kind.__name__)},
    }


def _messages(names: Sequence[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/messages/{name}"} for name in names}


def _topic_channel(topic: Topic) -> dict[str, Any]:
    cleanup = "compact" if topic.is_compacted else "delete"
    configuration: dict[str, Any] = {"cleanup.policy": [cleanup]}
    if not topic.is_compacted:
        configuration["retention.ms"] = topic.retention_ms
    return {
        "address": topic.name,
        "title": topic.name,
        "description": f"{topic.description} Key: {topic.key}. Written by {topic.producer}.",
        "servers": [{"$ref": "#/servers/kafka"}],
        "messages": _messages([_tag_of(kind) for kind in topic.values]),
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": "0.5.0",
            }
        },
        "x-key": topic.key,
        "x-partitioner": PARTITIONER,
        "x-websocket-class": topic.websocket,
    }


def _socket_channel(kinds: Sequence[type[Any]]) -> dict[str, Any]:
    return {
        "address": "/ws",
        "title": "WebSocket",
        "description": (
            "One connection for any topics: hello, auth where it is asked for, subscribe; then "
            "snapshots, data frames, gaps of conflated topics, heartbeats."
        ),
        "servers": [{"$ref": "#/servers/web"}],
        "messages": _messages([_frame_name(kind) for kind in kinds]),
        "bindings": {"ws": {"method": "GET", "bindingVersion": "0.1.0"}},
    }


def _operations(
    requests: Sequence[type[Any]], frames: Sequence[type[Any]]
) -> dict[str, dict[str, Any]]:
    operations: dict[str, dict[str, Any]] = {}
    for topic in CATALOGUE:
        channel = {"$ref": f"#/channels/{topic.name}"}
        operations[f"send {topic.name}"] = {
            "action": "send",
            "channel": channel,
            "summary": topic.description,
        }
        if any(writer in topic.producer for writer in _WRITTEN_BY_OTHERS):
            operations[f"receive {topic.name}"] = {
                "action": "receive",
                "channel": channel,
                "summary": f"What {topic.producer} write.",
            }
    operations["receive requests"] = _socket_operation("receive", requests)
    operations["send frames"] = _socket_operation("send", frames)
    return operations


def _socket_operation(action: str, kinds: Sequence[type[Any]]) -> dict[str, Any]:
    channel = f"#/channels/{_SOCKET}"
    return {
        "action": action,
        "channel": {"$ref": channel},
        "messages": [{"$ref": f"{channel}/messages/{_frame_name(kind)}"} for kind in kinds],
    }
