"""Bounds on connections, before any request is read.

uvicorn accepts as many connections as there are file descriptors, waits for a first request for
ever, and takes a request head of any size. A client that opens sockets and sends nothing would
thereby take the descriptors that the journal needs. Here the number of connections, the time to
send a request's head and its size are bounded.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_TIMEOUT_S = 10.0
HEAD_MAX_BYTES = 65_536
_CONNECTIONS_MAX = 4096
_DESCRIPTORS_WANTED = 8192
_SHARE = 2  # Half of the descriptors stay for journal, data files and the engine's own sockets.


def connections_max() -> int:
    """Raise the limit of open files where that is allowed, and return how many may be clients'."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _DESCRIPTORS_WANTED
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == resource.RLIM_INFINITY:
        return _CONNECTIONS_MAX
    return min(_CONNECTIONS_MAX, soft // _SHARE)


class BoundedProtocol(HttpToolsProtocol):
    """One connection; refused at once where there are ``limit`` already."""

    limit = _CONNECTIONS_MAX
    head_timeout_s = HEAD_TIMEOUT_S
    _deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, or end it."""
        super().connection_made(transport)
        if len(self.connections) > self.limit:
            transport.abort()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that is too large ends the connection."""
        if self._deadline is not None:
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_MAX_BYTES:
                self._head_is_here()
                self.send_400_response("The head of the request is too large.")
                return
        super().data_received(data)

    def on_message_begin(self) -> None:
        """Wait for the rest of the head."""
        super().on_message_begin()
        if self._deadline is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        """Go on to the request; from here on uvicorn and the app keep their own deadlines."""
        self._head_is_here()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        self.transport.abort()


def bounded(limit: int, head_timeout_s: float = HEAD_TIMEOUT_S) -> type[BoundedProtocol]:
    """Return the protocol with these bounds; uvicorn takes a class."""
    return type("Protocol", (BoundedProtocol,), {"limit": limit, "head_timeout_s": head_timeout_s})
