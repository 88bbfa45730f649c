"""Starts the process under fire, asks it what it holds, and stops it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

ROOT = Path(__file__).resolve().parents[3]
_START_S = 120.0
_STOP_S = 30.0

CONFIG = """\
[source]
data = "demo"
speed = 30

[account]
cash = "1000000"

[risk.limits]
max_position = "1000"

[market]
intervals = ["1s", "1m"]

[[strategies]]
name = "momentum_crossover"
strategy_id = "demo"
on = "1m"
parameters = { fast = 5, slow = 20, weight = 0.5 }
"""


class Server:
    """The process under fire."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.log = folder / "server.log"
        self.port = 0
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready."""
        config = self._folder / "run.toml"
        config.write_text(CONFIG)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
        environment["MILLRACE_DATA_FOLDER"] = str(self._folder)
        with self.log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.simulation.fuzz.server",
                str(self._folder / "runs" / "paper"), str(config),
                cwd=ROOT, env=environment, stderr=log,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
        line = await self._line(lambda text: "serving http" in text)
        found = re.search(r"serving http://[^:]+:(\d+)", line)
        assert found is not None
        self.port = int(found[1])
        async with asyncio.timeout(_START_S):
            while not await self.is_ready():  # noqa: ASYNC110 - another process
                await asyncio.sleep(0.2)

    async def _line(self, is_wanted: Callable[[str], bool]) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_S):
            while not is_wanted(line := (await self._process.stdout.readline()).decode()):
                assert line, f"the server has ended:\n{self.log.read_text()[-3_000:]}"
        return line

    async def is_ready(self) -> bool:
        """Return whether it is ready and has prices."""
        ready = (await self.ask("GET", "/readyz"))[0] == 200
        return (
            ready and (await self.ask("GET", "/api/orderbook/IBM"))[1].get("last_price") is not None
        )

    async def ask(
        self, method: str, path: str, body: Any = None, timeout_s: float = 30.0
    ) -> tuple[int, dict[str, Any]]:
        """Send a request as clients do."""
        return await asyncio.to_thread(self._ask, method, path, body, timeout_s)

    def _ask(
        self, method: str, path: str, body: Any, timeout_s: float
    ) -> tuple[int, dict[str, Any]]:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"http://127.0.0.1:{self.port}{path}", data, method=method)
        try:
            with urlopen(request, timeout=timeout_s) as answer:
                return int(answer.status), json.load(answer)
        except OSError as error:
            return int(getattr(error, "code", 0)), {}

    async def holdings(self) -> dict[str, float]:
        """Return what the process holds now."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        found: dict[str, float] = json.loads(await self._line(lambda text: text.startswith("{")))
        return found

    async def stop(self) -> int | None:
        """Stop it as Ctrl-C does; return its exit status, None if it had to be killed."""
        if self._process is None or self._process.returncode is not None:
            return self._process.returncode if self._process is not None else None
        self._process.terminate()
        try:
            async with asyncio.timeout(_STOP_S):
                return await self._process.wait()
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
            return None
