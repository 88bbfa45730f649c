"""Routes as data: from one table follow decoding, authorisation, problems and the OpenAPI document.

A handler gets the app's context and a ``Call`` with decoded path, query and body, and returns a
struct, or a ``Reply`` when the status is not 200. A route with ``is_of_run`` also takes ``run_id``
and ``as_of``; its handler is given a context whose read models are those of that run at that place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from web.answers import ENCODER
from web.context import Context
from web.decoding import decode_body, decode_query
from web.problems import ProblemError

Q = TypeVar("Q")
B = TypeVar("B")

RUN_ID = "run_id"
AS_OF = "as_of"
LOCAL_OPERATOR = "api"
"""Who acts where no key is asked for."""


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A route without query parameters."""


class Call(Generic[Q, B]):
    """One decoded request; ``operator`` names who sent it."""

    __slots__ = ("body", "operator", "path", "query")

    def __init__(
        self, path: dict[str, str], query: Q, body: B, operator: str = LOCAL_OPERATOR
    ) -> None:
        self.path = path
        self.query = query
        self.body = body
        self.operator = operator


class Reply(NamedTuple):
    """An answer with a status of its own."""

    status: int
    body: msgspec.Struct
    headers: dict[str, str] = {}


Handler = Callable[[Context, Any], Awaitable[msgspec.Struct | Reply]]


class Route(NamedTuple):
    """One route.

    ``scope`` is what a key must be allowed (``web.scopes``); ``answers`` are further successful
    answers by status, ``errors`` the statuses of its problems. ``is_of_run``: other runs and other
    instants may be asked for. ``example`` is a path with query that works, ``example_body`` what is
    sent to it: the documentation shows them, and a test sends them.
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
    is_of_run: bool = False
    example: str = ""
    example_body: Mapping[str, Any] | None = None


class Admission(Protocol):
    """Decides who may use which route."""

    async def admit(self, request: Request, route: Route) -> str:
        """Return the name of who sent ``request``.

        Raises ProblemError (401, 403, 429) if the request may not use ``route``.
        """
        ...


def starlette_routes(
    table: Sequence[Route], context: Context, admission: Admission | None = None
) -> list[StarletteRoute]:
    """Return the table as routes of Starlette, joined by path: other methods get 405."""
    by_path: dict[str, dict[str, Route]] = {}
    for route in table:
        by_path.setdefault(route.path, {})[route.method] = route
    return [
        StarletteRoute(path, _endpoint(methods, context, admission), methods=list(methods))
        for path, methods in by_path.items()
    ]


def _endpoint(
    methods: dict[str, Route], context: Context, admission: Admission | None
) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        # Starlette lets HEAD through wherever GET is allowed.
        route = methods["GET" if request.method == "HEAD" else request.method]
        operator = LOCAL_OPERATOR
        if admission is not None:
            operator = await admission.admit(request, route)
        params, scene = request.query_params, context
        if route.is_of_run:
            params, place = _place(params)
            scene = await context.at(place.run_id, place.as_of)
        query = decode_query(params, route.query)
        body = None
        if route.body is not None:
            body = decode_body(await _read(request, context.settings.body_max_bytes), route.body)
        call = Call(dict(request.path_params), query, body, operator)
        reply = await route.handler(scene, call)
        if not isinstance(reply, Reply):
            reply = Reply(200, reply)
        return Response(
            ENCODER.encode(reply.body), reply.status, reply.headers, media_type="application/json"
        )

    return endpoint


class PlaceQuery(msgspec.Struct):
    """Which run, and which place of it: a time, or an offset as topic:offset; its end without."""

    run_id: str = ""
    as_of: str = ""


def _place(params: QueryParams) -> tuple[QueryParams, PlaceQuery]:
    """Take run and place out of a query; what is given twice stays in it, and is refused there."""
    names = [name for name in (RUN_ID, AS_OF) if len(params.getlist(name)) == 1]
    rest = [(name, value) for name, value in params.multi_items() if name not in names]
    return QueryParams(rest), PlaceQuery(**{name: params[name] for name in names})


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
