"""One server of the fan-out benchmark with its clients, in a process of its own.

``python -m tests.benchmarks.fanout_server WAY CLIENTS MESSAGES RATE`` publishes ``MESSAGES`` to all
clients, as fast as they go out or at ``RATE`` a second, and prints deliveries a second and the 50th
and 99th percentile of the delays in ms. Ways:

    naive    await the send to one client after the other, on uvicorn
    app      the app of Millrace: log, filters, frames, bounded outboxes
    picows   a bare picows server that writes prebuilt frames, joined as the app joins them: the
              limit

``slow`` instead of MESSAGES measures what clients that never read cost: MB of memory a client.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import uvicorn
import uvloop
from picows import WSFrame, WSListener, WSTransport, WSUpgradeRequest, ws_create_server

from schemas.topics import MARKET_EVENTS, MARKET_QUALITY
from streams.memory_log import MemoryLog
from tests.benchmarks.fanout_case import EPOCH, frame, trade
from web.app import WebSettings, create_app
from web.bundle import PART_BYTES
from web.server import WebServer, _Server

_JOINED = PART_BYTES // 229
"""As many frames as the app writes at once, so that the limit is one: fewer would be slower."""
_SLOW_MESSAGES = 40_000


class Counts(NamedTuple):
    """How many messages go out, and how fast: ``rate`` of 0 is as fast as they can."""

    clients: int
    messages: int
    rate: float


@contextlib.asynccontextmanager
async def naive_server(clients_max: int) -> AsyncIterator[tuple[int, Any]]:
    """Serve as most tutorials do."""
    clients: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        clients.append(send)
        await receive()

    async def publish(first: int, count: int) -> None:
        for number in range(first, first + count):
            text = frame(time.monotonic_ns(), number).payload.decode()
            for send in clients:
                await send({"type": "websocket.send", "text": text})

    config = uvicorn.Config(
        app, port=0, ws="websockets-sansio", lifespan="off", log_config=None,
        ws_per_message_deflate=False,
    )  # fmt: skip
    server = _Server(config)
    running = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn tells of its start by an attribute
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1], publish
    server.should_exit = server.force_exit = True
    await running


@contextlib.asynccontextmanager
async def app_server(clients_max: int) -> AsyncIterator[tuple[int, Any]]:
    """Serve the app over a log in memory."""
    log = MemoryLog("bench", time.time_ns, epoch=EPOCH)
    app = create_app(log, WebSettings(clients_max=clients_max), lambda: os.urandom(8).hex())
    server = WebServer(app, "127.0.0.1", 0)
    await server.start()

    async def publish(first: int, count: int) -> None:
        for _ in range(count):
            log.append([(MARKET_EVENTS, trade(time.monotonic_ns()))])
            # Whoever publishes is one task among others.
            await asyncio.sleep(0)

    yield server.port, publish
    await server.stop()


class _Listener(WSListener):
    clients: list[WSTransport] = []

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.clients.append(transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Take nothing."""


@contextlib.asynccontextmanager
async def picows_server(clients_max: int) -> AsyncIterator[tuple[int, Any]]:
    """Serve prebuilt frames."""

    def listener(request: WSUpgradeRequest) -> WSListener:
        return _Listener()

    server = await ws_create_server(listener, "127.0.0.1", 0)
    sockets = server.sockets

    async def publish(first: int, count: int) -> None:
        for start in range(first, first + count, _JOINED):
            numbers = range(start, min(start + _JOINED, first + count))
            joined = b"".join([frame(time.monotonic_ns(), number).wire for number in numbers])
            for transport in _Listener.clients:
                transport.underlying_transport.write(joined)
            await asyncio.sleep(0)

    yield sockets[0].getsockname()[1], publish
    server.close()


SERVERS = {"naive": naive_server, "app": app_server, "picows": picows_server}
REQUEST = json.dumps({"op": "subscribe", "topics": [MARKET_EVENTS], "mode": "all"})


async def start_clients(port: int, clients: int, messages: int, request: str) -> Any:
    """Start the process of the clients and wait until all are connected."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.benchmarks.fanout_clients",
        str(port), str(clients), str(messages), request,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert (await process.stdout.readline()).strip() == b"ready"
    return process


async def measure(way: str, counts: Counts) -> None:
    """Publish to clients and print what came of it."""
    async with SERVERS[way](counts.clients) as (port, publish):
        request = REQUEST if way == "app" else ""
        process = await start_clients(port, counts.clients, counts.messages, request)
        begun_ns = time.monotonic_ns()
        if not counts.rate:
            await publish(0, counts.messages)
        else:
            for number in range(counts.messages):
                due_ns = begun_ns + int(number * 1e9 / counts.rate)
                await asyncio.sleep(max(0.0, (due_ns - time.monotonic_ns()) / 1e9))
                await publish(number, 1)
        ended_ns, middle_ns, high_ns = map(int, (await process.stdout.readline()).split())
        await process.wait()
        rate = counts.clients * counts.messages / (ended_ns - begun_ns) * 1e9
        print(rate, middle_ns / 1e6, high_ns / 1e6, flush=True)


async def measure_slow(clients: int) -> None:
    """Publish to clients that read nothing and print the memory that one costs, in MB."""
    async with app_server(clients) as (port, publish):
        request = json.dumps({"op": "subscribe", "topics": [MARKET_EVENTS, MARKET_QUALITY]})
        # What the log itself and the process take is there before the clients are.
        await publish(0, 12_000)
        before = _resident_bytes()
        process = await start_clients(port, clients, 0, request)
        await publish(0, _SLOW_MESSAGES)
        print((_resident_bytes() - before) / clients / 1e6, flush=True)
        process.stdin.close()
        await process.wait()


def _resident_bytes() -> int:
    with open("/proc/self/statm") as statm:  # noqa: PTH123 - not a file
        return int(statm.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    way, clients, messages = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    work = (
        measure_slow(clients)
        if messages == "slow"
        else measure(way, Counts(clients, int(messages), float(sys.argv[4])))
    )
    uvloop.run(work)
