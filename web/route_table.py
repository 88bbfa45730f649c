"""Routes as data: from one table follow decoding, problems and the OpenAPI document.

A handler gets the app's context and a ``Call`` with decoded path, query and body, and returns a
struct, or a ``Reply`` when the status is not 200.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from web.answers import ENCODER
from web.context import Context
from web.decoding import decode_body, decode_query
from web.problems import ProblemError

Q = TypeVar("Q")
B = TypeVar("B")


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A route without query parameters."""


class Call(Generic[Q, B]):
    """One decoded request."""

    __slots__ = ("body", "path", "query")

    def __init__(self, path: dict[str, str], query: Q, body: B) -> None:
        self.path = path
        self.query = query
        self.body = body


class Reply(NamedTuple):
    """An answer with a status of its own."""

    status: int
    body: msgspec.Struct
    headers: dict[str, str] = {}


Handler = Callable[[Context, Any], Awaitable[msgspec.Struct | Reply]]


class Route(NamedTuple):
    """One route.

    ``scope`` is what a key must be allowed (none is asked for on loopback); ``answers`` are further
    successful answers by status, ``errors`` the statuses of its problems.
    """

    method: str
    path: str
    handler: Handler
    answer: type[msgspec.Struct]
    scope: str
    summary: str
    tag: str
    query: type[msgspec.Struct] = NoQuery
    body: type[msgspec.Struct] | None = None
    answers: Mapping[int, type[msgspec.Struct]] = {}
    errors: tuple[int, ...] = ()


def starlette_routes(table: Sequence[Route], context: Context) -> list[StarletteRoute]:
    """Return the table as routes of Starlette, joined by path: other methods get 405."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in table:
        by_path.setdefault(route.path, {})[route.method] = route
    return [
        StarletteRoute(path, _endpoint(methods, context), methods=list(methods))
        for path, methods in by_path.items()
    ]


def _endpoint(
    methods: dict[str, Route], context: Context
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        # Starlette lets HEAD through wherever GET is allowed.
        route = methods["GET" if request.method == "HEAD" else request.method]
        query = decode_query(request.query_params, route.query)
        body = None
        if route.body is not None:
            body = decode_body(await _read(request, context.settings.body_max_bytes), route.body)
        reply = await route.handler(context, Call(dict(request.path_params), query, body))
        if not isinstance(reply, Reply):
            reply = Reply(200, reply)
        return Response(
            ENCODER.encode(reply.body), reply.status, reply.headers, media_type="application/json"
        )

    return endpoint


async def _read(request: Request, max_bytes: int) -> bytes:
    """Return the body, but never hold more of it than is allowed; raises ProblemError (413)."""
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > max_bytes:
                raise ProblemError(
                    413, "body_too_large", f"the body is larger than {max_bytes} bytes; send less"
                )
            chunks.append(chunk)
    except ClientDisconnect as error:
        # Nobody hears this answer; it keeps the server's log free of what a client did.
        raise ProblemError(
            400, "body_incomplete", "the connection ended within the body; send it again"
        ) from error
    return b"".join(chunks)
