"""A request on a connection that has ended is told as what it is, whatever the loop raises."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any
from unittest.mock import AsyncMock

import aiokafka.conn
import pytest
import uvloop
from aiokafka.conn import AIOKafkaConnection
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from streams.kafka.connection import Connection
from streams.kafka.links import Link
from streams.kafka.starting import start_client

_CLOSED_S = 0.01
Ask = Callable[[AIOKafkaConnection], Any]


def metadata(link: AIOKafkaConnection) -> Any:
    return link.send(MetadataRequest([]))


def token(link: AIOKafkaConnection) -> Any:
    return link._send_sasl_token(b"token")


async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def ask_after_the_end(kind: type[AIOKafkaConnection], ask: Ask) -> None:
    """Write to a connection whose transport has closed and whose reader has not heard of it."""
    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    link = kind("127.0.0.1", port)
    link._reader, link._writer = await asyncio.open_connection("127.0.0.1", port)
    link._read_task = asyncio.create_task(asyncio.sleep(0))
    link._versions = {MetadataRequest.API_KEY: (0, 1)}
    try:
        link._writer.transport.abort()
        await asyncio.sleep(_CLOSED_S)
        ask(link)
    finally:
        link.close()
        server.close()
        await server.wait_closed()


@pytest.mark.parametrize("ask", [metadata, token])
def test_request_after_the_end_raises_what_clients_expect(ask: Ask) -> None:
    with pytest.raises(KafkaConnectionError, match="has ended: unable to perform"):
        uvloop.run(ask_after_the_end(Link, ask))


@pytest.mark.parametrize("ask", [metadata, token])
def test_client_alone_lets_the_loops_error_out(ask: Ask) -> None:
    # When this fails the client has learned it, and streams/kafka/links.py can go.
    with pytest.raises(RuntimeError, match="the handler is closed"):
        uvloop.run(ask_after_the_end(AIOKafkaConnection, ask))


def test_other_errors_stay_what_they_are() -> None:
    def fail(link: AIOKafkaConnection) -> None:
        link.send(None)

    with pytest.raises(AttributeError):
        uvloop.run(ask_after_the_end(Link, fail))


async def test_clients_connect_by_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiokafka.conn, "AIOKafkaConnection", AIOKafkaConnection)
    await start_client(AsyncMock(), Connection())
    assert aiokafka.conn.AIOKafkaConnection is Link
