"""uvicorn's WebSocket protocol, with its transport given to the app.

Handshake, requests, pings and closing stay uvicorn's and the ``websockets`` library's. What the app
sends to many clients goes past them, as prebuilt frames: a server's frames are the same for every
client, so there is nothing left to do for each but the write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from web.links import EXTENSION

_HIGH_BYTES, _LOW_BYTES = 32_768, 8_192


class DirectProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection that the app may write to directly."""

    on_writable: Callable[[], None]

    def connection_made(self, transport: Any) -> None:
        """Take over the connection of a request to upgrade."""
        super().connection_made(transport)
        self.on_writable = _nothing
        self._is_full = False
        transport.set_write_buffer_limits(high=_HIGH_BYTES, low=_LOW_BYTES)

    def handle_connect(self, event: Request) -> None:
        """Begin the app's work on a connection; it finds this protocol in its scope."""
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._is_full = True
        self.on_writable = _nothing
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """Take nothing more for now."""
        self._is_full = True
        super().pause_writing()

    def resume_writing(self) -> None:
        """Take frames again."""
        super().resume_writing()
        self._is_full = False
        self.on_writable()

    def send_receive_event_to_app(self) -> None:
        """Give the app a message; one that is no UTF-8 closes, without a word in the log."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.frames = []
                self.conn.send_close(1007, "text frames are UTF-8")
                self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    # ---- for the app

    @property
    def can_write(self) -> bool:
        """Whether the transport takes more now."""
        return not self._is_full and not self.close_sent

    def write_frames(self, wire: bytes) -> None:
        """Write whole frames; nothing is written behind a close frame."""
        if not self.close_sent and not self.transport.is_closing():
            self.transport.write(wire)

    def abort(self) -> None:
        """Drop the connection with whatever is still in its buffers."""
        transport: asyncio.Transport = self.transport
        transport.abort()


def _nothing() -> None:
    """Do nothing."""
