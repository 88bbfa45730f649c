"""Bad input: whatever the document allows, and much that it does not, gives no fault.

Requests are made from the document, those that keep to it and those that do not. Each example is
followed by the checks that a client makes: a documented status, and an answer of its schema's form.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from jsonschema import Draft202012Validator
from schemathesis.config import SchemathesisConfig
from schemathesis.core import NotSet
from starlette.testclient import TestClient

from tests.unit.web_examples import example_run
from tests.unit.web_gate import Gate, bearer
from web.openapi import document
from web.route_table import Route
from web.routes import TABLE
from web.scopes import BACKTEST, PUBLIC, READ
from web.security.gatekeeper import Limits

_EXAMPLES = 5
_DOCUMENT = msgspec.json.decode(msgspec.json.encode(document(TABLE, "0.1.0")))

_config = SchemathesisConfig.from_dict({"generation": {"mode": "all"}})
schema = schemathesis.openapi.from_dict(_DOCUMENT, config=_config)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """Give a client of a run that all examples share."""
    with example_run().client() as client:
        yield client


@cache
def form(path: str, method: str, status: int) -> tuple[str, Draft202012Validator] | None:
    """Return media type and schema of a documented answer, None for one that is not."""
    operation = _DOCUMENT["paths"][path].get(method, {})
    answer = operation.get("responses", {}).get(str(status))
    if answer is None:
        return None
    ((media_type, content),) = answer["content"].items()
    whole = {**content["schema"], "components": _DOCUMENT["components"]}
    return media_type, Draft202012Validator(whole)


def check(response: Any, path: str, method: str) -> None:
    """Check that an answer is documented, and of the form that the document gives it."""
    found = form(path, method.lower(), response.status_code)
    assert found is not None, (response.status_code, response.text)
    media_type, validator = found
    assert response.headers["content-type"] == media_type
    errors = [
        f"{error.json_path}: {error.message}" for error in validator.iter_errors(response.json())
    ]
    assert errors == []


@schema.parametrize()
@settings(
    max_examples=_EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
def test_no_request_gives_a_fault(case: Any, client: TestClient) -> None:
    content = None if isinstance(case.body, NotSet) else msgspec.json.encode(case.body)

    response = client.request(
        case.method, case.formatted_path, params=dict(case.query or {}), content=content
    )

    assert response.status_code != 500, response.text
    if form(case.path, case.method.lower(), response.status_code) is None:
        # The path did not lead to this route: a name with a slash, an empty one, other methods.
        assert response.status_code in (404, 405), response.text
    else:
        check(response, case.path, case.method)


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, Gate]]:
    """Give a client of a run with keys."""
    gate = Gate(
        tmp_path_factory.mktemp("keys"), limits=Limits(requests_burst=10_000, failures_burst=50)
    )
    with example_run(gate.keeper).client() as client:
        yield client, gate


@pytest.mark.parametrize("route", TABLE, ids=lambda route: f"{route.method} {route.path}")
def test_answers_to_who_may_not_are_documented_too(
    route: Route, gated: tuple[TestClient, Gate]
) -> None:
    client, gate = gated
    other = BACKTEST if route.scope == READ else READ

    def status(key: str | None, headers: dict[str, str]) -> int:
        shown = {**headers, **(bearer(key) if key is not None else {})}
        response = client.request(
            route.method, route.example or route.path, json=route.example_body, headers=shown
        )
        check(response, route.path, route.method)
        return response.status_code

    assert status("nobody", {}) in (401, 429)  # wrong keys of one address are slowed down
    if route.scope != PUBLIC:
        assert status(None, {}) == 401
        assert status(gate.key(other), {}) == 403
    assert status(None, {"Host": "elsewhere.example"}) == 403
