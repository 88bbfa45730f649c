"""What a worker shows over HTTP: ``/metrics``, ``/healthz`` and ``/readyz``, on a port of its own.

Healthy means that every stage goes on: none has ended, and none stands still while records wait or
Kafka does not answer. Ready means that all its parts are restored, and that none has got nowhere
for ten seconds. So health is progress, not presence; a stage that stands still for longer ends with
the reason, and the process with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

_READY_STANDSTILL_S_MAX = 10.0


class StageHealth(NamedTuple):
    """How a stage is: restored or not, and for how long it has got nowhere (s)."""

    is_ready: bool
    standstill_s: float


def _is_at_work(health: StageHealth) -> bool:
    return health.is_ready and health.standstill_s <= _READY_STANDSTILL_S_MAX


Look = Callable[[], Mapping[str, StageHealth]]
"""Tells how each stage is; a stage that has ended is left out."""


def health_app(
    registry: CollectorRegistry, stages: frozenset[str], look: Look, *, standstill_s_max: float
) -> Starlette:
    """Return the app; ``stages`` are those that should be at work."""

    async def healthz(_: Request) -> Response:
        found = look()
        ended = sorted(stages - found.keys())
        standing = {
            stage: round(health.standstill_s, 1)
            for stage, health in sorted(found.items())
            if health.standstill_s > standstill_s_max
        }
        status = "failed" if ended else "stalled" if standing else "ok"
        body = {"status": status, "ended": ended, "standstill_s": standing}
        return JSONResponse(body, 200 if status == "ok" else 503)

    async def readyz(_: Request) -> Response:
        found = look()
        waiting = sorted(s for s in stages if s not in found or not _is_at_work(found[s]))
        body = {"status": "ready" if not waiting else "waiting", "waiting": waiting}
        return JSONResponse(body, 200 if not waiting else 503)

    async def metrics(_: Request) -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics),
        ]
    )
