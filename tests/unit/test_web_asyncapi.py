"""The AsyncAPI document: valid, and whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from schemas.codec import encode
from schemas.topics import CATALOGUE
from tests.unit.web_run import Run, filled_run

OFFICIAL = Path(__file__).with_name("asyncapi-3.0.0.schema.json")
"""From the package @asyncapi/specs 6.11.1, Apache-2.0."""


@pytest.fixture(scope="module")
def document() -> Any:
    """Return the document as it is served."""
    with Run().client() as client:
        answer = client.get("/asyncapi.json")
    assert answer.headers["content-type"] == "application/json"
    return answer.json()


def references(node: Any) -> list[str]:
    """Return all references within a document."""
    if isinstance(node, list):
        return [found for item in node for found in references(item)]
    if not isinstance(node, dict):
        return []
    own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
    return own + [found for item in node.values() for found in references(item)]


def resolve(document: Any, reference: str) -> Any:
    """Return what a reference of the document names."""
    node = document
    for part in reference.removeprefix("#/").split("/"):
        node = node[part]
    return node


def test_document_is_valid_by_the_official_schema(document: Any) -> None:
    official = json.loads(OFFICIAL.read_text())

    assert list(jsonschema.Draft7Validator(official).iter_errors(document)) == []


def test_all_references_lead_somewhere(document: Any) -> None:
    for reference in references(document):
        assert resolve(document, reference), reference


def test_every_topic_is_a_channel_with_its_class_and_messages(document: Any) -> None:
    for topic in CATALOGUE:
        channel = document["channels"][topic.name]
        assert channel["x-websocket-class"] == topic.websocket
        assert channel["bindings"]["kafka"]["partitions"] == topic.partitions
        assert len(channel["messages"]) == len(topic.values)


def test_records_are_as_the_document_says(document: Any) -> None:
    for topic, record in filled_run():
        tag = record.__struct_config__.tag
        reference = document["channels"][topic]["messages"][tag]["$ref"]
        payload = resolve(document, reference)["payload"]
        schema = {**payload, "components": document["components"]}
        jsonschema.validate(json.loads(encode(record)), schema)
