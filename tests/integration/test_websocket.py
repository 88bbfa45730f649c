"""The WebSocket over real sockets: direct writes, slow and broken clients, the Python client."""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from schemas import topics as t
from schemas.envelope import Header
from schemas.errors import ConfigError, ConflictError
from streams.memory_log import MemoryLog
from streams.watching import Gap, Snapshot, Stream, Update, watch
from tests.unit.web_run import START_NS, filled_run, submit, submitted, trade
from web.app import WebSettings, create_app
from web.server import WebServer


class Site:
    """A server over a log in memory; it can be stopped and started again on its port."""

    def __init__(self, log: MemoryLog | None = None, **settings: Any) -> None:
        self.log = log or MemoryLog("run-1", lambda: START_NS, counts={t.ORDER_EVENTS: 3})
        self._settings = msgspec.structs.replace(WebSettings(), **settings)
        self._numbers = itertools.count()
        self.port = 0
        self._server: WebServer | None = None

    @property
    def url(self) -> str:
        """The address of the WebSocket."""
        return f"ws://127.0.0.1:{self.port}/ws"

    @property
    def hub(self) -> Any:
        """The clients."""
        return self._app.state.context.hub

    async def start(self) -> None:
        """Serve."""
        self._app = create_app(self.log, self._settings, lambda: f"id-{next(self._numbers)}")
        self._server = WebServer(self._app, "127.0.0.1", self.port)
        await self._server.start()
        self.port = self._server.port

    async def stop(self) -> None:
        """Stop serving."""
        assert self._server is not None
        await self._server.stop()


@asynccontextmanager
async def served(log: MemoryLog | None = None, **settings: Any) -> AsyncIterator[Site]:
    """Give a running site."""
    site = Site(log, **settings)
    await site.start()
    try:
        async with asyncio.timeout(60):
            yield site
    finally:
        await site.stop()


def events(count: int, *, start: int = 0) -> list[tuple[str, Header]]:
    """Return order events of several accounts, so that they go to all partitions."""
    orders = [submit(f"n-{i}", account_id=f"a-{i % 11}") for i in range(start, start + count)]
    return [(t.ORDER_EVENTS, submitted(order)) for order in orders]


def trades(count: int, *, start: int = 0) -> list[tuple[str, Header]]:
    """Return prints of one instrument."""
    return [(t.MARKET_EVENTS, trade(100.0, at=i)) for i in range(start, start + count)]


def fast(site: Site, *topics: str, **options: Any) -> Stream:
    """Return a stream that does not wait long."""
    return watch(site.url, topics, retry_first_s=0.01, retry_most_s=0.05, **options)


async def take(stream: Stream, count: int) -> list[Any]:
    """Return the next items."""
    return [await anext(stream) for _ in range(count)]


def places(items: Sequence[Any]) -> list[tuple[int, int]]:
    """Return partition and offset of updates, sorted."""
    return sorted((item.partition, item.offset) for item in items)


def all_places(log: MemoryLog, topic: str) -> list[tuple[int, int]]:
    """Return partition and offset of all that a topic has."""
    return [
        (partition, offset)
        for partition in range(log.partitions(topic))
        for offset in range(log.end_offset(topic, partition))
    ]


async def open_socket(site: Site, **request: Any) -> ClientConnection:
    """Return a connected client that has subscribed, if it was told what to."""
    client = await connect(site.url, compression=None, max_size=None)
    await client.recv()
    if request:
        await client.send(json.dumps({"op": "subscribe", **request}))
        assert json.loads(await client.recv())["op"] == "subscribed"
    return client


async def read_to_close(client: ClientConnection) -> tuple[list[Any], ConnectionClosed]:
    """Return the frames up to the end of the connection, and how it ended."""
    frames = []
    try:
        while True:
            frames.append(json.loads(await client.recv()))
    except ConnectionClosed as closed:
        return frames, closed


async def until(condition: Callable[[], object]) -> None:
    """Wait until something is so."""
    while not condition():  # noqa: ASYNC110 - the server has no event for it
        await asyncio.sleep(0.01)


# ---- the Python client


async def test_stream_gives_snapshot_then_updates_of_all_partitions() -> None:
    async with served() as site, fast(site, t.ORDER_EVENTS, snapshot=True) as stream:
        site.log.append(events(30))
        first = await anext(stream)
        site.log.append(events(30, start=30))
        updates = await take(stream, 30)

    assert isinstance(first, Snapshot)
    assert len(first.updates) == 30
    assert places([*first.updates, *updates]) == all_places(site.log, t.ORDER_EVENTS)
    assert len({item.partition for item in updates}) == 3
    assert updates[0].record == events(1, start=30)[0][1]


async def test_stream_goes_on_by_itself_after_the_server_was_stopped() -> None:
    async with served() as site, fast(site, t.ORDER_EVENTS, t.MARKET_EVENTS, mode="all") as stream:
        waiting = asyncio.create_task(take(stream, 40))
        await until(lambda: stream.cursor)
        site.log.append([*events(20), *trades(20)])
        seen = await waiting
        await site.stop()
        site.log.append([*events(2000, start=20), *trades(2000, start=20)])
        await site.start()
        seen += await take(stream, 4000)
        site.log.append(events(5, start=2020))
        seen += await take(stream, 5)

    by_topic = {
        name: [i for i in seen if i.topic == name] for name in (t.ORDER_EVENTS, t.MARKET_EVENTS)
    }
    for name, items in by_topic.items():
        assert places(items) == all_places(site.log, name)
    assert stream.connects >= 2


async def test_cursor_is_behind_what_was_given_not_behind_what_came() -> None:
    async with served() as site:
        site.log.append(events(100))
        async with fast(site, t.ORDER_EVENTS, start="earliest") as stream:
            seen = await take(stream, 10)
            cursor = stream.cursor
        async with fast(site, t.ORDER_EVENTS, cursor=cursor) as stream:
            seen += await take(stream, 90)

    assert places(seen) == all_places(site.log, t.ORDER_EVENTS)


async def test_stream_that_cannot_go_on_says_so() -> None:
    async with served(MemoryLog("run-1", lambda: START_NS, history_max=10)) as site:
        site.log.append(events(30))
        lost = {t.ORDER_EVENTS: {"epoch": "run-1", "offsets": {"0": 3}}}
        other = {t.ORDER_EVENTS: {"epoch": "run-0", "offsets": {"0": 25}}}
        for cursor, code in ((lost, "cursor_expired"), (other, "epoch_changed")):
            with pytest.raises(ConflictError) as caught:
                await anext(fast(site, t.ORDER_EVENTS, cursor=cursor))
            assert caught.value.value == code


async def test_stream_of_an_unknown_topic_is_refused() -> None:
    async with served() as site:
        with pytest.raises(ConfigError, match=r"no topic nope\.v1"):
            await anext(fast(site, "nope.v1"))


async def test_stream_tells_of_gaps_of_conflated_topics() -> None:
    log = MemoryLog("run-1", lambda: START_NS, history_max=10)
    async with served(log) as site:
        log.append(trades(30))
        cursor = {t.MARKET_EVENTS: {"epoch": "run-1", "offsets": {"0": 3}}}
        async with fast(site, t.MARKET_EVENTS, cursor=cursor) as stream:
            gap, *updates = await take(stream, 11)

    assert gap == Gap(t.MARKET_EVENTS, 0, 3, 19, "no_longer_kept")
    assert places(updates) == [(0, offset) for offset in range(20, 30)]


async def test_filters_hold_for_streams() -> None:
    async with served() as site:
        site.log.append(filled_run())
        filters = {"strategy_id": ["manual"]}
        async with fast(site, t.ORDER_EVENTS, filters=filters, start="earliest") as stream:
            item = await anext(stream)

    assert isinstance(item, Update)
    assert item.record.client_order_id == "o-3"  # type: ignore[attr-defined]


# ---- slow clients


async def test_client_that_reads_nothing_is_cut_off_with_its_cursor_and_delays_nobody() -> None:
    async with served(outbox_max_frames=500) as site:
        slow = await open_socket(site, topics=[t.ORDER_EVENTS])
        slow.transport.pause_reading()
        async with fast(site, t.ORDER_EVENTS) as stream:
            waiting = asyncio.create_task(take(stream, 1))
            await until(lambda: stream.cursor)
            count = 200
            site.log.append(events(count))
            seen = [*await waiting, *await take(stream, count - 1)]
            while site.hub.client_count == 2:
                site.log.append(events(200, start=count))
                count += 200
                seen += await take(stream, 200)
        slow.transport.resume_reading()
        frames, closed = await read_to_close(slow)

    assert places(seen) == all_places(site.log, t.ORDER_EVENTS)
    data = [frame for frame in frames if frame["op"] == "data"]
    assert len(data) < count
    for partition in range(3):
        offsets = [frame["offset"] for frame in data if frame["partition"] == partition]
        assert offsets == list(range(len(offsets)))
    if closed.rcvd is not None and closed.rcvd.code == 4408:
        assert frames[-1]["op"] == "disconnect"


async def test_slow_client_of_a_conflated_topic_stays_and_gets_the_newest() -> None:
    async with served(conflate_after_frames=50) as site:
        slow = await open_socket(site, topics=[t.MARKET_EVENTS])
        slow.transport.pause_reading()
        count = 60_000
        for start in range(0, count, 500):
            site.log.append(trades(500, start=start))
            await asyncio.sleep(0)
        slow.transport.resume_reading()
        seen: list[int] = []
        gaps: list[tuple[int, int]] = []
        while not seen or seen[-1] < count - 1:
            frame = json.loads(await slow.recv())
            if frame["op"] == "gap":
                gaps.append((frame["from"], frame["to"]))
            elif frame["op"] == "data":
                seen.append(frame["offset"])
        await slow.close()

    assert seen == sorted(seen)
    missing = sorted(set(range(count)) - set(seen))
    assert missing
    assert all(any(first <= n <= last for first, last in gaps) for n in missing)


# ---- what is not understood


def frames_of_nonsense(rng: random.Random, count: int) -> list[bytes]:
    """Return bytes that are no, or no good, WebSocket frames and requests."""
    requests = [
        b'{"op":"subscribe","topics":["orders.events.v1"],"from":{"orders.events.v1":1}}',
        b'{"op":"ping","id":1e400}',
        b'{"op":"auth","secret":""}',
        b'{"op":"subscribe","topics":[null]}',
        b"[" * 2000,
    ]
    out = []
    for number in range(count):
        kind = number % 4
        body = (
            bytearray(rng.choice(requests)) if kind else bytearray(rng.randbytes(rng.randrange(60)))
        )
        if kind > 1 and body:
            body[rng.randrange(len(body))] = rng.randrange(256)
        out.append(bytes(body) if kind == 0 else masked(rng, bytes(body), kind))
    return out


def masked(rng: random.Random, body: bytes, kind: int) -> bytes:
    """Return a frame, of a random opcode where ``kind`` is 3."""
    first = rng.randrange(256) if kind == 3 else 0x81
    mask = rng.randbytes(4)
    size = bytes((0x80 | len(body),)) if len(body) < 126 else b"\xfe" + len(body).to_bytes(2, "big")
    return bytes((first,)) + size + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(body))


def shake_hands(port: int) -> socket.socket:
    """Return a socket that has become a WebSocket."""
    client = socket.create_connection(("127.0.0.1", port))
    client.sendall(
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        "Connection: Upgrade\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
        "Sec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    assert client.recv(4096).startswith(b"HTTP/1.1 101")
    return client


def send_nonsense(port: int, seed: int, connections: int, each: int) -> int:
    """Send frames of nonsense and return how many went out before the server had enough."""
    rng = random.Random(seed)
    sent = 0
    for _ in range(connections):
        with shake_hands(port) as client:
            try:
                for frame in frames_of_nonsense(rng, each):
                    client.sendall(frame)
                    sent += 1
            except OSError:
                continue
    return sent


async def test_nonsense_ends_connections_and_nothing_else() -> None:
    async with served(inbound_ops_per_s=1e9, inbound_ops_burst=10**9) as site:
        loop = asyncio.get_running_loop()
        sent = await loop.run_in_executor(None, send_nonsense, site.port, 7, 300, 20)
        async with fast(site, t.ORDER_EVENTS, start="earliest") as stream:
            site.log.append(events(1))
            assert isinstance(await anext(stream), Update)
        await until(lambda: not site.hub.client_count)

    assert sent > 300


@pytest.mark.parametrize(
    ("opcode", "body", "code"),
    [
        (0x81, b"\xff\xfe", 1007),
        (0x82, b"binary", 1003),
        (0x83, b"reserved", 1002),
        (0xC1, b"rsv", 1002),
        (0x80, b"continued nothing", 1002),
    ],
)
async def test_frame_against_the_standard_closes_with_a_code(
    opcode: int, body: bytes, code: int
) -> None:
    async with served() as site:
        loop = asyncio.get_running_loop()
        client = await loop.run_in_executor(None, shake_hands, site.port)
        rng = random.Random(1)
        mask = rng.randbytes(4)
        client.sendall(
            bytes((opcode, 0x80 | len(body)))
            + mask
            + bytes(b ^ mask[i % 4] for i, b in enumerate(body))
        )
        client.setblocking(False)
        got = b""
        while more := await loop.sock_recv(client, 65_536):
            got += more
        client.close()

    assert code.to_bytes(2, "big") in got[got.rfind(b"\x88") :][:4]


async def test_text_that_is_no_utf8_before_a_close_is_no_fault(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with served() as site:
        loop = asyncio.get_running_loop()
        client = await loop.run_in_executor(None, shake_hands, site.port)
        mask = bytes(4)
        client.sendall(b"\x81\x82" + mask + b"\xff\xfe" + b"\x88\x82" + mask + b"\x03\xe8")
        client.setblocking(False)
        got = b""
        while more := await loop.sock_recv(client, 65_536):
            got += more
        client.close()

    assert got.endswith(b"\x88\x02\x03\xe8")
    assert caplog.records == []


async def test_message_above_the_bound_is_refused() -> None:
    async with served() as site:
        for size in (66_000, 200_000):
            client = await open_socket(site)
            await client.send("x" * size)
            _, closed = await read_to_close(client)
            assert closed.rcvd is not None
            assert closed.rcvd.code == 1009
