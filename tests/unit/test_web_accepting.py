"""Bounds on connections: over real sockets, with a server of its own."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import uvloop
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from tests.unit.web_run import Run
from web.accepting import HEAD_MAX_BYTES, bounded, connections_max
from web.problems import MEDIA_TYPE, Problem
from web.server import WebServer
from web.settings import WebSettings

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
ORDER = b"POST /api/orders HTTP/1.1\r\nHost: 127.0.0.1\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Door:
    """A server, and the connections to it."""

    def __init__(self, server: WebServer) -> None:
        self.server = server
        self.writers: list[asyncio.StreamWriter] = []

    async def connect(self, data: bytes = b"") -> Stream:
        """Open a connection and send ``data``."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.server.port)
        self.writers.append(writer)
        writer.write(data)
        return reader, writer

    async def close(self) -> None:
        """Close all connections."""
        for writer in self.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@asynccontextmanager
async def serving(
    limit: int = 100, head_timeout_s: float = 5.0, body_timeout_s: float = 5.0
) -> AsyncIterator[Door]:
    run = Run(WebSettings(body_timeout_s=body_timeout_s))
    server = WebServer(run.app, "127.0.0.1", 0, bounded(limit, head_timeout_s))
    await server.start()
    door = Door(server)
    try:
        yield door
    finally:
        await door.close()
        await server.stop()


async def answer(stream: Stream) -> bytes:
    """Return the first line that comes, or nothing if the server ends the connection."""
    try:
        async with asyncio.timeout(5):
            return await stream[0].readline()
    except ConnectionError:
        return b""


async def test_connections_above_the_limit_end_at_once_and_those_below_are_served() -> None:
    async with serving(limit=3) as door:
        idle = [await door.connect() for _ in range(2)]
        assert b" 200 " in await answer(await door.connect(REQUEST))
        assert await answer(await door.connect(REQUEST)) == b""
        idle[0][1].close()
        await idle[0][1].wait_closed()
        answers = [await answer(await door.connect(REQUEST)) for _ in range(20)]
        assert any(b" 200 " in line for line in answers)


async def test_websockets_count_as_connections() -> None:
    async with serving(limit=1) as door:
        assert b" 101 " in await answer(await door.connect(UPGRADE))
        assert await answer(await door.connect(REQUEST)) == b""


async def test_silent_and_trickling_clients_are_dropped_after_the_deadline() -> None:
    async with serving(head_timeout_s=0.05) as door:
        assert await answer(await door.connect()) == b""
        assert await answer(await door.connect(REQUEST[:-2])) == b""


async def test_second_request_of_a_connection_has_the_deadline_too() -> None:
    async with serving(head_timeout_s=0.3) as door:
        stream = await door.connect(REQUEST)
        assert b" 200 " in await answer(stream)
        stream[1].write(REQUEST[:-2])
        async with asyncio.timeout(5):
            rest = await stream[0].read()
        assert b" 400 " not in rest


@pytest.mark.parametrize("request_", [REQUEST, REQUEST[:-2] + b"Content-Length: 2\r\n\r\n"])
async def test_bytes_that_begin_no_request_hold_no_connection(request_: bytes) -> None:
    """An empty line between requests, and the end of a body behind its answer."""
    async with serving(head_timeout_s=0.3) as door:
        stream = await door.connect(request_)
        assert b" 200 " in await answer(stream)
        # The answer is out, so this is all that comes behind it.
        await asyncio.sleep(0.05)
        stream[1].write(b"\r\n")
        async with asyncio.timeout(3):
            await stream[0].read()


async def test_empty_lines_before_a_request_are_passed_over() -> None:
    async with serving(head_timeout_s=0.3) as door:
        reader, writer = await door.connect(REQUEST)
        for _ in range(2):
            await reader.readuntil(b"HTTP/1.1 200 OK\r\n")
            await asyncio.sleep(0.05)
            writer.write(b"\r\n")
            await asyncio.sleep(0.05)
            writer.write(REQUEST)
        await reader.readuntil(b"HTTP/1.1 200 OK\r\n")
        # The deadline of the empty line was that of the request behind it.
        await asyncio.sleep(0.5)
        writer.write(REQUEST)
        async with asyncio.timeout(3):
            await reader.readuntil(b"HTTP/1.1 200 OK\r\n")


async def test_websocket_outlives_the_deadline_of_its_head() -> None:
    async with serving(head_timeout_s=0.05) as door:
        stream = await door.connect(UPGRADE)
        assert b" 101 " in await answer(stream)
        await asyncio.sleep(0.2)
        assert not stream[0].at_eof()


async def test_head_of_any_size_is_not_read() -> None:
    async with serving() as door:
        stream = await door.connect(REQUEST[:-2] + b"X-Long: " + b"x" * HEAD_MAX_BYTES)
        assert b" 431 " in await answer(stream)


@pytest.mark.parametrize("fields", [b"X-Some: of many\r\n" * 3_900, b"X-Long: " + b"x" * 66_000])
async def test_head_of_any_size_is_not_read_though_it_comes_at_once(fields: bytes) -> None:
    async with serving() as door:
        stream = await door.connect(REQUEST[:-2] + fields + b"X-Last: 1" * 500 + b"\r\n\r\n")
        async with asyncio.timeout(3):
            whole = await stream[0].read()
    assert whole.startswith(b"HTTP/1.1 431 ")
    assert b"x-content-type-options: nosniff" in whole.lower()


@pytest.mark.parametrize(
    "trailers", [b"X-Some: of many\r\n" * 3_900, b"X-Long: " + b"x" * 66_000], ids=["many", "one"]
)
async def test_fields_of_any_size_behind_a_body_are_not_read(trailers: bytes) -> None:
    async with serving() as door:
        reader, writer = await door.connect(ORDER + CHUNKED + b"2\r\n{}\r\n0\r\n")
        # Not together with the body, behind which the count begins; the last piece is one too many.
        for start in range(0, len(trailers), 10_000):
            await asyncio.sleep(0.05)
            writer.write(trailers[start : start + 10_000])
        async with asyncio.timeout(3):
            whole = await reader.read()
    assert whole.startswith(b"HTTP/1.1 431 ")
    assert b'"code":"trailers_too_large"' in whole


async def test_fields_of_any_size_behind_an_answered_request_end_the_connection() -> None:
    async with serving() as door:
        reader, writer = await door.connect(REQUEST[:-2] + CHUNKED + b"2\r\n{}\r\n0\r\n")
        assert b" 200 " in await answer((reader, writer))
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(3):
                for _ in range(20):
                    writer.write(b"X-Some: of many\r\n" * 500)
                    await asyncio.sleep(0.005)
                assert b" 431 " not in await reader.read()


async def test_many_small_chunks_are_a_body_like_any_other() -> None:
    """Their lines are longer than a head may be, but each is followed by a part of the body."""
    async with serving() as door:
        body = b"{" + b" " * 20_000 + b"}"
        chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body)
        assert len(chunks) > HEAD_MAX_BYTES
        reader, writer = await door.connect(ORDER + CHUNKED)
        for start in range(0, len(chunks), 7_001):
            writer.write(chunks[start : start + 7_001])
            await asyncio.sleep(0.001)
        writer.write(b"0\r\nX-Sum: 1\r\n\r\n")
        assert b" 422 " in await answer((reader, writer))


async def tell_fields(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer, behind the body, with the names of the fields that the head is said to have."""
    if scope["type"] == "lifespan":
        return
    while (await receive()).get("more_body"):
        pass
    await Response(b" ".join(name for name, _ in scope["headers"]))(scope, receive, send)


async def test_fields_behind_a_body_are_not_told_as_those_of_the_head() -> None:
    server = WebServer(tell_fields, "127.0.0.1", 0)
    await server.start()
    door = Door(server)
    try:
        sent = ORDER + CHUNKED + b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n"
        reader, _ = await door.connect(sent)
        async with asyncio.timeout(3):
            await reader.readuntil(b"\r\n\r\n")
            assert await reader.readexactly(22) == b"host transfer-encoding"
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await reader.readexactly(1)
    finally:
        await door.close()
        await server.stop()


@pytest.mark.parametrize(
    "sent",
    [
        b"what is this\r\n\r\n",
        b"GET\x00 / HTTP/1.1\r\n\r\n",
        REQUEST[:-2] + b"Content-Length: -1\r\n\r\n",
        REQUEST[:-2] + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"CONNECT localhost HTTP/9\r\n\r\n",
        b"\x16\x03\x01\x00\xc8\x01\x00\x00",
    ],
)
async def test_what_is_no_http_gets_a_problem_and_is_ended(sent: bytes) -> None:
    async with serving() as door:
        reader, _ = await door.connect(sent)
        async with asyncio.timeout(5):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert f"content-type: {MEDIA_TYPE}".encode() in head
    problem = msgspec.json.decode(body, type=Problem)
    assert (problem.status, problem.code) == (400, "malformed_http")
    assert problem.detail


async def test_large_body_in_one_piece_with_the_end_of_the_head_is_read() -> None:
    async with serving() as door:
        body = b"{" + b" " * 2 * HEAD_MAX_BYTES + b"}"
        head = ORDER + f"Content-Length: {len(body)}\r\n".encode()
        reader, writer = await door.connect(head)
        await asyncio.sleep(0.05)
        writer.write(b"\r\n" + body)
        assert b" 422 " in await reader.readline()


async def refusal(sent: bytes) -> tuple[int, str]:
    """Return status and code of the problem that is the whole answer to these bytes."""
    async with serving() as door:
        reader, _ = await door.connect(sent)
        async with asyncio.timeout(5):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    version, status, _ = head.split(b" ", 2)
    assert version == b"HTTP/1.1"
    return int(status), msgspec.json.decode(body, type=Problem).code


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (UPGRADE.replace(b"GET", b"POST"), 405),
        (UPGRADE.replace(b"dGhl", b"*"), 400),
        (UPGRADE.replace(b"dGhl", b"\xff"), 400),
        (UPGRADE.replace(b"Sec-WebSocket-Key", b"X"), 400),
        (UPGRADE.replace(b"Version: 13", b"Version: x"), 400),
        (UPGRADE[:-2] + b"Content-Length: 5\r\n\r\nabcde", 400),
        (UPGRADE[:-2] + b"X-Long: " + b"y" * 9_000 + b"\r\n\r\n", 400),
        (UPGRADE[:-2] + b"X: y\r\n" * 200 + b"\r\n", 400),
    ],
    ids=["method", "key", "no text", "no key", "version", "body", "line", "lines"],
)
async def test_handshake_that_opens_no_websocket_gets_a_problem(
    sent: bytes, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert await refusal(sent) == (status, "bad_handshake")
    assert caplog.records == []


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        (UPGRADE[:-2] + b"Origin: http://evil.example\r\n\r\n", 403, "origin_not_allowed"),
        (UPGRADE.replace(b"/ws", b"/api/orders"), 404, "not_found"),
    ],
)
async def test_websocket_that_is_refused_gets_one_problem(
    sent: bytes, status: int, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await refusal(sent) == (status, code)
    assert caplog.records == []


async def test_body_that_does_not_come_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    """Nor is what comes of it written into a connection that has ended."""
    async with serving(body_timeout_s=0.05) as door:
        stream = await door.connect(ORDER + b"Content-Length: 100\r\n\r\n{")
        async with asyncio.timeout(5):
            whole = await stream[0].read()
    assert whole.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"body_late"' in whole
    assert caplog.records == []


async def test_rest_of_an_answered_request_is_not_waited_for() -> None:
    async with serving(head_timeout_s=0.1) as door:
        stream = await door.connect(REQUEST[:-2] + b"Content-Length: 100\r\n\r\n{")
        assert b" 200 " in await answer(stream)
        async with asyncio.timeout(5):
            await stream[0].read()


async def test_rest_that_comes_in_time_leaves_the_connection_as_it_was() -> None:
    async with serving(head_timeout_s=0.2) as door:
        reader, writer = await door.connect(REQUEST[:-2] + b"Content-Length: 3\r\n\r\na")
        assert b" 200 " in await reader.readline()
        writer.write(b"bc" + REQUEST)
        await asyncio.sleep(0.3)
        async with asyncio.timeout(5):
            await reader.readuntil(b"HTTP/1.1 200 OK\r\n")


async def test_rests_of_requests_in_a_row_have_one_deadline() -> None:
    async with serving(head_timeout_s=0.3) as door:
        long = REQUEST[:-2] + b"Content-Length: 3\r\n\r\n"
        reader, writer = await door.connect(REQUEST + long)
        for sent in (b"", b"", b"abc" + REQUEST):
            writer.write(sent)
            async with asyncio.timeout(5):
                await reader.readuntil(b"HTTP/1.1 200 OK\r\n")
        await asyncio.sleep(0.5)
        writer.write(REQUEST)
        async with asyncio.timeout(5):
            await reader.readuntil(b"HTTP/1.1 200 OK\r\n")


def late_by(turns: int) -> ASGIApp:
    """Return an app that answers after some turns of the loop."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for kind in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{kind}.complete"})
            return
        for _ in range(turns):
            await asyncio.sleep(0)
        await Response(b"here")(scope, receive, send)

    return app


async def leave(turns: int) -> None:
    """Ask a server, and be gone while it works on the answer."""
    server = WebServer(late_by(turns), "127.0.0.1", 0)
    await server.start()
    try:
        for _ in range(5):
            _, writer = await asyncio.open_connection("127.0.0.1", server.port)
            # Behind a second request the server does not read, so it hears nothing of the end.
            writer.write(5 * REQUEST)
            await asyncio.sleep(0.001)
            writer.transport.abort()
            await asyncio.sleep(0.005)
    finally:
        await server.stop()


def test_answer_to_a_client_that_is_gone_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    """For the loop that runs in earnest it is one, at the turn in which the connection ends."""
    for turns in range(12):
        uvloop.run(leave(turns))

    assert caplog.records == []


async def test_a_burst_of_clients_is_queued_and_not_left_to_try_again() -> None:
    """The queue that the system holds is told by nobody, so it is filled while nobody accepts."""
    async with serving(limit=1_000) as door:
        sockets = [socket.socket() for _ in range(200)]
        try:
            for client in sockets:
                # Blocks for a second and more where the queue is full.
                client.settimeout(0.5)
                client.connect(("127.0.0.1", door.server.port))
        finally:
            for client in sockets:
                client.close()


def test_half_of_the_descriptors_stay_for_the_engine() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert 0 < connections_max() <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
