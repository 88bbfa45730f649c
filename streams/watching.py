"""The Python client of the WebSocket: topics of a running Millrace, as they are published.

    async with watch("ws://127.0.0.1:8000/ws", ["orders.fills.v1"], cursor=stored) as stream:
        async for item in stream:
            if isinstance(item, Update):
                store(item.record, stream.cursor)

``cursor`` is the place behind what was given last, as plain JSON. A program that stores it together
with its results, and gives it at its next start, misses nothing and sees nothing twice. When the
connection breaks the stream connects again by itself, from that place.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import msgspec
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

from schemas.codec import decode
from schemas.envelope import Header
from schemas.errors import ConfigError, ConflictError
from streams.feeds.backoff import Backoff

_OPEN_TIMEOUT_S = 10.0
_SILENT_HEARTBEATS = 3
_SILENCE_S = 15.0
_FRAME_MAX_BYTES = 64 * 1024 * 1024
_REQUEST_ID = "watch"
_GIVE_UP = frozenset({"epoch_changed", "cursor_expired", "bad_cursor"})
_TRY_AGAIN = frozenset({"log_unavailable", "rate_limited"})
_ABOUT_THE_KEY = frozenset({"unknown_secret", "not_authenticated", "auth_timeout"})


class Update(NamedTuple):
    """One record with its place in the log."""

    topic: str
    partition: int
    offset: int
    epoch: str
    record: Header


class Snapshot(NamedTuple):
    """Part of what a topic held when the stream began: the newest record of each key, or the last.

    ``is_last`` says that the topic's updates follow; ``is_complete`` is false where the server had
    no room for all keys, or for all records of a topic without keys.
    """

    topic: str
    updates: list[Update]
    is_last: bool
    is_complete: bool = True


class Gap(NamedTuple):
    """Some of the offsets ``first`` to ``last`` were left out; only conflated topics have gaps."""

    topic: str
    partition: int
    first: int
    last: int
    reason: str


Item = Update | Snapshot | Gap
Cursor = dict[str, dict[str, Any]]
"""Epoch and next offset by partition, by topic; plain JSON."""


class _Held(msgspec.Struct):
    partition: int
    offset: int
    data: msgspec.Raw


class _Frame(msgspec.Struct):
    """Any frame of the server; what a later server adds is left alone."""

    op: str
    id: str | int = ""
    topic: str = ""
    partition: int = 0
    offset: int = 0
    epoch: str = ""
    data: msgspec.Raw = msgspec.Raw()
    records: list[_Held] = []
    is_last: bool = True
    is_complete: bool = True
    first: int = msgspec.field(name="from", default=0)
    last: int = msgspec.field(name="to", default=0)
    reason: str = ""
    code: str = ""
    detail: str = ""
    cursor: Cursor = {}
    is_authenticated: bool = True
    heartbeat_ms: int = 5000


_FRAMES = msgspec.json.Decoder(list[_Frame])
_FRAME = msgspec.json.Decoder(_Frame)


class _Broken(Exception):  # noqa: N818 - it says what has happened
    """The connection is of no more use."""


class Stream:
    """Topics as an asynchronous iterator; ``watch`` makes it.

    Iterating raises ConflictError when the cursor cannot be resumed (the log was begun anew, or no
    longer keeps the place): start without it, with a snapshot. It raises ConfigError when the
    server refuses the request or the key.
    """

    def __init__(
        self,
        url: str,
        request: dict[str, Any],
        cursor: Cursor | None,
        secret: str,
        backoff: Backoff,
        jitter: Callable[[], float],
    ) -> None:
        self._url = url
        self._request = request
        self._cursor: Cursor = msgspec.json.decode(msgspec.json.encode(cursor or {}))
        self._secret = secret
        self._backoff = backoff
        self._jitter = jitter
        self._socket: ClientConnection | None = None
        self._silence_s = _SILENCE_S
        self._waiting: deque[Item] = deque()
        self._unshown = set(request["topics"]) if request["snapshot"] and not cursor else set()
        self.connects = 0

    @property
    def cursor(self) -> Cursor:
        """The place behind what was given last, to be stored as JSON; empty before the start."""
        return {
            topic: {"epoch": place["epoch"], "offsets": dict(place["offsets"])}
            for topic, place in self._cursor.items()
        }

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Item:
        """Return the next item; waits for it, and connects again as often as it takes."""
        while not self._waiting:
            try:
                if self._socket is None:
                    await self._connect()
                await self._receive()
            except (_Broken, OSError, WebSocketException, TimeoutError) as error:
                if isinstance(error, InvalidStatus) and error.response.status_code in (401, 403):
                    raise self._refused("forbidden", "the server refuses the connection") from error
                await self.close()
                if not self._waiting:
                    await asyncio.sleep(self._backoff.next_s() * (0.5 + self._jitter() / 2))
        item = self._waiting.popleft()
        if isinstance(item, Update):
            offsets = self._cursor[item.topic]["offsets"]
            offsets[str(item.partition)] = item.offset + 1
        return item

    async def close(self) -> None:
        """Leave the server; iterating connects again."""
        socket, self._socket = self._socket, None
        if socket is not None:
            await socket.close()

    async def _connect(self) -> None:
        self.connects += 1
        self._socket = await connect(
            self._url,
            compression=None,
            max_size=_FRAME_MAX_BYTES,
            open_timeout=_OPEN_TIMEOUT_S,
            close_timeout=1.0,
        )

    async def _receive(self) -> None:
        assert self._socket is not None  # connected before anything is received
        async with asyncio.timeout(self._silence_s):
            text = await self._socket.recv(decode=False)
        try:
            frames = _FRAMES.decode(text) if text[:1] == b"[" else [_FRAME.decode(text)]
        except msgspec.DecodeError as error:
            raise _Broken from error
        for frame in frames:
            await self._take(frame)

    async def _take(self, frame: _Frame) -> None:
        if frame.op == "data":
            self._take_data(frame)
        elif frame.op == "snapshot":
            held = [
                Update(
                    frame.topic,
                    h.partition,
                    h.offset,
                    frame.epoch,
                    decode(frame.topic, bytes(h.data)),
                )
                for h in frame.records
            ]
            self._waiting.append(Snapshot(frame.topic, held, frame.is_last, frame.is_complete))
            if frame.is_last:
                self._unshown.discard(frame.topic)
        elif frame.op == "gap":
            self._waiting.append(
                Gap(frame.topic, frame.partition, frame.first, frame.last, frame.reason)
            )
        elif frame.op == "hello":
            await self._greet(frame)
        elif frame.op == "subscribed":
            # The place that the server has chosen; a cursor that was given is that place already.
            self._cursor = {**frame.cursor, **self._cursor}
            self._backoff.reset()
        elif frame.op in ("error", "disconnect"):
            self._hear(frame)

    def _take_data(self, frame: _Frame) -> None:
        record = decode(frame.topic, bytes(frame.data))
        self._waiting.append(
            Update(frame.topic, frame.partition, frame.offset, frame.epoch, record)
        )

    async def _greet(self, hello: _Frame) -> None:
        assert self._socket is not None  # it has just given the hello
        self._silence_s = max(_SILENT_HEARTBEATS * hello.heartbeat_ms / 1000, 1.0)
        if not hello.is_authenticated:
            await self._send({"op": "auth", "secret": self._secret or "none"})
        request = dict(self._request)
        if self._unshown:
            # A snapshot that broke off comes again, whole; no update can have come before it.
            self._cursor = {}
        if self._cursor:
            request["from"] = self._cursor
            request["snapshot"] = False
        await self._send(request)

    async def _send(self, request: dict[str, Any]) -> None:
        assert self._socket is not None  # only a connected stream sends
        await self._socket.send(msgspec.json.encode(request).decode())

    def _hear(self, frame: _Frame) -> None:
        if frame.code in _GIVE_UP:
            raise ConflictError(
                f"the stream cannot go on from its cursor: {frame.detail}",
                field="cursor",
                value=frame.code,
                remedy="start without a cursor, with a snapshot",
            )
        if frame.op == "error" and frame.code not in _TRY_AGAIN:
            raise self._refused(frame.code, frame.detail)
        raise _Broken

    def _refused(self, code: str, detail: str) -> ConfigError:
        if code in _ABOUT_THE_KEY:
            what = "does not know the key" if self._secret else "asks for a key, and none was given"
            return ConfigError(
                f"the server {what}: {detail}" if self._secret else f"the server {what}",
                field="secret",
                value=code,
                remedy="give a key of the server as secret=; `millrace keys make` makes one",
            )
        return ConfigError(
            f"the server does not give the stream: {detail}",
            field="topics",
            value=code,
            remedy="check topics, filters and the key",
        )


def _check_url(url: str) -> None:
    """Raise ConfigError for what no WebSocket has; connecting would only be tried again."""
    scheme, separator, rest = url.partition("://")
    if separator and scheme.lower() in ("ws", "wss"):
        with suppress(ValueError):  # a port that is none
            parts = urlsplit(url)
            if parts.hostname and not parts.hostname.isspace() and parts.port != 0:
                return
    known = {"http": "ws", "https": "wss"}.get(scheme.lower() if separator else "")
    raise ConfigError(
        "the address is none of a WebSocket",
        field="url",
        value=url,
        remedy=f"write {known}://{rest}"
        if known and rest
        else "write ws://host:port/ws, or wss:// where the server speaks TLS",
    )


def watch(
    url: str,
    topics: Sequence[str],
    *,
    filters: Mapping[str, Sequence[str]] | None = None,
    cursor: Cursor | None = None,
    start: str = "latest",
    snapshot: bool = False,
    mode: str | None = None,
    secret: str = "",
    retry_first_s: float = 0.25,
    retry_most_s: float = 10.0,
    jitter: Callable[[], float] = random.random,
) -> Stream:
    """Return a stream of ``topics`` from the server at ``url`` (ws://host:port/ws).

    ``filters`` has allowed values by field. ``cursor`` is where an earlier stream stood; without
    one the stream begins with what comes (``start`` "latest"), or with all that is kept
    ("earliest"); ``snapshot`` gives first what the topics hold. ``mode`` "all" leaves nothing out
    even of conflated topics. ``secret`` is an API key. After a break the stream waits
    ``retry_first_s``, twice as long each time up to ``retry_most_s``, less up to a half by
    ``jitter`` (0 to 1). Raises ConfigError for an address that is none of a WebSocket and for
    waiting times that make no sense.
    """
    _check_url(url)
    request: dict[str, Any] = {
        "op": "subscribe",
        "id": _REQUEST_ID,
        "topics": list(topics),
        "from": start,
        "snapshot": snapshot,
        "batch": True,
    }
    if filters:
        request["filters"] = {name: list(values) for name, values in filters.items()}
    if mode is not None:
        request["mode"] = mode
    backoff = Backoff(retry_first_s, retry_most_s)
    return Stream(url, request, cursor, secret, backoff, jitter)
