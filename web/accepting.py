"""Bounds on connections, before any request is read.

uvicorn accepts as many connections as there are file descriptors, waits for a first request for
ever, takes a request head of any size, and reads on for ever what nobody wants of a body. A client
that opens sockets and sends nothing would thereby take the descriptors that the journal needs. Here
the number of connections, the size of a request's head and the time to send it are bounded, and the
time to send the rest of a body once the request is answered; the app waits for a body itself.

What is no HTTP gets a problem, as every other mistake does.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from web.guards import harden
from web.problems import ProblemError, problem_response

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


class _Writing:
    """A connection as the answer to one request sees it: where it has ended, writing does nothing.

    Between the end of a connection and the moment at which uvicorn hears of it uvloop takes every
    write for a fault of the program, and uvicorn would put that into the log.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        """Write, if there is anybody."""
        if not self._transport.is_closing():
            self._transport.write(data)

    def close(self) -> None:
        """Close behind what was written."""
        self._transport.close()

    def is_closing(self) -> bool:
        """Return whether the connection ends or has ended."""
        return self._transport.is_closing()


class BoundedProtocol(HttpToolsProtocol):
    """One connection; refused at once where there are ``limit`` already."""

    limit = _CONNECTIONS_MAX
    head_timeout_s = HEAD_TIMEOUT_S
    _deadline: asyncio.TimerHandle | None = None
    _rest_deadline: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _fields_bytes = 0
    _frame_bytes = 0
    _is_whole = True

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
        self._rest_is_here()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a head that is too large ends the connection, and so do trailers."""
        self._head_bytes += len(data)
        self._frame_bytes += len(data)
        super().data_received(data)
        # What came may have been the end of the head, and much of a body behind it.
        if self._deadline is not None and self._head_bytes > HEAD_MAX_BYTES:
            self._refuse_head()
        elif not self._is_whole and self._frame_bytes > HEAD_MAX_BYTES:
            detail = f"more than {HEAD_MAX_BYTES} bytes of fields are behind the body; send less"
            self._refuse_rest(431, "trailers_too_large", detail)
        elif self._is_idle():
            # uvicorn has given up its own deadline for bytes that may have begun no request.
            self._expect_head()

    def on_message_begin(self) -> None:
        """Wait for the rest of the head."""
        super().on_message_begin()
        self._fields_bytes = 0
        if self._deadline is None:
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head; those behind a chunked body are of no use to anybody here."""
        if not self._is_whole:
            return
        self._fields_bytes += len(name) + len(value) + 4  # colon, space and the end of the line
        if self._fields_bytes > HEAD_MAX_BYTES:
            # The whole head came at once.
            self._refuse_head()
            raise ValueError("the head is too large")
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a part of the body; what comes between parts is counted anew."""
        self._frame_bytes = 0
        super().on_body(body)

    def on_headers_complete(self) -> None:
        """Go on to the request."""
        self._head_is_here()
        self._frame_bytes = 0
        self._is_whole = False
        before = self.cycle
        super().on_headers_complete()
        if self.cycle is not before:
            self.cycle.transport = _Writing(self.transport)  # type: ignore[assignment]

    def on_message_complete(self) -> None:
        """Know that nothing of the request is to come."""
        self._is_whole = True
        self._rest_is_here()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Go on to the next request; the rest of this one may not take for ever."""
        super().on_response_complete()
        # One request may be answered while the next one comes: that has its deadlines in the app.
        is_of_this = self.cycle.response_complete
        if is_of_this and not self._is_whole and not self.transport.is_closing():
            self._rest_is_here()
            self._rest_deadline = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _is_idle(self) -> bool:
        """Return whether nothing is in work here, and no deadline of ours is set.

        Behind a handshake the connection is another's.
        """
        cycle: RequestResponseCycle | None = self.cycle
        return (
            self._deadline is None
            and self._is_whole
            and (cycle is None or cycle.response_complete)
            and self in self.connections
            and not self.transport.is_closing()
        )

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._deadline = self.loop.call_later(self.head_timeout_s, self._give_up)

    def _head_is_here(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _rest_is_here(self) -> None:
        if self._rest_deadline is not None:
            self._rest_deadline.cancel()
            self._rest_deadline = None

    def _give_up(self) -> None:
        self._deadline = self._rest_deadline = None
        self.transport.abort()

    def send_400_response(self, msg: str) -> None:
        """Answer what uvicorn cannot read."""
        detail = "this is no request of HTTP/1.1; check its line, headers and length"
        self._refuse(400, "malformed_http", detail)

    def _refuse_head(self) -> None:
        self._head_is_here()
        detail = f"the head of the request is larger than {HEAD_MAX_BYTES} bytes; send less"
        self._refuse(431, "head_too_large", detail)

    def _refuse_rest(self, status: int, code: str, detail: str) -> None:
        """Refuse what is left of a request; behind its answer there is no place for one."""
        if self.cycle.response_complete:
            self.transport.abort()
        else:
            self._refuse(status, code, detail)

    def _refuse(self, status: int, code: str, detail: str) -> None:
        """Answer with a problem and end the connection.

        In the middle of another answer there is no place for one.
        """
        if self.transport.is_closing():
            return
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self.transport.abort()
            return
        self.transport.write(last_words(status, code, detail))
        self.transport.close()


def last_words(status: int, code: str, detail: str) -> bytes:
    """Return a problem as it goes over the wire, the last answer of its connection."""
    response = problem_response(ProblemError(status, code, detail), "")
    harden(response.headers, "")
    headers = [*response.raw_headers, (b"connection", b"close")]
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n".encode()
    return head + lines + b"\r\n" + bytes(response.body)


def bounded(limit: int, head_timeout_s: float = HEAD_TIMEOUT_S) -> type[BoundedProtocol]:
    """Return the protocol with these bounds; uvicorn takes a class."""
    return type("Protocol", (BoundedProtocol,), {"limit": limit, "head_timeout_s": head_timeout_s})
