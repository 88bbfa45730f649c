"""How fast one process serves many WebSocket clients: ``python -m tests.benchmarks.fanout``.

Messages of 200 bytes over real sockets; each server runs in a process of its own, its clients in
another. Beside the app stand what most tutorials do (await the send to one client after the other)
and what can be reached at all (a bare picows server that writes prebuilt, joined frames). All of it
in one run, in turns, because only ratios of one run count.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 300
_CLIENTS = (50, 500)
_DELIVERIES_MAX = {"naive": 100_000, "app": 3_000_000, "picows": 3_000_000}
_MESSAGES_MAX = 6_000
"""Below what an outbox holds. App and limit send equally much, and for long enough: rounds of less
than a second are kinder to whoever fills the buffers of the sockets first."""
_LATENCY_CLIENTS, _LATENCY_RATE, _LATENCY_S = 500, 200, 5
_SLOW_CLIENTS = 1_000


class Rates(NamedTuple):
    """Deliveries a second of every round, by way of serving."""

    clients: int
    by_way: dict[str, list[float]]


def run(rounds: int = 3) -> None:
    """Measure and print the tables."""
    for clients in _CLIENTS:
        show(measure_rates(clients, rounds))
    arguments = (_LATENCY_CLIENTS, _LATENCY_RATE * _LATENCY_S, _LATENCY_RATE)
    found = [serve("app", *arguments) for _ in range(rounds)]
    rate, middle_ms, high_ms = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"at {rate:,.0f} deliveries/s to {_LATENCY_CLIENTS} clients:", end=" ")
    print(f"p50 {middle_ms:.1f} ms, p99 {high_ms:.1f} ms")
    (each_mb,) = serve("app", _SLOW_CLIENTS, "slow")
    print(f"{_SLOW_CLIENTS:,} clients that read nothing: {each_mb * 1000:.0f} kB of memory each")


def measure_rates(clients: int, rounds: int) -> Rates:
    """Return what each way delivers, in turns."""
    rates: dict[str, list[float]] = {way: [] for way in _DELIVERIES_MAX}
    for _ in range(rounds):
        for way, deliveries in _DELIVERIES_MAX.items():
            messages = min(deliveries // clients, _MESSAGES_MAX)
            rate, _, _ = serve(way, clients, messages, 0)
            rates[way].append(rate)
    return Rates(clients, rates)


def serve(way: str, clients: int, *arguments: float | str) -> list[float]:
    """Run one server with its clients and return the numbers it printed."""
    words = [way, str(clients), *map(str, arguments)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.fanout_server", *words],
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=_TIMEOUT_S,
        check=True,
    )
    return [float(word) for word in done.stdout.split()]


def show(rates: Rates) -> None:
    """Print medians with their ratios to the naive loop, and the spread."""
    base = statistics.median(rates.by_way["naive"])
    title = f"fan-out, {rates.clients} clients, 200 bytes"
    print(f"{title:40} {'deliveries/s':>14} {'to naive':>9}  rounds")
    for way, found in rates.by_way.items():
        rate = statistics.median(found)
        rounds = " ".join(f"{value:,.0f}" for value in found)
        print(f"{way:40} {rate:14,.0f} {rate / base:9.1f}  {rounds}")


if __name__ == "__main__":
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; medians"
    )
    run(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
