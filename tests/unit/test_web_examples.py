"""What the documentation shows works: the example of every route, and the document itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate
from starlette.testclient import TestClient

from infra.api_docs import api_markdown
from tests.source_tree import ROOT
from tests.unit.web_examples import example_run
from web.openapi import document
from web.route_table import Route
from web.routes import TABLE
from web.scopes import PUBLIC, SCOPES


def names(route: Route) -> str:
    """Return a route as its test is called."""
    return f"{route.method} {route.path}"


def send(client: TestClient, route: Route) -> Any:
    """Send the example of a route."""
    return client.request(route.method, route.example or route.path, json=route.example_body)


WITH_EXAMPLE = [route for route in TABLE if route.tag != "session"]
"""A session needs keys, tickets and cookies: tests/unit/test_web_access.py opens some."""


@pytest.mark.parametrize("route", WITH_EXAMPLE, ids=names)
def test_example_of_a_route_works(route: Route) -> None:
    with example_run().client() as client:
        response = send(client, route)

    assert response.status_code in (200, *route.answers), response.text
    answer = route.answers.get(response.status_code, route.answer)
    # Numbers stand for amounts, which the structs of answers hold as Decimals.
    assert msgspec.json.decode(response.content, type=answer, strict=False) is not None


def test_routes_name_known_scopes_and_are_unique() -> None:
    assert {route.scope for route in TABLE} <= {*SCOPES, PUBLIC}
    assert len({(route.method, route.path) for route in TABLE}) == len(TABLE)
    handlers = [route.handler.__name__ for route in TABLE]
    assert sorted(set(handlers)) == sorted(handlers)
    writing = [r for r in TABLE if r.method != "GET"]
    assert {r.path for r in writing if r.scope == "read"} == {"/api/risk/check"}


def hides(path: str, later: str) -> bool:
    """Return whether requests for ``later`` would be taken by ``path``, which stands before it."""
    parts, others = path.split("/"), later.split("/")
    pairs = list(zip(parts, others, strict=False))
    return len(parts) == len(others) and all(a == b or a.startswith("{") for a, b in pairs)


def test_no_route_hides_another() -> None:
    paths = list(dict.fromkeys(route.path for route in TABLE))
    hidden = [(a, b) for n, a in enumerate(paths) for b in paths[n + 1 :] if hides(a, b)]

    assert hidden == []


def test_two_structs_of_one_name_do_not_share_a_schema() -> None:
    bodies = {route.body for route in TABLE if route.body is not None}
    answers = {kind for route in TABLE for kind in (route.answer, *route.answers.values())}

    kinds = bodies | answers
    assert len({kind.__name__ for kind in kinds}) == len(kinds)


def test_document_is_openapi_3_1() -> None:
    made = document(TABLE, "0.1.0")

    validate(msgspec.json.decode(msgspec.json.encode(made)))
    assert made["openapi"] == "3.1.0"


def test_documentation_is_that_of_the_routes() -> None:
    assert (ROOT / "docs" / "api.md").read_text(encoding="utf-8") == api_markdown(), (
        "write it anew: .venv/bin/millrace api docs > docs/api.md"
    )
