"""A long session at a steady rate on a real Kafka: flat memory, bounded lag, no loss, no duplicate.

``python -m tests.simulation.soak --minutes 30 --rate 20000`` (``make soak``) starts a broker and
two workers of all stages, publishes trades that carry the wall time, and tells every ten seconds
what the workers hold in memory, how far they are behind and what they consume. At the end all
topics are read and checked; exit status 1 if anything does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from infra.kafka.node import Node
from infra.settings import data_folder
from schemas.codec import encode
from schemas.market_data import Trade, Watermark
from schemas.topics import MARKET_EVENTS, REFERENCE_INSTRUMENTS
from streams.kafka.connection import Connection
from streams.kafka.publisher import Outgoing, Publisher, outgoing, partition_of
from streams.kafka.topics import ClusterTopics
from tests.generated import universe
from tests.simulation.checker import Check
from tests.simulation.faults import show
from tests.simulation.soak_audit import Audit
from tests.simulation.worker_metrics import LAG, address_in, samples

_SYMBOLS = tuple(f"S{number:02}" for number in range(8))
_INTERVAL = "1s"
_CONFIG = """\
[account]
cash = "1000000"
[market]
intervals = ["1s", "1m"]
[kafka]
run = "soak"
kinds = ["trade"]
"""
_STRATEGY = """\
[[strategies]]
name = "momentum_crossover"
strategy_id = "cross-{symbol}"
symbols = ["{symbol}"]
on = "1s"
parameters = {{ fast = 3, slow = 8, weight = 0.05 }}
"""
_STEP_S = 0.05
_TELL_S = 10.0
_READY_TIMEOUT_S = 90.0
_DRAIN_TIMEOUT_S = 240.0
_STOP_TIMEOUT_S = 60.0
_CLOSING_NS = 120_000_000_000
_GROWTH_MAX = 0.1
_GROWTH_MAX_MB = 30.0
_LAG_MAX_S = 10.0


class Sample(NamedTuple):
    """What the workers said at one instant: MB resident, records behind, records consumed."""

    memory_mb: float
    lag: float
    consumed: float


class Feed:
    """Trades of all instruments in turn, and watermarks, numbered for each partition."""

    def __init__(self, partitions: int) -> None:
        self.instruments = universe(_SYMBOLS).instruments
        self.fed = {item.instrument_id: 0 for item in self.instruments}
        self._keys = [item.instrument_id.encode() for item in self.instruments]
        self._places = [partition_of(key, partitions) for key in self._keys]
        self._numbers = [0] * partitions
        self._rng = np.random.default_rng(1)
        self._units = [10_000] * len(self.instruments)
        self._count = 0

    def trades(self, count: int, first_ns: int, last_ns: int) -> list[Outgoing]:
        """Return the next trades, spread over a stretch of time."""
        out: list[Outgoing] = []
        times = np.linspace(first_ns, last_ns, count, dtype=np.int64).tolist()
        steps = self._rng.integers(-2, 3, count).tolist()
        for ts, step in zip(times, steps, strict=True):
            code = self._count % len(self.instruments)
            self._count += 1
            self._units[code] = max(self._units[code] + step, 1000)
            instrument_id = self.instruments[code].instrument_id
            self.fed[instrument_id] += 1
            record = Trade(
                source="soak",
                source_seq=self._count,
                producer="soak",
                producer_seq=self._number(self._places[code]),
                ts_event_ns=ts,
                instrument_id=instrument_id,
                price=self._units[code] / 100,
                size=100.0,
            )
            place = self._places[code]
            out.append(Outgoing(MARKET_EVENTS, self._keys[code], encode(record), place))
        return out

    def watermarks(self, ts_event_ns: int) -> list[Outgoing]:
        """Return a promise that nothing at or before ``ts_event_ns`` follows, for every place."""
        out = []
        for place in range(len(self._numbers)):
            number = self._number(place)
            mark = Watermark(
                source="soak/marks",
                source_seq=number,
                producer="soak",
                producer_seq=number,
                ts_event_ns=ts_event_ns,
            )
            out.append(outgoing(MARKET_EVENTS, mark, place))
        return out

    def _number(self, place: int) -> int:
        self._numbers[place] += 1
        return self._numbers[place]

    async def run(self, publisher: Publisher, rate: float, seconds: float) -> None:
        """Publish at a steady rate, a watermark each second, and what closes the last bars."""
        loop = asyncio.get_running_loop()
        began_s, began_ns, sent, marked = loop.time(), time.time_ns(), 0, 0
        last_ns = began_ns
        while (now_s := loop.time() - began_s) < seconds:
            now_ns = began_ns + round(now_s * 1e9)
            # What a slow moment left behind is made up little by little.
            due = min(int(now_s * rate) - sent, int(rate * _STEP_S * 4))
            out = self.trades(due, last_ns + 1, now_ns)
            sent, last_ns = sent + due, now_ns
            if int(now_s) > marked:
                marked = int(now_s)
                out += self.watermarks(now_ns)
            await publisher.publish(out)
            await asyncio.sleep(max(_STEP_S - (loop.time() - began_s - now_s), 0))
        await publisher.publish(self.watermarks(last_ns + _CLOSING_NS))


class Workers:
    """Two worker processes of all stages."""

    def __init__(self, config: Path, address: str, folder: Path) -> None:
        self._logs = [folder / f"worker-{number}.log" for number in range(2)]
        self.processes = [self._start(config, address, log) for log in self._logs]

    def _start(self, config: Path, address: str, log: Path) -> subprocess.Popen[bytes]:
        arguments = ["worker", "--config", str(config), "--bootstrap", address, "--port", "0"]
        with log.open("wb") as file:
            return subprocess.Popen(
                [sys.executable, "-m", "infra", *arguments], stdout=file, stderr=subprocess.STDOUT
            )

    def check_alive(self) -> None:
        """Raise RuntimeError if one has ended."""
        for process, log in zip(self.processes, self._logs, strict=True):
            if process.poll() is not None:
                raise RuntimeError(f"a worker ended: {log.read_text()[-2000:]}")

    async def ready(self) -> None:
        """Wait until both have told where their health is, and that they are ready."""
        async with asyncio.timeout(_READY_TIMEOUT_S):
            while not all("ready" in log.read_text() for log in self._logs):
                self.check_alive()
                await asyncio.sleep(0.2)

    async def sample(self) -> Sample:
        """Return what both say now, together."""
        self.check_alive()
        loop = asyncio.get_running_loop()
        found = [await loop.run_in_executor(None, self._sample, n) for n in range(2)]
        return Sample(*(sum(column) for column in zip(*found, strict=True)))

    def _sample(self, number: int) -> Sample:
        totals = {LAG: 0.0, "millrace_records_consumed_total": 0.0}
        address = address_in(self._logs[number])
        assert address is not None  # it has said that it is ready
        try:
            for item in samples(address, _TELL_S):
                if item.name in totals:
                    totals[item.name] += item.value
        except OSError:
            # It is about to end, and says why.
            self.processes[number].wait(_STOP_TIMEOUT_S)
            self.check_alive()
            raise
        return Sample(_resident_mb(self.processes[number].pid), *totals.values())

    def stop(self) -> list[int]:
        """End both by SIGTERM; return their exit statuses."""
        for process in self.processes:
            process.terminate()
        return [process.wait(_STOP_TIMEOUT_S) for process in self.processes]

    def kill(self) -> None:
        """End both at once."""
        for process in self.processes:
            process.kill()


def _resident_mb(pid: int) -> float:
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    return int(subprocess.run(command, capture_output=True, check=True).stdout) / 1024


async def run_soak(
    minutes: float, rate: float, folder: Path, jars: Path, console: Console
) -> list[Check]:
    """Run a session and return what holds of it."""
    node = Node(folder / "node", jars=jars, heap="1g")
    connection = Connection(bootstrap=node.start().address)
    config = folder / "soak.toml"
    config.write_text(_CONFIG + "".join(_STRATEGY.format(symbol=name) for name in _SYMBOLS))
    workers: Workers | None = None
    try:
        await ClusterTopics(connection).apply()
        async with Publisher(connection, deadline_s=60.0) as publisher:
            feed = Feed((await publisher.counts([MARKET_EVENTS]))[MARKET_EVENTS])
            await publisher.publish([outgoing(REFERENCE_INSTRUMENTS, i) for i in feed.instruments])
            workers = Workers(config, connection.bootstrap, folder)
            await workers.ready()
            feeding = asyncio.create_task(feed.run(publisher, rate, minutes * 60))
            try:
                samples = await _tell(workers, feed, feeding, console)
            finally:
                feeding.cancel()
                await asyncio.wait({feeding})
            feeding.result()
            await _drain(workers, console)
        statuses = workers.stop()
        console.print(f"exit statuses {statuses}; reading all topics")
        audit = Audit(feed.fed, _INTERVAL)
        return [*_steadiness(samples, rate), *await audit.run(connection)]
    finally:
        if workers is not None:
            workers.kill()
        node.kill()


async def _tell(
    workers: Workers, feed: Feed, feeding: asyncio.Task[None], console: Console
) -> list[Sample]:
    """Print a line every ten seconds until everything is fed; return all samples."""
    samples: list[Sample] = []
    began_s = time.monotonic()
    fed, at_s = 0, began_s
    while not feeding.done():
        await asyncio.wait({feeding}, timeout=_TELL_S)
        samples.append(await workers.sample())
        now_s, total = time.monotonic(), sum(feed.fed.values())
        console.print(
            f"{now_s - began_s:6.0f} s  memory {samples[-1].memory_mb:6.0f} MB"
            f"  lag {samples[-1].lag:9,.0f}  published {(total - fed) / (now_s - at_s):9,.0f}/s"
            f"  consumed {samples[-1].consumed:13,.0f}"
        )
        fed, at_s = total, now_s
    return samples


async def _drain(workers: Workers, console: Console) -> None:
    """Wait until nothing is behind and nothing is consumed any more."""
    began_s = time.monotonic()
    async with asyncio.timeout(_DRAIN_TIMEOUT_S):
        before = await workers.sample()
        while True:
            await asyncio.sleep(3.0)
            now = await workers.sample()
            if not now.lag and now.consumed == before.consumed:
                break
            before = now
            console.print(f"        draining: lag {now.lag:,.0f}, consumed {now.consumed:,.0f}")
    console.print(f"drained after {time.monotonic() - began_s:.0f} s")


def _steadiness(samples: Sequence[Sample], rate: float) -> list[Check]:
    """Compare the last quarter with the second, behind the warm-up."""
    quarter = max(len(samples) // 4, 1)
    early, late = samples[quarter : 2 * quarter] or samples, samples[-quarter:]
    was, now = (statistics.median(s.memory_mb for s in part) for part in (early, late))
    memory = ""
    if now - was > max(_GROWTH_MAX * was, _GROWTH_MAX_MB):
        memory = f"it grew from {was:,.0f} MB to {now:,.0f} MB"
    # Two stages read every trade: these strategies look at bars.
    most, bound = max(s.lag for s in late), 2 * rate * _LAG_MAX_S
    lag = f"{most:,.0f} records, more than {_LAG_MAX_S:g} s" if most > bound else ""
    return [Check("memory is flat", len(samples), memory), Check("lag is bounded", len(late), lag)]


def main() -> None:
    """Run the session that the command line describes."""
    parser = argparse.ArgumentParser(prog="make soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=20_000.0, help="trades a second")
    parser.add_argument("--keep", type=Path, help="folder for logs and data of the run")
    arguments = parser.parse_args()
    console = Console(highlight=False, width=160)
    with tempfile.TemporaryDirectory(prefix="millrace-soak-") as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        jars = data_folder() / "kafka"
        run = run_soak(arguments.minutes, arguments.rate, folder, jars, console)
        checks = asyncio.run(run)
    sys.exit(0 if show(checks, console) else 1)


if __name__ == "__main__":
    main()
