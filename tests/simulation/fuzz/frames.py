"""WebSocket sessions that nobody means, and what the server may say to them."""

from __future__ import annotations

import asyncio
import random
import struct
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

from schemas.topics import CATALOGUE
from tests.simulation.fuzz.mutations import Spoiler, Token, dump
from tests.simulation.fuzz.sending import put
from tests.simulation.fuzz.shapes import Object
from web.problems import MEDIA_TYPE
from web.server_frames import AnyServerFrame, Disconnect, Error, Pong, Subscribed

DEADLINE_S = 20.0
"""By when a request must be answered, or the connection ended."""

CLOSE_CODES = frozenset({1000, 1001, 1002, 1003, 1007, 1008, 1009, 1013, 4401, 4408, 4410})
"""What the documentation names, and what the protocol itself has for broken frames."""

_REQUESTS = 36  # one less than a client may send at once, with its last ping
_TOPICS = [topic.name for topic in CATALOGUE]
_FRAMES: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyServerFrame | list[AnyServerFrame])


def frame(op: Opcode, data: bytes, *, fin: bool = True, is_masked: bool = True) -> bytes:
    """Return a frame by the bytes, whether the protocol allows it or not; masked with zeros."""
    bit = 0x80 if is_masked else 0
    if len(data) < 126:
        size = bytes((bit | len(data),))
    elif len(data) < 65_536:
        size = bytes((bit | 126,)) + struct.pack("!H", len(data))
    else:
        size = bytes((bit | 127,)) + struct.pack("!Q", len(data))
    return bytes(((0x80 if fin else 0) | op,)) + size + (bytes(4) if is_masked else b"") + data


class FrameCount:
    """What was sent, what came, and what was wrong."""

    def __init__(self) -> None:
        self.sessions: Counter[str] = Counter()
        self.sent = self.received = self.answered = 0
        self.closes: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()
        self.breaches: dict[str, list[str]] = {
            "every frame of the server is documented": [],
            "every close code is documented": [],
            "every session is answered or ended": [],
        }


class Session:
    """One connection by the bytes."""

    def __init__(self, port: int, count: FrameCount) -> None:
        self._port = port
        self._count = count
        self.protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/ws"), max_size=2**26)
        self.frames: list[Any] = []
        self.is_over = self.has_closed = False
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._text: list[bytes] = []

    async def open(self) -> None:
        """Connect and take the answer to the request to upgrade."""
        self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        self.protocol.send_request(self.protocol.connect())
        await self.flush()
        await self.until(lambda: bool(self.frames) or self.is_over)

    async def raw(self, data: bytes) -> None:
        """Write bytes; a connection that has ended takes none."""
        if self._streams is not None:
            self._count.sent += 1
            await put(self._streams[1], data)

    async def text(self, payload: bytes) -> None:
        """Send a text frame."""
        await self.raw(frame(Opcode.TEXT, payload))

    async def flush(self) -> None:
        """Send what the protocol itself has to say."""
        assert self._streams is not None
        for data in self.protocol.data_to_send():
            await put(self._streams[1], data)

    async def until(self, is_met: Callable[[], bool]) -> bool:
        """Read until something is so; return False if it is not within the deadline."""
        assert self._streams is not None
        reader = self._streams[0]
        try:
            async with asyncio.timeout(DEADLINE_S):
                while not is_met() and not self.is_over:
                    data = await self._read(reader)
                    if data:
                        self.protocol.receive_data(data)
                    else:
                        self.protocol.receive_eof()
                        self.is_over = True
                    self._take()
                    await self.flush()
        except TimeoutError:
            return False
        return is_met()

    @staticmethod
    async def _read(reader: asyncio.StreamReader) -> bytes:
        try:
            return await reader.read(262_144)
        except OSError:
            return b""

    async def ended(self) -> None:
        """Read, but answer nothing, until the server ends the connection."""
        assert self._streams is not None
        while await self._read(self._streams[0]):
            pass

    def _take(self) -> None:
        for event in self.protocol.events_received():
            if isinstance(event, Response):
                continue
            if isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.CONT):
                self._text.append(bytes(event.data))
                if event.fin:
                    self._decode(b"".join(self._text))
                    self._text = []
            elif isinstance(event, Frame) and event.opcode is Opcode.CLOSE:
                self.is_over = True

    def _decode(self, payload: bytes) -> None:
        try:
            found = _FRAMES.decode(payload)
        except msgspec.MsgspecError as error:
            rule = "every frame of the server is documented"
            self._count.breaches[rule].append(f"{error}: {payload[:300]!r}")
            return
        for item in found if isinstance(found, list) else [found]:
            self.frames.append(item)
            self._count.received += 1
            if isinstance(item, (Error, Disconnect)):
                self._count.errors[item.code] += 1
                if not item.code or not item.detail:
                    rule = "every frame of the server is documented"
                    self._count.breaches[rule].append(f"an error that says nothing: {item}")

    def end(self) -> None:
        """Note how it ended, and drop it."""
        if self.protocol.close_rcvd is not None:
            code = self.protocol.close_rcvd.code
            self._count.closes[code] += 1
            # The answer to a close of ours has its code.
            if code not in CLOSE_CODES and not self.has_closed:
                reason = self.protocol.close_rcvd.reason
                self._count.breaches["every close code is documented"].append(f"{code} {reason}")
        if self._streams is not None:
            self._streams[1].transport.abort()


class Frames:
    """Plays sessions; those that are left half open are kept until ``close``."""

    def __init__(self, port: int, spoiler: Spoiler, rng: random.Random, count: FrameCount) -> None:
        self._port = port
        self._spoiler = spoiler
        self._rng = rng
        self._count = count
        self._halves: list[Session] = []
        self._kinds: tuple[tuple[Callable[[Session], Any], int], ...] = (
            (self._requests, 70), (self._raw, 20), (self._flood, 5), (self._half, 1),
        )  # fmt: skip

    async def play(self) -> None:
        """Play one session of a kind of its own."""
        kinds, weights = zip(*self._kinds, strict=True)
        kind = self._rng.choices(kinds, weights)[0]
        name = kind.__name__.strip("_")
        self._count.sessions[name] += 1
        session = Session(self._port, self._count)
        await session.open()
        try:
            complaint = await kind(session)
        finally:
            if session not in self._halves:
                session.end()
        if complaint:
            self._count.breaches["every session is answered or ended"].append(
                f"{name}: {complaint}"
            )

    async def expired(self, within_s: float) -> list[str]:
        """Wait until the server has ended the half open sessions; return complaints."""
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*(session.ended() for session in self._halves))
        except TimeoutError:
            return [f"a half open session lives after {within_s:g} s"]
        return []

    def close(self) -> None:
        """Drop the half open sessions."""
        for session in self._halves:
            session.end()

    # ---- kinds

    async def _requests(self, session: Session) -> str:
        """Send requests, sound and spoiled; a ping behind them must be answered, or a close."""
        sent = []
        for _ in range(self._rng.randint(5, _REQUESTS)):
            sent.append(self.request())
            await session.text(sent[-1])
            if self._rng.random() < 0.1:
                await session.until(lambda: bool(session.frames))
        await session.text(b'{"op":"ping","id":"the last"}')
        answered = await session.until(
            lambda: any(isinstance(f, Pong) and f.id == "the last" for f in session.frames)
        )
        self._count.answered += 1
        if not answered and not session.is_over:
            return f"no pong and no close behind {[text[:200] for text in sent]}"
        return ""

    def request(self) -> bytes:
        """Return a request to the server, sound or spoiled."""
        rng = self._rng
        kind = rng.choices(
            ("ping", "subscribe", "unsubscribe", "auth", "cursor", "unknown"), (2, 6, 2, 1, 4, 1)
        )[0]
        members: list[tuple[str, Any]] = [
            ("op", kind),
            ("id", rng.choice((1, "a", 2**70, "é" * 99))),
        ]
        topics = rng.sample(_TOPICS, rng.randint(1, 4))
        if kind in ("subscribe", "unsubscribe", "cursor"):
            members += [("topics", topics)]
        if kind == "auth":
            members += [("secret", rng.choice(("mr_no_no", "x" * 2_000, "\x00", "")))]
        if kind in ("subscribe", "cursor"):
            members[0] = ("op", "subscribe")
            members += [
                ("snapshot", rng.random() < 0.3), ("batch", rng.random() < 0.3),
                ("mode", rng.choice((None, "all", "conflated"))),
                ("from", self._cursor(topics) if kind == "cursor" else "latest"),
            ]  # fmt: skip
            if rng.random() < 0.5:
                members += [
                    ("filters", Object([("instrument_id", ["IBM.XNYS"]), ("type", ["trade"])]))
                ]
        tree: Any = Object(members)
        if rng.random() < 0.6:
            for _ in range(rng.randint(1, 2)):
                tree = self._spoiler.spoiled(tree)
        text = dump(tree)
        return text if rng.random() < 0.97 else text[: rng.randrange(len(text) + 1)]

    def _cursor(self, topics: list[str]) -> Any:
        rng = self._rng
        places = []
        for topic in topics:
            offsets = Object(
                [(rng.choice(("0", "0", "0", "1", "-1", "x", "")),
                  rng.choice((0, 1, 10, 2**62, -1, "0", Token(b"1e3"), None)))]
            )  # fmt: skip
            place = Object(
                [("epoch", rng.choice(("", "paper", "x" * 5_000))), ("offsets", offsets)]
            )
            places.append((topic, place))
        return rng.choice((Object(places), Object(places[:-1]), "earliest", "latest", "yesterday"))

    async def _raw(self, session: Session) -> str:
        """Break the protocol; the connection must end, with its close code or by being dropped."""
        rng = self._rng
        if rng.random() < 0.1:
            # A frame that is begun and never ended; the connection is dropped behind it.
            await session.raw(rng.choice((b"\x81\xfe\xff\xff\0\0\0\0abc", b"\x81\xfd\0")))
            return ""
        made = rng.choice(self._broken())
        session.has_closed = made[:1] == b"\x88"
        await session.raw(made)
        # What is no violation is ended by us.
        await session.raw(frame(Opcode.CLOSE, struct.pack("!H", 1000)))
        await session.until(lambda: session.is_over)
        return "" if session.is_over else f"the connection goes on behind {made[:100]!r}"

    def _broken(self) -> list[bytes]:
        rng = self._rng

        return [
            frame(Opcode.TEXT, b'{"op":"ping"}', is_masked=False),
            bytes((0x81 | 0x70, 0x80)) + bytes(4),
            bytes((0x83, 0x80)) + bytes(4),
            bytes((0x8F, 0x80)) + bytes(4),
            b"\x81\xff" + struct.pack("!Q", 2**62) + bytes(4),
            b"\x81\xff" + struct.pack("!Q", 2**63) + bytes(4),
            frame(Opcode.BINARY, b"\x00\x01\x02" * 100),
            frame(Opcode.BINARY, b""),
            frame(Opcode.TEXT, b"\xff\xfe\xfd"),
            frame(Opcode.TEXT, b'"\xed\xa0\x80"'),
            frame(Opcode.TEXT, b"x" * 70_000),
            frame(Opcode.TEXT, b" " * 131_000),
            frame(Opcode.TEXT, b"x" * 200_000),
            frame(Opcode.TEXT, b"[" * 60_000),
            frame(Opcode.TEXT, b'{"a":' * 12_000),
            frame(Opcode.CONT, b"nothing to go on with"),
            frame(Opcode.TEXT, b"begun", fin=False) + frame(Opcode.TEXT, b"again"),
            frame(Opcode.TEXT, b"{", fin=False) * 2,
            frame(Opcode.PING, b"y" * 200),
            frame(Opcode.PING, b"y", fin=False),
            frame(Opcode.PONG, b"nobody asked") * 50 + frame(Opcode.PING, b"hi") * 200,
            frame(Opcode.CLOSE, b"\x03"),
            frame(Opcode.CLOSE, struct.pack("!H", rng.choice((0, 999, 1005, 1015, 5000, 65_535)))),
            frame(Opcode.CLOSE, struct.pack("!H", 1000) + b"\xff\xfe"),
            frame(Opcode.CLOSE, struct.pack("!H", 4999) + b"z" * 120),
            bytes(rng.choices(range(256), k=500)),
            b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
        ]

    async def _flood(self, session: Session) -> str:
        """Ask for much from the beginning again and again, read nothing, and be gone."""
        members = [
            ("op", "subscribe"),
            ("topics", self._rng.sample(_TOPICS, 5)),
            ("from", "earliest"),
            ("snapshot", True),
        ]
        for _ in range(self._rng.randint(3, 20)):
            await session.text(dump(Object(members)))
        await asyncio.sleep(self._rng.uniform(0.0, 0.5))
        return ""

    async def _half(self, session: Session) -> str:
        """Subscribe and never say a word again, nor read one."""
        members = [("op", "subscribe"), ("topics", _TOPICS), ("from", "earliest")]
        await session.text(dump(Object(members)))
        await session.until(lambda: any(isinstance(f, Subscribed) for f in session.frames))
        self._halves.append(session)
        return ""


async def bad_handshake(port: int, rng: random.Random) -> str:
    """Ask for an upgrade as no client does; return a complaint if nothing comes of it."""
    head = [
        b"GET /ws HTTP/1.1", b"host: localhost", b"upgrade: websocket", b"connection: upgrade",
        b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==", b"sec-websocket-version: 13",
    ]  # fmt: skip
    at = rng.randrange(len(head))
    act = rng.choice(("drop", "spoil", "origin", "path", "post"))
    if act == "drop":
        del head[max(at, 1)]
    elif act == "spoil":
        head[max(at, 1)] = (
            head[max(at, 1)].partition(b":")[0] + b": " + rng.choice((b"", b"\xff", b"9" * 99))
        )
    elif act == "origin":
        head.append(b"origin: http://evil.example")
    elif act == "path":
        head[0] = b"GET /api/portfolio HTTP/1.1"
    else:
        head[0] = b"POST /ws HTTP/1.1"
    wire = b"\r\n".join(head) + b"\r\n\r\n"
    try:
        async with asyncio.timeout(DEADLINE_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                await put(writer, wire)
                said = await reader.read(65_536)
                is_fine = said.startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 4")) and (
                    b" 101 " in said[:20] or MEDIA_TYPE.encode() in said
                )
                if not is_fine:
                    return f"{said[:300]!r} for {wire!r}"
            finally:
                writer.transport.abort()
    except TimeoutError:
        return f"nothing comes of {wire!r}"
    return ""
