"""The Python client of the WebSocket: what it refuses at once, and how it names a missing key."""

from __future__ import annotations

import asyncio

import pytest

from schemas.errors import ConfigError
from streams.watching import watch
from tests.unit.test_web_websocket import Keys
from tests.unit.web_run import Run
from web.server import WebServer

TOPICS = ["orders.fills.v1"]


@pytest.mark.parametrize(
    ("url", "remedy"),
    [
        ("http://127.0.0.1:8000/ws", "write ws://127.0.0.1:8000/ws"),
        ("https://example.org/ws", "write wss://example.org/ws"),
        ("127.0.0.1:8000/ws", "write ws://host:port/ws"),
        ("ws:/127.0.0.1", "write ws://host:port/ws"),
        ("", "write ws://host:port/ws"),
        ("ws:///ws", "write ws://host:port/ws"),
        ("ws://h:99999/ws", "write ws://host:port/ws"),
        ("ws://h:abc/ws", "write ws://host:port/ws"),
        ("ws://[::1/ws", "write ws://host:port/ws"),
    ],
)
def test_address_that_is_none_of_a_websocket_is_refused_at_once(url: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        watch(url, TOPICS)

    assert (caught.value.field, caught.value.value) == ("url", url)
    assert caught.value.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("secret", "words"),
    [("", "asks for a key, and none was given"), ("x", "does not know the key")],
)
async def test_stream_without_a_key_that_is_known_names_the_key(secret: str, words: str) -> None:
    run = Run()
    run.app.state.context.hub.access = Keys()
    server = WebServer(run.app, "127.0.0.1", 0)
    await server.start()
    try:
        async with asyncio.timeout(10):
            with pytest.raises(ConfigError, match=words) as caught:
                await anext(watch(f"ws://127.0.0.1:{server.port}/ws", TOPICS, secret=secret))
    finally:
        await server.stop()

    assert (caught.value.field, caught.value.value) == ("secret", "unknown_secret")
    assert "secret=" in caught.value.remedy
