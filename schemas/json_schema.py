"""JSON Schemas of what goes over the wire, made from the structs that decode it.

Whatever describes Millrace to other programs is built on them: the exported schemas of topics,
their documentation, AsyncAPI.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from typing import Any

import msgspec

DECIMAL_PATTERN = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"
"""What a Decimal may look like on the wire: finite, exact, in a string."""

PARTITIONER = "murmur2"
"""How a key chooses its partition: as Kafka's own clients do, murmur2_random in librdkafka."""


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
