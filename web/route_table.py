"""Routes as data: from one table follow decoding, authorisation, problems and the OpenAPI document.

A handler gets the app's context and a ``Call`` with decoded path, query and body, and returns a
struct, or a ``Reply`` when the status is not 200. A route with ``is_of_run`` also takes ``run_id``
and ``as_of``; its handler is given a context whose read models are those of that run at that place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route as StarletteRoute

from schemas.control import ApiWrite
from schemas.identifiers import content_hash
from web.answers import encode
from web.context import Context
from web.decoding import decode_body, decode_query
from web.problems import ProblemError, journal_needed
from web.security.accounts import is_of_own, is_shared, not_own
from web.security.gatekeeper import EVERYBODY, NOBODY, Caller
from web.security.keys import without_keys
from web.settings import WebSettings

Q = TypeVar("Q")
B = TypeVar("B")

RUN_ID = "run_id"
AS_OF = "as_of"
_PATH_MAX = 300
_ADDRESS_MAX = 100
_CLOSE = {"Connection": "close"}
UNSAFE = frozenset({"POST", "PUT", "PATCH", "DELETE"})


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """A route without query parameters."""


class Call(Generic[Q, B]):
    """One decoded request, and who sent it."""

    __slots__ = ("body", "caller", "path", "query")

    def __init__(self, path: dict[str, str], query: Q, body: B, caller: Caller = EVERYBODY) -> None:
        self.path = path
        self.query = query
        self.body = body
        self.caller = caller

    @property
    def operator(self) -> str:
        """The name that stands in the records that follow."""
        return self.caller.client.name

    def named(self, operator: str) -> str:
        """Return who acts: whoever the key belongs to, else the name that was given."""
        return self.operator if self.caller.key_id else operator or self.operator


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
    instants may be asked for; ``is_stored``: also those runs that only the database knows.
    ``example`` is a path with query that works, ``example_body`` what is
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
    is_stored: bool = False
    example: str = ""
    example_body: Mapping[str, Any] | None = None


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
        visit = Visit(request, context)
        try:
            reply = await _reply(request, context, route, visit)
        except ProblemError as error:
            visit.answered(error.status, error.code)
            raise
        except Exception:
            visit.answered(500, "internal_error")
            raise
        visit.answered(reply.status, "")
        return Response(
            encode(reply.body), reply.status, reply.headers, media_type="application/json"
        )

    return endpoint


async def _reply(request: Request, context: Context, route: Route, visit: Visit) -> Reply:
    if context.gate is not None:
        address = request.client.host if request.client is not None else ""
        visit.caller = context.gate.identify(request.headers, address)
        context.gate.authorize(visit.caller, request.method, request.headers, route.scope)
    params, place = request.query_params, PlaceQuery()
    if route.is_of_run:
        params, place = _place(params)
    accounts = visit.caller.client.accounts
    is_bound = accounts is not None and not is_shared(route.path, route.tag)
    if accounts is not None and is_bound and not is_of_own(route.path, route.tag):
        raise not_own(accounts, "this route is for keys of all accounts")
    query = decode_query(params, route.query)
    body = None
    if route.body is not None:
        data = await _read(request, context.settings)
        visit.body = data
        body = decode_body(data, route.body)
    scene = context
    if route.is_of_run:
        # Folding a run is much work, so whatever is wrong with a request is said before.
        scene = await context.at(place.run_id, place.as_of, is_stored=route.is_stored)
        if scene.is_stored and not route.is_stored:
            raise journal_needed(scene.run_id, "this answer is made of its journal")
    if accounts is not None and is_bound:
        scene = scene.of_accounts(accounts)
    reply = await route.handler(scene, Call(dict(request.path_params), query, body, visit.caller))
    return reply if isinstance(reply, Reply) else Reply(200, reply)


class Visit:
    """One request as the audit tells of it: who came, what for, and how it ended."""

    __slots__ = ("_context", "_request", "body", "caller")

    def __init__(self, request: Request, context: Context) -> None:
        self._request = request
        self._context = context
        self.caller = EVERYBODY if context.gate is None else NOBODY
        self.body = b""

    def answered(self, status: int, code: str) -> None:
        """Write down a request for a change.

        Those of nobody we know are left out, or anybody could fill the log; but for wrong keys,
        whose number is bounded.
        """
        context, request = self._context, self._request
        is_known = bool(self.caller.client.name) or code == "key_refused"
        if request.method not in UNSAFE or not is_known or status == 429:
            return
        context.audit(
            ApiWrite(
                event_id=f"audit:{context.ids()}",
                ts_event_ns=context.log.now_ns(),
                operator=self.caller.client.name,
                key_id=self.caller.key_id,
                method=request.method,
                path=without_keys(request.url.path)[:_PATH_MAX],
                status=status,
                code=code,
                address=request.client.host[:_ADDRESS_MAX] if request.client is not None else "",
                body_hash=content_hash(self.body) if self.body else "",
            )
        )


class PlaceQuery(msgspec.Struct):
    """Which run, and which place of it: a time, or an offset as topic:offset; its end without."""

    run_id: str = ""
    as_of: str = ""


def _place(params: QueryParams) -> tuple[QueryParams, PlaceQuery]:
    """Take run and place out of a query; what is given twice stays in it, and is refused there."""
    names = [name for name in (RUN_ID, AS_OF) if len(params.getlist(name)) == 1]
    rest = [(name, value) for name, value in params.multi_items() if name not in names]
    return QueryParams(rest), PlaceQuery(**{name: params[name] for name in names})


async def _read(request: Request, settings: WebSettings) -> bytes:
    """Return the body, but never hold more of it, nor wait longer for it, than is allowed.

    Raises ProblemError: 413 for one that is too large, 408 for one that is late.
    """
    max_bytes, timeout_s = settings.body_max_bytes, settings.body_timeout_s
    chunks: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for chunk in request.stream():
                size += len(chunk)
                if size > max_bytes:
                    detail = f"the body is larger than {max_bytes} bytes; send less"
                    raise ProblemError(413, "body_too_large", detail)
                chunks.append(chunk)
    except TimeoutError as error:
        detail = f"the body did not come within {timeout_s:g} s; send it at once, and all of it"
        raise ProblemError(408, "body_late", detail, headers=_CLOSE) from error
    except ClientDisconnect as error:
        # Nobody hears this answer; it keeps the server's log free of what a client did.
        raise ProblemError(
            400, "body_incomplete", "the connection ended within the body; send it again"
        ) from error
    return b"".join(chunks)
