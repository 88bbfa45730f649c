"""What stands before every request: who is addressed, its origin, what browsers must not do.

A server on loopback can be reached by any page that its user has open. So a request must address
the server by a name it knows (else a foreign name that resolves to loopback would pass as the same
origin), and one that says where its page came from must come from here.
"""

from __future__ import annotations

import re

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketClose

from web.problems import ProblemError, problem_response

_HOST = re.compile(r"(?:\[([^\[\]]+)\]|([^\[\]:@]+))(?::\d+)?")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'{style}; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


_CREDENTIALS = ("authorization", "x-api-key")


class Guards:
    """ASGI middleware: host and origin checks, one key at most, security headers."""

    def __init__(self, app: ASGIApp, allowed_hosts: tuple[str, ...]) -> None:
        self._app = app
        self._allowed_hosts = frozenset(allowed_hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(Headers(scope=scope))
        path: str = scope["path"]
        if scope["type"] == "websocket":
            app = self._app if refusal is None else denial(scope, refusal)
            await app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                harden(MutableHeaders(scope=message), path)
            await send(message)

        if refusal is not None:
            await problem_response(refusal, path)(scope, receive, send_guarded)
        else:
            await self._app(scope, receive, send_guarded)

    def _refusal(self, headers: Headers) -> ProblemError | None:
        host = headers.get("host", "")
        match = _HOST.fullmatch(host)
        name = (match[1] or match[2]).lower() if match else ""
        if "*" not in self._allowed_hosts and name not in self._allowed_hosts:
            known = ", ".join(sorted(self._allowed_hosts))
            detail = f"host {host[:100]!r} is not served here; use one of {known}"
            return ProblemError(403, "host_not_allowed", detail)
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            detail = f"pages of {origin[:100]!r} may not use this server; open its own page"
            return ProblemError(403, "origin_not_allowed", detail)
        for given in _CREDENTIALS:
            if len(headers.getlist(given)) > 1:
                # Another program on the way may have taken the other one for the key.
                detail = f"the header {given} is there more than once; send one"
                return ProblemError(400, "header_repeated", detail)
        return None


def denial(scope: Scope, problem: ProblemError) -> ASGIApp:
    """Return the app that answers a request for a WebSocket with a problem instead.

    A server that can only say yes or no closes the connection with the problem's code as reason.
    """
    if "websocket.http.response" in (scope.get("extensions") or {}):
        return problem_response(problem, scope["path"])
    return WebSocketClose(1008, problem.code)


def harden(headers: MutableHeaders, path: str) -> None:
    """Set the security headers of an answer to a request of ``path``."""
    for name, value in _HEADERS.items():
        headers[name] = value
    # Swagger UI writes style attributes; no other page needs to.
    style = " 'unsafe-inline'" if path == "/docs" else ""
    headers["Content-Security-Policy"] = _POLICY.format(style=style)
    if path.startswith("/api/"):
        headers["Cache-Control"] = "no-store"
