"""uvicorn's WebSocket protocol, with its transport given to the app.

Handshake, requests, pings and closing stay uvicorn's and the ``websockets`` library's. What the app
sends to many clients goes past them, as prebuilt frames: a server's frames are the same for every
client, so there is nothing left to do for each but the write.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from uvicorn._types import ASGISendEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol

from web.accepting import last_words
from web.links import EXTENSION

_HIGH_BYTES, _LOW_BYTES = 32_768, 8_192
_NOBODY = logging.getLogger("millrace.handshakes")
"""Takes the library's words about wrong handshakes, which only the client need hear."""
_NOBODY.disabled = True


class DirectProtocol(WebSocketsSansIOProtocol):
    """One WebSocket connection that the app may write to directly."""

    on_writable: Callable[[], None]

    def connection_made(self, transport: Any) -> None:
        """Take over the connection of a request to upgrade."""
        super().connection_made(transport)
        self.on_writable = _nothing
        self._is_full = False
        transport.set_write_buffer_limits(high=_HIGH_BYTES, low=_LOW_BYTES)

    def data_received(self, data: bytes) -> None:
        """Take bytes; a request that the library cannot read would stay without an answer."""
        super().data_received(data)
        error = self.conn.handshake_exc
        if error is not None and not self.handshake_initiated:
            self._refuse(400, str(error.__cause__ or error))

    def handle_connect(self, event: Request) -> None:
        """Begin the app's work on a connection; it finds this protocol in its scope."""
        said = ServerProtocol(logger=_NOBODY).accept(event)
        if said.status_code != 101:
            # What the library itself stumbles over is a mistake of the client, too.
            status = 400 if said.status_code >= 500 else said.status_code
            self._refuse(status, said.body.decode().strip().replace("\n", " "))
            return
        super().handle_connect(event)
        if self.response.status_code == 101:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    def _refuse(self, status: int, reason: str) -> None:
        """Answer a request to upgrade with a problem, and end the connection."""
        self.handshake_initiated = self.handshake_complete = self.close_sent = True
        detail = f"this opens no WebSocket: {reason}; send a handshake as RFC 6455 has it"
        self.transport.write(last_words(status, "bad_handshake", detail))
        self.transport.close()

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
                # A client may have closed behind it already: then its close is answered.
                if self.conn.state is State.OPEN:
                    self.conn.send_close(1007, "text frames are UTF-8")
                    self.handle_parser_exception()
                return
        super().send_receive_event_to_app()

    async def send(self, message: ASGISendEvent) -> None:
        """Carry out what the app says; uvicorn takes a refusal in words for no answer at all."""
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            self.handshake_complete = True

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
