"""Serves the app inside the event loop that runs the engine: uvicorn without own signals."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Iterator
from typing import NamedTuple

import uvicorn
from starlette.types import ASGIApp

from schemas.errors import ConfigError, StorageError
from web.accepting import BoundedProtocol, bounded, connections_max
from web.direct import DirectProtocol

_BACKLOG = 2048
_ACCEPTED_AT_ONCE = 16
_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 1.5
_POLL_S = 0.01
_WEBSOCKET_MAX_BYTES = 131_072


class _Server(uvicorn.Server):
    """uvicorn that leaves signals to whoever runs the loop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


class Tls(NamedTuple):
    """The files of a certificate and its key, PEM."""

    certificate: str
    key: str


class WebServer:
    """One app on one address; ``port`` 0 picks a free one.

    With ``tls`` it speaks nothing else. ``proxies`` are believed what they say of their clients.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        protocol: type[BoundedProtocol] | None = None,
        *,
        tls: Tls | None = None,
        proxies: tuple[str, ...] = (),
    ) -> None:
        self.host = host
        self.port = port
        config = uvicorn.Config(
            app,
            http=protocol or bounded(connections_max()),
            # Connections taken in one turn of the loop, before the bound can refuse any. What the
            # system queues behind them is _BACKLOG.
            backlog=_ACCEPTED_AT_ONCE,
            lifespan="on",
            ws=DirectProtocol,
            # The app refuses larger frames with an answer; this is the bound behind it.
            ws_max_size=_WEBSOCKET_MAX_BYTES,
            ws_per_message_deflate=False,
            access_log=False,
            log_config=None,
            # Requests that are no HTTP are answered, not printed into the terminal's picture.
            log_level="error",
            server_header=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=tls.certificate if tls is not None else None,
            ssl_keyfile=tls.key if tls is not None else None,
            proxy_headers=bool(proxies),
            forwarded_allow_ips=list(proxies),
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise _unusable(tls, error) from error
        self._server = _Server(config)
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Bind and serve; returns when requests are answered.

        Raises ConfigError if the address cannot be used, StorageError if the app does not start.
        """
        listener = _bound(self.host, self.port)
        self.port = int(listener.getsockname()[1])
        self._task = asyncio.create_task(self._server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(_START_TIMEOUT_S):
                # uvicorn tells of its start by an attribute alone.
                while not self._server.started and not self._task.done():  # noqa: ASYNC110
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            await self.stop()
        if not self._server.started or self._task.done():
            raise StorageError(
                "the web app does not start",
                field="port",
                value=self.port,
                remedy="see the log for its error",
            )
        # To serve has cut the queue down to what is accepted at once: a burst of clients would then
        # wait for seconds until their handshakes are sent again.
        listener.listen(_BACKLOG)

    async def stop(self) -> None:
        """Stop within 2 s: no new requests, open ones get a moment, WebSockets are closed."""
        if self._task is None:
            return
        self._server.should_exit = True
        done, _ = await asyncio.wait({self._task}, timeout=_STOP_TIMEOUT_S)
        if not done:
            self._server.force_exit = True
            self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None


def check_serving(host: str, port: int, tls: Tls | None = None) -> None:
    """Raise ConfigError if nothing could be served there: for whoever writes something first.

    The address is free again afterwards; another program may still take it.
    """
    if tls is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
        except (OSError, ssl.SSLError) as error:
            raise _unusable(tls, error) from error
    _bound(host, port).close()


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen: {error.strerror or error}",
            field="address",
            value=f"{host}:{port}",
            remedy="stop the program that uses it, or choose another port",
        ) from error
    listener.setblocking(False)
    return listener


def _unusable(tls: Tls | None, error: Exception) -> ConfigError:
    return ConfigError(
        f"the certificate or its key cannot be used: {error}",
        field="web.tls_certificate",
        value=tls.certificate if tls is not None else "",
        remedy="give PEM files that belong together and that this user can read",
    )
