"""Bounds on connections: over real sockets, with a server of its own."""

from __future__ import annotations

import asyncio
import contextlib
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.unit.web_run import Run
from web.accepting import HEAD_MAX_BYTES, bounded, connections_max
from web.server import WebServer

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
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
async def serving(limit: int = 100, head_timeout_s: float = 5.0) -> AsyncIterator[Door]:
    server = WebServer(Run().app, "127.0.0.1", 0, bounded(limit, head_timeout_s))
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


async def test_websocket_outlives_the_deadline_of_its_head() -> None:
    async with serving(head_timeout_s=0.05) as door:
        stream = await door.connect(UPGRADE)
        assert b" 101 " in await answer(stream)
        await asyncio.sleep(0.2)
        assert not stream[0].at_eof()


async def test_head_of_any_size_is_not_read() -> None:
    async with serving() as door:
        stream = await door.connect(REQUEST[:-2] + b"X-Long: " + b"x" * HEAD_MAX_BYTES)
        assert b" 400 " in await answer(stream)


def test_half_of_the_descriptors_stay_for_the_engine() -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        assert 0 < connections_max() <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
