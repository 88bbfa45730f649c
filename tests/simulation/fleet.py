"""A cluster under fire: one broker, worker processes that are killed, stopped and replaced."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
import sys
from pathlib import Path

from infra.kafka.node import Node
from tests.simulation.fault_worker import POINTS
from tests.simulation.worker_metrics import LAG, address_in, samples

_STOP_TIMEOUT_S = 30.0
_TELL_S = 5.0
_WATCH_S = 0.3


class Fleet:
    """Worker processes over one broker; a worker that ends is replaced after a moment."""

    def __init__(self, node: Node, address: str, config: Path, folder: Path) -> None:
        self.node = node
        self.address = address
        self.workers: list[subprocess.Popen[bytes]] = []
        self.restarts = 0
        self._config = config
        self._folder = folder
        self._logs: dict[int, Path] = {}
        self._wanted = 0
        self._is_watching = True

    def start(self) -> subprocess.Popen[bytes]:
        """Start one more worker of all stages."""
        arguments = ["worker", "--config", str(self._config), "--bootstrap", self.address]
        log = (self._folder / f"worker-{len(list(self._folder.glob('worker-*')))}.log").open("wb")
        worker = subprocess.Popen(
            [sys.executable, "-m", "tests.simulation.fault_worker", str(self._folder), *arguments],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        log.close()
        self.workers.append(worker)
        self._logs[worker.pid] = Path(log.name)
        return worker

    def unread(self) -> dict[tuple[str, str, int], int] | None:
        """Return how many records of each stage's partitions wait; None if a worker is not up."""
        found: dict[tuple[str, str, int], int] = {}
        for worker in self.workers:
            address = address_in(self._logs[worker.pid])
            if address is None:
                return None
            try:
                for sample in samples(address, _TELL_S):
                    if sample.name == LAG:
                        of = sample.labels
                        place = (of["stage"], of["topic"], int(of["partition"]))
                        found[place] = max(int(sample.value), found.get(place, 0))
            except OSError:
                return None
        return found

    async def keep(self, count: int) -> None:
        """Keep this many workers alive until ``stop``."""
        self._wanted = count
        while self._is_watching:
            dead = [worker for worker in self.workers if worker.poll() is not None]
            for worker in dead:
                self.workers.remove(worker)
                self.restarts += 1
            while len(self.workers) < self._wanted:
                self.start()
            await asyncio.sleep(_WATCH_S)

    async def stop(self) -> list[int]:
        """End all workers by SIGTERM; return their exit statuses."""
        self._is_watching = False
        await asyncio.sleep(_WATCH_S * 2)
        for worker in self.workers:
            worker.send_signal(signal.SIGCONT)
            worker.terminate()
        loop = asyncio.get_running_loop()
        statuses = []
        for worker in self.workers:
            try:
                wait = loop.run_in_executor(None, worker.wait, _STOP_TIMEOUT_S)
                statuses.append(await wait)
            except subprocess.TimeoutExpired:
                worker.kill()
                statuses.append(worker.wait())
        return statuses

    # ---- faults

    async def kill_worker(self, rng: random.Random) -> str:
        """Kill a random worker; another takes its place."""
        worker = rng.choice(self.workers)
        worker.kill()
        return f"kill -9 of worker {worker.pid}"

    async def stop_worker(self, rng: random.Random, point: str, seconds: float) -> str:
        """Stop a random worker for a while, anywhere or at a point of its work."""
        worker = await self._stopped_at(point) if point != "anywhere" else None
        if worker is None:
            point = "anywhere"
            worker = rng.choice(self.workers)
            worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(seconds)
        for stopped in self.workers:
            # Two may have come to the point before the file of the second was taken away.
            stopped.send_signal(signal.SIGCONT)
        return f"SIGSTOP of worker {worker.pid} for {seconds:g} s {point}"

    async def _stopped_at(self, point: str) -> subprocess.Popen[bytes] | None:
        """Let the first worker that comes to a point stop there; None if none does."""
        assert point in POINTS
        files = {self._folder / f"stop-{worker.pid}": worker for worker in self.workers}
        for file in files:
            file.write_text(point)
        stopped = None
        for _ in range(100):
            await asyncio.sleep(0.05)
            stopped = next((w for f, w in files.items() if not f.exists()), None)
            if stopped is not None:
                break
        for file in files:
            file.unlink(missing_ok=True)
        return stopped

    async def rebalance(self, seconds: float) -> str:
        """Let one more worker join, and leave after a while."""
        self._wanted += 1
        await asyncio.sleep(seconds)
        self._wanted -= 1
        worker = self.workers[-1]
        worker.terminate()
        return f"worker {worker.pid} joined and left"

    async def kill_broker(self, seconds: float) -> str:
        """Kill the broker and start it again after a while."""
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, self.node.kill)
        await asyncio.sleep(seconds)
        running = await loop.run_in_executor(None, self.node.start)
        assert running.address == self.address
        return f"kill -9 of the broker, back after {seconds:g} s"
