"""The benchmarks of fan-out and ingest run: on a few messages and rows, and nothing about time."""

from __future__ import annotations

import pytest

from tests.benchmarks import fanout, ingest
from tests.benchmarks.targets import Target, show_verdict
from tests.database_case import Servers


def test_all_ways_deliver_and_targets_are_told(capsys: pytest.CaptureFixture[str]) -> None:
    counts = fanout.Counts(
        rounds=1,
        clients=(5,),
        naive_deliveries=100,
        deliveries=1_000,
        latency_clients=5,
        latency_rate=100,
        latency_s=1,
        slow_clients=0,
    )

    ratio, rate, high_ms = fanout.run(counts)

    assert min(ratio.value, rate.value, high_ms.value) > 0
    assert [ratio.bound, rate.bound, high_ms.bound] == [10, 250_000, 50]
    out = capsys.readouterr().out
    assert [way for way in ("naive", "app", "picows") if f"\n{way} " in out] == [
        "naive",
        "app",
        "picows",
    ]
    assert out.count("target: ") == 3


@pytest.mark.parametrize("relation", ["trades", "quotes"])
async def test_sink_and_bare_copy_store_the_rows(
    servers: Servers, relation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = await servers.new_database("plain")
    counts = ingest.Counts(rows=50, batches=2, rounds=1)

    figures = await ingest.measure(options, "plain", relation, counts)
    ingest.show([figures], counts)

    assert min(figures.sink, figures.limit) > 0
    assert f"target: {relation} (plain) by COPY's" in capsys.readouterr().out


def test_verdict_says_what_is_met(capsys: pytest.CaptureFixture[str]) -> None:
    show_verdict(
        [
            Target("ratio", 10.0, 10),
            Target("ratio", 9.9, 10),
            Target("p99", 49.9, 50, is_below=True),
            Target("p99", 50.0, 50, is_below=True),
        ]
    )

    words = [line.rpartition(": ")[2] for line in capsys.readouterr().out.splitlines()]
    assert words == ["met", "NOT MET", "met", "NOT MET"]
