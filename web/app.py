"""The Starlette app over a log: HTTP routes, the WebSocket, the live page and the documentation."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.websockets import WebSocket

from schemas.control import ApiWrite
from schemas.enums import AutonomyMode
from streams.history import History
from streams.log import Log
from web.asyncapi import document as async_document
from web.context import Context
from web.guards import Guards, denial
from web.openapi import document
from web.operations import Operations
from web.problems import ProblemError, problem_response
from web.route_table import starlette_routes
from web.routes import TABLE
from web.runs import RunStore
from web.security.gatekeeper import Gatekeeper
from web.settings import WebSettings
from web.views.models import Views

__all__ = ["WebSettings", "create_app"]

STATIC = Path(__file__).parent / "static"


def create_app(
    log: Log,
    settings: WebSettings,
    ids: Callable[[], str],
    *,
    runs: RunStore | None = None,
    history: History | None = None,
    operations: Operations | None = None,
    gate: Gatekeeper | None = None,
    audit: Callable[[ApiWrite], None] = lambda _: None,
) -> Starlette:
    """Return the app over ``log``; ``ids`` gives a new unique id with every call.

    ``runs`` are the recorded runs that can be asked about, ``history`` is what a database holds,
    ``operations`` what stands around the app. ``gate`` decides who may use which route and topic,
    without it everybody may use all; ``audit`` takes a record of every write.

    At its start the app folds what the log holds into its read models, then follows what is
    published.
    """
    mode = AutonomyMode(settings.autonomy_mode)
    views = Views(settings.history_max, mode, settings.approval_timeout_s)
    context = Context(log, settings, ids, views, runs, history, operations, gate, audit)
    app = Starlette(
        routes=_routes(context),
        lifespan=partial(_lifespan, context),
        middleware=[Middleware(Guards, allowed_hosts=settings.allowed_hosts)],
        exception_handlers={ProblemError: _problem, HTTPException: _http_error, Exception: _fault},
    )
    # DELETE of an order whose name a client has left out of the path must not be one of all.
    app.router.redirect_slashes = False
    app.state.context = context
    return app


@asynccontextmanager
async def _lifespan(context: Context, app: Starlette) -> AsyncIterator[None]:
    context.views.load(context.log)
    unlisten = context.log.listen(context.hear)
    context.is_loaded = True
    try:
        yield
    finally:
        unlisten()
        context.hub.close()


@cache
def _document(version: str) -> bytes:
    return msgspec.json.encode(document(TABLE, version))


@cache
def _async_document(version: str) -> bytes:
    return msgspec.json.encode(async_document(version))


def _routes(context: Context) -> list[BaseRoute]:
    version = context.operations.version.version
    openapi, asyncapi = _document(version), _async_document(version)

    async def get_openapi(request: Request) -> Response:
        return Response(openapi, media_type="application/json")

    async def get_asyncapi(request: Request) -> Response:
        return Response(asyncapi, media_type="application/json")

    async def get_page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def get_login(request: Request) -> Response:
        return FileResponse(STATIC / "login.html")

    async def get_docs(request: Request) -> Response:
        return FileResponse(STATIC / "docs.html")

    return [
        *starlette_routes(TABLE, context),
        Route("/openapi.json", get_openapi),
        Route("/asyncapi.json", get_asyncapi),
        Route("/docs", get_docs),
        Route("/login", get_login),
        Route("/", get_page),
        WebSocketRoute("/ws", context.hub.serve),
        WebSocketRoute("/{path:path}", _no_websocket),
        Mount("/static", StaticFiles(directory=STATIC)),
    ]


async def _no_websocket(websocket: WebSocket) -> None:
    detail = f"there is no WebSocket at {websocket.url.path}; the only one is at /ws"
    app = denial(websocket.scope, ProblemError(404, "not_found", detail))
    await app(websocket.scope, websocket.receive, websocket.send)


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    return problem_response(error, request.url.path)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == HTTPStatus.NOT_FOUND and _wants_page(request):
        return FileResponse(STATIC / "missing.html", HTTPStatus.NOT_FOUND)
    code = HTTPStatus(error.status_code).name.lower()
    detail = f"{request.method} {request.url.path}: {error.detail}; see /docs for the routes"
    problem = ProblemError(error.status_code, code, detail, headers=error.headers)
    return problem_response(problem, request.url.path)


def _wants_page(request: Request) -> bool:
    """Return whether a person looks for a page; whoever asks for the API gets a problem."""
    is_api = request.url.path.startswith(("/api/", "/ws"))
    return not is_api and "text/html" in request.headers.get("accept", "")


async def _fault(request: Request, error: Exception) -> Response:
    # Starlette raises the error again behind this answer, so the server's log has it; clients do
    # not.
    detail = "an error of the server; its log says more"
    return problem_response(ProblemError(500, "internal_error", detail), request.url.path)
