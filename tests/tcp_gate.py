"""A door between a client and a server on this machine, to be shut and opened again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit


class Gate:
    """Forwards to the server of ``options``; clients use ``options`` of the gate."""

    def __init__(self, options: Mapping[str, Any]) -> None:
        self.options = dict(options)
        self._parts = urlsplit(str(options.get("dsn", "")))
        host = self._parts.hostname if "dsn" in options else options["host"]
        self._target = (host, self._parts.port if "dsn" in options else options["port"])
        self._server: asyncio.Server | None = None
        self._port = 0
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        """Open."""
        await self.open()
        if "dsn" in self.options:
            user = self._parts.netloc.rpartition("@")[0]
            parts = self._parts._replace(netloc=f"{user}@127.0.0.1:{self._port}")
            self.options["dsn"] = urlunsplit(parts)
        else:
            self.options |= {"host": "127.0.0.1", "port": self._port}
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut."""
        await self.shut()

    async def open(self) -> None:
        """Let clients through, at the port of before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    async def shut(self) -> None:
        """Refuse new clients and cut those that there are."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._open):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, back}
        for source, sink in ((reader, back), (there, writer)):
            task = asyncio.create_task(_forward(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
