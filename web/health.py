"""What a worker shows over HTTP: ``/metrics``, ``/healthz`` and ``/readyz``, on a port of its own.

Healthy means that no stage has ended; ready, that all its parts are restored. A stage that gets
nowhere ends with the reason, and the process with it: so health is progress, not presence.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Ready = Callable[[], Mapping[str, bool]]
"""Tells of each stage whether it is ready; a stage that has ended is left out."""


def health_app(registry: CollectorRegistry, stages: frozenset[str], ready: Ready) -> Starlette:
    """Return the app; ``stages`` are those that should be at work."""

    async def healthz(_: Request) -> Response:
        ended = sorted(stages - ready().keys())
        body = {"status": "ok" if not ended else "failed", "ended": ended}
        return JSONResponse(body, 200 if not ended else 503)

    async def readyz(_: Request) -> Response:
        found = ready()
        waiting = sorted(stage for stage in stages if not found.get(stage))
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
