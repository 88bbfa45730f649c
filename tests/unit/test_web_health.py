"""The health of a worker: progress, not presence."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry
from starlette.testclient import TestClient

from web.health import StageHealth, health_app

STAGES = frozenset({"market", "venue"})
GOOD = StageHealth(is_ready=True, standstill_s=1.0)


@pytest.mark.parametrize(
    ("found", "healthy", "ready", "status"),
    [
        ({"market": GOOD, "venue": GOOD}, 200, 200, "ok"),
        ({"market": GOOD, "venue": StageHealth(False, 1.0)}, 200, 503, "ok"),
        ({"market": GOOD, "venue": StageHealth(True, 10.1)}, 200, 503, "ok"),
        ({"market": GOOD, "venue": StageHealth(True, 20.1)}, 503, 503, "stalled"),
        ({"market": GOOD}, 503, 503, "failed"),
        ({"market": StageHealth(True, 99.0)}, 503, 503, "failed"),
    ],
)
def test_stage_that_ended_or_stands_still_is_unhealthy(
    found: dict[str, StageHealth], healthy: int, ready: int, status: str
) -> None:
    app = health_app(CollectorRegistry(), STAGES, lambda: found, standstill_s_max=20.0)
    client = TestClient(app)
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json()["status"]) == (healthy, status)
    assert client.get("/readyz").status_code == ready


def test_it_says_which_stages_and_for_how_long() -> None:
    found = {"market": StageHealth(True, 33.33)}
    app = health_app(CollectorRegistry(), STAGES, lambda: found, standstill_s_max=20.0)
    body = TestClient(app).get("/healthz").json()
    assert body == {"status": "failed", "ended": ["venue"], "standstill_s": {"market": 33.3}}
    waiting = TestClient(app).get("/readyz").json()["waiting"]
    assert waiting == ["market", "venue"]
