"""JSON Schema of every topic, for programs that produce to or consume from it.

The schemas are made from the structs that the engine itself decodes with, so they cannot drift
from it. Each file stands alone: the definitions that it needs are in its ``$defs``.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Sequence
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

import msgspec

from schemas.errors import StorageError
from schemas.topics import CATALOGUE, Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"

PARTITIONER = "murmur2"
"""How a key chooses its partition: as Kafka's own clients do, murmur2_random in librdkafka."""

DECIMAL_PATTERN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""What a Decimal may look like on the wire: finite, exact, in a string."""


def topic_schema(topic: Topic) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of ``topic``: one alternative for each record type.

    ``x-kafka`` says what a producer must know beside the values.
    """
    (schema,), definitions = wire_schemas([reduce(or_, topic.values)], "#/$defs/{name}")
    alternatives = schema.pop("anyOf", [{"$ref": schema.get("$ref")}])
    return {
        "$schema": DIALECT,
        "$id": f"urn:millrace:topic:{topic.name}",
        "title": topic.name,
        "description": f"{topic.description} Key: {topic.key}.",
        "x-kafka": {
            "topic": topic.name,
            "key": topic.key,
            "partitions": topic.partitions,
            "partitioner": PARTITIONER,
        },
        "oneOf": alternatives,
        "$defs": {name: definitions[name] for name in sorted(definitions)},
    }


def export_schemas(directory: Path) -> list[Path]:
    """Write ``<topic>.schema.json`` for every topic into ``directory``; return the paths, sorted.

    The folder is made if it does not exist; files of the same names are replaced. Raises
    StorageError if the disk refuses.
    """
    paths = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for topic in sorted(CATALOGUE):
            path = directory / f"{topic.name}.schema.json"
            text = json.dumps(topic_schema(topic), indent=2, ensure_ascii=False)
            path.write_text(text + "\n", encoding="utf-8")
            paths.append(path)
    except OSError as error:
        raise StorageError(
            f"the schemas cannot be written: {error.strerror}",
            field="directory",
            value=str(directory),
            remedy="name a folder that can be written to",
        ) from error
    return paths


def wire_schemas(
    types: Sequence[Any], ref_template: str
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """Return the JSON Schemas of ``types`` and, by name, the definitions that they refer to."""
    schemas, definitions = msgspec.json.schema_components(
        types, schema_hook=_any_value, ref_template=ref_template
    )
    return list(schemas), {name: _tidy(schema) for name, schema in definitions.items()}


def plain_text(docstring: str) -> str:
    """Return a docstring as paragraphs of running text, each on one line."""
    paragraphs = inspect.cleandoc(docstring).split("\n\n")
    return "\n\n".join(re.sub(r"\s*\n\s*", " ", paragraph) for paragraph in paragraphs)


def _any_value(kind: type) -> dict[str, Any]:
    """Return the schema of a field that holds any JSON value; refuse other unknown types."""
    if kind is object:
        return {"description": "Any JSON value."}
    raise TypeError(
        f"{kind.__name__} has no JSON form; give the record's field a type that has one"
    )


def _tidy(schema: Any) -> Any:
    """Return ``schema`` with docstrings as plain text and decimals described by a pattern."""
    if isinstance(schema, list):
        return [_tidy(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    tidied = {key: _tidy(value) for key, value in schema.items()}
    if isinstance(tidied.get("description"), str):
        tidied["description"] = plain_text(tidied["description"])
    if tidied.get("format") == "decimal":
        tidied["pattern"] = DECIMAL_PATTERN
    return tidied
