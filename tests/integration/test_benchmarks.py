"""The Kafka benchmarks run and print their tables: on a few trades, and nothing about time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks import kafka
from tests.benchmarks.kafka import Counts, run_kafka
from tests.integration.conftest import JARS


def test_every_case_of_the_kafka_benchmarks_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # The one framework that is no dependency of ours would come from the network.
    monkeypatch.setattr(kafka, "READERS", [w for w in kafka.READERS if w.name != "faststream"])
    run_kafka(tmp_path, Counts(trades=2000, rounds=1, seconds=1.0, rate=100.0), JARS)
    printed = capsys.readouterr().out
    for way in kafka.READERS:
        assert way.label in printed
    assert "aiokafka echo chain" in printed
    assert "2 worker processes, all stages" in printed
    assert "nan" not in printed
