"""Bad input: whatever the document allows, and much that it does not, gives no fault.

Requests are made from the document, those that keep to it and those that do not. Each example is
followed by the checks that a client makes: a known status, and an answer of its schema's form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig
from schemathesis.core import NotSet
from starlette.testclient import TestClient

from tests.unit.web_examples import example_run
from web.openapi import document
from web.problems import MEDIA_TYPE
from web.routes import TABLE

_EXAMPLES = 5
_DOCUMENT = msgspec.json.decode(msgspec.json.encode(document(TABLE, "0.1.0")))

_config = SchemathesisConfig.from_dict({"generation": {"mode": "all"}})
schema = schemathesis.openapi.from_dict(_DOCUMENT, config=_config)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """Give a client of a run that all examples share."""
    with example_run().client() as client:
        yield client


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
    operation = _DOCUMENT["paths"][case.path].get(case.method.lower(), {})
    documented = operation.get("responses", {})
    if response.headers.get("content-type") == MEDIA_TYPE:
        problem = response.json()
        assert problem["status"] == response.status_code
        assert problem["detail"]
    if str(response.status_code) not in documented:
        # The path did not lead to this route: a name with a slash, an empty one, other methods.
        assert response.status_code in (404, 405), response.text
