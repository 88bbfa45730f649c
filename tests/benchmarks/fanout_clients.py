"""Many WebSocket clients in one process, as cheap as can be: they only count what they get.

``python -m tests.benchmarks.fanout_clients PORT CLIENTS MESSAGES [SUBSCRIBE]`` connects, sends the
request SUBSCRIBE if there is one, prints ``ready``, reads until every client has every message and
prints the instant (monotonic ns) and the 50th and 99th percentile of the delays (ns). A message
carries the instant of its publishing. Every tenth client reads at once and is timed; the others
are read in turns, so that the clients do not need more of the machine than the server. A turn is
the shorter the fewer they are: what comes meanwhile must fit into the buffers of a socket.
With MESSAGES of 0 nothing is read until stdin ends.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
import select
import socket
import struct
import sys
import time

from tests.benchmarks.fanout_case import MARK, STAMP

_READ_BYTES = 262_144
_TIMEOUT_S = 120.0
_TIMED_EVERY = 10
_SWEEP_S_PER_CLIENT = 40e-6
_STAMP = re.compile(STAMP + rb"(\d+)")


def connect(port: int, request: str) -> socket.socket:
    """Return a connected client that has sent ``request`` and got its answer."""
    client = socket.create_connection(("127.0.0.1", port))
    key = base64.b64encode(os.urandom(16)).decode()
    head = (
        f"GET /ws HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\n"
        f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    client.sendall(head.encode())
    seen = b""
    while b"\r\n\r\n" not in seen:
        seen += client.recv(4096)
    if request:
        client.sendall(masked(request.encode()))
        while b'"subscribed"' not in seen:
            seen += client.recv(4096)
    client.setblocking(False)
    return client


def masked(payload: bytes) -> bytes:
    """Return a client's text frame."""
    mask = os.urandom(4)
    body = bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))
    size = len(payload)
    head = (
        struct.pack("!BB", 0x81, 0x80 | size)
        if size < 126
        else b"\x81\xfe" + struct.pack("!H", size)
    )
    return head + mask + body


class Reader:
    """One client's count; a mark that a read cuts in two is counted once."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self.count = 0
        self._tail = b""

    def read(self, delays_ns: list[int] | None) -> int:
        """Return how many messages came, and note the delay of the oldest of them."""
        data = self.client.recv(_READ_BYTES)
        if not data:
            raise ConnectionError("the server has closed a client")
        found = (self._tail + data).count(MARK)
        self._tail = data[1 - len(MARK) :]
        if delays_ns is not None:
            stamp = _STAMP.search(data)
            # A stamp at the very end may be cut off.
            if stamp is not None and stamp.end() < len(data):
                delays_ns.append(time.monotonic_ns() - int(stamp[1]))
        self.count += found
        return found


def main(port: int, clients: int, messages: int, request: str) -> None:
    """Connect, count, report."""
    sockets = [connect(port, request) for _ in range(clients)]
    print("ready", flush=True)
    if not messages:
        sys.stdin.read()
        return
    poll = select.epoll()
    timed: dict[int, Reader] = {}
    others: list[Reader] = []
    for number, client in enumerate(sockets):
        if number % _TIMED_EVERY:
            others.append(Reader(client))
        else:
            timed[client.fileno()] = Reader(client)
            poll.register(client, select.EPOLLIN)
    delays_ns: list[int] = []
    left = clients * messages
    deadline_s = time.monotonic() + _TIMEOUT_S
    sweep_s, sweep_at_s = clients * _SWEEP_S_PER_CLIENT, 0.0
    while left > 0 and (now_s := time.monotonic()) < deadline_s:
        for number, _ in poll.poll(sweep_s):
            left -= timed[number].read(delays_ns)
        if now_s >= sweep_at_s:
            sweep_at_s = now_s + sweep_s
            for reader in others:
                with contextlib.suppress(BlockingIOError):
                    left -= reader.read(None)
    now_ns = time.monotonic_ns()
    if left:
        raise SystemExit(f"{left} messages did not come")
    delays_ns.sort()
    print(now_ns, delays_ns[len(delays_ns) // 2], delays_ns[len(delays_ns) * 99 // 100], flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), *(sys.argv[4:] or [""]))
