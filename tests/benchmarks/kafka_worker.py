"""A worker process over the benchmark's session: the stages as ``millrace worker`` runs them.

``python -m tests.benchmarks.kafka_worker BOOTSTRAP GROUP STAGES PARTITIONS [COUNT]`` prints
``ready`` when it has that many partitions of every stage, works until SIGTERM, or until every stage
has consumed COUNT trades, and then prints messages a second.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
import time

import uvloop

from agents.runners.kafka.stages import stage_specs
from agents.runners.kafka.worker import StageWorker
from infra.kafka.working import collect_rarely
from schemas.topics import MARKET_EVENTS
from streams.kafka.connection import Connection
from tests.benchmarks.kafka_case import CLASSES, INSTRUMENTS, engine_config

_LOOK_S = 0.01


async def main(bootstrap: str, group: str, stages: list[str], partitions: int, count: int) -> None:
    """Run the stages."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    specs = stage_specs(engine_config(), {}, CLASSES)
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            StageWorker(
                Connection(bootstrap=bootstrap),
                specs[name],
                INSTRUMENTS,
                group=group,
                data_folder=folder,
            )
            for name in stages
        ]
        collect_rarely()
        running = [asyncio.create_task(worker.run()) for worker in workers]
        while not all(w.is_ready and len(w.parts) == partitions for w in workers):
            await asyncio.sleep(_LOOK_S)
            _raise_ended(running)
        print("ready", flush=True)
        if count:
            print(await _rate(workers, running, count), flush=True)
            stop.set()
        await stop.wait()
        for worker in workers:
            worker.stop()
        await asyncio.gather(*running)


async def _rate(workers: list[StageWorker], running: list[asyncio.Task[None]], count: int) -> float:
    """Return trades a second from the first to the last, over all stages that read trades."""
    readers = [worker for worker in workers if worker.spec.name != "account"]
    began_s = 0.0
    while True:
        taken = [_taken(worker) for worker in readers]
        if not began_s and max(taken):
            began_s = time.perf_counter() - _LOOK_S / 2
        if min(taken) >= count:
            return count / (time.perf_counter() - began_s)
        _raise_ended(running)
        await asyncio.sleep(_LOOK_S)


def _taken(worker: StageWorker) -> int:
    """Return how many trades a stage has consumed."""
    places: dict[str, int] = {}
    for part in worker.parts.values():
        for source, offset in part.offsets.items():
            if source.startswith(f"{MARKET_EVENTS}/"):
                places[source] = min(offset, places.get(source, offset))
    return sum(places.values())


def _raise_ended(running: list[asyncio.Task[None]]) -> None:
    for task in running:
        if task.done():
            task.result()


if __name__ == "__main__":
    bootstrap, group, stages, partitions, *rest = sys.argv[1:]
    count = int(rest[0]) if rest else 0
    uvloop.run(main(bootstrap, group, stages.split(","), int(partitions), count))
