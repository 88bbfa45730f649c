"""JSON Schema of every topic, for programs that produce to or consume from it.

The schemas are made from the structs that the engine itself decodes with, so they cannot drift
from it. Each file stands alone: the definitions that it needs are in its ``$defs``.
"""

from __future__ import annotations

import json
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from schemas.errors import StorageError
from schemas.json_schema import PARTITIONER, wire_schemas
from schemas.topics import CATALOGUE, Topic

DIALECT = "https://json-schema.org/draft/2020-12/schema"


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
