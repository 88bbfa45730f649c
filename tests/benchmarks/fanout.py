"""How fast one process serves many WebSocket clients: ``python -m tests.benchmarks.fanout``.

Messages of 200 bytes over real sockets; each server runs in a process of its own, its clients in
another. Beside the app stand what most tutorials do (await the send to one client after the other)
and what can be reached at all (a bare picows server that writes prebuilt, joined frames). All of it
in one run, in turns, because only ratios of one run count. At the end stands what must be reached.
"""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks.targets import Target, show_verdict

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_S = 300
_MESSAGES_MAX = 6_000
"""Below what an outbox holds. App and limit send equally much, and for long enough: rounds of less
than a second are kinder to whoever fills the buffers of the sockets first."""
_NAIVE_RATIO_MIN, _RATE_MIN, _HIGH_MS_MAX = 10, 250_000, 50


class Counts(NamedTuple):
    """How much is measured.

    Deliveries of a round are those of the slow way and of the others; ``latency_rate`` is messages
    a second; without ``slow_clients`` it is not measured what such a client costs.
    """

    rounds: int = 3
    clients: tuple[int, ...] = (50, 500)
    naive_deliveries: int = 100_000
    deliveries: int = 3_000_000
    latency_clients: int = 500
    latency_rate: int = 200
    latency_s: int = 5
    slow_clients: int = 1_000


_COUNTS = Counts()


class Rates(NamedTuple):
    """Deliveries a second of every round, by way of serving."""

    clients: int
    by_way: dict[str, list[float]]

    def medians(self) -> dict[str, float]:
        """Return the median of each way."""
        return {way: statistics.median(found) for way, found in self.by_way.items()}


def run(counts: Counts = _COUNTS) -> list[Target]:
    """Measure, print the tables and what must be reached, and return that."""
    rates = [measure_rates(clients, counts) for clients in counts.clients]
    arguments = (
        counts.latency_clients,
        counts.latency_rate * counts.latency_s,
        counts.latency_rate,
    )
    found = [serve("app", *arguments) for _ in range(counts.rounds)]
    rate, middle_ms, high_ms = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"at {rate:,.0f} deliveries/s to {counts.latency_clients} clients:", end=" ")
    print(f"p50 {middle_ms:.1f} ms, p99 {high_ms:.1f} ms")
    if counts.slow_clients:
        (each_mb,) = serve("app", counts.slow_clients, "slow")
        print(f"{counts.slow_clients:,} clients that read nothing:", end=" ")
        print(f"{each_mb * 1000:.0f} kB of memory each")
    by_clients = {rate.clients: rate.medians() for rate in rates}
    most, fastest = max(by_clients.items())
    targets = [
        *(
            Target(
                f"fan-out to {clients} clients by the naive loop's",
                median["app"] / median["naive"],
                _NAIVE_RATIO_MIN,
            )
            for clients, median in by_clients.items()
        ),
        Target(f"deliveries/s to {most} clients", fastest["app"], _RATE_MIN),
        Target(f"p99 in ms at {rate:,.0f} deliveries/s", high_ms, _HIGH_MS_MAX, is_below=True),
    ]
    show_verdict(targets)
    return targets


def measure_rates(clients: int, counts: Counts) -> Rates:
    """Print and return what each way delivers, in turns."""
    deliveries_of = {
        "naive": counts.naive_deliveries,
        "app": counts.deliveries,
        "picows": counts.deliveries,
    }
    rates: dict[str, list[float]] = {way: [] for way in deliveries_of}
    for _ in range(counts.rounds):
        for way, deliveries in deliveries_of.items():
            messages = min(deliveries // clients, _MESSAGES_MAX)
            rate, _, _ = serve(way, clients, messages, 0)
            rates[way].append(rate)
    found = Rates(clients, rates)
    show(found)
    return found


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
    medians = rates.medians()
    title = f"fan-out, {rates.clients} clients, 200 bytes"
    print(f"{title:40} {'deliveries/s':>14} {'to naive':>9}  rounds")
    for way, rate in medians.items():
        rounds = " ".join(f"{value:,.0f}" for value in rates.by_way[way])
        print(f"{way:40} {rate:14,.0f} {rate / medians['naive']:9.1f}  {rounds}")


if __name__ == "__main__":
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, "
        f"Python {platform.python_version()}; medians"
    )
    run(Counts(rounds=int(sys.argv[1])) if len(sys.argv) > 1 else _COUNTS)
