"""The JavaScript client, run by node against a real server."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from schemas import topics as t
from streams.memory_log import MemoryLog
from tests.integration.test_websocket import Site, all_places, events, served, trades, until
from tests.unit.web_run import START_NS

HERE = Path(__file__).parent
CLIENT = HERE.parents[1] / "web" / "static" / "client.js"


class Script:
    """A client under node; what it gives is read line by line."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def item(self) -> Any:
        """Return the next item."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        assert line, "the client has ended"
        return json.loads(line)

    async def updates(self, count: int) -> list[Any]:
        """Return the next updates; what else comes is passed over."""
        found: list[Any] = []
        while len(found) < count:
            item = await self.item()
            if item["kind"] == "update":
                found.append(item)
        return found


@asynccontextmanager
async def script(site: Site, count: int, **options: Any) -> AsyncIterator[Script]:
    """Give a running client."""
    with tempfile.TemporaryDirectory() as folder:
        # Not every node takes a file for a module unless its name says so.
        shutil.copy(CLIENT, Path(folder) / "client.mjs")
        for name in ("watching.mjs", "socket.mjs"):
            shutil.copy(HERE / name, folder)
        process = await asyncio.create_subprocess_exec(
            "node", f"{folder}/watching.mjs", site.url, str(count), json.dumps(options),
            stdout=asyncio.subprocess.PIPE, limit=2**24,
        )  # fmt: skip
        try:
            yield Script(process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()


def places(items: list[Any]) -> list[tuple[int, int]]:
    """Return partition and offset of updates, sorted."""
    return sorted((item["partition"], item["offset"]) for item in items)


async def test_snapshot_then_updates_then_a_cursor_that_goes_on() -> None:
    async with served() as site:
        site.log.append(events(30))
        async with script(site, 20, topics=[t.ORDER_EVENTS], snapshot=True) as first:
            subscribed, snapshot = await first.item(), await first.item()
            site.log.append(events(40, start=30))
            seen = await first.updates(20)
            end = await first.item()
        async with script(site, 20, topics=[t.ORDER_EVENTS], cursor=end["cursor"]) as second:
            seen += await second.updates(20)

    assert subscribed["topics"] == {t.ORDER_EVENTS: "complete"}
    assert places([*snapshot["updates"], *seen]) == all_places(site.log, t.ORDER_EVENTS)
    assert seen[0]["record"]["type"] == "order_submitted"


async def test_client_goes_on_by_itself_after_the_server_was_stopped() -> None:
    async with served() as site, script(site, 3000, topics=[t.ORDER_EVENTS]) as client:
        await client.item()
        site.log.append(events(1000))
        seen = await client.updates(1000)
        await site.stop()
        site.log.append(events(1500, start=1000))
        await site.start()
        seen += await client.updates(1500)
        site.log.append(events(500, start=2500))
        seen += await client.updates(500)

    assert places(seen) == all_places(site.log, t.ORDER_EVENTS)


async def test_slow_reader_leaves_the_server_and_goes_on_from_its_cursor() -> None:
    async with (
        served() as site,
        script(site, 3000, topics=[t.ORDER_EVENTS], itemsMax=100) as client,
    ):
        kinds = [(await client.item())["kind"]]
        site.log.append(events(3000))
        items: list[Any] = []
        while len(items) < 3000:
            item = await client.item()
            kinds.append(item["kind"])
            items += [item] if item["kind"] == "update" else []

    assert places(items) == all_places(site.log, t.ORDER_EVENTS)
    assert kinds.count("subscribed") > 1


async def test_gaps_are_given_and_lost_places_are_errors() -> None:
    log = MemoryLog("run-1", lambda: START_NS, history_max=10)
    async with served(log) as site:
        log.append([*trades(30), *events(30)])
        lost = {"epoch": "run-1", "offsets": {"0": 3}}
        old = {"epoch": "run-0", "offsets": {"0": 25}}
        topic = t.MARKET_EVENTS
        async with script(site, 10, topics=[topic], cursor={topic: lost}) as client:
            await client.item()
            gap = await client.item()
        topic = t.ORDER_EVENTS
        codes = []
        for cursor in (lost, old):
            async with script(site, 10, topics=[topic], cursor={topic: cursor}) as client:
                codes.append((await client.item())["code"])
        await until(lambda: not site.hub.client_count)

    assert (gap["kind"], gap["first"], gap["last"]) == ("gap", 3, 19)
    assert codes == ["cursor_expired", "epoch_changed"]
