"""The Kafka benchmarks run: on a few trades, and nothing about time."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from infra.kafka.node import Node
from tests.benchmarks.kafka import (
    CHAINS,
    READERS,
    Counts,
    measure_latencies,
    measure_readers,
    measure_workers,
    show_latencies,
    show_rates,
    show_workers,
)
from tests.benchmarks.kafka_runs import empty, fill
from tests.integration.conftest import JARS

COUNTS = Counts(trades=2000, rounds=1, seconds=1.0, rate=100.0, warm_rounds=0)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Give a broker of its own: topics are deleted."""
    node = Node(tmp_path_factory.mktemp("bench") / "node", jars=JARS)
    running = node.start()
    try:
        asyncio.run(empty(running.address, keep_trades=False))
        yield running.address
    finally:
        node.kill()


@pytest.mark.parametrize("name", ["raw", "batches", "market,venue,account,strategy"])
def test_way_of_reading_takes_all_trades(
    address: str, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asyncio.run(empty(address, keep_trades=False))
    asyncio.run(fill(address, 0, COUNTS.trades))
    (way,) = (way for way in READERS if way.name == name)
    rates = measure_readers(address, [way], COUNTS)
    show_rates(rates)
    assert min(rates[way.label]) > 0
    assert way.label in capsys.readouterr().out


def test_orders_come_back_over_the_chain_and_over_a_worker(
    address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measure_latencies(address, COUNTS, CHAINS[2:])
    show_latencies(found, COUNTS)
    assert [len(rounds) for rounds in found.values()] == [1, 1]
    assert min(orders for ((orders, _, _),) in found.values()) > 0
    assert "a worker for each stage" in capsys.readouterr().out


def test_two_workers_share_the_trades(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    show_workers(measure_workers(address, COUNTS))
    assert "2 worker processes, all stages" in capsys.readouterr().out
