"""Plays a fuzz run against a server of its own, and says what holds of it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Coroutine, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from rich.console import Console

from infra.display import Bar, progress_bar
from tests.simulation.checker import Check
from tests.simulation.fuzz.frames import FrameCount, Frames, bad_handshake
from tests.simulation.fuzz.judging import Judge
from tests.simulation.fuzz.mutations import Spoiler
from tests.simulation.fuzz.process import Server
from tests.simulation.fuzz.sending import Sender, broken, silent, slow
from tests.simulation.fuzz.shapes import Names, Operation, Shapes, operations

HEAD_WITHIN_S = 15.0
"""By when a connection that does not bring a head must be ended; the server grants 10 s."""

HALF_WITHIN_S = 60.0
"""By when a WebSocket that answers no ping must be ended; the server grants 40 s."""

_SETTLE_S = 60.0
_ALIVE_S = 2.0
_LOOK_S, _TELL_S = 5.0, 30.0
_DESCRIPTORS_SLACK, _TASKS_SLACK = 14, 3
"""The pools of the database may hold 12 connections."""

_RARE = frozenset(
    {"POST /api/backtest/run", "POST /api/backtest/run-async", "POST /api/backtest/parity"}
)
"""Sound requests of these start a process each."""


class Plan(NamedTuple):
    """How much is sent, by how many clients at once.

    ``growth_mb_max`` bounds by how much more memory may be resident at most in the last quarter
    than in the second. ``is_patient``: wait until the server ends what is half open.
    """

    requests: int = 100_000
    sessions: int = 1_000
    broken: int = 4_000
    slow: int = 60
    clients: int = 12
    growth_mb_max: float = 60.0
    is_patient: bool = True


SHORT = Plan(
    requests=4_000,
    sessions=80,
    broken=200,
    slow=5,
    clients=8,
    growth_mb_max=150.0,
    is_patient=False,
)


class Fuzz:
    """One run."""

    def __init__(self, plan: Plan, seed: int, server: Server, console: Console) -> None:
        self._plan = plan
        self._seed = seed
        self._server = server
        self._console = console
        self.judge = Judge()
        self.frames = FrameCount()
        self.complaints: list[str] = []
        self.half_open: list[str] = []
        self._names = Names()
        self._document: dict[str, Any] = {}
        self._operations: list[Operation] = []
        self.samples: list[dict[str, float]] = []
        self._begun = self.handled = 0

    async def prepare(self) -> None:
        """Read the document."""
        status, self._document = await self._server.ask("GET", "/openapi.json")
        assert status == 200
        self._operations = operations(self._document)

    async def play(self, requests: int, sessions: int, bar: Bar) -> None:
        """Send requests and frames side by side, and look now and then at what is held."""
        looking = asyncio.create_task(self._look())
        try:
            await self._play(requests, sessions, bar)
        finally:
            looking.cancel()
            await asyncio.wait({looking})

    async def _look(self) -> None:
        began_s = told_s = time.monotonic()
        while True:
            found = await asyncio.shield(self._server.holdings())
            self.samples.append(found)
            now_s = time.monotonic()
            if now_s - told_s >= _TELL_S:
                told_s = now_s
                self._console.print(
                    f"{now_s - began_s:6.0f} s  {self.handled:9,} requests"
                    f"  {self.frames.sent:8,} frames  memory {found['memory_mb']:5.0f} MB"
                    f"  descriptors {found['descriptors']:4.0f}  tasks {found['tasks']:4.0f}"
                )
            await asyncio.sleep(_LOOK_S)

    async def _play(self, requests: int, sessions: int, bar: Bar) -> None:
        plan = self._plan
        jobs: list[Coroutine[Any, Any, None]] = [
            self._requests(number, requests, bar) for number in range(plan.clients)
        ]
        jobs.append(self._sessions(sessions))
        jobs.append(self._broken(plan.broken))
        jobs += [self._complain(slow(self._server.port, HEAD_WITHIN_S)) for _ in range(plan.slow)]
        jobs += [self._complain(silent(self._server.port, HEAD_WITHIN_S)) for _ in range(plan.slow)]
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)

    def _spoiler(self, name: str) -> tuple[Spoiler, random.Random]:
        rng = random.Random(f"{self._seed}-{name}-{self.handled}")
        return Spoiler(Shapes(self._document, self._names, rng), rng), rng

    async def _requests(self, number: int, count: int, bar: Bar) -> None:
        spoiler, rng = self._spoiler(f"requests-{number}")
        sender = Sender(self._server.port, rng)
        # One list for all clients: none waits for the others' slow routes at the end.
        while self._begun < count:
            operation = self._operations[self._begun % len(self._operations)]
            self._begun += 1
            message = spoiler.message(operation)
            if operation.name in _RARE and message.how == "plain" and rng.random() < 0.9:
                message = message._replace(body=message.body[:-1], how="body text")
            answer = await sender.send(message)
            self.judge.take(message, answer)
            self.handled += 1
            if answer.status == 200 and len(answer.body) < 20_000:
                self._learn(answer.body)
            bar.advance(1)
        await sender.close()

    def _learn(self, body: bytes) -> None:
        try:
            self._names.learn(msgspec.json.decode(body))
        except msgspec.MsgspecError:
            return  # a page or a style sheet

    async def _sessions(self, count: int) -> None:
        spoiler, rng = self._spoiler("sessions")
        frames = Frames(self._server.port, spoiler, rng, self.frames)
        for _ in range(count):
            await frames.play()
            if rng.random() < 0.2:
                await self._complain(bad_handshake(self._server.port, rng))
        if self._plan.is_patient:
            self.half_open += await frames.expired(HALF_WITHIN_S)
        frames.close()

    async def _broken(self, count: int) -> None:
        spoiler, rng = self._spoiler("broken")
        for _ in range(count):
            message = spoiler.message(rng.choice(self._operations))
            await self._complain(broken(self._server.port, message, rng))

    async def _complain(self, work: Awaitable[str]) -> None:
        complaint = await work
        if complaint:
            self.complaints.append(complaint)

    # ---- the end

    async def afterwards(self, before: dict[str, float]) -> tuple[dict[str, float], list[Check]]:
        """Wait until all is let go of; return what is held then, and whether the app lives."""
        await self._calm()
        end_s = time.monotonic() + _SETTLE_S
        now = await self._server.holdings()
        while time.monotonic() < end_s and not _is_back(before, now):
            await asyncio.sleep(1.0)
            now = await self._server.holdings()
        checks = [
            Check("descriptors are back", 1, _back("descriptors", before, now, _DESCRIPTORS_SLACK)),
            Check("tasks are back", 1, _back("tasks", before, now, _TASKS_SLACK)),
        ]
        return now, [*checks, *await self._alive()]

    async def _calm(self) -> None:
        """Undo what was asked for in the course of the run: backtests, breakers, the mode."""
        ask = self._server.ask
        await ask("PUT", "/api/config", {"autonomy_mode": "AUTOMATIC"})
        for limits in (await ask("GET", "/api/risk"))[1].get("limits", ()):
            body = {k: limits[k] for k in ("scope", "scope_id")}
            await ask(
                "PUT", "/api/risk/limits", {**body, "limits": {}, "reason": "the run is over"}
            )
        for item in (await ask("GET", "/api/risk/breaker"))[1].get("scopes", ()):
            body = {"scope": item["scope"], "scope_id": item["scope_id"], "reason": "over"}
            await ask("POST", "/api/risk/breaker/reset", body)
        for item in (await ask("GET", "/api/backtest/history?limit=100"))[1].get("backtests", ()):
            if item["status"] in ("QUEUED", "RUNNING"):
                await ask("POST", f"/api/backtest/{item['task_id']}/cancel", {"reason": "over"})

    async def _alive(self) -> list[Check]:
        checks = []
        for method, path, body in (
            ("GET", "/healthz", None), ("GET", "/readyz", None), ("GET", "/api/portfolio", None),
            ("GET", "/api/orders?limit=500", None),
            ("POST", "/api/orders", {"symbol": "IBM", "side": "SELL", "quantity": 1}),
        ):  # fmt: skip
            began_s = time.monotonic()
            status, _ = await self._server.ask(method, path, body)
            took_s = time.monotonic() - began_s
            breach = "" if status == 200 and took_s < _ALIVE_S else f"{status} after {took_s:.1f} s"
            checks.append(Check(f"afterwards {method} {path}", 1, breach))
        return checks

    def checks(self) -> list[Check]:
        """Return what holds of requests and frames."""
        judge, frames = self.judge, self.frames
        looked = (judge.count, judge.problems, judge.matched, judge.decoded, judge.sound)
        found = [
            Check(rule, count, _first(breaches))
            for (rule, breaches), count in zip(judge.breaches.items(), looked, strict=True)
        ]
        quiet = [item.name for item in self._operations if not judge.routes[item.name]]
        found.append(Check("every route was asked", len(self._operations), ", ".join(quiet)))
        counts = (frames.received, frames.closes.total(), frames.sessions.total())
        found += [
            Check(rule, count, _first(breaches))
            for (rule, breaches), count in zip(frames.breaches.items(), counts, strict=True)
        ]
        found.append(
            Check("broken connections are ended", self._plan.broken, _first(self.complaints))
        )
        if self._plan.is_patient:
            halves = frames.sessions["half"]
            found.append(Check("half open WebSockets are ended", halves, _first(self.half_open)))
        return found


def _first(breaches: list[str]) -> str:
    return f"{len(breaches)}: {breaches[0]}" if breaches else ""


def _is_back(before: dict[str, float], now: dict[str, float]) -> bool:
    return not (
        _back("descriptors", before, now, _DESCRIPTORS_SLACK)
        or _back("tasks", before, now, _TASKS_SLACK)
    )


def _back(name: str, before: dict[str, float], now: dict[str, float], slack: int) -> str:
    grown = now[name] - before[name]
    return f"{before[name]:.0f} before, {now[name]:.0f} afterwards" if grown > slack else ""


async def run_fuzz(plan: Plan, seed: int, folder: Path, console: Console) -> list[Check]:
    """Play a run and return what holds of it; all breaches stand in ``breaches.txt``."""
    server = Server(folder)
    try:
        await server.start()
        fuzz = Fuzz(plan, seed, server, console)
        await fuzz.prepare()
        before = await server.holdings()
        with progress_bar(console, "requests") as bar:
            bar.total(plan.requests)
            began_s = time.monotonic()
            await fuzz.play(plan.requests, plan.sessions, bar)
            took_s = time.monotonic() - began_s
        now, ends = await fuzz.afterwards(before)
        status = await server.stop()
    finally:
        await server.stop()
    _tell(console, fuzz, {"before": before, "afterwards": now}, took_s)
    memory = [sample["memory_mb"] for sample in fuzz.samples]
    said = server.log.read_text(errors="replace").splitlines()
    _keep(fuzz, folder / "breaches.txt")
    return [
        *fuzz.checks(), *ends,
        Check("memory is flat", len(memory), flat(memory, plan.growth_mb_max)),
        Check("nothing in the server's log", 1, _first(said)),
        Check("the server stops", 1, "" if status == 0 else f"exit status {status}"),
    ]  # fmt: skip


def flat(memory: Sequence[float], growth_mb_max: float) -> str:
    """Compare the most of the last quarter with the most of the second, behind the warm-up."""
    quarter = max(len(memory) // 4, 1)
    was, now = max(memory[quarter : 2 * quarter] or memory), max(memory[-quarter:])
    grew = f"it grew from {was:,.0f} to {now:,.0f} MB, by more than {growth_mb_max:g}"
    return grew if now - was > growth_mb_max else ""


def _tell(console: Console, fuzz: Fuzz, held: dict[str, dict[str, float]], took_s: float) -> None:
    judge, frames = fuzz.judge, fuzz.frames
    rate = judge.count / took_s
    console.print(f"{judge.count:,} requests in {took_s:.0f} s, {rate:.0f}/s")
    console.print(f"statuses {dict(sorted(judge.statuses.items()))}")
    console.print(f"codes {dict(judge.codes.most_common(40))}")
    console.print(f"slowest answer {judge.slowest_s:.1f} s: {judge.slowest}", markup=False)
    dear = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in judge.seconds.most_common(8))
    console.print(f"most time waited for: {dear}", markup=False)
    console.print(
        f"frames sent {frames.sent:,}, received {frames.received:,};"
        f" sessions {dict(frames.sessions)}; close codes {dict(frames.closes)};"
        f" errors {dict(frames.errors)}"
    )
    memory = [sample["memory_mb"] for sample in fuzz.samples]
    shown = memory[:: max(len(memory) // 20, 1)]
    console.print("memory over the run (MB): " + " ".join(f"{mb:.0f}" for mb in shown))
    for name, holdings in held.items():
        console.print(f"{name}: {holdings}")


def _keep(fuzz: Fuzz, path: Path) -> None:
    """Write every breach down, so that it can be sent again."""
    lists = {
        **fuzz.judge.breaches,
        **fuzz.frames.breaches,
        "ends": fuzz.complaints + fuzz.half_open,
    }
    with path.open("w") as file:
        for rule, breaches in lists.items():
            file.write(f"# {rule}: {len(breaches)}\n")
            file.writelines(f"{breach}\n" for breach in breaches)
