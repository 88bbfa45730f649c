"""The OpenAPI 3.1 document of a route table."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import msgspec

from schemas.envelope import SCHEMA_VERSION
from web.problems import MEDIA_TYPE, Problem
from web.route_table import AS_OF, RUN_ID, Route

_REF = "#/components/schemas/{name}"
_IN_PATH = re.compile(r"{(\w+)}")
_NUMBER = {"type": "number"}
_NUMBER_OR_TEXT = {"type": ["number", "string"]}
_KEY = {
    "type": "http",
    "scheme": "bearer",
    "description": "A key made with `millrace keys make`; not asked for on loopback by default.",
}
_PLACE = (
    (RUN_ID, "A recorded run, or a backtest by its task; the running one without it."),
    (
        AS_OF,
        "An RFC 3339 time, or topic:offset, or topic/partition:offset; its end without.",
    ),
)


def document(table: Sequence[Route], version: str) -> dict[str, Any]:
    """Return the document of ``table`` as plain values; ``version`` is the program's.

    ``x-schema-version`` beside it is that of the records.
    """
    bodies = [route.body for route in table if route.body is not None]
    answers: list[type[Any]] = [Problem]
    for route in table:
        answers += [route.answer, *route.answers.values()]
    # Amounts are numbers in answers; requests may give them as text as well, to keep all digits in
    # any language.
    schemas = _schemas(answers, _NUMBER) | _schemas(bodies, _NUMBER_OR_TEXT)
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Millrace",
            "version": version,
            "x-schema-version": SCHEMA_VERSION,
            "description": (
                "Queries and commands of one run. Live topics are at `/ws`; "
                f"their records have schema version {SCHEMA_VERSION}."
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        # On loopback nobody need show a key, so the empty alternative stands first.
        "security": [{}, {"key": []}],
        "paths": paths,
        "components": {"schemas": schemas, "securitySchemes": {"key": _KEY}},
    }


def _schemas(types: Sequence[type[Any]], amount: dict[str, Any]) -> dict[str, Any]:
    _, schemas = msgspec.json.schema_components(types, ref_template=_REF)
    result = _with_amounts(schemas, amount)
    assert isinstance(result, dict)
    return result


def _with_amounts(node: Any, amount: dict[str, Any]) -> Any:
    """Return a schema in which Decimals, which msgspec describes as texts, are ``amount``."""
    if isinstance(node, list):
        return [_with_amounts(item, amount) for item in node]
    if not isinstance(node, dict):
        return node
    if node.get("format") == "decimal":
        rest = {key: value for key, value in node.items() if key not in ("type", "format")}
        return {**amount, **rest}
    return {key: _with_amounts(value, amount) for key, value in node.items()}


def _ref(kind: type[Any]) -> dict[str, Any]:
    return {"$ref": _REF.format(name=kind.__name__)}


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": getattr(route.handler, "__name__", route.path),
        "summary": route.summary,
        "description": inspect.getdoc(route.handler) or "",
        "tags": [route.tag],
        "x-scope": route.scope,
        "parameters": [
            *_path_parameters(route),
            *_query_parameters(route),
            *(_place_parameters() if route.is_of_run else ()),
        ],
        "responses": _responses(route),
    }
    if route.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _ref(route.body)}},
        }
    return operation


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _IN_PATH.findall(route.path)
    ]


def _query_parameters(route: Route) -> list[dict[str, Any]]:
    schemas = _schemas([route.query], _NUMBER_OR_TEXT)
    schema = schemas[route.query.__name__]
    required = schema.get("required", ())
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "schema": _inlined(field, schemas),
        }
        for name, field in schema.get("properties", {}).items()
    ]


def _inlined(node: Any, schemas: dict[str, Any]) -> Any:
    """Return a schema with what it refers to in its place; queries hold no deep structures."""
    if isinstance(node, list):
        return [_inlined(item, schemas) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inlined(schemas[node["$ref"].rpartition("/")[2]], schemas)
    return {key: _inlined(value, schemas) for key, value in node.items()}


def _place_parameters() -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "query",
            "required": False,
            "description": text,
            "schema": {"type": "string", "maxLength": 200},
        }
        for name, text in _PLACE
    ]


def _responses(route: Route) -> dict[str, Any]:
    responses: dict[str, Any] = {}
    for status, kind in {200: route.answer, **route.answers}.items():
        content = {"application/json": {"schema": _ref(kind)}}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    # A key that is shown is looked at everywhere, also where none is asked for.
    statuses = {*route.errors, 401, 403, 422, 429, 500, 503}
    if route.body is not None:
        statuses |= {400, 408, 413}
    if route.is_of_run:
        statuses |= {404}
    for status in sorted(statuses):
        content = {MEDIA_TYPE: {"schema": _ref(Problem)}}
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": content}
    return responses
