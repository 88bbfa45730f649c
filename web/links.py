"""How frames get to a client: straight into its transport, or through plain ASGI.

An ASGI server takes one message a call and wakes a task for each; that costs ten times the write
itself. Our own server class (``web.direct``) hands the app its transport instead. Any other server,
and the test client, get the frames message by message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from starlette.websockets import WebSocket, WebSocketDisconnect

from web.bundle import Part

EXTENSION = "millrace.direct"
"""Where the ASGI scope of a connection has its ``Direct``, if the server gives one."""

_ABORT_AFTER_S = 5.0


class Direct(Protocol):
    """What our server class gives the app: the client's transport, by whole frames."""

    @property
    def can_write(self) -> bool:
        """Whether the transport takes more now."""
        ...

    on_writable: Callable[[], None]

    def write_frames(self, wire: bytes) -> None:
        """Write frames as they go over the wire."""
        ...

    def abort(self) -> None:
        """Drop the connection with whatever is still in its buffers."""
        ...


class Link(Protocol):
    """One client's way out; ``on_ready`` is called when it takes frames again."""

    on_ready: Callable[[], None]

    @property
    def is_ready(self) -> bool:
        """Whether it takes frames now."""
        ...

    def send(self, part: Part) -> None:
        """Send frames; they are on their way, in order, when this returns."""
        ...

    async def close(self, code: int, reason: str, timeout_s: float) -> None:
        """Close behind what was sent, or drop the connection if that takes too long."""
        ...

    def end(self) -> None:
        """Let go of the connection; what it has not taken in a moment is dropped."""
        ...


class DirectLink:
    """Writes into the transport."""

    def __init__(self, websocket: WebSocket, direct: Direct) -> None:
        self.on_ready: Callable[[], None] = _nothing
        self._websocket = websocket
        self._direct = direct
        direct.on_writable = self._writable

    def _writable(self) -> None:
        self.on_ready()

    @property
    def is_ready(self) -> bool:
        """Whether the transport's buffer has room."""
        return self._direct.can_write

    def send(self, part: Part) -> None:
        """Write frames into the transport."""
        self._direct.write_frames(part.wire)

    async def close(self, code: int, reason: str, timeout_s: float) -> None:
        """Close once the transport has room for it."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._websocket.close(code, reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            self._direct.abort()

    def end(self) -> None:
        """Drop the connection in a moment: a peer that reads nothing would keep it for ever."""
        self._direct.on_writable = _nothing
        asyncio.get_running_loop().call_later(_ABORT_AFTER_S, self._direct.abort)


class AsgiLink:
    """Sends message by message, in a task of its own; ready while nothing is under way."""

    def __init__(self, websocket: WebSocket) -> None:
        self.on_ready: Callable[[], None] = _nothing
        self._websocket = websocket
        self._parts: list[Part] = []
        self._task: asyncio.Task[None] | None = None

    @property
    def is_ready(self) -> bool:
        """Whether nothing is under way."""
        return self._task is None

    def send(self, part: Part) -> None:
        """Send frames behind those that are under way."""
        self._parts.append(part)
        if self._task is None:
            self._task = asyncio.create_task(self._work())

    async def _work(self) -> None:
        try:
            while self._parts:
                for text in self._parts.pop(0).texts:
                    await self._websocket.send_text(text.payload.decode())
        except (WebSocketDisconnect, RuntimeError):
            return  # The reader of the connection hears of it as well.
        self._task = None
        self.on_ready()

    async def close(self, code: int, reason: str, timeout_s: float) -> None:
        """Close behind what is under way, if that does not take too long."""
        try:
            async with asyncio.timeout(timeout_s):
                if self._task is not None:
                    await self._task
                await self._websocket.close(code, reason)
        except (TimeoutError, WebSocketDisconnect, RuntimeError):
            return  # The peer takes nothing more; the server drops the socket.

    def end(self) -> None:
        """Send nothing more."""
        self.on_ready = _nothing
        if self._task is not None:
            self._task.cancel()


def link_of(websocket: WebSocket) -> Link:
    """Return the quickest link that the server offers."""
    direct = (websocket.scope.get("extensions") or {}).get(EXTENSION)
    return AsgiLink(websocket) if direct is None else DirectLink(websocket, direct)


def _nothing() -> None:
    """Do nothing."""
