"""Puts requests on the wire as they are, whole, in pieces or cut off, and reads the answers."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from itertools import pairwise
from typing import NamedTuple

import httptools

from tests.simulation.fuzz.mutations import Message

DEADLINE_S = 75.0
"""By when every request must be answered or its connection ended; a backtest may take 60 s."""


class Answer(NamedTuple):
    """What came back: status 0 if the connection ended without an answer, -1 if nothing came."""

    status: int
    headers: dict[str, str]
    body: bytes
    took_s: float


class ResponseReader:
    """Takes one response, and nothing of another one behind it; httptools calls its methods.

    What follows a CONNECT is no body but no HTTP either: it is answered by a second response.
    """

    def __init__(self, *, has_no_body: bool) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.status = 0
        self.is_done = False
        self._has_no_body = has_no_body
        self._parser = httptools.HttpResponseParser(self)

    def feed(self, data: bytes) -> None:
        """Take bytes."""
        self._parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field of the head."""
        if not self.is_done:
            self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Know the status; an answer to HEAD ends here."""
        if self.is_done:
            return
        self.status = self._parser.get_status_code()
        if self._has_no_body:
            self.is_done = True

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        if not self.is_done:
            self.body += data

    def on_message_complete(self) -> None:
        """Know that all is here."""
        # An interim answer (100 Continue) is not the answer.
        self.is_done = self.status >= 200


class Sender:
    """One client: a connection that is kept as long as the server keeps it."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self._port = port
        self._rng = rng
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def close(self) -> None:
        """Drop the connection."""
        if self._streams is not None:
            writer = self._streams[1]
            self._streams = None
            writer.transport.abort()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def send(self, message: Message) -> Answer:
        """Send a request and return its answer; every other one in a few pieces."""
        was_open = self._streams is not None
        answer = await self._send(message)
        if was_open and answer.status == 0:
            # A kept connection may end, by its age, while a request is on its way.
            answer = await self._send(message)
        return answer

    async def _send(self, message: Message) -> Answer:
        began_s = time.monotonic()
        try:
            async with asyncio.timeout(DEADLINE_S):
                answer = await self._exchange(message)
        except TimeoutError:
            await self.close()
            return Answer(-1, {}, b"", time.monotonic() - began_s)
        return answer._replace(took_s=time.monotonic() - began_s)

    async def _exchange(self, message: Message) -> Answer:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**22)
        reader, writer = self._streams
        for piece in self._pieces(message.wire()):
            await put(writer, piece)
            await asyncio.sleep(0)
        response = ResponseReader(has_no_body=message.method == "HEAD")
        try:
            while not response.is_done:
                data = await reader.read(65_536)
                if not data:
                    break
                response.feed(data)
        except (OSError, httptools.HttpParserError):
            await self.close()
        found = Answer(response.status, response.headers, bytes(response.body), 0.0)
        is_kept = response.headers.get("connection", "").lower() != "close"
        if not (response.is_done and is_kept and message.is_sound) or message.method == "HEAD":
            await self.close()
        return found if response.is_done else found._replace(status=0)

    def _pieces(self, wire: bytes) -> list[bytes]:
        if self._rng.random() < 0.5 or len(wire) > 200_000:
            return [wire]
        cuts = sorted(self._rng.randrange(len(wire) + 1) for _ in range(self._rng.randint(1, 4)))
        bounds = [0, *cuts, len(wire)]
        return [wire[a:b] for a, b in pairwise(bounds)]


async def put(writer: asyncio.StreamWriter, data: bytes) -> None:
    """Write, unless the server has ended the connection."""
    with contextlib.suppress(OSError):
        if data and not writer.transport.is_closing():
            writer.write(data)
            await writer.drain()


# ---- connections that are no requests


async def broken(port: int, message: Message, rng: random.Random) -> str:
    """Do something to a connection that no client does; return a complaint, or nothing."""
    wire = message.wire()
    act = rng.choice(("cut", "garbage", "pipelined", "two lengths", "chunks", "tls", "reset"))
    if act == "cut":
        sent = wire[: rng.randrange(len(wire))]
    elif act == "garbage":
        sent = bytes(rng.choices(range(256), k=rng.randint(1, 3_000))) + b"\r\n\r\n"
    elif act == "pipelined":
        sent = wire * rng.randint(2, 20)
    elif act == "two lengths":
        sent = wire.replace(b"\r\n", b"\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n", 1)
    elif act == "chunks":
        head = b"POST /api/orders HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
        sent = head + rng.choice(
            (b"zz\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"5\r\nab", b"0\r\n")
        )
    elif act == "tls":
        sent = bytes.fromhex("16030100c8010000c40303") + bytes(rng.choices(range(256), k=200))
    else:
        sent = wire
    try:
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await put(writer, sent)
                with contextlib.suppress(OSError):
                    if act != "reset":
                        writer.write_eof()
                        while await reader.read(65_536):
                            pass
            finally:
                writer.transport.abort()
    except TimeoutError:
        return f"{act}: the connection was not ended within {DEADLINE_S:g} s: {sent[:300]!r}"
    return ""


async def slow(port: int, within_s: float) -> str:
    """Send a head byte by byte; return a complaint if the server bears it longer than that."""
    head = b"GET /api/orders HTTP/1.1\r\nhost: localhost\r\nx-slow: " + b"y" * 100_000
    return await _until_ended(port, head, within_s, "a slow head")


async def silent(port: int, within_s: float) -> str:
    """Open a connection and say nothing."""
    return await _until_ended(port, b"", within_s, "a silent connection")


async def _until_ended(port: int, said: bytes, within_s: float, what: str) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    ended = asyncio.create_task(_read_all(reader))
    began_s = time.monotonic()
    at = 0
    try:
        while not ended.done() and time.monotonic() - began_s < within_s:
            if at < len(said):
                await put(writer, said[at : at + 1])
                at += 1
            await asyncio.wait({ended}, timeout=0.25)
        return "" if ended.done() else f"{what} was borne for more than {within_s:g} s"
    finally:
        ended.cancel()
        writer.transport.abort()


async def _read_all(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(OSError):
        while await reader.read(65_536):
            pass
